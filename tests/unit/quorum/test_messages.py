"""Every message of the core there and back, and what a peer may not say."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.quorum.control import build_control_batch, describe_batches, endpoint_from_wire
from controller.quorum.messages import (
    replica_key,
    request_from_wire,
    request_to_wire,
    response_from_wire,
    response_to_wire,
)
from controller.raft.effects import AppendControl
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Refusal,
    Request,
    Response,
    VoteRequest,
    VoteResponse,
)
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from klamm.ids import EPOCH_MAX, DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.metadata.records import Endpoint
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import records_pb2
from klamm.v1 import records_pb2 as pb_records

EPOCHS = st.integers(0, EPOCH_MAX).map(Epoch)
OFFSETS = st.integers(0, 2**62).map(Offset)
NODES = st.integers(-1, 2**31 - 1).map(NodeId)
DISKS = st.none() | st.uuids().map(DirectoryId)
ENDS = st.builds(OffsetAndEpoch, epoch=st.integers(-1, EPOCH_MAX).map(Epoch), offset=OFFSETS)
SNAPSHOTS = st.builds(OffsetAndEpoch, epoch=EPOCHS, offset=st.integers(1, 2**62).map(Offset))
CHUNKS = st.binary(max_size=9)
POSITIONS = st.integers(0, 2**40)
REFUSALS = st.sampled_from(Refusal)

REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(VoteRequest, epoch=EPOCHS, log_end=ENDS, pre_vote=st.booleans()),
    st.builds(BeginQuorumEpochRequest, epoch=EPOCHS),
    st.builds(
        EndQuorumEpochRequest,
        epoch=EPOCHS,
        successors=st.lists(st.integers(0, 99).map(NodeId), max_size=5).map(tuple),
    ),
    st.builds(
        FetchRequest,
        epoch=EPOCHS,
        log_end=ENDS,
        high_watermark=OFFSETS,
        max_bytes=st.integers(0, 2**32 - 1),
        max_wait_ms=st.integers(0, 2**32 - 1),
        read_round=OFFSETS,
    ),
    st.builds(
        FetchSnapshotRequest,
        epoch=EPOCHS,
        snapshot_id=ENDS,
        position=POSITIONS,
        max_bytes=st.integers(0, 2**32 - 1),
    ),
)
RESPONSES: st.SearchStrategy[Response] = st.one_of(
    st.builds(
        VoteResponse,
        epoch=EPOCHS,
        leader=NODES,
        vote_granted=st.booleans(),
        directory_id=DISKS,
    ),
    st.builds(BeginQuorumEpochResponse, refusal=REFUSALS, epoch=EPOCHS, leader=NODES),
    st.builds(EndQuorumEpochResponse, refusal=REFUSALS, epoch=EPOCHS, leader=NODES),
    st.builds(
        FetchResponse,
        refusal=REFUSALS,
        epoch=EPOCHS,
        leader=NODES,
        high_watermark=OFFSETS,
        log_start_offset=OFFSETS,
        diverging=st.none() | ENDS,
        snapshot_id=st.none() | SNAPSHOTS,
        read_round=OFFSETS,
        data=st.just(b""),
    ),
    st.builds(
        lambda chunk, **fields: FetchSnapshotResponse(length=len(chunk), data=chunk, **fields),
        chunk=CHUNKS,
        refusal=REFUSALS,
        epoch=EPOCHS,
        leader=NODES,
        snapshot_id=ENDS,
        size_bytes=POSITIONS,
        position=POSITIONS,
    ),
)


@given(REQUESTS)
def test_requests_there_and_back(request: Request) -> None:
    if isinstance(request, VoteRequest) and request.log_end.epoch >= request.epoch:
        with_log = pb.VoteRequest.FromString(
            request_to_wire(request, pb.Caller()).SerializeToString()
        )
        if request.pre_vote and request.log_end.epoch == request.epoch:
            assert request_from_wire(with_log) == request
            return
        with pytest.raises(ValueError, match=r"log_end.epoch"):
            request_from_wire(with_log)
        return
    wire = request_to_wire(request, pb.Caller())
    assert request_from_wire(type(wire).FromString(wire.SerializeToString())) == request


@given(RESPONSES)
def test_responses_there_and_back(response: Response) -> None:
    wire = response_to_wire(response)
    assert response_from_wire(type(wire).FromString(wire.SerializeToString())) == response


@pytest.mark.parametrize(("offset", "epoch"), [(0, 0), (-1, 1), (5, -1)])
def test_nobody_is_told_of_a_snapshot_that_cannot_be(offset: int, epoch: int) -> None:
    """Row 108."""
    told = pb.FetchResponse(snapshot_id=pb.OffsetAndEpoch(offset=offset, epoch=epoch))
    with pytest.raises(ValueError, match=r"snapshot_id|offset"):
        response_from_wire(told)


def test_batches_are_described_and_held_against_their_checksums() -> None:
    voters = VoterSet(
        (
            Voter(node_id=NodeId(1), directory_id=DirectoryId(UUID(int=9))),
            Voter(
                node_id=NodeId(2),
                endpoint=Endpoint(name="CONTROLLER", host="::1", port=9093),
            ),
        )
    )
    control = build_control_batch(
        AppendControl(
            base_offset=Offset(4),
            epoch=Epoch(3),
            leader=NodeId(1),
            voter_ids=voters.ids,
            granting_voters=(NodeId(1),),
            voters=voters,
        ),
        timestamp_ms=7,
    )
    data = build_batch(
        [NewRecord(value=b"x"), NewRecord(value=b"y")],
        base_offset=Offset(6),
        leader_epoch=Epoch(3),
        timestamp_ms=8,
    )
    wire = pb.FetchResponse(epoch=3, batches=control + data)
    response = response_from_wire(wire)
    assert isinstance(response, FetchResponse)
    first, second = response.batches
    assert (first.base_offset, first.count, first.voters) == (4, 2, ((Offset(5), voters),))
    assert (second.base_offset, second.count, second.voters) == (6, 2, ())
    for at in (len(control) - 1, len(control) + 30, len(control + data) - 1):
        bad = bytearray(control + data)
        bad[at] ^= 4
        with pytest.raises(ValueError, match="batches"):
            response_from_wire(pb.FetchResponse(epoch=3, batches=bytes(bad)))
    with pytest.raises(ValueError, match="after the last whole one"):
        response_from_wire(pb.FetchResponse(epoch=3, batches=(control + data)[:-1]))


@pytest.mark.parametrize(
    "wire",
    [
        pb.VoteRequest(epoch=-1),
        pb.VoteRequest(epoch=3, log_end=pb.OffsetAndEpoch(epoch=3)),
        pb.VoteRequest(epoch=3, log_end=pb.OffsetAndEpoch(epoch=1, offset=-1)),
        pb.BeginQuorumEpochRequest(epoch=-7),
        pb.EndQuorumEpochRequest(epoch=1, preferred_successors=range(65)),
        pb.FetchRequest(epoch=1, high_watermark=-1),
        pb.FetchRequest(epoch=1, read_round=-1),
        pb.FetchRequest(epoch=EPOCH_MAX + 1),
    ],
)
def test_what_makes_no_sense_is_refused(wire: pb.VoteRequest) -> None:
    with pytest.raises(ValueError, match=r"\w+: "):
        request_from_wire(wire)


def test_a_newer_peers_reason_is_a_refusal() -> None:
    wire = pb.BeginQuorumEpochResponse.FromString(b"\x08\x63")
    assert response_from_wire(wire).refusal is Refusal.INVALID_REQUEST


def test_who_asks() -> None:
    disk = DirectoryId(UUID(int=5))
    caller = pb.Caller(node_id=3, directory_id=disk.bytes)
    assert replica_key(caller) == ReplicaKey(node_id=NodeId(3), directory_id=disk)
    for bad in (pb.Caller(node_id=-2), pb.Caller(directory_id=b"short")):
        with pytest.raises(ValueError, match=r"caller|directory_id"):
            replica_key(bad)


@pytest.mark.parametrize(
    "value",
    [
        records_pb2.VotersRecord(voters=[records_pb2.Voter(voter_id=1)] * 2).SerializeToString(),
        records_pb2.VotersRecord(voters=[records_pb2.Voter(voter_id=-1)]).SerializeToString(),
        records_pb2.VotersRecord(
            voters=[records_pb2.Voter(voter_id=1, directory_id=b"short")]
        ).SerializeToString(),
        b"",
        b"\xff\xff",
    ],
)
def test_voters_in_a_fetched_batch_are_checked(value: bytes) -> None:
    batch = build_batch(
        [NewRecord(key=b"\x00\x00\x00\x06", value=value)],
        base_offset=Offset(0),
        leader_epoch=Epoch(0),
        timestamp_ms=0,
        control=True,
    )
    with pytest.raises(ValueError, match="Voters record"):
        describe_batches(batch)


@pytest.mark.parametrize(
    "wire",
    [
        pb_records.Endpoint(host="x" * 256, port=9),
        pb_records.Endpoint(name="x" * 256, port=9),
        pb_records.Endpoint(host="x", port=65_536),
    ],
    ids=["host", "name", "port"],
)
def test_an_endpoint_where_nothing_can_be_is_not_kept(wire: pb_records.Endpoint) -> None:
    """Peers introduce themselves, and are remembered: of any size, that was any size."""
    with pytest.raises(ValueError, match="an endpoint at"):
        endpoint_from_wire(wire)
