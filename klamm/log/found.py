"""Lookups by time within one segment, and what they find."""

from dataclasses import dataclass

from klamm.ids import Epoch, Offset
from klamm.log.record_batch import BatchHeader, read_records
from klamm.log.records import Record
from klamm.log.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRecord:
    """A record, as a lookup by time names it."""

    offset: Offset
    timestamp_ms: int
    leader_epoch: Epoch


def first_not_older(segment: Segment, timestamp_ms: int) -> FoundRecord | None:
    """The first record that is not older than `timestamp_ms`; None if there is none."""
    if segment.max_timestamp_ms < timestamp_ms:
        return None
    for position, header in segment.walk(segment.position_before(timestamp_ms)):
        if header.max_timestamp_ms < timestamp_ms:
            continue
        for record in _open_batch(segment, position, header):
            if record.timestamp_ms >= timestamp_ms:
                return _found(record, header)
    return None


def youngest_of(segment: Segment) -> FoundRecord | None:
    """The first record with the largest timestamp; None if there is none."""
    at = segment.youngest_batch()
    for position, header in segment.walk(at) if at is not None else ():
        records = _open_batch(segment, position, header)
        return _found(max(records, key=lambda each: each.timestamp_ms), header)
    return None


def _open_batch(segment: Segment, position: int, header: BatchHeader) -> list[Record]:
    return read_records(segment.read(position, position + header.size_bytes))


def _found(record: Record, header: BatchHeader) -> FoundRecord:
    return FoundRecord(
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        leader_epoch=Epoch(header.leader_epoch),
    )
