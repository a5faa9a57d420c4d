"""A peer of another cluster, a message that went astray, an id that is used twice: refused by name.

Every call of QuorumService, over the wire, at a leader and at a follower. What is refused changes
neither epoch nor leader nor log. The core's part for every role and every epoch, lower, equal and
higher (scenario 12), is in tests/unit/raft/test_raft_epochs.py.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import grpc.aio
import pytest
import pytest_asyncio

from controller.quorum.messages import response_from_wire
from klamm.rpc.channel import open_channel
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc
from tests.unit.quorum.nodes import CLUSTER, Member, Members, members

SERVICE = "/klamm.v1.QuorumService"
FAR = pb.OffsetAndEpoch(offset=99, epoch=98)
STRANGER = 9
"""A node that has no vote."""

Stub: TypeAlias = "pb_grpc.QuorumServiceAsyncStub"
Call = Callable[[Stub, pb.Caller, int], Awaitable[object]]


async def vote(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    end = pb.OffsetAndEpoch(offset=99, epoch=epoch - 1)
    return await stub.Vote(pb.VoteRequest(caller=caller, epoch=epoch, log_end=end))


async def pre_vote(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    end = pb.OffsetAndEpoch(offset=99, epoch=epoch - 1)
    return await stub.Vote(pb.VoteRequest(caller=caller, epoch=epoch, log_end=end, pre_vote=True))


async def begin(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    return await stub.BeginQuorumEpoch(pb.BeginQuorumEpochRequest(caller=caller, epoch=epoch))


async def end(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    return await stub.EndQuorumEpoch(pb.EndQuorumEpochRequest(caller=caller, epoch=epoch))


async def fetch(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    call = stub.Fetch()
    await call.write(pb.FetchRequest(caller=caller, epoch=epoch, log_end=FAR))
    try:
        return await call.read()
    finally:
        call.cancel()


async def observe(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    call = stub.Fetch()
    await call.write(pb.FetchRequest(caller=caller, epoch=epoch, observer=True))
    try:
        return await call.read()
    finally:
        call.cancel()


async def fetch_snapshot(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    call = stub.FetchSnapshot()
    await call.write(pb.FetchSnapshotRequest(caller=caller, epoch=epoch))
    try:
        return await call.read()
    finally:
        call.cancel()


async def read_index(stub: Stub, caller: pb.Caller, epoch: int) -> object:
    return await stub.ReadIndex(pb.ReadIndexRequest(caller=caller))


CALLS: dict[str, Call] = {
    "Vote": vote,
    "pre-vote": pre_vote,
    "Begin": begin,
    "End": end,
    "Fetch": fetch,
    "observer's Fetch": observe,
    "FetchSnapshot": fetch_snapshot,
    "ReadIndex": read_index,
}
OF_VOTERS = ("Vote", "pre-vote", "Begin", "End", "Fetch", "ReadIndex")
"""Brokers, which observe, count their ids apart."""


class Quorum:
    """Three members, and a way to ask each of them anything."""

    def __init__(self, group: Members, leader: Member, follower: Member) -> None:
        self.group = group
        self.leader = leader
        self.follower = follower
        self._channels: list[grpc.aio.Channel] = []

    def stub(self, member: Member) -> Stub:
        self._channels.append(open_channel(f"127.0.0.1:{member.port}"))
        return pb_grpc.QuorumServiceStub(self._channels[-1])

    @property
    def standing(self) -> tuple[object, ...]:
        """What no refused message may change."""
        nodes = (self.leader.node, self.follower.node)
        return tuple((each.epoch, each.leader, each.log_end) for each in nodes)

    async def close(self) -> None:
        for each in self._channels:
            await each.close()


@pytest_asyncio.fixture
async def quorum(tmp_path: Path) -> AsyncIterator[Quorum]:
    async with members(tmp_path) as group:
        leader = await group.active()
        log_end = await group.write(leader, b"a")
        for each in group.all:
            await each.machine.until(lambda each=each: each.machine.end == log_end)  # type: ignore[misc]
        follower = next(each for each in group.all if each is not leader)
        quorum = Quorum(group, leader, follower)
        yield quorum
        await quorum.close()


def caller(
    node: int, receiver: int = -1, *, cluster: str = CLUSTER, disk: bytes = b""
) -> pb.Caller:
    return pb.Caller(cluster_id=cluster, node_id=node, receiver_id=receiver, directory_id=disk)


async def test_another_cluster_none_and_another_receiver_are_refused(quorum: Quorum) -> None:
    before = quorum.standing
    for member in (quorum.leader, quorum.follower):
        peer = quorum.follower if member is quorum.leader else quorum.leader
        stub, me, you = quorum.stub(member), peer.node_id, member.node_id
        for name, ask in CALLS.items():
            for who, expected in (
                (caller(me, you, cluster="other"), "INCONSISTENT_CLUSTER_ID"),
                (caller(me, you, cluster=""), "INCONSISTENT_CLUSTER_ID"),
                (caller(me, me), "INVALID_VOTER_KEY"),
                (caller(me, STRANGER), "INVALID_VOTER_KEY"),
            ):
                answer = await ask(stub, who, 99)
                assert error_of(answer) == expected, (name, who)
    assert quorum.standing == before


async def test_ones_own_id_is_refused_and_told_of_on_both_sides(
    quorum: Quorum, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes with one id: each reaches the other only by its own address being wrong."""
    before = quorum.standing
    caplog.set_level(logging.WARNING)
    for member in (quorum.leader, quorum.follower):
        stub = quorum.stub(member)
        for disk in (b"", UUID(int=77).bytes, UUID(int=int(member.node_id)).bytes):
            for name in OF_VOTERS:
                answer = await CALLS[name](stub, caller(member.node_id, disk=disk), 99)
                assert error_of(answer) == "DUPLICATE_VOTER", name
    assert quorum.standing == before
    told = [each for each in caplog.messages if "has this node's id" in each]
    assert len(told) == 6, "once for each node and disk, and not for each call"


