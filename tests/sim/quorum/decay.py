"""What a disk loses of what it had: flipped bits, torn ends, what an fsync lied about, a lost vote.

The core sees no bytes. Modelled is what a start makes of it (controller/quorum/opening.py):
a torn end is cut, also one of which later pages were written and an earlier one was not; other
damage with whole batches behind it, or an end below the bounds, has lost what
this voter acknowledged, and it comes back with distrust; a vote that is of no use gives way to the
first epoch in which it has certainly not voted. What stands above the bounds nobody vouches for:
there no disk may lose what it said was durable, or no quorum could be safe.
"""

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from controller.quorum.bounds import BOUNDS_EVERY_MS, Bounds
from controller.raft.state import RaftConfig, SavedState
from klamm.ids import Epoch, Offset, OffsetAndEpoch

if TYPE_CHECKING:
    from tests.sim.quorum.disk import Batch, Disk
    from tests.sim.quorum.node import Node

SAVES_KEPT = 5


@dataclass(slots=True)
class Decay:
    """What is wrong with one disk, and the second witness that knows better."""

    bounds: Bounds = field(default_factory=Bounds)
    """quorum-bounds, as the shell keeps it."""
    bounds_ms: float = 0.0
    """When it was written."""
    is_first: bool = False
    """It is doubted because it is new, and indeed the first of its node."""
    ails: bool = False
    """It has lost something, found or not, and is not whole again."""
    flipped: set[int] = field(default_factory=set)
    """Base offsets of batches that are not what was written."""
    flipped_snapshots: set[OffsetAndEpoch] = field(default_factory=set)
    torn: "Batch | None" = None
    """Half of a batch, behind the log's end."""
    tears: bool = False
    """Power cuts leave half of a batch behind."""
    lies: bool = False
    """The next power cut takes what was synced, too."""
    scatters: bool = False
    """The next power cut finds later pages written, and an earlier one not."""
    hole: int | None = None
    """Base offset of a batch that was not written, and was not durable."""
    vote_is_lost: bool = False
    is_anothers: bool = False
    """It was a replica without a vote, and is another one from this start on."""
    saves: list[SavedState] = field(default_factory=list)
    """Old copies of the vote file, one an epoch, the oldest first."""

    @property
    def distrust(self) -> str | None:
        """As it goes to the core."""
        return self.bounds.distrust or None

    def is_sound(self, snapshot_id: OffsetAndEpoch) -> bool:
        return snapshot_id not in self.flipped_snapshots

    def save(self, saved: SavedState) -> None:
        """Before the vote file is: it promises not to have been above the ceiling."""
        if saved.epoch > self.bounds.epoch_ceiling:
            self.bounds = self.bounds.promising(saved.epoch)
        if self.saves and self.saves[-1].epoch == saved.epoch:
            self.saves.pop()
        self.saves = [*self.saves[1 - SAVES_KEPT :], saved]

    def lower(self, to: int) -> None:
        """The log will be cut."""
        if self.bounds.end_offset > to:
            self.bounds = replace(self.bounds, end_offset=Offset(to))

    def keep(self, now_ms: float, durable_end: int) -> None:
        """Written down now and then, not at once."""
        if now_ms - self.bounds_ms >= BOUNDS_EVERY_MS / 10:
            self.bounds_ms = now_ms
            epoch = self.saves[-1].epoch if self.saves else Epoch(0)
            self.bounds = replace(self.bounds, end_offset=Offset(durable_end), epoch=epoch)

    def is_whole(self, durable_end: int) -> None:
        """The core says so."""
        self.bounds = replace(self.bounds, distrust="", end_offset=Offset(durable_end))
        self.ails = bool(self.flipped or self.flipped_snapshots)  # Again, in the meantime.
        self.is_first = False


def as_it_stands(disk: "Disk", batch: "Batch") -> "Batch":
    """What a read of it gives."""
    if batch.base_offset not in disk.decay.flipped:
        return batch
    return replace(batch, payload=tuple(f"{each}, flipped" for each in batch.payload))


def is_sound(disk: "Disk", batch: "Batch") -> bool:
    """Does its checksum say so?"""
    return batch.base_offset not in disk.decay.flipped


def doubt_new_disk(disk: "Disk") -> None:
    """Nobody has formatted it (controller/quorum/opening.py)."""
    disk.decay.bounds = Bounds(distrust="new")


# ── in a power cut ───────────────────────────────────────────────────────────────────────────────


