"""Parked requests: woken by what they wait for, answered at their deadline, and then gone."""

import asyncio

import pytest

from broker.replica.purgatory import (
    DEAD_WAITS_MAX,
    FetchWatchers,
    OffsetWaits,
    ParkedFetch,
    ParkedProduce,
    Purgatory,
)
from klamm.errors import ErrorCode
from klamm.ids import Offset


def park(purgatory: Purgatory, waits: OffsetWaits, *offsets: int, timeout_ms: int = 60_000):  # type: ignore[no-untyped-def]
    settled = []
    loop = asyncio.get_running_loop()
    parked = ParkedProduce(purgatory, loop, timeout_ms, lambda: [wait.error for wait in settled])
    settled.extend(parked.wait_for(Offset(offset), waits) for offset in offsets)
    return parked.future


async def test_in_the_order_of_offsets() -> None:
    purgatory, waits = Purgatory(), OffsetWaits()
    late, early = park(purgatory, waits, 9), park(purgatory, waits, 3)
    waits.settle_to(Offset(3), ErrorCode.NONE)
    assert await early == [ErrorCode.NONE]
    assert not late.done()
    waits.settle_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert await late == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    assert (purgatory.produces, len(waits)) == (0, 0)


async def test_partitions_of_one_request_are_settled_one_by_one() -> None:
    purgatory, waits = Purgatory(), OffsetWaits()
    both = park(purgatory, waits, 3, 9, timeout_ms=1)
    waits.settle_to(Offset(5), ErrorCode.NONE)
    assert await both == [ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT]
    waits.settle_to(Offset(9), ErrorCode.NONE)
    assert (purgatory.produces, len(waits)) == (0, 0)


async def test_the_expired_do_not_pile_up() -> None:
    """A partition whose high watermark stands still, and clients that try again and again."""
    purgatory, waits = Purgatory(), OffsetWaits()
    for _ in range(20):
        await asyncio.gather(*(park(purgatory, waits, 9, timeout_ms=0) for _ in range(50)))
    assert len(waits) == 0
    assert len(waits._heap) <= 2 * DEAD_WAITS_MAX


async def test_a_fetch_is_woken_once_for_many_events() -> None:
    purgatory = Purgatory()
    watchers: FetchWatchers = {}
    readings: list[bool] = []

    def read(is_deadline: bool) -> str | None:
        readings.append(is_deadline)
        return "enough" if is_deadline else None

    parked = ParkedFetch(purgatory, asyncio.get_running_loop(), 20, [watchers], read)
    for _ in range(3):
        parked.wake()
    await asyncio.sleep(0)
    assert readings == [False]
    assert await parked.future == "enough"
    await asyncio.sleep(0)
    assert (readings, watchers, purgatory.fetches) == ([False, True], {}, 0)


async def test_a_reading_that_fails_is_told_and_not_waited_out() -> None:
    def broken(is_deadline: bool) -> None:
        raise RuntimeError("a bug")

    purgatory, watchers = Purgatory(), FetchWatchers()
    loop = asyncio.get_running_loop()
    parked = ParkedFetch(purgatory, loop, 60_000, [watchers], broken)
    parked.wake()
    with pytest.raises(RuntimeError, match="a bug"):
        await parked.future
    assert (purgatory.fetches, watchers) == (0, {})


def test_limits() -> None:
    purgatory = Purgatory(produces_max=1, fetches_max=1)
    assert purgatory.has_room_for_produce()
    purgatory.produces = purgatory.fetches = 1
    assert not purgatory.has_room_for_produce()
    assert not purgatory.has_room_for_fetch()
