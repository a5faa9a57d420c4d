"""What must hold over all nodes and incarnations, looked at whenever somebody is told something.

on_commit      the same batches at the same offsets on every node; no gap, no repeat
on_snapshot    of what is committed, all of it, and never to one that leads
on_claim       one an epoch, at the end of what is committed; renounced before the next
acknowledged   committed, and for ever: at the end every disk has it
refused        definitely: it never appears
read_index     at or above everything that anybody knew as committed before it was asked
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from hashlib import blake2b
from zlib import crc32

from controller.quorum.port import StateMachine
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import iter_batches, read_records

EVENTS_KEPT = 30
"""Shown when something does not hold."""


class History:
    """What all of them agree on."""

    def __init__(self, on_majority: Callable[[bytes], bool]) -> None:
        """`on_majority` says whether a majority of the disks has these bytes, durably."""
        self._on_majority = on_majority
        self.batches: dict[int, bytes] = {}
        """By base offset."""
        self.end = 0
        """The highest that any machine was told is committed."""
        self.place: dict[bytes, int] = {}
        """Of each value that is committed: the offset behind it."""
        self.claims: dict[int, str] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.refused: set[bytes] = set()  # Membership only.
        self.reads = 0
        self.unknown = 0
        self.loads = 0
        self.trace = blake2b(digest_size=16)
        """What was told, and with the network's words what was sent: one number for a history."""
        self.last: deque[str] = deque(maxlen=EVENTS_KEPT)
        self.when_acknowledged: Callable[[], None] | None = None
        """Done once, with the next one."""

    def tell(self, *words: object) -> None:
        """Into the trace."""
        told = " ".join(str(each) for each in words)
        self.last.append(told)
        self.trace.update(told.encode())

    def committed(self, base: int, end: int, data: bytes, values: list[bytes]) -> None:
        known = self.batches.setdefault(base, data)
        assert known == data, f"two committed batches at {base}"
        if end <= self.end:
            return
        assert base == self.end, f"{base} is committed, and {self.end} was the end"
        self.end = end
        assert self._on_majority(data), f"{base} is committed, and on less than half of the disks"
        for behind, value in enumerate(values, base + 1):
            assert value not in self.place, f"{value!r} is committed twice"
            assert value not in self.refused, f"{value!r} was refused, and is committed"
            self.place[value] = behind

    def checksums(self, end: int) -> list[bytes]:
        """Of each committed batch below `end`, which is the end of one."""
        return [b"%08x" % crc32(self.batches[base]) for base in self.batches if base < end]

    def acknowledge(self, value: bytes, end: int) -> None:
        assert self.place.get(value) == end, f"{value!r} is acknowledged, and not committed"
        self.acknowledged[value] = end
        what, self.when_acknowledged = self.when_acknowledged, None
        if what is not None:
            what()

    def refuse(self, value: bytes) -> None:
        assert value not in self.place, f"{value!r} is refused, and committed"
        self.refused.add(value)

    def read(self, index: int, known_before: int) -> None:
        assert index >= known_before, f"a stale read: {index}, {known_before} was committed"
        self.reads += 1


class Recorder(StateMachine):
    """The state machine of one incarnation."""

    def __init__(self, incarnation: str, history: History, now_s: Callable[[], float]) -> None:
        self.end = Offset(0)
        self.epoch: Epoch | None = None
        """The one that it has claimed and not renounced."""
        self._incarnation = incarnation
        self._history = history
        self._now_s = now_s

    async def on_snapshot(
        self, snapshot_id: OffsetAndEpoch, pieces: Iterator[tuple[memoryview, ...]]
    ) -> None:
        assert self.epoch is None, f"{self._incarnation} leads, and loads a snapshot"
        end, found = snapshot_id.offset, list[bytes]()
        assert end > self.end, f"{self._incarnation} has seen {self.end}, and loads {end}"
        assert end <= self._history.end, f"a snapshot of {end}, {self._history.end} is committed"
        for piece in pieces:
            for batch in piece:
                for header, data in iter_batches(batch):
                    if not header.is_control:
                        found += [record.value or b"" for record in read_records(data)]
            await asyncio.sleep(0)
        assert found == self._history.checksums(end), "a snapshot of something else"
        self.end = end
        self._history.loads += 1
        self._tell("load", self.end)

    def on_commit(self, batches: tuple[memoryview, ...]) -> None:
        for batch in batches:
            for header, data in iter_batches(batch):
                base, end = header.base_offset, header.next_offset
                assert base == self.end, (
                    f"{self._incarnation} is told of {base}, and has seen all below {self.end}"
                )
                self.end = Offset(end)
                values: list[bytes] = []
                if end > self._history.end and not header.is_control:
                    values = [record.value or b"" for record in read_records(data)]
                self._history.committed(base, end, bytes(data), values)
        self._tell("commit", self.end)

    def on_claim(self, epoch: Epoch, end_offset: Offset) -> None:
        assert self.epoch is None, f"{self._incarnation} claims {epoch} and holds {self.epoch}"
        assert self.end == end_offset, "a claim comes when all is delivered"
        # One that was paused may come to it when the next leader has committed more.
        late = any(each > epoch for each in self._history.claims) and end_offset < self._history.end
        assert late or end_offset == self._history.end, (
            "a claim comes at the end of what is committed"
        )
        first = self._history.claims.setdefault(epoch, self._incarnation)
        assert first == self._incarnation, f"{first} and {self._incarnation} claim epoch {epoch}"
        self.epoch = epoch
        self._tell("claim", epoch)

    def on_renounce(self, epoch: Epoch) -> None:
        assert self.epoch == epoch, f"{self._incarnation} renounces {epoch}, holds {self.epoch}"
        self.epoch = None
        self._tell("renounce", epoch)

    def _tell(self, *words: object) -> None:
        self._history.tell(f"{self._now_s():.6f}", self._incarnation, *words)