async def test_a_sender_without_an_id_has_no_voters_say(quorum: Quorum) -> None:
    before = quorum.standing
    for member in (quorum.leader, quorum.follower):
        for name in OF_VOTERS:
            answer = await CALLS[name](quorum.stub(member), caller(-1), 99)
            assert error_of(answer) == "INVALID_REQUEST", name
    assert quorum.standing == before


async def test_a_disk_that_is_no_disk_is_refused(quorum: Quorum) -> None:
    before = quorum.standing
    for name in ("Vote", "pre-vote", "Begin", "End", "Fetch", "observer's Fetch"):
        answer = await CALLS[name](quorum.stub(quorum.leader), caller(STRANGER, disk=b"short"), 99)
        assert error_of(answer) == "INVALID_REQUEST", name
    assert quorum.standing == before


@pytest.mark.parametrize("name", ["Vote", "pre-vote", "Begin", "End", "Fetch"])
async def test_old_messages_are_fenced_and_change_nothing(quorum: Quorum, name: str) -> None:
    """Replayed from an epoch that is over (scenario 12)."""
    before = quorum.standing
    for member in (quorum.leader, quorum.follower):
        for sender in (*quorum.group.ports, STRANGER):
            if sender != member.node_id:
                answer = await CALLS[name](quorum.stub(member), caller(sender), 0)
                assert error_of(answer) == "FENCED_LEADER_EPOCH", sender
    assert quorum.standing == before


async def test_messages_of_this_epoch_from_others_than_its_leader(quorum: Quorum) -> None:
    """A second leader is refused; votes and goodbyes of this epoch come to nothing."""
    before = quorum.standing
    epoch = quorum.leader.node.epoch
    third = next(each for each in quorum.group.all if each not in (quorum.leader, quorum.follower))
    for member in (quorum.leader, quorum.follower):
        stub = quorum.stub(member)
        for sender in (third.node_id, STRANGER):
            assert error_of(await begin(stub, caller(sender), epoch)) == "INVALID_REQUEST"
            voted = await vote(stub, caller(sender), epoch)
            assert isinstance(voted, pb.VoteResponse)
            assert not voted.vote_granted
            asked = await pre_vote(stub, caller(sender), epoch)
            assert isinstance(asked, pb.VoteResponse)
            assert not asked.vote_granted
            assert error_of(await end(stub, caller(sender), epoch)) == ""
    assert error_of(await fetch(quorum.stub(quorum.follower), caller(third.node_id), epoch)) == (
        "NOT_LEADER_OR_FOLLOWER"
    )
    assert quorum.standing == before


async def test_questions_of_a_later_epoch_move_nobody(quorum: Quorum) -> None:
    before = quorum.standing
    later = quorum.leader.node.epoch + 5
    for member in (quorum.leader, quorum.follower):
        stub = quorum.stub(member)
        asked = await pre_vote(stub, caller(STRANGER), later)
        assert isinstance(asked, pb.VoteResponse)
        assert not asked.vote_granted, "a leader is heard"
        assert error_of(await fetch(stub, caller(STRANGER), later)) == "UNKNOWN_LEADER_EPOCH"
    assert quorum.standing == before


