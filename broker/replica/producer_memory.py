"""A partition's producer table beside its log: kept in step, cut back, and rebuilt from it.

    log   ├──────────┼──────────┼────▶ end
          │          └ waypoint └ waypoint: the table as it was at that offset
          └ start

The table is an immutable value, so a waypoint is a reference. A truncation goes back to the
nearest waypoint and replays the headers from there, as a restart replays them from the start or
from the snapshot of the last clean shutdown.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from broker.replica.producer_state import (
    NO_PRODUCER_ID,
    NO_PRODUCERS,
    Incoming,
    ProducedBatch,
    Producer,
    Producers,
    appended,
    expired,
)
from klamm.errors import StorageError
from klamm.ids import Offset
from klamm.log.log import Log
from klamm.log.record_batch import BatchHeader, iter_batches
from klamm.log.records import CorruptBatchError
from klamm.log.sealed import open_json, seal_json

WAYPOINT_BATCHES = 512
"""Idempotent batches from one waypoint to the next."""

WAYPOINTS_MAX = 64

REPLAY_READ_BYTES = 1024 * 1024

SNAPSHOT_VERSION = 2


class ProducerMemory:
    """Owned by one Partition."""

    def __init__(self) -> None:
        self.table: Producers = NO_PRODUCERS
        self._waypoints: list[tuple[Offset, Producers]] = []
        self._since_waypoint = 0

    def on_appended(self, header: BatchHeader, base_offset: Offset, now_ms: int) -> None:
        """A batch is in the log. Without a producer id it leaves no trace."""
        if header.producer_id == NO_PRODUCER_ID or header.is_control:
            return
        if self._since_waypoint % WAYPOINT_BATCHES == 0:
            self._waypoints.append((base_offset, self.table))
            del self._waypoints[:-WAYPOINTS_MAX]
        self._since_waypoint += 1
        self.table = appended(self.table, incoming(header), base_offset, now_ms)

    def on_truncated(self, log: Log, now_ms: int) -> None:
        """The log has been cut back to its present end: forget what is no longer in it."""
        end = log.end_offset
        while self._waypoints and self._waypoints[-1][0] > end:
            self._waypoints.pop()
        start, self.table = (
            self._waypoints.pop()
            if self._waypoints
            else (
                log.log_start_offset,
                NO_PRODUCERS,
            )
        )
        self._since_waypoint = 0
        self.replay(log, start, now_ms)

    def replay(self, log: Log, start: Offset, now_ms: int) -> None:
        """Take in the headers from `start` to the log's end.

        Raises:
            StorageError: They cannot be read, or do not go on and on.
        """
        for header in _headers(log, start):
            self.on_appended(header, Offset(header.base_offset), now_ms)

    def expire(self, now_ms: int, expiration_ms: int) -> None:
        self.table = expired(self.table, now_ms, expiration_ms)

    def snapshot(self, end_offset: Offset) -> bytes:
        """The table as bytes, for the file that a clean shutdown leaves."""
        producers = {
            str(id_): {"epoch": each.epoch, "batches": [asdict(one) for one in each.batches]}
            for id_, each in sorted(self.table.items())
        }
        return seal_json(
            {"version": SNAPSHOT_VERSION, "end_offset": end_offset, "producers": producers}
        )

    def restore(self, data: bytes, end_offset: Offset, now_ms: int) -> bool:
        """Take a snapshot of a log that ends at `end_offset`.

        False: it is of another, or damaged; replay.
        """
        try:
            read: Any = open_json(data, frozenset())
            if read["version"] != SNAPSHOT_VERSION or read["end_offset"] != end_offset:
                return False
            table = {
                int(id_): Producer(
                    epoch=_number(each["epoch"]),
                    batches=tuple(_produced(one) for one in each["batches"]),
                    seen_ms=now_ms,
                )
                for id_, each in read["producers"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        self.table = NO_PRODUCERS.update(table)
        self._waypoints = [(end_offset, self.table)]
        self._since_waypoint = 1
        return True


def _produced(fields: dict[str, object]) -> ProducedBatch:
    return ProducedBatch(
        first_sequence=_number(fields["first_sequence"]),
        last_sequence=_number(fields["last_sequence"]),
        base_offset=Offset(_number(fields["base_offset"])),
        last_offset=Offset(_number(fields["last_offset"])),
    )


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 2**63:
        raise ValueError(f"{value!r} where a number should be")
    return value


def incoming(header: BatchHeader) -> Incoming:
    return Incoming(
        producer_id=header.producer_id,
        epoch=header.producer_epoch,
        first_sequence=header.base_sequence,
        last_offset_delta=header.last_offset_delta,
    )


def _headers(log: Log, start: Offset) -> Iterator[BatchHeader]:
    at = max(start, log.log_start_offset)
    while at < log.end_offset:
        data = log.read(at, REPLAY_READ_BYTES, log.end_offset)
        try:
            for header, _ in iter_batches(data):
                if header.next_offset <= at:
                    raise CorruptBatchError(f"a batch that ends at {header.next_offset}")
                yield header
                at = header.next_offset
        except CorruptBatchError as error:
            raise StorageError(f"{log.directory} is damaged behind offset {at}: {error}") from error
