"""What clients did and saw, and whether the controllers' log explains it.

Writes whose outcome is unknown are settled by the log that the controllers have in the end.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from tests.sim.linearizability import OPEN, Operation, agree_with_positions, linearizable_by_key


class Kind(Enum):
    WRITE = "write"
    LINEARIZABLE = "linearizable read"
    BOUNDED = "bounded read"
    LOCAL = "local read"


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    """It did not happen, and will not."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call of one client."""

    kind: Kind
    outcome: Outcome
    node: int
    """Who was asked."""
    life: int
    """Of that node: how often it had been started."""
    key: str
    value: str | None
    """Written or seen; None: there was none."""
    called: float
    returned: float
    """Both s, of one monotonic clock."""
    offset: int = -1
    """End offset (exclusive), of what was committed or of what was seen; if it is OK."""
    min_offset: int = 0
    """Of a bounded read."""


@dataclass(frozen=True, slots=True)
class Written:
    """A write, as the log has it."""

    offset: int
    key: str
    value: str


def judge(history: Sequence[Entry], log: Sequence[Written]) -> list[str]:
    """All that is wrong; empty if nothing is."""
    wrong = [*_writes(history, log), *_reads(history, log), *_local_reads(history)]
    operations = _operations(history, log)
    if (disorder := agree_with_positions(operations)) is not None:
        wrong.append(f"not linearizable by position: {disorder}")
    try:
        strange = linearizable_by_key(operations)
    except OverflowError:
        strange = None  # Too wide for the search; the positions were judged above.
    return wrong if strange is None else [*wrong, strange]


def _writes(history: Iterable[Entry], log: Sequence[Written]) -> Iterator[str]:
    """Acknowledged: there, at its offset. Refused: not there. Nobody's is there twice."""
    by_offset = {each.offset: each for each in log}
    values: dict[str, Written] = {}
    for each in log:
        if each.value in values:
            yield f"one value twice in the log: {each} and {values[each.value]}"
        values[each.value] = each
    for entry in history:
        if entry.kind is not Kind.WRITE or entry.value is None:
            continue
        if entry.outcome is Outcome.FAILED and entry.value in values:
            yield f"refused, and in the log at {values[entry.value].offset}: {entry}"
        if entry.outcome is Outcome.OK:
            there = by_offset.get(entry.offset - 1)
            if there != Written(entry.offset - 1, entry.key, entry.value):
                yield f"acknowledged, and its place in the log holds {there}: {entry}"


def _reads(history: Iterable[Entry], log: Sequence[Written]) -> Iterator[str]:
    """Whoever saw a state of some offset saw what the log makes of it."""
    reads = [each for each in history if _is_read(each)]
    now: dict[str, str] = {}
    place = 0
    for entry in sorted(reads, key=lambda each: each.offset):
        while place < len(log) and log[place].offset < entry.offset:
            now[log[place].key] = log[place].value
            place += 1
        if entry.value != now.get(entry.key):
            yield f"at this offset the log says {now.get(entry.key)}: {entry}"
        if entry.kind is Kind.BOUNDED and entry.offset < entry.min_offset:
            yield f"older than was asked for: {entry}"


def _local_reads(history: Iterable[Entry]) -> Iterator[str]:
    """One process's own state never goes back."""
    lives: dict[tuple[int, int], list[Operation]] = defaultdict(list)
    for each in history:
        if _is_read(each):
            lives[each.node, each.life].append(_operation(each, each.offset, each.returned))
    for (node, life), operations in lives.items():
        if (disorder := agree_with_positions(operations)) is not None:
            yield f"controller {node} went back in its life {life}: {disorder}"


def _operations(history: Sequence[Entry], log: Sequence[Written]) -> list[Operation]:
    """Writes that happened, and linearizable reads."""
    offsets: Mapping[str, int] = {each.value: each.offset for each in log}
    known: list[Operation] = []
    unknown: list[Operation] = []
    for each in history:
        if each.kind is Kind.LINEARIZABLE and each.outcome is Outcome.OK:
            known.append(_operation(each, each.offset, each.returned))
        elif each.kind is Kind.WRITE and each.value in offsets:
            position = offsets[each.value]
            if each.outcome is Outcome.OK:
                known.append(_operation(each, position, each.returned))
            else:
                unknown.append(_operation(each, position, OPEN))
    return [*known, *_settled(unknown, known)]


def _settled(unknown: Iterable[Operation], known: Sequence[Operation]) -> Iterator[Operation]:
    """A write had happened when somebody returned who stood behind it in the log."""
    behind = sorted(known, key=lambda each: each.rank, reverse=True)
    earliest, place = OPEN, 0
    for each in sorted(unknown, key=lambda each: each.rank, reverse=True):
        while place < len(behind) and behind[place].rank > each.rank:
            earliest = min(earliest, behind[place].returned)
            place += 1
        # Never before its own call: that it is not is for the positions to say.
        yield replace(each, returned=max(earliest, each.called))


def _operation(entry: Entry, position: int, returned: float) -> Operation:
    return Operation(
        key=entry.key,
        is_write=entry.kind is Kind.WRITE,
        value=entry.value,
        called=entry.called,
        returned=returned,
        position=position,
    )


def _is_read(entry: Entry) -> bool:
    return entry.kind is not Kind.WRITE and entry.outcome is Outcome.OK
