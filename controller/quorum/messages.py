"""protobuf ⇄ the core's messages. Nothing that a peer sends is believed before it has been here.

Raises ValueError for what makes no sense; the sentence is for a log line.
"""

from functools import lru_cache
from typing import assert_never
from uuid import UUID

from controller.quorum.control import describe_batches
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
from controller.raft.state import END_UNKNOWN
from controller.raft.voters import ReplicaKey
from klamm.ids import (
    EPOCH_MAX,
    NO_EPOCH,
    NO_NODE,
    DirectoryId,
    Epoch,
    NodeId,
    Offset,
    OffsetAndEpoch,
)
from klamm.log.record_batch import epoch_is_sealed_or_bare, iter_batches, verify_checksum
from klamm.log.records import CorruptBatchError
from klamm.v1 import quorum_pb2 as pb

SUCCESSORS_MAX = 64
OFFSET_MAX = 2**62
DIRECTORY_ID_BYTES = 16
_DIRECTORIES_KEPT = 64
"""Each fetch names its sender's disk: the same few, so they are the same objects too."""

SNAPSHOT_BYTES_MAX = 2**40

WireRequest = (
    pb.VoteRequest
    | pb.BeginQuorumEpochRequest
    | pb.EndQuorumEpochRequest
    | pb.FetchRequest
    | pb.FetchSnapshotRequest
)
WireResponse = (
    pb.VoteResponse
    | pb.BeginQuorumEpochResponse
    | pb.EndQuorumEpochResponse
    | pb.FetchResponse
    | pb.FetchSnapshotResponse
)


def request_to_wire(request: Request, caller: pb.Caller) -> WireRequest:
    match request:
        case FetchRequest():
            return pb.FetchRequest(
                caller=caller,
                epoch=request.epoch,
                log_end=end_to_wire(request.log_end),
                high_watermark=request.high_watermark,
                max_bytes=request.max_bytes,
                max_wait_ms=request.max_wait_ms,
                read_round=request.read_round,
                recovering=request.recovering,
            )
        case FetchSnapshotRequest():
            return pb.FetchSnapshotRequest(
                caller=caller,
                epoch=request.epoch,
                snapshot_id=end_to_wire(request.snapshot_id),
                position=request.position,
                max_bytes=request.max_bytes,
            )
        case VoteRequest():
            return pb.VoteRequest(
                caller=caller,
                epoch=request.epoch,
                log_end=end_to_wire(request.log_end),
                pre_vote=request.pre_vote,
            )
        case BeginQuorumEpochRequest():
            return pb.BeginQuorumEpochRequest(caller=caller, epoch=request.epoch)
        case EndQuorumEpochRequest():
            return pb.EndQuorumEpochRequest(
                caller=caller, epoch=request.epoch, preferred_successors=request.successors
            )
    assert_never(request)


def request_from_wire(wire: WireRequest) -> Request:
    epoch = _epoch(wire.epoch)
    match wire:
        case pb.FetchRequest():
            _check(0 <= wire.high_watermark <= OFFSET_MAX, "high_watermark", wire.high_watermark)
            _check(0 <= wire.read_round <= OFFSET_MAX, "read_round", wire.read_round)
            return FetchRequest(
                epoch=epoch,
                log_end=log_end(wire.log_end),
                high_watermark=Offset(wire.high_watermark),
                max_bytes=wire.max_bytes,
                max_wait_ms=wire.max_wait_ms,
                read_round=wire.read_round,
                recovering=wire.recovering,
            )
        case pb.FetchSnapshotRequest():
            _check(wire.position <= SNAPSHOT_BYTES_MAX, "position", wire.position)
            return FetchSnapshotRequest(
                epoch=epoch,
                snapshot_id=log_end(wire.snapshot_id),
                position=wire.position,
                max_bytes=wire.max_bytes,
            )
        case pb.VoteRequest():
            end = log_end(wire.log_end)
            latest = epoch if wire.pre_vote else epoch - 1
            _check(end.epoch <= latest, "log_end.epoch", end.epoch)
            return VoteRequest(epoch=epoch, log_end=end, pre_vote=wire.pre_vote)
        case pb.BeginQuorumEpochRequest():
            return BeginQuorumEpochRequest(epoch=epoch)
        case pb.EndQuorumEpochRequest():
            return EndQuorumEpochRequest(epoch=epoch, successors=_successors(wire))
    assert_never(wire)


