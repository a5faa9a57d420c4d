"""One voter's disk: durable epoch and vote, and a log whose tail may not have arrived yet."""

import random
from dataclasses import dataclass, field

from controller.raft.messages import FetchedBatch
from controller.raft.state import SavedState
from controller.raft.voters import VoterHistory, VoterSet
from klamm.ids import Epoch, Offset
from klamm.log.epochs import EpochChain


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records that stand or fall together."""

    base_offset: int
    epoch: int
    payload: tuple[str, ...]
    voters: VoterSet | None = None

    @property
    def end_offset(self) -> int:
        return self.base_offset + len(self.payload)

    def fetched(self) -> FetchedBatch:
        """As the core is told of it; a Voters record is the last of its batch."""
        last = Offset(self.end_offset - 1)
        return FetchedBatch(
            base_offset=Offset(self.base_offset),
            epoch=Epoch(self.epoch),
            count=len(self.payload),
            voters=() if self.voters is None else ((last, self.voters),),
        )


@dataclass(slots=True)
class Disk:
    saved: SavedState | None = None
    batches: list[Batch] = field(default_factory=list)
    durable_end: int = 0
    """What is below would survive a power cut."""
    is_full: bool = False
    entries: list[tuple[int, str]] = field(default_factory=list)
    """(epoch, payload) by offset: the same records again, flat."""
    starts: dict[int, int] = field(default_factory=dict)
    """Base offset → place in `batches`."""

    @property
    def end_offset(self) -> int:
        return len(self.entries)

    def append(self, batch: Batch) -> None:
        assert batch.base_offset == self.end_offset, "a gap or an overlap in the log"
        self.starts[batch.base_offset] = len(self.batches)
        self.batches.append(batch)
        self.entries += [(batch.epoch, each) for each in batch.payload]

    def truncate(self, to: int) -> None:
        """Durably, as the effect demands. A batch goes whole."""
        while self.batches and self.batches[-1].end_offset > to:
            base_offset = self.batches.pop().base_offset
            del self.starts[base_offset], self.entries[base_offset:]
        assert self.end_offset == to, "a truncation within a batch"
        self.durable_end = min(self.durable_end, to)

    def flush(self, end_offset: int) -> None:
        self.durable_end = max(self.durable_end, min(end_offset, self.end_offset))

    def crash(self, rng: random.Random) -> None:
        """Keep what was synced, and by chance some of the rest, from the front."""
        kept = rng.choice((self.durable_end, self.end_offset, rng.randint(0, self.end_offset)))
        self.truncate(self._whole(max(kept, self.durable_end)))
        self.durable_end = self.end_offset

    def _whole(self, to: int) -> int:
        """The last end of a batch that is not above `to`."""
        for batch in reversed(self.batches):
            if batch.end_offset <= to:
                return batch.end_offset
        return 0

    def read(self, start: int, bytes_max: int) -> list[Batch]:
        """Batches from `start` on; a hundred bytes a record, and one batch in any case."""
        found: list[Batch] = []
        place = self.starts.get(start)
        while place is not None and place < len(self.batches):
            batch = self.batches[place]
            bytes_max -= 100 * len(batch.payload)
            if found and bytes_max < 0:
                break
            found.append(batch)
            place += 1
        return found

    def chain(self) -> EpochChain:
        """As recovery finds it: from the batches, and nothing else."""
        counts: dict[int, int] = {}
        for batch in self.batches:
            counts[batch.epoch] = counts.get(batch.epoch, 0) + len(batch.payload)
        chain = EpochChain()
        for epoch, count in counts.items():
            chain = chain.append(Epoch(epoch), count)
        return chain

    def voters(self) -> VoterHistory:
        return tuple(
            (Offset(each.end_offset - 1), each.voters)
            for each in self.batches
            if each.voters is not None
        )
