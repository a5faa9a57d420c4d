"""Where each leader's epoch begins in a log: all that two logs need to find where they part.

    epoch      1 1 1 3 3 | end 5        starts: (1, 0) (3, 3)
    offset     0 1 2 3 4

Two logs that have a record of the same offset and epoch have the same records up to there (Raft
5.3, log matching). So a follower names the epoch of its last record and its end; the leader
answers with the end of the largest epoch up to that one, and the follower cuts back to what both
have (KIP-101, KIP-279, KIP-595). Kafka keeps the same in `leader-epoch-checkpoint`.
"""

from bisect import bisect_right
from dataclasses import dataclass

from klamm.ids import LOG_START, NO_EPOCH, Epoch, Offset, OffsetAndEpoch

NOTHING_BEFORE = OffsetAndEpoch(epoch=NO_EPOCH, offset=LOG_START)


@dataclass(frozen=True, slots=True)
class EpochChain:
    """A log as consensus sees it. Immutable; every change is a new chain."""

    start: OffsetAndEpoch = NOTHING_BEFORE
    """Where the log begins, and the epoch of the record before it: a snapshot's id, if one
    stands there. NO_EPOCH if nothing is known of what was before."""
    epochs: tuple[Epoch, ...] = ()
    """Ascending; each has at least one record."""
    starts: tuple[Offset, ...] = ()
    """Offset of the first record of each of `epochs`."""
    end_offset: Offset = LOG_START
    """Exclusive: the next offset to be written."""

    @property
    def start_offset(self) -> Offset:
        return self.start.offset

    @property
    def end(self) -> OffsetAndEpoch:
        """The log's end, as Raft compares logs. NO_EPOCH if it is empty and began with nothing."""
        return OffsetAndEpoch(epoch=self.last_epoch, offset=self.end_offset)

    @property
    def last_epoch(self) -> Epoch:
        return self.epochs[-1] if self.epochs else self.start.epoch

    def append(self, epoch: Epoch, count: int) -> "EpochChain":
        """The chain after `count` more records of `epoch`."""
        assert count >= 0, f"{count} records"
        if count == 0:
            return self
        end = Offset(self.end_offset + count)
        if self.epochs and self.epochs[-1] == epoch:
            return EpochChain(self.start, self.epochs, self.starts, end)
        assert epoch >= self.last_epoch, f"epoch {epoch} after {self.last_epoch}"
        return EpochChain(self.start, (*self.epochs, epoch), (*self.starts, self.end_offset), end)

    def start_of(self, epoch: Epoch) -> Offset | None:
        """Offset of the first record of `epoch`; None if the log has none."""
        at = bisect_right(self.epochs, epoch) - 1
        return self.starts[at] if at >= 0 and self.epochs[at] == epoch else None

    def end_of(self, epoch: Epoch) -> OffsetAndEpoch:
        """The largest epoch up to `epoch` that the log has, and its end.

        Below what is known the answer is `epoch` itself, ending where the log starts: whoever
        ends there has all that came before, and this log cannot deny it. Kafka's
        endOffsetForEpoch.
        """
        at = bisect_right(self.epochs, epoch)
        end = self.starts[at] if at < len(self.starts) else self.end_offset
        if at > 0:
            return OffsetAndEpoch(epoch=self.epochs[at - 1], offset=end)
        known = epoch >= self.start.epoch and (self.start.epoch != NO_EPOCH or not self.epochs)
        return OffsetAndEpoch(epoch=self.start.epoch if known else epoch, offset=self.start_offset)

    def epoch_at(self, offset: Offset) -> Epoch:
        """Epoch of the record at `offset`, which the log must hold."""
        assert self.start_offset <= offset < self.end_offset, f"no record at {offset}"
        return self.epochs[bisect_right(self.starts, offset) - 1]

    def agrees_with(self, end: OffsetAndEpoch) -> bool:
        """Is a log that ends at `end` a prefix of this one?"""
        mine = self.end_of(end.epoch)
        return mine.epoch == end.epoch and end.offset <= mine.offset

    def truncate(self, to: Offset) -> "EpochChain":
        """The chain without the records at `to` and after it."""
        if to >= self.end_offset:
            return self
        assert to >= self.start_offset, f"cannot cut to {to}, the log starts at {self.start_offset}"
        # An epoch that starts at `to` is left without records.
        kept = bisect_right(self.starts, to - 1)
        return EpochChain(self.start, self.epochs[:kept], self.starts[:kept], to)

    def start_at(self, start: OffsetAndEpoch) -> "EpochChain":
        """The chain without the records below `start`, whose epoch is that of the last of them."""
        assert self.start_offset <= start.offset <= self.end_offset, f"{start} is not in the log"
        if start.offset == self.end_offset:
            return self.begin_at(start)
        first = bisect_right(self.starts, start.offset) - 1
        assert first >= 0, f"nothing is known of offset {start.offset}"
        starts = (start.offset, *self.starts[first + 1 :])
        return EpochChain(start, self.epochs[first:], starts, self.end_offset)

    def holds(self, end: OffsetAndEpoch) -> bool:
        """Does this log have the record before `end`, in just that epoch?"""
        if end.offset == self.start_offset:
            return end == self.start
        inside = self.start_offset < end.offset <= self.end_offset
        return inside and self.epoch_at(Offset(end.offset - 1)) == end.epoch

    def begin_at(self, start: OffsetAndEpoch) -> "EpochChain":
        """An empty chain that goes on from `start`, such as a snapshot's id."""
        return EpochChain(start=start, end_offset=start.offset)