def response_to_wire(response: Response) -> WireResponse:
    error = pb.QuorumError.ValueType(int(response.refusal))
    match response:
        case FetchResponse():
            data = response.data
            wire = pb.FetchResponse(
                error=error,
                epoch=response.epoch,
                leader_id=response.leader,
                high_watermark=response.high_watermark,
                log_start_offset=response.log_start_offset,
                log_end_offset=response.log_end_offset if response.log_end_offset >= 0 else None,
                read_round=response.read_round,
                batches=data if isinstance(data, bytes) else b"",
                preferred_successors=response.successors,
            )
            if response.diverging is not None:
                wire.diverging.CopyFrom(end_to_wire(response.diverging))
            if response.snapshot_id is not None:
                wire.snapshot_id.CopyFrom(end_to_wire(response.snapshot_id))
            return wire
        case FetchSnapshotResponse():
            chunk = response.data
            return pb.FetchSnapshotResponse(
                error=error,
                epoch=response.epoch,
                leader_id=response.leader,
                snapshot_id=end_to_wire(response.snapshot_id),
                size_bytes=response.size_bytes,
                position=response.position,
                chunk=chunk if isinstance(chunk, bytes) else b"",
            )
        case VoteResponse():
            disk = response.directory_id
            return pb.VoteResponse(
                error=error,
                epoch=response.epoch,
                leader_id=response.leader,
                vote_granted=response.vote_granted,
                directory_id=b"" if disk is None else disk.bytes,
                log_is_empty=response.log_is_empty,
            )
        case BeginQuorumEpochResponse():
            return pb.BeginQuorumEpochResponse(
                error=error, epoch=response.epoch, leader_id=response.leader
            )
        case EndQuorumEpochResponse():
            return pb.EndQuorumEpochResponse(
                error=error, epoch=response.epoch, leader_id=response.leader
            )
    assert_never(response)


def response_from_wire(wire: WireResponse) -> Response:
    refusal = _refusal(wire.error)
    # Who refuses at the door may not know an epoch.
    epoch = Epoch(0) if refusal is not Refusal.NONE and wire.epoch < 0 else _epoch(wire.epoch)
    leader = NodeId(wire.leader_id)
    _check(leader >= NO_NODE, "leader_id", leader)
    match wire:
        case pb.FetchResponse():
            return _fetch_response(wire, refusal, epoch, leader)
        case pb.FetchSnapshotResponse():
            _check(wire.size_bytes <= SNAPSHOT_BYTES_MAX, "size_bytes", wire.size_bytes)
            return FetchSnapshotResponse(
                refusal=refusal,
                epoch=epoch,
                leader=leader,
                snapshot_id=log_end(wire.snapshot_id),
                size_bytes=wire.size_bytes,
                position=wire.position,
                length=len(wire.chunk),
                data=wire.chunk,
            )
        case pb.VoteResponse():
            return VoteResponse(
                refusal=refusal,
                epoch=epoch,
                leader=leader,
                vote_granted=wire.vote_granted and refusal is Refusal.NONE,
                directory_id=_directory(wire.directory_id),
                log_is_empty=wire.log_is_empty,
            )
        case pb.BeginQuorumEpochResponse():
            return BeginQuorumEpochResponse(refusal=refusal, epoch=epoch, leader=leader)
        case pb.EndQuorumEpochResponse():
            return EndQuorumEpochResponse(refusal=refusal, epoch=epoch, leader=leader)
    assert_never(wire)


def replica_key(caller: pb.Caller) -> ReplicaKey:
    """Who asks."""
    _check(caller.node_id >= NO_NODE, "caller.node_id", caller.node_id)
    return ReplicaKey(node_id=NodeId(caller.node_id), directory_id=_directory(caller.directory_id))