@pytest.mark.parametrize("method", ["Vote", "BeginQuorumEpoch", "EndQuorumEpoch", "ReadIndex"])
async def test_garbage_is_refused_by_a_status(quorum: Quorum, method: str) -> None:
    channel = open_channel(f"127.0.0.1:{quorum.leader.port}")
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"{SERVICE}/{method}")(b"\xff\xff\xff garbage")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        await channel.close()


@pytest.mark.parametrize("before", [0, 1])
async def test_garbage_on_a_stream_is_refused_by_a_status(quorum: Quorum, before: int) -> None:
    """Also in the middle of a good stream, which would else end as if the caller had left."""
    channel = open_channel(f"127.0.0.1:{quorum.leader.port}")
    try:
        call = channel.stream_stream(f"{SERVICE}/Fetch")()
        for _ in range(before):
            good = pb.FetchRequest(caller=caller(STRANGER), observer=True)
            await call.write(good.SerializeToString())
            assert pb.FetchResponse.FromString(await call.read()).error == 0
        await call.write(b"\xff\xff\xff garbage")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            assert await call.read() is not grpc.aio.EOF
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "is no message" in str(refused.value.details())
    finally:
        await channel.close()


async def test_garbage_on_a_snapshots_stream_is_refused_by_a_status(quorum: Quorum) -> None:
    channel = open_channel(f"127.0.0.1:{quorum.leader.port}")
    try:
        call = channel.stream_stream(f"{SERVICE}/FetchSnapshot")()
        await call.write(b"\xff\xff\xff garbage")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            assert await call.read() is not grpc.aio.EOF
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    finally:
        await channel.close()


async def test_a_stream_under_a_voters_name_and_another_disk_says_nothing_of_the_voter(
    quorum: Quorum, caplog: pytest.LogCaptureFixture
) -> None:
    """Its end is not the voter's, who is still heard; many names on one stream take no room."""
    service = quorum.leader.node._service
    streams = dict(service._streams)
    call = quorum.stub(quorum.leader).Fetch()
    for node in (quorum.follower.node_id, *range(1_000, 1_050)):
        who = caller(node, disk=UUID(int=70 + node).bytes)
        await call.write(pb.FetchRequest(caller=who, epoch=quorum.leader.node.epoch))
        assert isinstance(await call.read(), pb.FetchResponse)
        assert service._streams == streams
    call.cancel()
    told = [each for each in caplog.messages if "another disk" in each]
    assert len(told) == 1
    end_offset = await quorum.group.write(quorum.leader, b"still")
    await quorum.follower.machine.until(lambda: quorum.follower.machine.end == end_offset)


async def test_a_second_process_with_a_nodes_id_is_told_on_both_sides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same node id, another directory, while the first lives: it follows, without a say."""
    caplog.set_level(logging.WARNING)
    async with members(tmp_path) as group:
        first = await group.active()
        await first.node.resign(5_000)  # The next one writes everybody's disk down.
        active = await group.active(but=first.node_id)
        await group.write(active, b"x")
        epoch = active.machine.epoch
        twin = next(each for each in group.all if each is not active)
        second = Member(twin.node_id, tmp_path / "second")
        await second.start(group.ports, disk=7)
        try:
            await second.machine.until(lambda: second.machine.values == [b"x"])
            assert not second.node._driver.state.may_stand
            await group.write(active, b"y")
            await twin.machine.until(lambda: twin.machine.values == [b"x", b"y"])
            assert active.machine.epoch == epoch
        finally:
            await second.kill()
    messages = "\n".join(caplog.messages)
    assert "a node has a voter's id and another disk; it has no vote" in messages
    assert "this node has no vote: the log names another disk for its id" in messages


def error_of(answer: object) -> str:
    """The refusal's name, short; nothing if there is none."""
    assert isinstance(
        answer,
        pb.VoteResponse
        | pb.BeginQuorumEpochResponse
        | pb.EndQuorumEpochResponse
        | pb.FetchResponse
        | pb.FetchSnapshotResponse
        | pb.ReadIndexResponse,
    ), answer
    if not isinstance(answer, pb.FetchSnapshotResponse | pb.ReadIndexResponse):
        response_from_wire(answer)
    name = pb.QuorumError.Name(answer.error).removeprefix("QUORUM_ERROR_")
    return "" if name == "UNSPECIFIED" else name
