"""What one controller says to another: from bytes to the core's message, and into the core.

    input    which message │ how │ who asks, and in which state it is heard │ protobuf

A request goes into the core, whatever it says: a voter that is told nonsense refuses it and goes
on. Half of the fetched batches are given the checksums that they should have.
"""

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
from controller.raft.events import RequestReceived
from controller.raft.messages import FetchResponse
from controller.raft.state import RaftState
from controller.raft.step import step
from controller.raft.voters import ReplicaKey
from klamm.ids import DirectoryId, NodeId
from klamm.v1 import quorum_pb2 as pb
from tests.fuzz.growth import random_batches, random_message, sealed
from tests.fuzz.target import Choice, Target
from tests.unit.raft.voter import EPOCH, NOW, ROLES, leader, voter

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
SENDERS = (2, 3, 9)
"""Two voters, and one that is none. Node 1 is who is asked: see the service, which refuses it."""


def grow(random: Random) -> bytes:
    which = random.randrange(len(KINDS))
    message = random_message(KINDS[which], random)
    if isinstance(message, pb.FetchResponse):
        message.batches = random_batches(random)
    if hasattr(message, "epoch") and random.random() < 0.6:
        message.epoch = random.choice((EPOCH - 1, EPOCH, EPOCH + 1))
    head = (which, *(random.randrange(256) for _ in range(3)))
    return bytes(head) + message.SerializeToString()


def check(data: bytes) -> bool:
    choice = Choice(data)
    kind = KINDS[choice.one_of(len(KINDS))]
    seal = choice.one_of(2)
    sender = SENDERS[choice.one_of(len(SENDERS))]
    state = STATES[choice.one_of(len(STATES))]
    message = kind()
    try:
        message.ParseFromString(choice.rest)
    except DecodeError:
        return False
    if isinstance(message, REQUESTS):
        return _request(message, state, sender)
    if seal and isinstance(message, pb.FetchResponse):
        message.batches = sealed(message.batches)
    assert isinstance(message, RESPONSES)
    return _response(message)


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


def _response(wire: WireResponse) -> bool:
    try:
        response = response_from_wire(wire)
    except ValueError:
        return False
    again = response_to_wire(response)
    assert response_from_wire(type(again).FromString(again.SerializeToString())) == response
    if isinstance(response, FetchResponse):
        assert all(each.count >= 1 for each in response.batches)
    return True


TARGET = Target(name="quorum_messages", grow=grow, check=check, share=20)
