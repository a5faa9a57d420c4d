"""A backup: a snapshot's file under any name, whose header says what it is of.

    header: cluster, end offset, epoch, time, who took it │ state, and what it hashes to │ footer

A controller's own `OFFSET-EPOCH.checkpoint` is read likewise: its name says what the header of a
backup does.
"""

from dataclasses import dataclass
from pathlib import Path

from klamm.config.node import CLUSTER_ID
from klamm.errors import UnknownRecordError
from klamm.ids import EPOCH_MAX, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.files import Files
from klamm.log.record_batch import OFFSET_MAX, iter_batches
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError, parse_name, verify_file
from klamm.metadata.image import MetadataImage
from klamm.metadata.snapshot_batches import SnapshotReader, read_header
from klamm.v1 import records_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Of what a backup is, and since when."""

    cluster_id: str
    end: OffsetAndEpoch
    taken_ms: int
    """Wall clock of the controller that wrote it."""
    taken_by: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A whole one, every byte of which was looked at."""

    end: OffsetAndEpoch
    """Up to which the metadata is in it."""
    origin: Origin | None
    """None: it is a controller's own snapshot."""
    image: MetadataImage
    last_timestamp_ms: int
    """Of the last record of the log that is in it."""
    record_count: int
    data: bytes


def read(files: Files, path: Path) -> Backup:
    """
    Raises:
        CorruptSnapshotError: It is not there, cut short, damaged, or of something else than it
            says. The path is in the message.
        OSError: The disk failed.
    """
    verify_file(files, path)
    file = files.open(path)
    try:
        data = file.read_at(0, file.size)
    finally:
        file.close()
    try:
        return _read(path.name, data)
    except (CorruptSnapshotError, CorruptBatchError, UnknownRecordError) as error:
        raise CorruptSnapshotError(f"{path} is no backup: {error}") from error


def _read(name: str, data: bytes) -> Backup:
    origin, named = _origin(data), parse_name(name)
    end = named if origin is None else origin.end
    if end is None:
        raise CorruptSnapshotError(
            "it does not say what it is of, and its name is not OFFSET-EPOCH.checkpoint"
        )
    if named not in (None, end):
        raise CorruptSnapshotError(f"by its name it is of {_told(named)}, and says {_told(end)}")
    reader, count = SnapshotReader(end), 0
    for header, batch in iter_batches(data):
        reader.take(batch)
        count = header.next_offset
        if header.leader_epoch != end.epoch:
            raise CorruptSnapshotError(f"it is said to be of {_told(end)}, and is of another epoch")
    image = reader.finish()
    if reader.stated_offset not in (None, end.offset):
        raise CorruptSnapshotError(
            f"it is said to be of {_told(end)}, and is the state at {reader.stated_offset}"
        )
    return Backup(
        end=end,
        origin=origin,
        image=image,
        last_timestamp_ms=reader.last_timestamp_ms,
        record_count=count,
        data=data,
    )


def _told(end: OffsetAndEpoch | None) -> str:
    return "nothing" if end is None else f"offset {end.offset}, epoch {end.epoch}"


def _origin(data: bytes) -> Origin | None:
    header: pb.SnapshotHeaderRecord = read_header(data)
    if not header.HasField("backup"):
        return None
    said = header.backup
    if not CLUSTER_ID.fullmatch(said.cluster_id):
        raise CorruptSnapshotError(f"{said.cluster_id[:80]!r} is no cluster's id")
    if not (0 <= said.end_offset <= OFFSET_MAX and 0 <= said.epoch <= EPOCH_MAX):
        raise CorruptSnapshotError(f"no log ends at offset {said.end_offset} of epoch {said.epoch}")
    return Origin(
        cluster_id=said.cluster_id,
        end=OffsetAndEpoch(Epoch(said.epoch), Offset(said.end_offset)),
        taken_ms=said.taken_timestamp_ms,
        taken_by=NodeId(said.taken_by),
    )
