"""Lookups by time within one segment, and what they find.

A leader stores a batch without a look at its records. So they may be anything at all, behind a
header and a checksum that are right: then the lookup fails, and nothing is wrong with the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from klamm.errors import DefiniteError
from klamm.ids import Epoch, Offset
from klamm.log.record_batch import BatchHeader, verify_checksum, walk_records
from klamm.log.records import CorruptBatchError, Record
from klamm.log.segment import Segment

LOOKUP_BYTES_MAX = 64 * 1024 * 1024
"""What the records of one batch may take, decompressed, for a lookup to read them."""
LOOKUP_RECORDS_MAX = 1_000_000
"""So many in one batch are read, which takes a second or two of everybody's time. A producer makes
some thousands."""


class UnreadableRecordsError(DefiniteError):
    """A batch is as it was produced, and its records cannot be read, or are too many to be."""


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
        youngest = max(records, key=lambda each: each.timestamp_ms, default=None)
        return None if youngest is None else _found(youngest, header)
    return None


def _open_batch(segment: Segment, position: int, header: BatchHeader) -> Iterator[Record]:
    """Its records.

    Raises:
        UnreadableRecordsError: The batch was produced like this.
        CorruptBatchError: It was not: its bytes have changed since.
    """
    batch = segment.read(position, position + header.size_bytes)
    try:
        if header.records_count > LOOKUP_RECORDS_MAX:
            raise CorruptBatchError(
                f"{header.records_count} records, a lookup reads {LOOKUP_RECORDS_MAX}"
            )
        yield from walk_records(batch, LOOKUP_BYTES_MAX)
    except CorruptBatchError as error:
        if not verify_checksum(batch):
            raise
        raise UnreadableRecordsError(
            f"the records of the batch at offset {header.base_offset}: {error}"
        ) from error


def _found(record: Record, header: BatchHeader) -> FoundRecord:
    return FoundRecord(
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        leader_epoch=Epoch(header.leader_epoch),
    )
