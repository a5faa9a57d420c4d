"""QuorumService over the wire: who is let in, and what observers get."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from controller.quorum import fetches, service
from controller.quorum.control import describe_batches
from klamm.errors import StorageError
from klamm.ids import Offset
from klamm.log.records import NewRecord
from klamm.rpc.channel import open_channel
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc
from tests.unit.quorum.nodes import CLUSTER, DEADLINE_S, Member, Members, members


@asynccontextmanager
async def calling(member: Member) -> AsyncIterator["pb_grpc.QuorumServiceAsyncStub"]:
    channel = open_channel(f"127.0.0.1:{member.port}")
    stub: pb_grpc.QuorumServiceAsyncStub = pb_grpc.QuorumServiceStub(channel)
    try:
        yield stub
    finally:
        await channel.close()


def caller(cluster: str = CLUSTER, receiver: int = -1, node: int = 9) -> pb.Caller:
    return pb.Caller(cluster_id=cluster, node_id=node, receiver_id=receiver)


def observing(offset: int = 0, epoch: int = -1, wait_ms: int = 0) -> pb.FetchRequest:
    return pb.FetchRequest(
        caller=caller(),
        log_end=pb.OffsetAndEpoch(offset=offset, epoch=epoch),
        high_watermark=offset,
        max_bytes=1_000_000,
        max_wait_ms=wait_ms,
        observer=True,
    )


async def fetch(
    call: "grpc.aio.StreamStreamCall[pb.FetchRequest, pb.FetchResponse]", request: pb.FetchRequest
) -> pb.FetchResponse:
    await call.write(request)
    answer = await call.read()
    assert isinstance(answer, pb.FetchResponse)
    return answer


async def chunk(
    stub: "pb_grpc.QuorumServiceAsyncStub", request: pb.FetchSnapshotRequest
) -> pb.FetchSnapshotResponse:
    call = stub.FetchSnapshot()
    await call.write(request)
    answer = await call.read()
    assert isinstance(answer, pb.FetchSnapshotResponse)
    await call.done_writing()
    return answer


@pytest.mark.parametrize(
    ("stranger", "error"),
    [
        (caller(cluster="other"), pb.QUORUM_ERROR_INCONSISTENT_CLUSTER_ID),
        (caller(receiver=7), pb.QUORUM_ERROR_INVALID_VOTER_KEY),
    ],
)
async def test_strangers_are_refused_by_name_and_change_nothing(
    tmp_path: Path, stranger: pb.Caller, error: int
) -> None:
    async with members(tmp_path, count=1) as group, calling(group.all[0]) as stub:
        await group.active()
        epoch = group.all[0].node.epoch
        end = pb.OffsetAndEpoch(offset=99, epoch=98)
        answers: list[Any] = [
            await stub.Vote(pb.VoteRequest(caller=stranger, epoch=99, log_end=end)),
            await stub.BeginQuorumEpoch(pb.BeginQuorumEpochRequest(caller=stranger, epoch=99)),
            await stub.EndQuorumEpoch(pb.EndQuorumEpochRequest(caller=stranger, epoch=99)),
            await stub.ReadIndex(pb.ReadIndexRequest(caller=stranger)),
            await chunk(stub, pb.FetchSnapshotRequest(caller=stranger)),
            await fetch(stub.Fetch(), pb.FetchRequest(caller=stranger, epoch=99, log_end=end)),
            await fetch(stub.Fetch(), pb.FetchRequest(caller=stranger, observer=True)),
        ]
        assert [each.error for each in answers] == [error] * len(answers)
        assert group.all[0].node.epoch == epoch


async def test_a_peer_with_this_nodes_own_id_is_refused(tmp_path: Path) -> None:
    """Row 50: an announcement of a later epoch under it would have this node follow itself."""
    async with members(tmp_path, count=1) as group, calling(group.all[0]) as stub:
        active = await group.active()
        epoch, me = active.node.epoch, caller(node=active.node_id)
        end = pb.OffsetAndEpoch(offset=99, epoch=98)
        answers = [
            await stub.Vote(pb.VoteRequest(caller=me, epoch=99, log_end=end)),
            await stub.BeginQuorumEpoch(pb.BeginQuorumEpochRequest(caller=me, epoch=99)),
            await stub.EndQuorumEpoch(pb.EndQuorumEpochRequest(caller=me, epoch=99)),
            await fetch(stub.Fetch(), pb.FetchRequest(caller=me, epoch=99, log_end=end)),
        ]
        assert {each.error for each in answers} == {pb.QUORUM_ERROR_DUPLICATE_VOTER}
        assert (active.node.epoch, active.node.role) == (epoch, "leader")


async def test_nonsense_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async with members(tmp_path, count=1) as group, calling(group.all[0]) as stub:
        await group.active()
        epoch = group.all[0].node.epoch
        bad = pb.OffsetAndEpoch(offset=-5, epoch=3)
        answers: list[Any] = [
            await stub.Vote(pb.VoteRequest(caller=caller(), epoch=99, log_end=bad)),
            await stub.BeginQuorumEpoch(pb.BeginQuorumEpochRequest(caller=caller(), epoch=-1)),
            await fetch(stub.Fetch(), pb.FetchRequest(caller=caller(), epoch=1, log_end=bad)),
            await fetch(stub.Fetch(), pb.FetchRequest(caller=caller(), observer=True, log_end=bad)),
        ]
        for each in answers:
            assert each.error == pb.QUORUM_ERROR_INVALID_REQUEST
        assert group.all[0].node.epoch == epoch


async def test_observers_get_what_is_committed_from_any_controller(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        standby = next(each for each in group.all if each is not active)
        end = await group.write(active, b"a")
        await standby.machine.until(lambda: standby.machine.end == end)
        async with calling(standby) as stub:
            call = stub.Fetch()
            answer = await fetch(call, observing())
            assert answer.high_watermark == end
            assert sum(each.count for each in describe_batches(answer.batches)) == end
            # Nothing new: the answer waits for news.
            await call.write(observing(end, active.node.epoch, wait_ms=20_000))
            waiting = asyncio.ensure_future(call.read())
            later = await group.write(active, b"b")
            news = await waiting
            assert isinstance(news, pb.FetchResponse)
            assert news.high_watermark == later
            (batch,) = describe_batches(news.batches)
            assert (batch.base_offset, batch.count) == (end, 1)


async def test_observers_never_see_what_is_not_committed(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        end = await group.write(active, b"a")
        await kill_others(group, active)
        epoch = active.machine.epoch
        assert epoch is not None
        await active.node.propose(epoch, end, [NewRecord(value=b"uncommitted")])
        async with calling(active) as stub:
            answer = await fetch(stub.Fetch(), observing(end, epoch))
            assert (answer.batches, answer.high_watermark) == (b"", end)


async def test_an_observer_of_another_history_is_told_where_it_parts(tmp_path: Path) -> None:
    async with members(tmp_path, count=1) as group, calling(group.all[0]) as stub:
        end = await group.write(await group.active(), b"a")
        answer = await fetch(stub.Fetch(), observing(end, epoch=0))
        assert answer.HasField("diverging")
        assert answer.diverging.offset == 0
        # One that is ahead of this controller may be right: it waits.
        ahead = await fetch(stub.Fetch(), observing(end + 10, epoch=9))
        assert not ahead.HasField("diverging")
        assert ahead.batches == b""


async def test_an_observer_that_follows_closely_is_told_of_several_commits_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once after idle times; then after a rest, with all that was committed meanwhile."""
    monkeypatch.setattr(fetches, "OBSERVER_REST_MS", 60_000)
    async with members(tmp_path) as group:
        active = await group.active()
        end, epoch = await group.write(active, b"a"), active.node.epoch
        async with calling(active) as stub:
            close, behind = stub.Fetch(), stub.Fetch()
            assert (await fetch(close, observing(end - 1, epoch))).high_watermark == end
            assert (await fetch(behind, observing())).high_watermark == end
            await close.write(observing(end, epoch, wait_ms=1))
            told = asyncio.ensure_future(close.read())
            end = await group.write(active, b"b")
            monkeypatch.setattr(service, "CLOSE_BEHIND_RECORDS", 0)
            assert (await fetch(behind, observing())).high_watermark == end, "no rest to catch up"
            assert not told.done()
            told.cancel()


