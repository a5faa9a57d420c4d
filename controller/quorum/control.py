"""Control records of the metadata log and its snapshots: LeaderChange, Voters, header and footer.

A leader's first batch is one control batch: LeaderChange, and Voters if the log does not say the
same already. Values are messages of proto/klamm/v1/records.proto.
"""

from collections.abc import Iterator
from uuid import UUID

from google.protobuf.message import DecodeError

from controller.raft.effects import AppendControl, AppendVoters
from controller.raft.messages import FetchedBatch
from controller.raft.voters import REMOVED_MAX, ReplicaKey, Voter, VoterHistory, VoterSet
from klamm.ids import DirectoryId, Epoch, NodeId, Offset
from klamm.log.record_batch import build_batch, iter_batches, read_records
from klamm.log.records import ControlType, NewRecord, control_key, control_type
from klamm.metadata.image import MetadataImage
from klamm.metadata.records import Endpoint
from klamm.metadata.snapshot_batches import image_batches
from klamm.v1 import records_pb2 as pb

ENDPOINT_CHARACTERS_MAX = 255
"""Of a host, as in DNS; and of a listener's name."""
PORT_MAX = 65_535

HEADER_RECORDS = Offset(2)
"""Of a snapshot's first batch; the data begin behind them."""


def build_control_batch(effect: AppendControl | AppendVoters, timestamp_ms: int) -> bytes:
    """The batch that begins a leader's epoch, or that changes the voters."""
    records = []
    if isinstance(effect, AppendControl):
        change = pb.LeaderChangeRecord(
            leader_id=effect.leader,
            voters=effect.voter_ids,
            granting_voters=effect.granting_voters,
        )
        records.append(_record(ControlType.LEADER_CHANGE, change.SerializeToString()))
    if effect.voters is not None:
        body = voters_to_wire(effect.voters).SerializeToString()
        records.append(_record(ControlType.VOTERS, body))
    return _control_batch(records, effect.base_offset, effect.epoch, timestamp_ms)


def build_snapshot_header(
    voters: VoterSet,
    *,
    epoch: Epoch,
    last_timestamp_ms: int,
    timestamp_ms: int,
    backup: pb.BackupOrigin | None = None,
) -> bytes:
    """The batch that a snapshot begins with, at offset 0: its header, and who votes.

    Args:
        voters: As of the snapshot's end.
        epoch: The snapshot's.
        last_timestamp_ms: Of the last record that it includes.
        timestamp_ms: Now.
        backup: Of a backup: where it comes from.
    """
    header = pb.SnapshotHeaderRecord(
        last_contained_log_timestamp_ms=last_timestamp_ms, backup=backup
    )
    records = [
        _record(ControlType.SNAPSHOT_HEADER, header.SerializeToString()),
        _record(ControlType.VOTERS, voters_to_wire(voters).SerializeToString()),
    ]
    return _control_batch(records, Offset(0), epoch, timestamp_ms)


def build_snapshot_footer(base_offset: Offset, *, epoch: Epoch, timestamp_ms: int) -> bytes:
    """The batch that a snapshot ends with, at the offset that comes next in it."""
    footer = _record(ControlType.SNAPSHOT_FOOTER, pb.SnapshotFooterRecord().SerializeToString())
    return _control_batch([footer], base_offset, epoch, timestamp_ms)


def snapshot_pieces(
    image: MetadataImage,
    voters: VoterSet,
    *,
    last_timestamp_ms: int,
    timestamp_ms: int,
    backup: pb.BackupOrigin | None = None,
) -> Iterator[tuple[bytes, Offset]]:
    """A whole snapshot's file, a batch at a time, and the offset behind each.

    An empty piece is a place to rest. See `build_snapshot_header`.
    """
    epoch = image.provenance.epoch
    end = HEADER_RECORDS
    header = build_snapshot_header(
        voters,
        epoch=epoch,
        last_timestamp_ms=last_timestamp_ms,
        timestamp_ms=timestamp_ms,
        backup=backup,
    )
    yield header, end
    for data, behind in image_batches(image, base_offset=end, timestamp_ms=timestamp_ms):
        yield data, behind
        end = behind
    yield build_snapshot_footer(end, epoch=epoch, timestamp_ms=timestamp_ms), Offset(end + 1)


