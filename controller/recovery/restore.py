"""A backup, or a snapshot's file, becomes the state of a directory that was never started.

The log begins with one snapshot: of the same state for a new generation (`raised`), whose header
names the new node as the only voter, and the disks of the former ones as removed. The vote is of
an epoch that none of those has reached.
While it goes on, a file says so: no node starts beside it, and another try begins from nothing.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from controller.quorum.bounds import QUORUM_BOUNDS
from controller.quorum.control import snapshot_pieces
from controller.quorum.installs import voters_of
from controller.quorum.known_voters import nobody
from controller.quorum.opening import METADATA_LOG, RESTORING, open_disk
from controller.quorum.store import LogStore
from controller.raft.effects import SaveQuorumState
from controller.raft.voters import REMOVED_MAX, ReplicaKey, Voter, VoterSet
from controller.recovery.compare import EPOCH_JUMP
from controller.recovery.raised import raised
from controller.recovery.survey import read_meta
from klamm.clock import Clock
from klamm.directory import MetaProperties
from klamm.errors import StartError, StorageError
from klamm.ids import EPOCH_MAX, NO_NODE, Epoch, OffsetAndEpoch
from klamm.log.checkpoint import write_atomically
from klamm.log.files import Files
from klamm.log.log import LogConfig
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError
from klamm.metadata.backup import Backup, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    meta: MetaProperties
    """Of the new directory."""
    backup: Backup
    end: OffsetAndEpoch
    """Where the new log begins."""
    epoch: Epoch
    """The latest that the new node knows: its first one comes after it."""


async def restore(files: Files, source: Path, directory: Path, clock: Clock) -> Restored:
    """Durable once this returns.

    Raises:
        StartError: The file is damaged, or is none; the directory is not new; or the disk fails.
    """
    meta = read_meta(files, directory)
    if files.exists(directory / RESTORING):
        _clear(files, directory)
    if files.exists(directory / METADATA_LOG):
        raise StartError(f"{directory} has a {METADATA_LOG} already. Restore into a new one.")
    try:
        backup = read(files, source)
        epoch = _epoch_above(backup)
        image = raised(backup.image)
        pieces = snapshot_pieces(
            image,
            _voters(meta, backup),
            last_timestamp_ms=backup.last_timestamp_ms,
            timestamp_ms=clock.wall_ms(),
        )
        write_atomically(files, directory / RESTORING, source.name.encode())
        disk = open_disk(files, directory, LogConfig(), has_peers=nobody)
        with closing(LogStore(files, disk, clock)) as store:
            part = store.snapshots.create(image.provenance)
            for piece, _ in pieces:
                part.append(piece)
            part.verify()
            await store.save(SaveQuorumState(epoch=epoch, voted_for=None, leader=NO_NODE))
            part.finish()
        files.remove(directory / RESTORING)
        files.sync_directory(directory)
    except (CorruptSnapshotError, CorruptBatchError, OverflowError, ValueError) as error:
        raise StartError(f"{source} cannot be restored: {error}.") from error
    except (OSError, StorageError) as error:
        raise StartError(f"{source} could not be restored: {error}.") from error
    return Restored(meta=meta, backup=backup, end=image.provenance, epoch=epoch)


def _epoch_above(backup: Backup) -> Epoch:
    """Above all that the nodes of the backup's time may have reached meanwhile."""
    if backup.end.epoch > EPOCH_MAX - EPOCH_JUMP:
        raise CorruptSnapshotError(f"no epoch is left above {backup.end.epoch}")
    return Epoch(backup.end.epoch + EPOCH_JUMP)


def _voters(meta: MetaProperties, backup: Backup) -> VoterSet:
    """The new node alone. Who voted when the backup was taken does not walk back in."""
    before = voters_of(lambda position, size: backup.data[position : position + size])
    mine = ReplicaKey(node_id=meta.node_id, directory_id=meta.directory_id)
    known = [
        ReplicaKey(node_id=each.node_id, directory_id=each.directory_id)
        for each in before.voters
        if each.directory_id is not None
    ]
    gone = dict.fromkeys((*before.removed, *known))
    removed = tuple(each for each in gone if each != mine)[-REMOVED_MAX:]
    return VoterSet((Voter(node_id=mine.node_id, directory_id=mine.directory_id),), removed)


def _clear(files: Files, directory: Path) -> None:
    """What an earlier try left."""
    log = directory / METADATA_LOG
    if files.exists(log):
        for name in files.list(log):
            files.remove(log / name)
        files.sync_directory(log)
        files.remove_directory(log)
    if files.exists(directory / QUORUM_BOUNDS):
        files.remove(directory / QUORUM_BOUNDS)
    files.sync_directory(directory)
