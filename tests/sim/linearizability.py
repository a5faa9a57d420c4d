"""Could all of it have happened at single moments, one after the other, in real time's order?

agree_with_positions   each operation says where in the log it stands: one sort, any size
linearizable           only what was written and seen counts: a search (Wing and Gong 1993, with
                       Lowe's cache 2017), for one register and few operations at a time

The first finds more and needs to know the log; the second believes nobody.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

OPEN = math.inf
"""Returned never: it may have happened, at any time since, or not at all."""

STEPS_MAX = 2_000_000
"""Of a search; beyond it the history is too wide to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A write of a value to a key, or a read that saw one."""

    key: Hashable = ""
    is_write: bool
    value: Hashable
    """None was seen where nothing was written before."""
    called: float
    returned: float
    """By the same clock; at one time means at once."""
    position: int = 0
    """Of a write, its offset in the log; of a read, below which offset it saw everything."""

    @property
    def rank(self) -> int:
        """A read stands after all writes below its position, before the one at it."""
        return 2 * self.position + 1 if self.is_write else 2 * self.position


def agree_with_positions(operations: Iterable[Operation]) -> str | None:
    """What is wrong, or None: later in real time, and earlier in the log."""
    operations = list(operations)
    by_return = sorted(operations, key=lambda each: each.returned)
    furthest: Operation | None = None
    place = 0
    for each in sorted(operations, key=lambda each: each.called):
        while place < len(by_return) and by_return[place].returned < each.called:
            done = by_return[place]
            furthest = done if furthest is None or done.rank > furthest.rank else furthest
            place += 1
        if furthest is not None and each.rank < furthest.rank:
            return f"{each} came after {furthest}"
    return None


def linearizable_by_key(operations: Iterable[Operation]) -> str | None:
    """Which key's register is none, or None."""
    keys: dict[Hashable, list[Operation]] = {}
    for each in operations:
        keys.setdefault(each.key, []).append(each)
    for key, ours in keys.items():
        if not linearizable(ours):
            return f"the operations on {key!r} are not linearizable"
    return None


class _Event:
    """A call or a return, in a list from which operations are lifted and put back."""

    __slots__ = ("after", "before", "call", "operation", "place", "returns")

    def __init__(self, place: int, operation: Operation, call: "_Event | None") -> None:
        self.place = place
        self.operation = operation
        self.call = call
        """Of a return."""
        self.returns: _Event | None = None
        self.before: _Event | None = None
        self.after: _Event | None = None

    def lift(self) -> None:
        for each in (self, self.returns):
            if each is not None and each.before is not None:
                each.before.after = each.after
                if each.after is not None:
                    each.after.before = each.before

    def put_back(self) -> None:
        for each in (self.returns, self):
            if each is not None and each.before is not None:
                each.before.after = each
                if each.after is not None:
                    each.after.before = each


def linearizable(operations: Sequence[Operation], initial: Hashable = None) -> bool:
    """Is there an order of these operations on one register that explains what was seen?

    Args:
        operations: Of one key.
        initial: What the register held before.

    Raises:
        OverflowError: Too many are concurrent for a search to end.
    """
    head = _link(operations)
    still = _StillToCome(operations)
    done, value = 0, initial
    tried = {(done, value)}
    taken: list[tuple[_Event, Hashable]] = []
    event = head.after
    for _ in range(STEPS_MAX):
        if still.closed == 0:
            return True
        if event is None or event.call is not None:
            # Somebody had returned by now, or nothing else is left: the last choice was wrong.
            if not taken:
                return False
            event, value = taken.pop()
            done ^= 1 << event.place
            still.count(event.operation, 1)
            event.put_back()
            event = event.after
            continue
        operation = event.operation
        fits = still.may_leave(value) if operation.is_write else operation.value == value
        next_one = (done | 1 << event.place, operation.value)
        if fits and next_one not in tried:
            tried.add(next_one)
            taken.append((event, value))
            done, value = next_one
            still.count(operation, -1)
            event.lift()
            event = head.after
        else:
            event = event.after
    raise OverflowError(f"{len(operations)} operations are too many at once")


class _StillToCome:
    """How many operations are not in the order yet."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.closed = 0
        self._reads: dict[Hashable, int] = {}
        """Closed ones, by what they saw."""
        self._writes: dict[Hashable, int] = {}
        for each in operations:
            self.count(each, 1)

    def count(self, operation: Operation, by: int) -> None:
        counts = self._writes if operation.is_write else self._reads
        is_closed = operation.returned != OPEN
        if is_closed or operation.is_write:
            counts[operation.value] = counts.get(operation.value, 0) + by
        self.closed += by if is_closed else 0

    def may_leave(self, value: Hashable) -> bool:
        """Is there nobody left who must see this value, or somebody who will write it again?"""
        return not self._reads.get(value) or bool(self._writes.get(value))


def _link(operations: Sequence[Operation]) -> _Event:
    events: list[tuple[float, bool, int, _Event]] = []
    for place, operation in enumerate(operations):
        call = _Event(place, operation, None)
        events.append((operation.called, False, place, call))
        if operation.returned != OPEN:
            call.returns = _Event(place, operation, call)
            events.append((operation.returned, True, place, call.returns))
    head = last = _Event(-1, Operation(is_write=False, value=None, called=0, returned=0), None)
    for *_, event in sorted(events, key=lambda each: each[:3]):
        last.after, event.before = event, last
        last = event
    return head
