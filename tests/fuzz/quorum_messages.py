"""What one controller says to another: from bytes to the core's message, and into the core.

    input    which message │ how │ who asks, and in which state it is heard │ protobuf

A request goes into the core, whatever it says, and so does an answer to what the voter has asked:
one that is told nonsense refuses it and goes on. Half of the fetched batches are given the
checksums that they should have.
"""

from dataclasses import replace
from random import Random
from uuid import UUID

from google.protobuf.message import DecodeError, Message

from controller.quorum.messages import (
    WireRequest,
    WireResponse,
    replica_key,
    request_from_wire,
    request_to_wire,
    response_from_wire,
    response_to_wire,
)
from controller.raft.events import RequestReceived, ResponseReceived
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    Request,
    VoteRequest,
)
from controller.raft.state import Download, RaftState, Recovering, Role
from controller.raft.step import step
from controller.raft.voters import ReplicaKey
from klamm.ids import DirectoryId, NodeId, Offset
from klamm.v1 import quorum_pb2 as pb
from tests.fuzz.growth import random_batches, random_message, sealed
from tests.fuzz.target import Choice, Target
from tests.unit.raft.voter import (
    CANDIDATE,
    EPOCH,
    FOLLOWER,
    LOG,
    NOW,
    PROSPECTIVE,
    RESIGNED,
    ROLES,
    THREE,
    TWO,
    at,
    leader,
    voter,
)

REQUESTS: tuple[type[WireRequest], ...] = (
    pb.VoteRequest,
    pb.BeginQuorumEpochRequest,
    pb.EndQuorumEpochRequest,
    pb.FetchRequest,
    pb.FetchSnapshotRequest,
)
RESPONSES: tuple[type[WireResponse], ...] = (
    pb.VoteResponse,
    pb.BeginQuorumEpochResponse,
    pb.EndQuorumEpochResponse,
    pb.FetchResponse,
    pb.FetchSnapshotResponse,
)
KINDS: tuple[type[Message], ...] = (*REQUESTS[:4], *RESPONSES[:4], REQUESTS[4], RESPONSES[4])
"""In the order in which they came, which the corpus knows."""
STATES: tuple[RaftState, ...] = (
    *(voter(role) for role in ROLES.values()),
    leader(),
    leader(committed=0),
)
SENDERS = (2, 3, 9, 1)
"""Two voters, one that is none, and one that has the id of who is asked."""
FETCH = FetchRequest(
    epoch=EPOCH, log_end=LOG.end, high_watermark=Offset(3), max_bytes=1 << 20, max_wait_ms=500
)
TAKEN = at(9, 4)
"""A snapshot that is being downloaded."""
CHUNK = FetchSnapshotRequest(epoch=EPOCH, snapshot_id=TAKEN, position=0, max_bytes=1 << 16)
VOTE = VoteRequest(epoch=EPOCH, log_end=LOG.end)


def _waiting(state: RaftState, role: Role, **more: object) -> RaftState:
    return replace(state, role=role, high_watermark=Offset(3), **more)  # type: ignore[arg-type]


WAITING: tuple[tuple[RaftState, Request], ...] = (
    (_waiting(voter(FOLLOWER), replace(FOLLOWER, fetch=FETCH)), FETCH),
    (
        _waiting(
            voter(FOLLOWER),
            replace(FOLLOWER, fetch=FETCH),
            recovering=Recovering(reason="fuzzed"),
        ),
        FETCH,
    ),
    (
        _waiting(
            voter(FOLLOWER),
            replace(FOLLOWER, fetch=CHUNK),
            download=Download(snapshot_id=TAKEN, epoch=EPOCH, chunk_bytes=1 << 16),
        ),
        CHUNK,
    ),
    (voter(CANDIDATE), VOTE),
    (voter(PROSPECTIVE), replace(VOTE, pre_vote=True)),
    (voter(RESIGNED), EndQuorumEpochRequest(epoch=EPOCH, successors=(TWO, THREE))),
    (leader(), BeginQuorumEpochRequest(epoch=EPOCH)),
    (leader(committed=0), BeginQuorumEpochRequest(epoch=EPOCH)),
)
"""Voters that wait for an answer, and what they have asked."""


def grow(random: Random) -> bytes:
    which = random.randrange(len(KINDS))
    message = random_message(KINDS[which], random)
    if isinstance(message, pb.FetchResponse):
        message.batches = random_batches(random, base=random.choice((0, 5)), epoch=3)
        if random.random() < 0.5:
            message.ClearField(random.choice(("diverging", "snapshot_id")))
    if hasattr(message, "epoch") and random.random() < 0.6:
        message.epoch = random.choice((EPOCH - 1, EPOCH, EPOCH + 1))
    sender = random.randrange(256)
    if isinstance(message, RESPONSES) and random.random() < 0.7:
        _make_likely(message)
        sender = SENDERS.index(TWO)
    head = (which, random.randrange(256), sender, random.randrange(256))
    return bytes(head) + message.SerializeToString()


def _make_likely(answer: WireResponse) -> None:
    """As the leader of the voters that wait would begin an answer that it gives."""
    answer.ClearField("error")
    answer.epoch = EPOCH
    answer.leader_id = TWO
    if isinstance(answer, pb.FetchResponse):
        answer.ClearField("preferred_successors")
    if isinstance(answer, pb.FetchSnapshotResponse):
        answer.snapshot_id.epoch, answer.snapshot_id.offset = TAKEN.epoch, TAKEN.offset


def check(data: bytes) -> bool:
    choice = Choice(data)
    kind = KINDS[choice.one_of(len(KINDS))]
    seal = choice.one_of(2)
    sender = SENDERS[choice.one_of(len(SENDERS))]
    which = choice.one_of(256)
    message = kind()
    try:
        message.ParseFromString(choice.rest)
    except DecodeError:
        return False
    if isinstance(message, REQUESTS):
        return _request(message, STATES[which % len(STATES)], sender)
    assert isinstance(message, RESPONSES)
    if seal and isinstance(message, pb.FetchResponse):
        message.batches = sealed(message.batches)
    return _response(message, *WAITING[which % len(WAITING)], sender)


def _request(wire: WireRequest, state: RaftState, sender: int) -> bool:
    try:
        asker = replica_key(wire.caller)
        request = request_from_wire(wire)
    except ValueError:
        return False
    again = request_to_wire(request, wire.caller)
    assert request_from_wire(type(again).FromString(again.SerializeToString())) == request
    disk = asker.directory_id or DirectoryId(UUID(int=sender))
    after, _ = step(
        state,
        RequestReceived(1, ReplicaKey(node_id=NodeId(sender), directory_id=disk), request),
        NOW,
    )
    assert after.epoch >= state.epoch
    return True


def _response(wire: WireResponse, state: RaftState, asked: Request, sender: int) -> bool:
    try:
        response = response_from_wire(wire)
    except ValueError:
        return False
    again = response_to_wire(response)
    assert response_from_wire(type(again).FromString(again.SerializeToString())) == response
    if isinstance(response, FetchResponse):
        assert all(each.count >= 1 for each in response.batches)
    after, _ = step(state, ResponseReceived(NodeId(sender), asked, response), NOW)
    assert after.log.end_offset >= state.high_watermark, "what is committed is never cut"
    return True


TARGET = Target(name="quorum_messages", grow=grow, check=check, share=20)
