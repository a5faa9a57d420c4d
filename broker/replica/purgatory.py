"""Requests that wait: produces for a high watermark, fetches for bytes; both for a deadline.

    produce ──▶ ParkedProduce ── one OffsetWait in each partition's heap ──▶ future
    fetch   ──▶ ParkedFetch   ── in each partition's set of watchers     ──▶ future

Nothing polls: a wait ends by what happens to a partition (its high watermark moves, records are
appended, its leader changes) or by the one timer that each parked request has. `Purgatory` holds
the limits; a request beyond them is not parked but answered with what is known.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from klamm.errors import ErrorCode
from klamm.ids import Offset

PARKED_PRODUCES_MAX = 50_000
PARKED_FETCHES_MAX = 20_000

DEAD_WAITS_MAX = 64
"""Waits of expired requests that a partition's heap may hold before it is swept."""

Response = TypeVar("Response")


class Purgatory:
    """How many are parked in one broker."""

    def __init__(
        self,
        produces_max: int = PARKED_PRODUCES_MAX,
        fetches_max: int = PARKED_FETCHES_MAX,
    ) -> None:
        self.produces = 0
        self.fetches = 0
        self._produces_max = produces_max
        self._fetches_max = fetches_max

    def has_room_for_produce(self) -> bool:
        return self.produces < self._produces_max

    def has_room_for_fetch(self) -> bool:
        return self.fetches < self._fetches_max


class OffsetWait:
    """One partition of a parked produce: done once the high watermark reaches `offset`."""

    __slots__ = ("error", "offset", "parked")

    def __init__(self, offset: Offset, parked: "ParkedProduce[Any] | None") -> None:
        self.offset = offset
        self.parked = parked
        """None once it is settled or its request is answered."""
        self.error = ErrorCode.REQUEST_TIMED_OUT
        """What the client is told; until it is settled, that nothing was heard in time."""

    def settle(self, error: ErrorCode) -> None:
        parked, self.parked = self.parked, None
        if parked is not None:
            self.error = error
            parked.on_settled()


class OffsetWaits:
    """The parked produces of one partition, the least offset first."""

    __slots__ = ("_dead", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[Offset, int, OffsetWait]] = []
        self._number = 0
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def add(self, wait: OffsetWait) -> None:
        self._number += 1
        heapq.heappush(self._heap, (wait.offset, self._number, wait))

    def settle_to(self, high_watermark: Offset, error: ErrorCode) -> None:
        """Settle all that waited for no more than `high_watermark`."""
        heap = self._heap
        while heap and heap[0][0] <= high_watermark:
            self._settle(heapq.heappop(heap)[2], error)

    def settle_all(self, error: ErrorCode) -> None:
        heap, self._heap = self._heap, []
        for _, _, wait in heap:
            self._settle(wait, error)
        self._dead = 0

    def on_expired(self) -> None:
        """One wait's request has been answered without it."""
        self._dead += 1
        if self._dead > DEAD_WAITS_MAX and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].parked is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def _settle(self, wait: OffsetWait, error: ErrorCode) -> None:
        if wait.parked is None:
            self._dead -= 1
        wait.settle(error)


class ParkedProduce(Generic[Response]):
    """A produce with acks=all whose records are in the log, and not yet known to be committed."""

    __slots__ = ("_answer", "_purgatory", "_timer", "_unsettled", "_waits", "future")

    def __init__(
        self,
        purgatory: Purgatory,
        loop: asyncio.AbstractEventLoop,
        timeout_ms: int,
        answer: Callable[[], Response],
    ) -> None:
        """Park, with `answer` to be called once all waits are settled or the time is over."""
        self.future: asyncio.Future[Response] = loop.create_future()
        self._purgatory = purgatory
        self._answer = answer
        self._waits: list[tuple[OffsetWait, OffsetWaits]] = []
        self._unsettled = 0
        self._timer = loop.call_later(timeout_ms / 1_000, self._on_deadline)
        purgatory.produces += 1

    def wait_for(self, offset: Offset, waits: OffsetWaits) -> OffsetWait:
        wait = OffsetWait(offset, self)
        self._unsettled += 1
        self._waits.append((wait, waits))
        waits.add(wait)
        return wait

    def on_settled(self) -> None:
        self._unsettled -= 1
        if self._unsettled == 0:
            self._timer.cancel()
            self._finish()

    def _on_deadline(self) -> None:
        for wait, waits in self._waits:
            if wait.parked is not None:
                wait.parked = None
                waits.on_expired()
        self._finish()

    def _finish(self) -> None:
        self._purgatory.produces -= 1
        self._waits.clear()
        if not self.future.done():
            self.future.set_result(self._answer())


class ParkedFetch(Generic[Response]):
    """A fetch that found too few bytes."""

    __slots__ = ("_answer", "_loop", "_purgatory", "_timer", "_watched", "_woken", "future")

    def __init__(
        self,
        purgatory: Purgatory,
        loop: asyncio.AbstractEventLoop,
        wait_ms: int,
        watched: "list[FetchWatchers]",
        answer: "Callable[[bool], Response | None]",
    ) -> None:
        """Park.

        Args:
            answer: Reads anew. Called with False after each event, when it may return None to go
                on waiting, and with True at the deadline, when it must answer.
        """
        self.future: asyncio.Future[Response] = loop.create_future()
        self._purgatory = purgatory
        self._loop = loop
        self._answer = answer
        self._watched = watched
        self._woken = False
        for watchers in watched:
            watchers[self] = None
        self._timer = loop.call_later(wait_ms / 1_000, self._on_deadline)
        self.future.add_done_callback(self._on_done)
        purgatory.fetches += 1

    def wake(self) -> None:
        """Something happened to a partition that it watches.

        Looked at after everything else that this turn of the loop brings, so that records which
        arrive together leave together.
        """
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._try)

    def _try(self) -> None:
        self._woken = False
        self._settle(is_deadline=False)

    def _on_deadline(self) -> None:
        self._settle(is_deadline=True)

    def _settle(self, *, is_deadline: bool) -> None:
        if self.future.done():
            return
        try:
            response = self._answer(is_deadline)
            assert response is not None or not is_deadline, "a fetch is answered at its deadline"
        except Exception as error:
            # Whoever waits is told of the bug; left alone they would wait for ever.
            self.future.set_exception(error)
            return
        if response is not None:
            self.future.set_result(response)

    def _on_done(self, _: "asyncio.Future[Response]") -> None:
        """Answered, or cancelled because its connection is gone."""
        self._timer.cancel()
        self._purgatory.fetches -= 1
        for watchers in self._watched:
            watchers.pop(self, None)
        self._watched = []


FetchWatchers = dict[ParkedFetch[Any], None]
"""Those who watch one partition, in the order in which they came."""