def tear(disk: "Disk", lost: "Batch | None", rng: random.Random) -> None:
    """Of the first batch that the cut took, some bytes may be there."""
    if lost is not None and rng.random() < 0.5:
        *whole, last = lost.payload
        disk.decay.torn = replace(lost, payload=(*whole, last[: len(last) // 2]))


def scatter(disk: "Disk", rng: random.Random) -> None:
    """Of the unsynced batches that stayed, one before others did not."""
    decay = disk.decay
    decay.scatters = False
    places = [each.base_offset for each in disk.batches[:-1]]
    places = [each for each in places if each >= disk.durable_end]
    decay.hole = rng.choice(places) if places else None


def lie(disk: "Disk", rng: random.Random) -> int:
    """Where the log ends that was synced further; a batch goes whole."""
    decay = disk.decay
    decay.lies = False
    known = decay.bounds.end_offset
    if known <= max((each.offset for each in disk.snapshots), default=0):
        return disk.durable_end  # Whose log gives way to a snapshot misses nothing of its own.
    decay.ails = True
    to = rng.randrange(disk.start.offset, known)
    disk.durable_end = min(disk.durable_end, to)
    return to


# ── at a start ───────────────────────────────────────────────────────────────────────────────────


def open_disk(disk: "Disk", config: RaftConfig) -> SavedState:
    """Cut, fit to each other, and said: afterwards `disk.decay.distrust` knows."""
    decay = disk.decay
    cut_torn_end(disk)
    cut_at_hole(disk)
    set_snapshots_aside(disk)
    damage = cut_damage(disk)
    base = disk.start.offset
    if base > 0 and not any(each.offset >= base for each in disk.snapshots):
        damage = f"begins at {base}, and nothing says what was before"
        disk.begin_anew()
    disk.fit()
    distrust = decay.bounds.distrust or damage or find_what_is_missing(disk)
    disk.durable_end = disk.end_offset
    saved = read_vote(disk, config)
    decay.bounds = replace(
        decay.bounds, end_offset=Offset(disk.end_offset), epoch=saved.epoch, distrust=distrust
    )
    decay.ails = bool(distrust)
    return saved


def cut_torn_end(disk: "Disk") -> None:
    disk.decay.torn = None


def cut_at_hole(disk: "Disk") -> None:
    """It costs no vote: nobody was told that what follows was there."""
    hole, disk.decay.hole = disk.decay.hole, None
    if hole is not None:
        disk.truncate(hole)


def set_snapshots_aside(disk: "Disk") -> None:
    """Those that are damaged."""
    decay = disk.decay
    for each in decay.flipped_snapshots & disk.snapshots.keys():
        del disk.snapshots[each]
    decay.flipped_snapshots.clear()


def cut_damage(disk: "Disk") -> str:
    """Why this voter is not to be believed; empty if nothing is damaged."""
    flipped = [each.base_offset for each in disk.batches if not is_sound(disk, each)]
    disk.decay.flipped.clear()
    if not flipped:
        return ""
    disk.truncate(flipped[0])
    return f"damaged from {flipped[0]} on"


def find_what_is_missing(disk: "Disk") -> str:
    known = disk.decay.bounds.end_offset
    return f"ends at {disk.end_offset} of {known}" if disk.end_offset < known else ""


def read_vote(disk: "Disk", config: RaftConfig) -> SavedState:
    decay = disk.decay
    saved = disk.saved or SavedState()
    last_epoch = disk.entries[-1][0] if disk.entries else 0
    if decay.vote_is_lost or saved.epoch < max(last_epoch, decay.bounds.epoch):
        if is_a_voters(disk, config):
            saved = replace_vote(disk, last_epoch)
        else:
            decay.is_anothers = True
            decay.saves.clear()
            saved = SavedState(epoch=Epoch(max(last_epoch, decay.bounds.epoch)))
            decay.bounds = decay.bounds.promising(saved.epoch)
        decay.save(saved)
        disk.saved = saved
    decay.vote_is_lost = False
    return saved


def is_a_voters(disk: "Disk", config: RaftConfig) -> bool:
    """Else it becomes another replica's (controller/quorum/identity.py)."""
    return [config.voters, *(voters for _, voters in disk.voters())][-1].admits(config.key)


def replace_vote(disk: "Disk", last_epoch: int) -> SavedState:
    """In the first epoch that nobody has heard of from here."""
    assert last_epoch <= disk.decay.bounds.epoch_ceiling, "an epoch that was never promised"
    return SavedState(epoch=Epoch(disk.decay.bounds.epoch_ceiling + 1))


# ── what befalls a node ──────────────────────────────────────────────────────────────────────────


def flip_record(node: "Node") -> bool:
    """A bit of a batch that the bounds vouch for: above them it would be a torn end."""
    disk, rng = node.disk, node.world.rng
    known = disk.decay.bounds.end_offset
    places = [each.base_offset for each in disk.batches if each.base_offset < known]
    if places:
        disk.decay.flipped.add(rng.choice(places))
        disk.decay.ails = True
    return bool(places)


def flip_snapshot(node: "Node") -> bool:
    """If it is the only one with which the log begins, all of the log is lost."""
    disk, rng = node.disk, node.world.rng
    places = [each.snapshot_id for each in disk.held()]
    if places:
        disk.decay.flipped_snapshots.add(rng.choice(places))
        disk.decay.ails = True
    return bool(places)


def lose_vote(node: "Node") -> None:
    """The file is gone, or damaged, or an old copy of an epoch before the last known."""
    decay, disk = node.disk.decay, node.disk
    old = [each for each in decay.saves if each.epoch < decay.bounds.epoch]
    if old and node.world.rng.random() < 0.5:
        disk.saved = node.world.rng.choice(old)
    elif disk.saved is not None:
        decay.vote_is_lost = True