async def test_an_observer_whose_fetch_fails_is_answered_and_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> bytes:
        raise StorageError("EIO")

    async with members(tmp_path, count=1) as group:
        active = await group.active()
        end = await group.write(active, b"a")
        async with calling(active) as stub, asyncio.timeout(DEADLINE_S):
            call = stub.Fetch()
            with monkeypatch.context() as patched:
                patched.setattr(active.node, "read_committed", broken)
                assert (await fetch(call, observing())).error == pb.QUORUM_ERROR_OVERLOADED
            assert "an observer's fetch failed" in caplog.text
            assert (await fetch(call, observing())).high_watermark == end


async def test_a_rest_is_no_longer_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        end, epoch = await group.write(active, b"a"), active.node.epoch
        async with calling(active) as stub, asyncio.timeout(DEADLINE_S):
            close = stub.Fetch()
            for _ in range(20):
                answer = await fetch(close, observing(end - 1, epoch))
                assert answer.high_watermark == end
                end = await group.write(active, b"b")


async def test_read_index_is_the_leaders_to_give(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        end = await group.write(active, b"a")
        standby = next(each for each in group.all if each is not active)
        async with calling(active) as stub:
            answer = await stub.ReadIndex(pb.ReadIndexRequest(caller=caller()))
            assert (answer.error, answer.offset) == (pb.QUORUM_ERROR_UNSPECIFIED, end)
        async with asyncio.timeout(DEADLINE_S):
            while standby.node.leader != active.node_id:
                await asyncio.sleep(0.001)
        async with calling(standby) as stub:
            answer = await stub.ReadIndex(pb.ReadIndexRequest(caller=caller()))
            assert answer.error == pb.QUORUM_ERROR_NOT_LEADER_OR_FOLLOWER
            assert answer.leader_id == active.node_id


async def test_the_quorum_is_described(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        end = await group.write(active, b"a")
        for each in group.all:
            await each.machine.until(lambda each=each: each.machine.end == end)  # type: ignore[misc]
        async with calling(active) as stub:
            await fetch(stub.Fetch(), observing(Offset(end), epoch=active.node.epoch))
            async with asyncio.timeout(5):
                answer = await stub.DescribeQuorum(pb.DescribeQuorumRequest())
                while min(each.log_end_offset for each in answer.current_voters) < end:
                    answer = await stub.DescribeQuorum(pb.DescribeQuorumRequest())
        assert (answer.leader_id, answer.high_watermark) == (active.node_id, end)
        assert answer.responder_role == "leader"
        assert [each.node_id for each in answer.current_voters] == [1, 2, 3]
        assert all(each.last_caught_up_timestamp_ms > 0 for each in answer.current_voters)
        assert [each.node_id for each in answer.observers] == [9]
        assert {each.endpoint.port for each in answer.voters} == set(group.ports.values())
        standby = next(each for each in group.all if each is not active)
        asked = await standby.node.describe(2_000)
        assert asked.responder_id == active.node_id, "a standby asks the leader"
        own = await standby.node.describe(0)
        assert own.responder_role == "follower"
        assert {each.log_end_offset for each in own.current_voters} == {-1, end}


async def kill_others(group: Members, kept: Member) -> None:
    for each in group.all:
        if each is not kept:
            await each.kill()
