"""When a snapshot of the metadata log is due, and which of the old ones go.

Both are Kafka's (kraft.md 1.11, KIP-630, KIP-876): a snapshot is due after so many bytes or so
long; the oldest go while log and snapshots are too large, or they are too old. The newest stays.
On a full disk all that the newest includes makes way, whatever may be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from klamm.ids import OffsetAndEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Since the last snapshot, or the start. `spread` in [0, 1) is drawn for each snapshot."""

    bytes_max: int
    interval_ms: int
    """0: never by time."""
    spread: float = 0.0

    def due(self, since_bytes: int, since_ms: int) -> bool:
        """Is it time? Never if nothing was committed since."""
        if since_bytes <= 0:
            return False
        late = 1 + SPREAD * self.spread
        by_time = self.interval_ms > 0 and since_ms >= self.interval_ms * late
        return by_time or since_bytes >= self.bytes_max * late


SPREAD = 0.25
"""Nodes see the same bytes at the same time; so much later, at the most, each of them begins, so
that they do not all pay for it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A snapshot on this disk."""

    snapshot_id: OffsetAndEpoch
    size_bytes: int
    last_timestamp_ms: int
    """Of the last record that it includes."""
    damaged: bool = False
    """Nobody can begin with it; it goes as soon as a later one is sound."""


def log_begins_at(
    kept: Sequence[Kept],
    log_bytes: int,
    *,
    now_ms: int,
    retention_bytes: int,
    retention_ms: int,
) -> OffsetAndEpoch | None:
    """The snapshot at which the log may begin, with all older ones gone; None: nothing goes.

    Args:
        kept: The oldest first. The log never comes to begin at a damaged one.
        log_bytes: Of the log without snapshots. What of it goes with them is not known here, so
            that too many may go, and the newest stays.
        now_ms: Wall clock.
        retention_bytes: Of both together; -1 is no limit.
        retention_ms: -1 is no limit.
    """
    total = log_bytes + sum(each.size_bytes for each in kept)
    gone = 0
    while len(kept) - gone >= 2:
        oldest = kept[gone]
        too_large = 0 <= retention_bytes < total
        too_old = 0 <= retention_ms < now_ms - oldest.last_timestamp_ms
        if not too_large and not too_old:
            break
        total -= oldest.size_bytes
        gone += 1
    rotten = [place for place, each in enumerate(kept) if each.damaged]
    if rotten:
        gone = max(_first_sound(kept, gone), _first_sound(kept, rotten[0]))
    return kept[gone].snapshot_id if gone else None


def log_begins_at_for_room(kept: Sequence[Kept]) -> OffsetAndEpoch | None:
    """As `log_begins_at`, on a disk that is full: the latest snapshot that is sound."""
    sound = [each.snapshot_id for each in kept if not each.damaged]
    return sound[-1] if sound else None


def _first_sound(kept: Sequence[Kept], place: int) -> int:
    """From there on; else the last before it; else the oldest."""
    sound = [at for at, each in enumerate(kept) if not each.damaged]
    return next((at for at in sound if at >= place), sound[-1] if sound else 0)