def describe_batches(data: bytes | memoryview) -> tuple[FetchedBatch, ...]:
    """What consensus must know of each batch. Only control batches are opened.

    Raises:
        CorruptBatchError: Something in `data` is no batch.
        ValueError: A Voters record makes no sense.
    """
    return tuple(
        FetchedBatch(
            base_offset=Offset(header.base_offset),
            epoch=Epoch(header.leader_epoch),
            count=header.last_offset_delta + 1,
            voters=_voters_in(batch) if header.is_control else (),
        )
        for header, batch in iter_batches(data)
    )


def voters_to_wire(voters: VoterSet) -> pb.VotersRecord:
    return pb.VotersRecord(
        voters=[voter_to_wire(each) for each in voters.voters],
        removed=[_key_to_wire(each) for each in voters.removed],
    )


def _key_to_wire(key: ReplicaKey) -> pb.RemovedVoter:
    assert key.directory_id is not None, "only a disk that is known is remembered as removed"
    return pb.RemovedVoter(voter_id=key.node_id, directory_id=key.directory_id.bytes)


def voter_to_wire(voter: Voter) -> pb.Voter:
    wire = pb.Voter(voter_id=voter.node_id)
    if voter.directory_id is not None:
        wire.directory_id = voter.directory_id.bytes
    if voter.endpoint is not None:
        wire.endpoint.CopyFrom(endpoint_to_wire(voter.endpoint))
    return wire


def endpoint_to_wire(at: Endpoint) -> pb.Endpoint:
    return pb.Endpoint(
        name=at.name, host=at.host, port=at.port, security_protocol=at.security_protocol
    )


def _voters_in(batch: memoryview) -> VoterHistory:
    return tuple(
        (record.offset, _voters_from_wire(record.value or b""))
        for record in read_records(batch, limit=len(batch))  # Ours are not compressed.
        if control_type(record.key) == ControlType.VOTERS
    )


def _voters_from_wire(value: bytes) -> VoterSet:
    try:
        wire = pb.VotersRecord.FromString(value)
        voters = sorted(map(voter_from_wire, wire.voters), key=lambda each: each.node_id)
        removed = tuple(map(_key_from_wire, wire.removed))
    except (DecodeError, ValueError) as error:
        raise ValueError(f"a Voters record: {error}") from error
    ids = [each.node_id for each in voters]
    if not ids or ids[0] < 0 or len(set(ids)) < len(ids):
        raise ValueError(f"a Voters record that names {ids}")
    if len(removed) > REMOVED_MAX:
        raise ValueError(f"a Voters record that names {len(removed)} removed voters")
    return VoterSet(tuple(voters), removed)


def _key_from_wire(wire: pb.RemovedVoter) -> ReplicaKey:
    return ReplicaKey(
        node_id=NodeId(wire.voter_id), directory_id=DirectoryId(UUID(bytes=wire.directory_id))
    )


def endpoint_from_wire(at: pb.Endpoint) -> Endpoint:
    """Raises: ValueError: Nothing can be there. What peers say of themselves is kept."""
    if max(len(at.name), len(at.host)) > ENDPOINT_CHARACTERS_MAX or at.port > PORT_MAX:
        raise ValueError(f"an endpoint at {at.host[:ENDPOINT_CHARACTERS_MAX]!r}, port {at.port}")
    return Endpoint(
        name=at.name, host=at.host, port=at.port, security_protocol=at.security_protocol
    )


def voter_from_wire(wire: pb.Voter) -> Voter:
    """Raises: ValueError: The disk is none, or nothing can be at the endpoint."""
    endpoint = None
    if wire.HasField("endpoint"):
        endpoint = endpoint_from_wire(wire.endpoint)
    directory_id = DirectoryId(UUID(bytes=wire.directory_id)) if wire.directory_id else None
    return Voter(node_id=NodeId(wire.voter_id), directory_id=directory_id, endpoint=endpoint)


def _record(kind: ControlType, value: bytes) -> NewRecord:
    return NewRecord(key=control_key(kind), value=value)


def _control_batch(
    records: list[NewRecord], base_offset: Offset, epoch: Epoch, timestamp_ms: int
) -> bytes:
    return build_batch(
        records,
        base_offset=base_offset,
        leader_epoch=epoch,
        timestamp_ms=timestamp_ms,
        base_sequence=epoch,
        control=True,
    )
