"""Records by their time: the index finds the batch, and the batch is opened to find the record."""

from klamm.log.log import Log

from klamm.ids import Offset
from klamm.log.record_batch import iter_batches, read_records
from klamm.log.records import Record

_ONE_BATCH = 1
"""Bytes to read: a first batch comes whole, whatever its size."""


def first_since(log: Log, timestamp_ms: int, bound: Offset) -> Record | None:
    """The first record below `bound` with this timestamp or a later one."""
    header = log.offset_for_timestamp(timestamp_ms, bound)
    if header is None:
        return None
    for record in _records(log, header.base_offset, bound):
        if record.timestamp_ms >= timestamp_ms and record.offset >= log.log_start_offset:
            return record
    return None


def largest(log: Log, bound: Offset) -> Record | None:
    """The first of the records below `bound` that have the largest timestamp."""
    timestamp_ms, last_offset = log.max_timestamp()
    if last_offset < 0:
        return None
    if last_offset >= bound:
        # The largest is not committed yet: nothing above the bound may be told of.
        return None
    records = _records(log, last_offset, bound)
    return next((each for each in records if each.timestamp_ms == timestamp_ms), None)


def _records(log: Log, offset: Offset, bound: Offset) -> list[Record]:
    """Those of the batch that holds `offset`."""
    data = log.read(offset, _ONE_BATCH, bound)
    return [record for _, batch in iter_batches(data) for record in read_records(batch)]