def _fetch_response(
    wire: pb.FetchResponse, refusal: Refusal, epoch: Epoch, leader: NodeId
) -> FetchResponse:
    _check(0 <= wire.high_watermark <= OFFSET_MAX, "high_watermark", wire.high_watermark)
    _check(0 <= wire.log_start_offset <= OFFSET_MAX, "log_start_offset", wire.log_start_offset)
    _check(0 <= wire.read_round <= OFFSET_MAX, "read_round", wire.read_round)
    data = wire.batches
    _verify(data)
    try:
        batches = describe_batches(data)
    except CorruptBatchError as error:
        raise ValueError(f"batches: {error}") from error
    return FetchResponse(
        refusal=refusal,
        epoch=epoch,
        leader=leader,
        high_watermark=Offset(wire.high_watermark),
        log_start_offset=Offset(wire.log_start_offset),
        log_end_offset=_log_end_offset(wire),
        diverging=log_end(wire.diverging) if wire.HasField("diverging") else None,
        snapshot_id=_snapshot_id(wire.snapshot_id) if wire.HasField("snapshot_id") else None,
        successors=_successors(wire),
        read_round=wire.read_round,
        batches=batches,
        data=data,
    )


def _successors(wire: pb.EndQuorumEpochRequest | pb.FetchResponse) -> tuple[NodeId, ...]:
    count = len(wire.preferred_successors)
    _check(count <= SUCCESSORS_MAX, "preferred_successors: count", count)
    for each in wire.preferred_successors:
        _check(each >= 0, "preferred_successors", each)
    return tuple(NodeId(each) for each in wire.preferred_successors)


def _log_end_offset(wire: pb.FetchResponse) -> Offset:
    if not wire.HasField("log_end_offset"):
        return END_UNKNOWN
    _check(0 <= wire.log_end_offset <= OFFSET_MAX, "log_end_offset", wire.log_end_offset)
    return Offset(wire.log_end_offset)


def _verify(data: bytes) -> None:
    """Whole batches with the checksums that they say, and nothing else."""
    size = 0
    try:
        for header, batch in iter_batches(data):
            _check(
                verify_checksum(batch, header=header),
                "batches: checksum at offset",
                header.base_offset,
            )
            _check(epoch_is_sealed_or_bare(header), "batches: epoch", header.leader_epoch)
            size += header.size_bytes
    except CorruptBatchError as error:
        raise ValueError(f"batches: {error}") from error
    _check(size == len(data), "batches: bytes after the last whole one", len(data) - size)


def end_to_wire(end: OffsetAndEpoch) -> pb.OffsetAndEpoch:
    return pb.OffsetAndEpoch(offset=end.offset, epoch=end.epoch)


def log_end(wire: pb.OffsetAndEpoch) -> OffsetAndEpoch:
    _check(0 <= wire.offset <= OFFSET_MAX, "offset", wire.offset)
    _check(NO_EPOCH <= wire.epoch <= EPOCH_MAX, "epoch", wire.epoch)
    return OffsetAndEpoch(epoch=Epoch(wire.epoch), offset=Offset(wire.offset))


def _snapshot_id(wire: pb.OffsetAndEpoch) -> OffsetAndEpoch:
    """Of a snapshot that somebody may be told of: (0, 0) never is (row 108)."""
    found = log_end(wire)
    _check(found.offset > 0 and found.epoch >= 0, "snapshot_id", found)
    return found


def _epoch(epoch: int) -> Epoch:
    _check(0 <= epoch <= EPOCH_MAX, "epoch", epoch)
    return Epoch(epoch)


@lru_cache(_DIRECTORIES_KEPT)
def _directory(data: bytes) -> DirectoryId | None:
    if not data:
        return None
    _check(len(data) == DIRECTORY_ID_BYTES, "directory_id: bytes", len(data))
    return DirectoryId(UUID(bytes=data))


def _refusal(error: int) -> Refusal:
    # A newer peer's reason is a reason all the same.
    return Refusal(error) if error in _KNOWN else Refusal.INVALID_REQUEST


_KNOWN = frozenset(int(each) for each in Refusal)


def _check(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{what}: {value}")
