"""One voter's disk: durable epoch and vote, snapshots, a log whose tail may not be there yet."""

import random
from dataclasses import dataclass, field

from controller.raft.messages import FetchedBatch
from controller.raft.state import HeldSnapshot, SavedState
from controller.raft.voters import VoterHistory, VoterSet
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.epochs import NOTHING_BEFORE, EpochChain
from tests.sim.quorum import decay
from tests.sim.quorum.decay import Decay


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


Entry = tuple[int, str]
"""Epoch and payload."""

Token = tuple[int, Entry]
"""A piece of a snapshot's bytes: an offset, and what stood there."""

TOKEN_BYTES = 16 * 1024
"""So that a snapshot of some dozen records takes several chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    tokens: tuple[Token, ...]
    voters: VoterSet

    @property
    def size_bytes(self) -> int:
        return len(self.tokens) * TOKEN_BYTES

    def entries(self) -> list[Entry]:
        """The state, as all that had led to it."""
        found = sorted(self.tokens)
        offsets = [offset for offset, _ in found]
        assert offsets == list(range(len(found))), "a snapshot that is none"
        return [entry for _, entry in found]


@dataclass(slots=True)
class Disk:
    saved: SavedState | None = None
    start: OffsetAndEpoch = NOTHING_BEFORE
    """Where the log begins."""
    snapshots: dict[OffsetAndEpoch, Snapshot] = field(default_factory=dict)
    unsynced: OffsetAndEpoch | None = None
    """The snapshot that an install has not made durable."""
    parts: dict[OffsetAndEpoch, tuple[Token, ...]] = field(default_factory=dict)
    """Downloads under way."""
    durable_parts: set[OffsetAndEpoch] = field(default_factory=set)
    batches: list[Batch] = field(default_factory=list)
    """From the log's start on."""
    durable_end: int = 0
    """What is below would survive a power cut."""
    is_full: bool = False
    entries: list[Entry] = field(default_factory=list)
    """By offset, from 0 on: what the latest snapshot or the records say."""
    starts: dict[int, int] = field(default_factory=dict)
    """Base offset → place in `batches`."""
    decay: Decay = field(default_factory=Decay)
    """What it has lost of all that, and what it knows of it."""

    @property
    def end_offset(self) -> int:
        return len(self.entries)

    def append(self, batch: Batch) -> None:
        assert batch.base_offset == self.end_offset, "a gap or an overlap in the log"
        self.starts[batch.base_offset] = len(self.batches)
        self.decay.flipped.discard(batch.base_offset)
        self.batches.append(batch)
        self.entries += [(batch.epoch, each) for each in batch.payload]

    def truncate(self, to: int) -> None:
        """Durably, as the effect demands. A batch goes whole."""
        while self.batches and self.batches[-1].end_offset > to:
            base_offset = self.batches.pop().base_offset
            del self.starts[base_offset], self.entries[base_offset:]
        assert self.end_offset == to, "a truncation within a batch"
        self.durable_end = min(self.durable_end, to)
        self.decay.lower(to)

    def trim(self, to: OffsetAndEpoch) -> None:
        """Begin the log at this snapshot; older ones go."""
        assert to in self.snapshots, f"no snapshot {to}"
        kept = [each for each in self.batches if each.end_offset > to.offset]
        assert not kept or kept[0].base_offset == to.offset, "a snapshot's end within a batch"
        self.start = to
        self._keep(kept)
        for each in [each for each in self.snapshots if each.offset < to.offset]:
            del self.snapshots[each]

    def install(self, snapshot_id: OffsetAndEpoch, voters: VoterSet) -> None:
        """The download is the state, and the log begins behind it."""
        snapshot = Snapshot(tokens=self.parts.pop(snapshot_id), voters=voters)
        if snapshot_id not in self.durable_parts:
            self.unsynced = snapshot_id
        self.durable_parts.clear()
        self.snapshots = {snapshot_id: snapshot}
        self.entries = snapshot.entries()
        assert self.end_offset == snapshot_id.offset, "a snapshot with another end"
        self.start = snapshot_id
        self._keep([])
        self.durable_end = self.end_offset
        self.decay.lower(self.end_offset)

    def _keep(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.starts = {each.base_offset: place for place, each in enumerate(batches)}

    def held(self) -> tuple[HeldSnapshot, ...]:
        ids = sorted(self.snapshots, key=lambda each: each.offset)
        return tuple(
            HeldSnapshot(snapshot_id=each, size_bytes=self.snapshots[each].size_bytes)
            for each in ids
        )

    def flush(self, end_offset: int) -> None:
        self.durable_end = max(self.durable_end, min(end_offset, self.end_offset))

    def crash(self, rng: random.Random) -> None:
        """Keep what was synced, and by chance some of the rest, from the front."""
        self.parts.clear()
        self.durable_parts.clear()
        if self.unsynced is not None:
            del self.snapshots[self.unsynced]
            self.unsynced = None
        kept = rng.choice((self.durable_end, self.end_offset, rng.randint(0, self.end_offset)))
        if self.decay.lies:
            kept = decay.lie(self, rng)
        bounds = self.decay.bounds
        to = self._whole(max(kept, self.durable_end))
        lost = next((each for each in self.batches if each.base_offset >= to), None)
        self.truncate(to)
        self.decay.bounds = bounds
        if self.decay.tears:
            decay.tear(self, lost, rng)
        if self.decay.scatters:
            decay.scatter(self, rng)
        self.fit()
        hole = self.decay.hole
        if hole not in self.starts:
            self.decay.hole = hole = None
        self.durable_end = self.end_offset if hole is None else hole

    def begin_anew(self) -> None:
        """Nobody knows the state that the records change."""
        self.start = NOTHING_BEFORE
        self.entries = []
        self._keep([])

    def fit(self) -> None:
        """A snapshot of what was committed, and not yet durable in this log, takes its place."""
        held = [each for each in self.held() if self.decay.is_sound(each.snapshot_id)]
        if held and held[-1].snapshot_id.offset > self.end_offset:
            latest = held[-1].snapshot_id
            self.snapshots = {latest: self.snapshots[latest]}
            self.entries = self.snapshots[latest].entries()
            self.start = latest
            self._keep([])
        elif held and self.start.offset > 0 and self.start not in self.snapshots:
            self.trim(held[0].snapshot_id)

    def _whole(self, to: int) -> int:
        """The last end of a batch that is not above `to`."""
        for batch in reversed(self.batches):
            if batch.end_offset <= to:
                return batch.end_offset
        return self.start.offset

    def read(self, start: int, bytes_max: int) -> list[Batch]:
        """Batches from `start` on; a hundred bytes a record, and one batch in any case."""
        found: list[Batch] = []
        place = self.starts.get(start)
        while place is not None and place < len(self.batches):
            batch = decay.as_it_stands(self, self.batches[place])
            bytes_max -= 100 * len(batch.payload)
            if found and bytes_max < 0:
                break
            found.append(batch)
            place += 1
        return found

    def between(self, start: int, end: int) -> list[Batch]:
        """That have records from `start` on, and below `end`."""
        if not self.decay.flipped:
            return []
        return [each for each in self.batches if each.end_offset > start and each.base_offset < end]

    @property
    def durable_chain_end(self) -> tuple[int, int]:
        """Epoch and offset of what a power cut leaves at the least."""
        end = self.durable_end
        return (self.entries[end - 1][0], end) if end else (0, 0)

    @property
    def names_disks(self) -> bool:
        """Does what is durable say which disk each voter has?"""
        said = [voters for offset, voters in self.voters() if offset < self.durable_end]
        return bool(said) and all(each.directory_id is not None for each in said[-1].voters)

    def chain(self) -> EpochChain:
        """As recovery finds it: from the start, the batches, and nothing else."""
        counts: dict[int, int] = {}
        for batch in self.batches:
            counts[batch.epoch] = counts.get(batch.epoch, 0) + len(batch.payload)
        chain = EpochChain().begin_at(self.start)
        for epoch, count in counts.items():
            chain = chain.append(Epoch(epoch), count)
        return chain

    def voters(self) -> VoterHistory:
        """As the latest snapshot says, and the log behind it."""
        latest = self.held()[-1:]
        end = latest[0].snapshot_id.offset if latest else Offset(0)
        said = tuple((Offset(end - 1), self.snapshots[each.snapshot_id].voters) for each in latest)
        return said + tuple(
            (Offset(each.end_offset - 1), each.voters)
            for each in self.batches
            if each.voters is not None and each.base_offset >= end
        )
