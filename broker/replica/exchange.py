"""What a partition takes and gives: a fetch's row, a batch's place; and what all of them share."""

from dataclasses import dataclass, field

from broker.replica.isr import AlterPartition
from klamm.clock import Clock
from klamm.errors import NoSpaceError
from klamm.ids import NO_EPOCH, NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.telemetry.logs import logger

_log = logger(__name__)

NO_ROOM_MS = 10_000
"""A broker that has refused nothing for so long is not short of room any more."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What all partitions of a broker share."""

    me: NodeId
    clock: Clock
    alter_partition: AlterPartition
    lag_time_max_ms: int
    active: dict[NodeId, int] = field(default_factory=dict)
    """Brokers that may be in an ISR now, each with its uptime."""
    _no_room: tuple[int, str] | None = None
    """When a partition found none last, and what it said."""

    def found_no_room(self, error: NoSpaceError) -> None:
        """Nothing was written. Said once in a while, however many partitions find it out."""
        if not self.no_room():
            _log.warning("no room: what is to be stored is refused", why=str(error))
        self._no_room = self.clock.monotonic_ms(), str(error)

    def no_room(self) -> str:
        """Why something was refused of late for want of room; empty if nothing was."""
        at_ms, why = self._no_room or (0, "")
        return why if self.clock.monotonic_ms() - at_ms < NO_ROOM_MS else ""


@dataclass(frozen=True, slots=True)
class Appended:
    """A batch that is in the leader's log, now or since an earlier attempt."""

    base_offset: Offset
    end_offset: Offset
    """Committed once the high watermark is here."""
    append_time_ms: int
    """-1, unless the topic's timestamps are the broker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRow:
    """What a fetch asks of one partition."""

    fetch_offset: Offset
    max_bytes: int
    current_leader_epoch: Epoch = NO_EPOCH
    last_fetched_epoch: Epoch = NO_EPOCH
    replica_id: NodeId = NO_NODE
    """A follower, if not NO_NODE."""
    replica_epoch: int = -1
    acknowledges: bool = True
    """The follower has just said that it has everything below `fetch_offset`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRow:
    records: bytes | memoryview
    high_watermark: Offset
    log_start_offset: Offset
    diverging: OffsetAndEpoch | None = None
