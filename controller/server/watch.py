"""Committed records as typed events, from an offset on.

    committed batches ──▶ records ──▶ WatchEvent      every offset once, in order
                                       principal, request, request_id: from the record's headers

Reads the log itself, so that a watcher may begin long ago and costs nobody else anything.
"""

from collections.abc import AsyncIterator

from controller.server.port import QuorumView
from klamm.ids import Offset
from klamm.log.record_batch import iter_batches, read_records
from klamm.log.records import ControlType, Record, control_type
from klamm.metadata.codec import cause_of
from klamm.metadata.records import Cause
from klamm.rpc.status import BadRequestError
from klamm.v1 import metadata_pb2 as pb
from klamm.v1 import records_pb2

READ_BYTES_MAX = 1024 * 1024
"""Of one answer, before its framing."""

IDLE_WAIT_MS = 10_000
"""Between two looks at the log, if neither news nor progress wakes the watch."""

FROM_NOW = -1
PROGRESS_MS_MIN = 10


async def watch(
    quorum: QuorumView, start: Offset, progress_interval_ms: int
) -> AsyncIterator[tuple[Offset, list[pb.WatchEvent]]]:
    """Yields (end offset up to which all was sent, events); no events is progress.

    Raises:
        BadRequestError: A field makes no sense.
        CompactedError: The log begins above `start`.
    """
    if start < FROM_NOW:
        raise BadRequestError({"from_offset": f"must be -1 or more, is {start}"})
    if 0 < progress_interval_ms < PROGRESS_MS_MIN:
        why = f"0, or at least {PROGRESS_MS_MIN}, is {progress_interval_ms}"
        raise BadRequestError({"progress_interval_ms": why})
    at = quorum.high_watermark if start == FROM_NOW else start
    while True:
        if at >= quorum.high_watermark:
            await quorum.wait_high_watermark(at, progress_interval_ms or IDLE_WAIT_MS)
        if at >= quorum.high_watermark:
            if progress_interval_ms:
                yield Offset(min(at, quorum.high_watermark)), []
            continue
        batches = await quorum.read_committed(at, READ_BYTES_MAX)
        end, events = _events(batches, at)
        if end > at:
            at = end
            yield at, events


def _events(batches: bytes, start: Offset) -> tuple[Offset, list[pb.WatchEvent]]:
    """The events at or above `start`, and the end of the last batch."""
    events: list[pb.WatchEvent] = []
    end = start
    for header, data in iter_batches(batches):
        end = header.next_offset
        for record in read_records(data):
            if record.offset < start:
                continue
            event = _control_event(record) if header.is_control else _data_event(record)
            event.offset = record.offset
            event.epoch = header.leader_epoch
            event.timestamp_ms = record.timestamp_ms
            events.append(event)
    return end, events


def _data_event(record: Record) -> pb.WatchEvent:
    cause = cause_of(record) or Cause(principal="", request="")
    return pb.WatchEvent(
        record=records_pb2.MetadataRecord.FromString(record.value or b""),
        principal=cause.principal,
        request=cause.request,
        request_id=cause.request_id,
    )


def _control_event(record: Record) -> pb.WatchEvent:
    if control_type(record.key) != ControlType.LEADER_CHANGE:
        return pb.WatchEvent()
    change = records_pb2.LeaderChangeRecord.FromString(record.value or b"")
    return pb.WatchEvent(leader_change=change)
