"""Reads a metadata log from a node's files, whether it runs or not; or one snapshot, or a backup.

Changes nothing. Header, footer and voters of a snapshot are shown like its records.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message

from klamm.cli import output
from klamm.errors import StartError
from klamm.log.files import SystemFiles
from klamm.log.record_batch import (
    HEADER_BYTES,
    BatchHeader,
    iter_batches,
    read_records,
    verify_checksum,
)
from klamm.log.records import ControlType, CorruptBatchError, Record, control_type
from klamm.log.snapshot import SUFFIX, CorruptSnapshotError, verify_file
from klamm.metadata.codec import cause_of
from klamm.metadata.records import Cause
from klamm.v1 import metadata_pb2, records_pb2

METADATA_LOG = "__cluster_metadata-0"


def read_metadata_log(directory: Path, from_offset: int) -> Iterator[dict[str, Any]]:
    """Each record from `from_offset` on, as `klamm metadata dump` shows it.

    What a running node is writing at its log's end may be cut short: it is left out. Unlike a
    controller's answers, a file may hold records that never commit.

    Args:
        directory: A node's data directory, or the log's own; or one snapshot or backup, a file.
        from_offset: Records below are passed over.

    Raises:
        StartError: There is no log, it cannot be read, or a batch in it is corrupt.
    """
    if directory.suffix == SUFFIX or directory.is_file():
        segments = [directory]
        _check_snapshot(directory)
    else:
        segments = _segments(directory)
    for segment in segments:
        try:
            yield from _read_segment(segment, from_offset)
        except OSError as error:
            raise StartError(f"Cannot read {segment}: {error.strerror}.") from error
        except CorruptBatchError as error:
            raise StartError(f"{segment} is corrupt: {error}.") from error
        except DecodeError as error:
            raise StartError(f"{segment} holds no metadata: {error}.") from error


def _check_snapshot(path: Path) -> None:
    try:
        verify_file(SystemFiles(), path)
    except OSError as error:
        raise StartError(f"Cannot read {path}: {error.strerror}.") from error
    except CorruptSnapshotError as error:
        raise StartError(f"{error}.") from error


def _segments(directory: Path) -> list[Path]:
    inside = directory / METADATA_LOG
    folder = inside if inside.is_dir() else directory
    segments = sorted(folder.glob("*.log"))
    if not segments:
        raise StartError(f"There is no {METADATA_LOG}, and no segment of a log, in {directory}.")
    return segments


def _read_segment(segment: Path, from_offset: int) -> Iterator[dict[str, Any]]:
    raw, position = segment.read_bytes(), 0
    for header, data in _batches(raw):
        position += header.size_bytes
        if not verify_checksum(data):
            if raw[position:] and not any(raw[position - 1 :]):
                return  # It is being written, to where zeros are reserved.
            raise CorruptBatchError(f"the batch at offset {header.base_offset} fails its checksum")
        for record in read_records(data):
            if record.offset >= from_offset:
                event = metadata_pb2.WatchEvent() if header.is_control else _data_event(record)
                event.offset = record.offset
                event.epoch = header.leader_epoch
                event.timestamp_ms = record.timestamp_ms
                said = _control(record) if header.is_control else {}
                yield output.message_json(event) | said


def _batches(raw: bytes) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Up to the zeros that are reserved behind the last one, and may hold a part of the next."""
    position = 0
    try:
        for header, data in iter_batches(raw):
            yield header, data
            position += header.size_bytes
    except CorruptBatchError:
        if raw[position:].rstrip(b"\0")[HEADER_BYTES:]:
            raise


def _data_event(record: Record) -> metadata_pb2.WatchEvent:
    cause = cause_of(record) or Cause(principal="", request="")
    return metadata_pb2.WatchEvent(
        record=records_pb2.MetadataRecord.FromString(record.value or b""),
        principal=cause.principal,
        request=cause.request,
        request_id=cause.request_id,
    )


def _control(record: Record) -> dict[str, Any]:
    """What a control record says, by its name; nothing of one that is not known."""
    kind = control_type(record.key)
    if kind not in _CONTROL:
        return {}
    name, message = _CONTROL[ControlType(kind)]
    return {name: output.message_json(message.FromString(record.value or b""))}


_CONTROL: dict[ControlType, tuple[str, type[Message]]] = {
    ControlType.LEADER_CHANGE: ("leader_change", records_pb2.LeaderChangeRecord),
    ControlType.VOTERS: ("voters", records_pb2.VotersRecord),
    ControlType.SNAPSHOT_HEADER: ("snapshot_header", records_pb2.SnapshotHeaderRecord),
    ControlType.SNAPSHOT_FOOTER: ("snapshot_footer", records_pb2.SnapshotFooterRecord),
}
