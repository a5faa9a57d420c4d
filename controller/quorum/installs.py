"""Snapshots of the metadata log on this voter's disk: downloads, and what the log begins with.

    .part ──verify, sync──▶ .part, sound ──install──▶ .checkpoint, and the log empty behind it

Wherever the power goes, `reconcile` finds the old log with the old snapshots, or the new snapshot;
if it is the new one, what is left of the old log goes, since the snapshot is of what is committed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from aiofiles.os import wrap

from controller.quorum.control import describe_batches
from controller.raft.state import HeldSnapshot
from controller.raft.voters import VoterSet
from klamm.errors import StorageError
from klamm.ids import LOG_START, NO_EPOCH, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from klamm.log.files import NO_ROOM
from klamm.log.log import Log
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError, PartFile, SnapshotFiles, format_name

_NO_BASE = "and no sound snapshot of what was before is beside it"

HEADER_BYTES_MAX = 1024 * 1024
"""Of a snapshot's first batch: voters and versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What stands on a disk once snapshots and log fit each other."""

    log: EpochChain
    held: tuple[HeldSnapshot, ...]
    notices: tuple[str, ...]
    """Damaged snapshots, and where the log was cut for a sound one; in words."""


def reconcile(snapshots: SnapshotFiles, log: Log, lose: Callable[[str], None]) -> Found:
    """Have log and snapshots fit each other, and forget what is of no use.

    A log that begins above 0, at a snapshot that is damaged or gone, is of no use either: nobody
    knows the state that its records change. An older snapshot takes its place, or nothing does.

    Args:
        snapshots: All that stand beside the log.
        log: May be cut, or begun anew.
        lose: Told in words what is lost, before anything is moved or cut; writes it down, or
            refuses.

    Raises:
        StartError: As `lose` does.
        StorageError, OSError: The disk failed.
    """
    sound, damaged = _look_at(snapshots)
    notes = [str(each) for each in damaged.values()]
    base = log.log_start_offset
    useful = [each for each in sound if each.offset >= base]
    if base > 0 and not useful:
        lose("; ".join((f"the metadata log begins at offset {base}, {_NO_BASE}", *notes)))
        useful = sound
        log.truncate_fully_and_start_at(LOG_START)
    snapshots.clean()  # Not sooner: where none is sound, somebody may want what was on its way out.
    for each in damaged:
        snapshots.set_aside(each)
    if useful and not _contains(log.epochs, useful[-1]):
        latest = useful[-1]
        if log.end_offset > 0:
            notes.append(f"the log, which ended at {log.end_offset}, gave way to {latest}")
        log.truncate_fully_and_start_at(latest.offset, latest.epoch)
        log.flush()
    chain = log.epochs
    useful = [each for each in useful if _contains(chain, each)]
    if chain.start_offset > 0:
        first = useful[0]
        at_start = first.offset == chain.start_offset
        chain = _begun_at(chain, first) if at_start else chain.start_at(first)
    for each in snapshots.list():
        if each not in useful:
            snapshots.delete(each)
    return Found(log=chain, held=_held(snapshots, useful), notices=tuple(notes))


def _look_at(
    snapshots: SnapshotFiles,
) -> tuple[list[OffsetAndEpoch], dict[OffsetAndEpoch, CorruptSnapshotError]]:
    """The sound ones, by offset, and what is wrong with the others."""
    sound: list[OffsetAndEpoch] = []
    damaged: dict[OffsetAndEpoch, CorruptSnapshotError] = {}
    for each in snapshots.list():
        try:
            snapshots.verify(each)
            sound.append(each)
        except CorruptSnapshotError as error:
            damaged[each] = error
    return sound, damaged


def _held(snapshots: SnapshotFiles, ids: list[OffsetAndEpoch]) -> tuple[HeldSnapshot, ...]:
    return tuple(HeldSnapshot(snapshot_id=each, size_bytes=snapshots.size(each)) for each in ids)


def _contains(chain: EpochChain, snapshot_id: OffsetAndEpoch) -> bool:
    """Does the log go on from there? What was before its first record it does not know."""
    offset = snapshot_id.offset
    if offset == chain.start_offset and chain.start.epoch == NO_EPOCH:
        return offset > 0
    return chain.holds(snapshot_id)


def _begun_at(chain: EpochChain, start: OffsetAndEpoch) -> EpochChain:
    """The chain, now that the epoch of the record before it is known."""
    return EpochChain(start, chain.epochs, chain.starts, chain.end_offset)


class Installs:
    """Downloads of one voter. Called from the loop's thread."""

    def __init__(self, snapshots: SnapshotFiles) -> None:
        self._snapshots = snapshots
        self._parts: dict[OffsetAndEpoch, PartFile] = {}
        self._check = wrap(_check)

    def append(self, snapshot_id: OffsetAndEpoch, position: int, data: bytes) -> bool:
        """A chunk, where the last one ended. False if there is no room for it: all is forgotten.

        Raises:
            OSError: The disk failed otherwise.
        """
        try:
            if position == 0:
                self.abandon(snapshot_id)
                self._parts[snapshot_id] = self._snapshots.create(snapshot_id)
            part = self._parts.get(snapshot_id)
            if part is None:
                return False
            assert part.position == position, f"a chunk at {position}, {part.position} is next"
            part.append(data)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self.abandon(snapshot_id)
            return False
        return True

    def abandon(self, snapshot_id: OffsetAndEpoch) -> None:
        """Forget it; there may be nothing yet."""
        part = self._parts.pop(snapshot_id, None)
        if part is not None:
            part.abandon()

    async def verify(self, snapshot_id: OffsetAndEpoch) -> VoterSet | None:
        """Its voters, once all of it is sound and durable; None if it is not, or was abandoned.

        Raises:
            StorageError: The disk failed.
        """
        part = self._parts.get(snapshot_id)
        if part is None:
            return None
        try:
            voters: VoterSet = await self._check(part)
        except (CorruptSnapshotError, CorruptBatchError, ValueError):
            return None
        except OSError as error:
            if self._parts.get(snapshot_id) is not part:
                return None  # It was closed beneath us.
            raise StorageError(f"cannot verify {format_name(snapshot_id)}: {error}") from error
        return voters if self._parts.get(snapshot_id) is part else None

    def finish(self, snapshot_id: OffsetAndEpoch) -> None:
        """Give it its name, durably."""
        self._parts.pop(snapshot_id).finish()

    def close(self) -> None:
        for snapshot_id in list(self._parts):
            self.abandon(snapshot_id)


def _check(part: PartFile) -> VoterSet:
    part.verify()
    part.sync()
    return voters_of(part.read)


def voters_of(read: Callable[[int, int], bytes]) -> VoterSet:
    """As a snapshot's header names them; `read(position, max_bytes)` gives its bytes.

    Raises:
        ValueError: It names none.
        CorruptBatchError: It does not begin with a whole batch.
    """
    batches = describe_batches(read(0, HEADER_BYTES_MAX))
    if not batches or not batches[0].voters:
        raise ValueError("a snapshot without voters in its header")
    return batches[0].voters[-1][1]


def voter_entry(snapshot_id: OffsetAndEpoch, voters: VoterSet) -> tuple[Offset, VoterSet]:
    """As a history has it: as if the last record below the snapshot's end had said so."""
    return Offset(snapshot_id.offset - 1), voters
