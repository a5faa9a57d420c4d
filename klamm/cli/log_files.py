"""Reads a metadata log from a node's files, whether the node runs or not. Changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from klamm.cli import output
from klamm.errors import StartError
from klamm.log.record_batch import iter_batches, read_records, verify_checksum
from klamm.log.records import ControlType, CorruptBatchError, Record, control_type
from klamm.v1 import metadata_pb2, records_pb2

METADATA_LOG = "__cluster_metadata-0"


def read_metadata_log(directory: Path, from_offset: int) -> Iterator[dict[str, Any]]:
    """Each record from `from_offset` on, as `klamm metadata dump` shows it.

    What a running node is writing at its log's end may be cut short: it is left out. Unlike a
    controller's answers, a file may hold records that never commit.

    Args:
        directory: A node's data directory, or the log's own.
        from_offset: Records below are passed over.

    Raises:
        StartError: There is no log, it cannot be read, or a batch in it is corrupt.
    """
    inside = directory / METADATA_LOG
    folder = inside if inside.is_dir() else directory
    segments = sorted(folder.glob("*.log"))
    if not segments:
        raise StartError(f"There is no {METADATA_LOG}, and no segment of a log, in {directory}.")
    for segment in segments:
        try:
            yield from _read_segment(segment, from_offset)
        except OSError as error:
            raise StartError(f"Cannot read {segment}: {error.strerror}.") from error
        except CorruptBatchError as error:
            raise StartError(f"{segment} is corrupt: {error}.") from error


def _read_segment(segment: Path, from_offset: int) -> Iterator[dict[str, Any]]:
    for header, data in iter_batches(segment.read_bytes()):
        if not verify_checksum(data):
            raise CorruptBatchError(f"the batch at offset {header.base_offset} fails its checksum")
        for record in read_records(data):
            if record.offset >= from_offset:
                event = _control_event(record) if header.is_control else _data_event(record)
                event.offset = record.offset
                event.epoch = header.leader_epoch
                event.timestamp_ms = record.timestamp_ms
                yield output.message_json(event)


def _data_event(record: Record) -> metadata_pb2.WatchEvent:
    said = {name: value.decode(errors="replace") for name, value in record.headers if value}
    return metadata_pb2.WatchEvent(
        record=records_pb2.MetadataRecord.FromString(record.value or b""),
        principal=said.get("principal", ""),
        request=said.get("request", ""),
        request_id=said.get("request_id", ""),
    )


def _control_event(record: Record) -> metadata_pb2.WatchEvent:
    if control_type(record.key) != ControlType.LEADER_CHANGE:
        return metadata_pb2.WatchEvent()
    change = records_pb2.LeaderChangeRecord.FromString(record.value or b"")
    return metadata_pb2.WatchEvent(leader_change=change)
