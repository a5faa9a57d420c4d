"""What a voter makes of committed records: registers, each with the last that was written to it."""

from bisect import bisect_left

KEYS = 5


def payload(key: int, number: str) -> str:
    """A record that writes to a key. Others, such as "leader 3", write to none."""
    return f"{key}={number}"


def key_of(record: str) -> str:
    key, is_write, _ = record.partition("=")
    return key if is_write else ""


class Machine:
    """Of one incarnation, as far as it was told what is committed."""

    def __init__(self) -> None:
        self.end = 0
        self.loaded_end = 0
        """Below, it knows the state and not how it came to be."""
        self.values: dict[str, str] = {}

    def load(self, entries: list[tuple[int, str]]) -> None:
        """The state of a snapshot, as all that had led to it."""
        self.apply(entries, 0)
        self.loaded_end = self.end

    def apply(self, entries: list[tuple[int, str]], base: int) -> None:
        """Records as (epoch, payload), from offset `base` on."""
        assert base == self.end, "applied twice, or a gap"
        self.end += len(entries)
        for _, record in entries:
            if key := key_of(record):
                self.values[key] = record


class Versions:
    """All values that a register ever had, by where they were written."""

    def __init__(self) -> None:
        self._offsets: dict[str, list[int]] = {}
        self._values: dict[str, list[str]] = {}

    def write(self, offset: int, record: str) -> None:
        if key := key_of(record):
            self._offsets.setdefault(key, []).append(offset)
            self._values.setdefault(key, []).append(record)

    def value(self, key: str, end: int) -> str | None:
        """What it holds for those who see all below `end`."""
        place = bisect_left(self._offsets.get(key, []), end)
        return self._values[key][place - 1] if place else None
