"""The active controller on a quorum that commits when it is told to."""

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

import pytest

from controller.active import ActiveController, Standing
from controller.plan.brokers import Registration
from controller.plan.topics import CreateResult, NewTopic
from controller.quorum.port import LogMovedError
from klamm.config.controller import ControllerConfig
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    ErrorCode,
    NotControllerError,
    OverloadedError,
)
from klamm.ids import NodeId, Offset
from klamm.metadata.records import Cause
from tests.unit.active.quorums import FakeClock, FakeQuorum, incarnation

CAUSE = Cause(principal="User:a", request="CreateTopics")
T = TypeVar("T")


class Room:
    """One controller, its quorum, its clock."""

    def __init__(self) -> None:
        self.quorum, self.clock = FakeQuorum(), FakeClock()
        config = ControllerConfig.for_tests()
        self.active = ActiveController(self.quorum, config, self.clock, random.Random(1))
        self.quorum.machine = self.active.log

    def lead(self) -> None:
        self.quorum.elect()

    async def committed(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call, and commit what it proposes."""
        task = asyncio.ensure_future(call)
        for _ in range(20):
            await settle()
            if task.done():
                break
            self.quorum.commit()
        return await task

    def create(self, name: str) -> Coroutine[Any, Any, tuple[tuple[CreateResult, ...], Offset]]:
        return self.active.create_topics((NewTopic(name=name),), CAUSE, 1_000)

    async def register(self, broker: int, life: int = 1) -> Offset:
        asked = Registration(
            broker_id=NodeId(broker), incarnation_id=incarnation(10 * broker + life), endpoints=()
        )
        return await self.committed(self.active.register_broker("c", asked, 1_000))

    async def beat(
        self, broker: int, epoch: Offset, applied: int, *, stop: bool = False
    ) -> Standing:
        return await self.committed(
            self.active.heartbeat(
                NodeId(broker),
                epoch,
                Offset(applied),
                want_fence=False,
                want_shut_down=stop,
                timeout_ms=1_000,
            )
        )

    async def serving(self, broker: int) -> tuple[Offset, int]:
        """Registered, connected and unfenced: its epoch, and its stream."""
        epoch = await self.register(broker)
        stream = self.active.open_session(NodeId(broker), epoch)
        standing = await self.beat(broker, epoch, epoch + 1)
        assert not standing.is_fenced
        return epoch, stream

    def fenced(self, broker: int) -> bool:
        return self.active.log.image.brokers[NodeId(broker)].fenced


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def room() -> Room:
    made = Room()
    made.lead()
    return made


async def refused(call: Awaitable[object]) -> ErrorCode:
    with pytest.raises(ApiError) as raised:
        await call
    return raised.value.code


async def test_nobody_is_told_before_it_is_committed(room: Room) -> None:
    await room.serving(1)
    task = asyncio.ensure_future(room.create("a"))
    await settle()
    assert not task.done()
    assert room.active.log.image.topics.named("a") is None
    room.quorum.commit()
    results, end = await task
    assert results[0].error is ErrorCode.NONE
    assert room.active.log.image.topics.named("a") is not None
    assert room.active.log.image.provenance.offset == end


async def test_a_decision_that_writes_nothing_waits_for_what_it_saw(room: Room) -> None:
    await room.serving(1)
    first = asyncio.ensure_future(room.create("a"))
    await settle()
    second = asyncio.ensure_future(room.create("a"))
    await settle()
    assert not second.done(), "'a exists' would be told of a topic that may be lost"
    room.quorum.commit()
    assert (await second)[0][0].error is ErrorCode.TOPIC_ALREADY_EXISTS
    assert (await first)[0][0].error is ErrorCode.NONE


async def test_the_cause_stands_in_the_log(room: Room) -> None:
    await room.serving(1)
    await room.committed(room.create("a"))
    _, records = room.quorum.proposals[-1]
    assert dict(records[0].headers) == {"principal": b"User:a", "request": b"CreateTopics"}


async def test_a_standby_names_the_leader_and_appends_nothing() -> None:
    room = Room()
    room.quorum.leader = NodeId(2)
    with pytest.raises(NotControllerError) as raised:
        await room.create("a")
    assert raised.value.leader == 2
    assert not room.quorum.proposals


async def test_who_comes_between_election_and_claim_is_served_after_the_claim(room: Room) -> None:
    """A client is told of a leader as soon as it is elected, and is there before it has claimed."""
    await room.serving(1)
    room.quorum.depose()
    room.quorum.leader = room.quorum.node_id
    early = asyncio.ensure_future(room.create("a"))
    await settle()
    assert not early.done()
    room.quorum.elect()
    await settle()
    room.quorum.commit()
    assert (await early)[0][0].error is ErrorCode.NONE


async def test_an_elected_leader_that_never_claims_sends_its_callers_away(room: Room) -> None:
    await room.serving(1)
    room.quorum.depose()
    room.quorum.leader = room.quorum.node_id
    with pytest.raises(NotControllerError):
        await room.create("a")


async def test_what_was_appended_when_leadership_ends_may_have_happened(room: Room) -> None:
    await room.serving(1)
    task = asyncio.ensure_future(room.create("a"))
    await settle()
    room.quorum.depose()
    with pytest.raises(CommitUnknownError):
        await task
    with pytest.raises(NotControllerError):
        await room.create("b")
    room.quorum.elect()
    assert (await room.committed(room.create("a")))[0][0].error is ErrorCode.NONE, "forgotten"


@pytest.mark.parametrize("moved", [False, True])
async def test_after_a_refused_append_decisions_are_made_on_the_log_again(
    room: Room, moved: bool
) -> None:
    await room.serving(1)
    if moved:
        room.quorum.foreign_append()
        room.quorum.refuse_next = LogMovedError(room.quorum.log_end.offset)
    else:
        room.quorum.refuse_next = OverloadedError("too many events wait")
    first = asyncio.ensure_future(room.create("a"))
    await settle()
    behind = asyncio.ensure_future(room.create("b"))  # It waits for what the first one waits for.
    await settle()
    assert not behind.done()
    room.quorum.commit()
    await settle()
    room.quorum.commit()
    if moved:
        results, _ = await first
    else:
        with pytest.raises(OverloadedError):
            await first
        results, _ = await room.committed(room.create("a"))
    assert (await behind)[0][0].error is ErrorCode.NONE
    assert results[0].error is ErrorCode.NONE, "the topic was never appended"


async def test_registration(room: Room) -> None:
    epoch = await room.register(1)
    assert room.active.log.image.brokers[NodeId(1)].broker_epoch == epoch
    assert room.fenced(1)
    asked = Registration(broker_id=NodeId(1), incarnation_id=incarnation(1), endpoints=())
    code = await refused(room.active.register_broker("other", asked, 1_000))
    assert code is ErrorCode.INCONSISTENT_CLUSTER_ID


async def test_a_second_process_is_refused_while_the_first_is_connected(room: Room) -> None:
    _, stream = await room.serving(1)
    asked = Registration(broker_id=NodeId(1), incarnation_id=incarnation(99), endpoints=())
    code = await refused(room.active.register_broker("c", asked, 1_000))
    assert code is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    room.active.close_session(NodeId(1), stream)
    assert await room.committed(room.active.register_broker("c", asked, 1_000))


async def test_a_broker_is_unfenced_once_it_has_seen_its_own_registration(room: Room) -> None:
    epoch = await room.register(1)
    room.active.open_session(NodeId(1), epoch)
    early = await room.beat(1, epoch, epoch)
    assert (early.is_caught_up, early.is_fenced) == (False, True)
    then = await room.beat(1, epoch, epoch + 1)
    assert (then.is_caught_up, then.is_fenced) == (True, False)


async def test_a_stale_uptime_is_refused(room: Room) -> None:
    epoch = await room.register(1)
    assert await refused(room.beat(1, Offset(epoch + 1), 99)) is ErrorCode.STALE_BROKER_EPOCH
    assert await refused(room.beat(9, epoch, 99)) is ErrorCode.BROKER_ID_NOT_REGISTERED


async def test_controlled_shutdown_waits_until_the_others_know(room: Room) -> None:
    one, _ = await room.serving(1)
    two, _ = await room.serving(2)
    await room.committed(
        room.active.create_topics((NewTopic(name="a", replication_factor=2),), CAUSE, 1_000)
    )
    leader = room.active.log.image.topics.named("a").partitions[0].leader  # type: ignore[union-attr]
    epochs = {1: one, 2: two}
    other = 3 - leader
    going = await room.beat(leader, epochs[leader], 99, stop=True)
    assert not going.should_shut_down, "the other has not applied the move"
    assert room.active.log.image.topics.named("a").partitions[0].leader == other  # type: ignore[union-attr]
    end = room.active.log.image.provenance.offset
    await room.beat(other, epochs[other], end)
    assert (await room.beat(leader, epochs[leader], 99, stop=True)).should_shut_down


async def test_a_heartbeat_that_comes_late_does_not_undo_a_controlled_shutdown(room: Room) -> None:
    await room.serving(2)
    epoch, stream = await room.serving(1)
    await room.beat(1, epoch, 99, stop=True)
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    await run_until(room, lambda: room.fenced(1))
    assert (await room.beat(1, epoch, 99)).is_fenced
    assert room.fenced(1)


async def run_until(room: Room, condition: Any) -> None:
    """Let the controller's own loop run, committing, until the condition holds."""
    loop = asyncio.ensure_future(room.active.run())
    try:
        for _ in range(2_000):
            await asyncio.sleep(0.001)
            room.quorum.commit()
            if condition():
                return
        raise AssertionError("it never came to it")
    finally:
        loop.cancel()


async def test_several_brokers_that_are_lost_at_once_are_fenced_in_one_decision(
    room: Room,
) -> None:
    streams = {broker: (await room.serving(broker))[1] for broker in (1, 2, 3)}
    for broker in (1, 2):
        room.active.close_session(NodeId(broker), streams[broker])
    room.clock.now_ms += 60
    before = len(room.quorum.proposals)
    await run_until(room, lambda: room.fenced(1) and room.fenced(2))
    assert not room.fenced(3)
    fences = [
        records
        for _, records in room.quorum.proposals[before:]
        if dict(records[0].headers)["request"] == b"FenceBroker"
    ]
    assert len(fences) == 1


async def test_a_paused_broker_that_goes_on_and_is_killed_then_is_fenced_again(room: Room) -> None:
    """It was unfenced on its old stream, without a session: nobody noticed its death."""
    epoch, stream = await room.serving(1)
    room.clock.now_ms += 9_001
    await run_until(room, lambda: room.fenced(1))
    assert not (await room.beat(1, epoch, 99)).is_fenced
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    await run_until(room, lambda: room.fenced(1))


async def test_streams_are_known_to_who_leads_again(room: Room) -> None:
    epoch, stream = await room.serving(1)
    room.quorum.depose()
    room.lead()
    await room.beat(1, epoch, 99)
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    await run_until(room, lambda: room.fenced(1))


async def test_nobody_is_fenced_while_the_loop_lags(room: Room) -> None:
    """KCT#testTimedOutHeartbeats (141): what came in meanwhile is heard first."""
    epoch, stream = await room.serving(1)
    room.active.close_session(NodeId(1), stream)
    loop = asyncio.ensure_future(room.active.run())
    await settle()
    room.clock.now_ms += 3_000  # Meanwhile the broker has opened another stream, yet unread.
    await asyncio.sleep(0.06)
    await settle()
    room.active.open_session(NodeId(1), epoch)
    room.clock.now_ms += 200
    await settle()
    loop.cancel()
    room.quorum.commit()
    assert not room.fenced(1)


async def test_a_fence_that_was_refused_is_tried_again(room: Room) -> None:
    _, stream = await room.serving(1)
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    room.quorum.refuse_next = OverloadedError("too many events wait")
    loop = asyncio.ensure_future(room.active.run())
    await settle()
    loop.cancel()
    assert room.quorum.refuse_next is None, "it was refused"
    assert not room.fenced(1)
    room.clock.now_ms += 100
    await run_until(room, lambda: room.fenced(1))


async def test_who_breaks_again_while_the_fence_is_under_way_is_fenced_again(room: Room) -> None:
    epoch, stream = await room.serving(1)
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    loop = asyncio.ensure_future(room.active.run())
    await settle()  # Fenced, and not yet committed.
    stream = room.active.open_session(NodeId(1), epoch)
    unfenced = asyncio.ensure_future(room.beat(1, epoch, 99))
    await settle()
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 60
    await settle()
    assert not (await unfenced).is_fenced
    loop.cancel()
    await run_until(room, lambda: room.fenced(1))


async def test_who_comes_back_within_the_grace_is_not_fenced(room: Room) -> None:
    epoch, stream = await room.serving(1)
    room.active.close_session(NodeId(1), stream)
    room.clock.now_ms += 40
    room.active.open_session(NodeId(1), epoch)
    room.clock.now_ms += 1_000
    before = len(room.quorum.proposals)
    await run_until(room, lambda: len(room.quorum.proposals) > before)  # a NoOp, at the least
    assert not room.fenced(1)


async def test_a_new_leader_gives_everybody_a_fresh_session(room: Room) -> None:
    await room.serving(1)
    room.quorum.depose()
    room.clock.now_ms += 60_000
    room.lead()
    before = len(room.quorum.proposals)
    await run_until(room, lambda: len(room.quorum.proposals) > before)
    assert not room.fenced(1)


async def test_an_empty_log_begins_with_a_metadata_version_once(room: Room) -> None:
    """QC#testInsertBootstrapRecordsToEmptyLog (127)."""
    await run_until(room, lambda: "metadata.version" in room.active.log.image.features)
    assert room.active.log.image.features["metadata.version"] == 23
    proposals = len(room.quorum.proposals)
    room.quorum.depose()
    room.lead()
    await settle()
    assert len(room.quorum.proposals) == proposals


async def test_an_idle_log_is_moved(room: Room) -> None:
    """QC#testNoOpRecordWriteAfterTimeout (125)."""
    await run_until(room, lambda: "metadata.version" in room.active.log.image.features)
    before = len(room.quorum.proposals)
    room.clock.now_ms += 501
    await run_until(room, lambda: len(room.quorum.proposals) > before)
    assert dict(room.quorum.proposals[-1][1][0].headers)["request"] == b"NoOp"


# ── large decisions ──────────────────────────────────────────────────────────────────────────


async def test_a_request_that_would_write_too_much_is_refused_and_harms_nobody(room: Room) -> None:
    """QC#testAppendRecordsAtomically (122): it fails before any write."""
    await room.serving(1)
    keys = ("retention.ms", "segment.ms", "retention.bytes", "max.message.bytes", "flush.ms")
    configs = dict.fromkeys((*keys, "segment.jitter.ms", "file.delete.delay.ms", "flush.messages"))
    asked = tuple(
        NewTopic(name=f"t{number}", configs=dict.fromkeys(configs, "100000"))
        for number in range(1_000 + 1)
    )
    proposals = len(room.quorum.proposals)
    code = await refused(room.active.create_topics(asked, CAUSE, 1_000))
    assert code is ErrorCode.POLICY_VIOLATION
    assert len(room.quorum.proposals) == proposals
    assert (await room.committed(room.create("a")))[0][0].error is ErrorCode.NONE


async def holding_many_topics(room: Room, count: int) -> int:
    """Two brokers that both hold that many topics of one partition; one that leads."""
    for broker in (1, 2):
        await room.serving(broker)
    for start in range(0, count, 4_000):
        asked = tuple(
            NewTopic(name=f"t{number}", replication_factor=2)
            for number in range(start, min(count, start + 4_000))
        )
        results, _ = await room.committed(room.active.create_topics(asked, CAUSE, 1_000))
        assert all(each.error is ErrorCode.NONE for each in results)
    return 1


async def test_a_broker_that_holds_more_topics_than_a_batch_has_records_is_fenced(
    room: Room,
) -> None:
    await holding_many_topics(room, 10_050)
    before = len(room.quorum.proposals)
    room.clock.now_ms += 4_000
    await room.beat(2, room.active.log.image.brokers[NodeId(2)].broker_epoch, 99)
    room.clock.now_ms += 5_001
    loop = asyncio.ensure_future(room.active.run())
    await settle()
    other = asyncio.ensure_future(room.create("in-between"))
    for _ in range(100):
        await asyncio.sleep(0.001)
        room.quorum.commit()
        if room.fenced(1):
            break
    loop.cancel()
    image = room.active.log.image
    assert room.fenced(1)
    assert {each.partitions[0].leader for each in image.topics if each.name != "in-between"} == {2}
    assert (await room.committed(_result(other)))[0][0].error is ErrorCode.NONE
    sizes = [len(records) for _, records in room.quorum.proposals[before:]]
    assert sizes[:2] == [10_000, 51], "the rest follows at once"


async def _result(task: "asyncio.Future[T]") -> T:
    return await task


async def test_what_saw_a_state_that_was_lost_did_nothing(room: Room) -> None:
    """A decision without records is definite, whatever becomes of what it stood on."""
    await room.serving(1)
    first = asyncio.ensure_future(room.create("a"))
    await settle()
    second = asyncio.ensure_future(room.create("a"))
    await settle()
    room.quorum.depose()
    with pytest.raises(CommitUnknownError):
        await first
    with pytest.raises(NotControllerError):
        await second
