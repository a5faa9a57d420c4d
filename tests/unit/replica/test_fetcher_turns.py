"""Who is told of one partition after the other goes on to fetch those that it follows already."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from broker.kafka.messages.fetch import FetchRequest, FetchResponse
from broker.replica.fetcher import Fetcher
from broker.replica.follower import FetchPosition
from broker.replica.link import Link
from klamm.config.broker import BrokerConfig
from klamm.ids import NO_EPOCH, Epoch, Offset, TopicId, TopicPartition
from tests.unit.api.worlds import TWO, FakeClock

DEADLINE_S = 20.0


class ParkingLink:
    """Answers at once if it may not wait; else never, for there is no news."""

    def __init__(self, answered: list[FetchRequest]) -> None:
        self._answered = answered
        self._closed = asyncio.Event()

    async def fetch(self, request: FetchRequest, timeout_ms: int) -> FetchResponse:
        await asyncio.sleep(0)
        if request.max_wait_ms > 0:
            await self._closed.wait()
        if self._closed.is_set():
            raise ConnectionAbortedError("closed")
        self._answered.append(request)
        return FetchResponse(throttle_time_ms=0, error_code=0, session_id=0, responses=[])

    def close(self) -> None:
        self._closed.set()


def partition(index: int) -> Any:
    position = FetchPosition(
        fetch_offset=Offset(0), last_fetched_epoch=NO_EPOCH, current_leader_epoch=Epoch(0)
    )
    return SimpleNamespace(
        name=TopicPartition("orders", index),
        topic_id=TopicId(UUID(int=7)),
        log_start_offset=Offset(0),
        fetch_position=lambda: position,
    )


async def test_a_fetch_that_was_cut_for_a_new_partition_is_answered_before_the_next_cut() -> None:
    """A topic of thousands, made in many turns: nothing was replicated meanwhile."""
    answered: list[FetchRequest] = []

    async def connect(host: str, port: int) -> Link:
        return cast("Link", ParkingLink(answered))

    fetcher = Fetcher(
        TWO,
        "broker-2",
        9092,
        broker_epoch=lambda: 1,
        connect=connect,
        config=BrokerConfig.for_tests(),
        clock=FakeClock(),
    )
    fetcher.follow(partition(0))
    running = asyncio.create_task(fetcher.run())
    index = 0
    async with asyncio.timeout(DEADLINE_S):
        while len(answered) < 5:
            index += 1
            fetcher.follow(partition(index))
            for _ in range(4):
                await asyncio.sleep(0)
    (rows,) = answered[-1].topics
    assert len(rows.partitions) > len(answered[0].topics[0].partitions)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
