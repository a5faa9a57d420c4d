"""What was decided on a decision that was refused, before whoever made that one heard of it."""

import asyncio
import random
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

import pytest

from controller.active import ActiveController
from controller.plan.brokers import Registration
from controller.plan.decision import Decision
from controller.plan.topics import CreateResult, NewTopic
from controller.quorum.port import PROPOSAL_RECORDS_MAX, LogMovedError
from klamm.config.controller import ControllerConfig
from klamm.errors import ErrorCode
from klamm.ids import Epoch, NodeId, Offset
from klamm.log.records import NewRecord
from klamm.metadata.records import Cause, NoOpRecord
from tests.unit.active.quorums import ME, FakeClock, FakeQuorum, incarnation

CAUSE = Cause(principal="User:a", request="CreateTopics")


class LateQuorum(FakeQuorum):
    """Refuses a proposal when the test says so, as the core's inbox may keep it for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox: list[asyncio.Future[Offset]] = []

    def write(  # type: ignore[override]
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord], timeout_ms: int
    ) -> Awaitable[Offset]:
        if self.leader == ME and base_offset != self.log_end.offset:
            self.inbox.append(asyncio.get_running_loop().create_future())
            return self.inbox[-1]
        return super().write(epoch, base_offset, records, timeout_ms)

    def refuse(self) -> None:
        for answer in self.inbox:
            self.refusals += 1
            if not answer.done():
                answer.set_exception(LogMovedError(self.log_end.offset))
        self.inbox.clear()


class Room:
    def __init__(self) -> None:
        self.quorum, self.clock = LateQuorum(), FakeClock()
        config = ControllerConfig.for_tests()
        self.active = ActiveController(self.quorum, config, self.clock, random.Random(1))
        self.quorum.machine = self.active.log
        self.quorum.elect()

    def create(self, name: str) -> Coroutine[Any, Any, tuple[tuple[CreateResult, ...], Offset]]:
        return self.active.create_topics((NewTopic(name=name),), CAUSE, 1_000)

    async def with_broker(self) -> tuple[Offset, int]:
        """Its epoch, and its stream."""
        asked = Registration(broker_id=NodeId(1), incarnation_id=incarnation(1), endpoints=())
        task = asyncio.ensure_future(self.active.register_broker("c", asked, 1_000))
        await self.committed(task)
        epoch = await task
        stream = self.active.open_session(NodeId(1), epoch)
        beat = self.active.heartbeat(
            NodeId(1),
            epoch,
            Offset(epoch + 1),
            want_fence=False,
            want_shut_down=False,
            timeout_ms=1_000,
        )
        await self.committed(asyncio.ensure_future(beat))
        return epoch, stream

    async def committed(self, task: "asyncio.Task[Any]") -> None:
        for _ in range(20):
            await settle()
            if task.done():
                return
            self.quorum.commit()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("decided", ["before the refusal", "right after it"])
async def test_nothing_stands_on_what_was_refused_and_nobody_waits_for(decided: str) -> None:
    """The log ends where the refused one would have, by a record of the leader's own."""
    room = Room()
    await room.with_broker()
    room.quorum.foreign_append()
    first = asyncio.ensure_future(room.create("a"))
    await settle()
    assert room.quorum.inbox, "it was made for another place"
    first.cancel()
    await settle()
    second = asyncio.ensure_future(room.create("a"))
    if decided == "before the refusal":
        await settle()
    room.quorum.refuse()
    await room.committed(second)
    results, _ = await second
    assert results[0].error is ErrorCode.NONE, "there was none, and there never is"
    assert room.active.log.image.topics.named("a") is not None


async def test_who_decides_between_the_refusal_and_its_hearing_waits_too() -> None:
    room = Room()
    await room.with_broker()
    room.quorum.foreign_append()
    first = asyncio.ensure_future(room.create("a"))
    await settle()
    second = asyncio.ensure_future(room.create("b"))  # It begins before the first one is woken.
    room.quorum.refuse()
    await settle()
    made_for = [base for base, _ in room.quorum.proposals]
    assert room.quorum.log_end.offset not in made_for, "both look at the log first"
    for each in (first, second):
        await room.committed(each)
        assert (await each)[0][0].error is ErrorCode.NONE


@pytest.mark.parametrize("meanwhile", ["forgotten", "back", "as it was"])
async def test_who_is_to_be_fenced_is_looked_at_again(meanwhile: str) -> None:
    """The decision to fence it was refused, since the log had moved."""
    room = Room()
    epoch, stream = await room.with_broker()
    room.quorum.foreign_append()
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    upkeep = asyncio.ensure_future(room.active.run())
    async with asyncio.timeout(30):
        while not room.quorum.inbox:
            await asyncio.sleep(0.001)
    if meanwhile == "back":
        room.active.open_session(NodeId(1), epoch)
    if meanwhile == "forgotten":
        forget = asyncio.ensure_future(room.active.unregister_broker(NodeId(1), CAUSE, 1_000))
    room.quorum.refuse()
    for _ in range(5):
        await settle()
        room.quorum.commit()
    await settle()
    assert not upkeep.done(), "it goes on"
    upkeep.cancel()
    broker = room.active.log.image.brokers.get(NodeId(1))
    if meanwhile == "forgotten":
        assert forget.done()
        assert broker is None
    else:
        assert broker is not None
        assert broker.fenced == (meanwhile == "as it was")


async def test_what_is_left_of_a_large_decision_that_nobody_waits_for_is_not_pending() -> None:
    room = Room()
    await room.with_broker()
    log = room.active.log
    end = log.image.provenance.offset
    records = (NoOpRecord(),) * (2 * PROPOSAL_RECORDS_MAX + 1)
    large = asyncio.ensure_future(
        log.decide(lambda *_: Decision(records, None, divisible=True), CAUSE, 1_000)
    )
    while room.quorum.log_end.offset == end:
        await asyncio.sleep(0)
    large.cancel()
    small = asyncio.ensure_future(log.decide(lambda *_: Decision((), None), CAUSE, 1_000))
    await room.committed(small)
    _, seen = await small
    assert seen == room.quorum.log_end.offset == end + PROPOSAL_RECORDS_MAX
