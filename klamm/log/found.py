"""What a lookup by time finds."""

from dataclasses import dataclass

from klamm.ids import Epoch, Offset
from klamm.log.record_batch import BatchHeader
from klamm.log.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRecord:
    """A record, as a lookup by time names it."""

    offset: Offset
    timestamp_ms: int
    leader_epoch: Epoch


def found(record: Record, header: BatchHeader) -> FoundRecord:
    return FoundRecord(
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        leader_epoch=Epoch(header.leader_epoch),
    )
