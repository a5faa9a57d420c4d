"""A snapshot's file becomes the state of a directory that was formatted and never started.

The batches of the state are taken as they are; the header names the new node as the only voter.
While it goes on, a file says so: no node starts beside it, and another try begins from nothing.
"""

from contextlib import closing
from pathlib import Path

from controller.quorum.bounds import QUORUM_BOUNDS
from controller.quorum.control import build_snapshot_header
from controller.quorum.opening import METADATA_LOG, RESTORING, open_disk
from controller.quorum.store import LogStore
from controller.raft.effects import SaveQuorumState
from controller.raft.voters import Voter, VoterSet
from controller.recovery.survey import read_meta
from klamm.clock import Clock
from klamm.errors import StartError, StorageError
from klamm.ids import NO_NODE, OffsetAndEpoch
from klamm.log.checkpoint import write_atomically
from klamm.log.files import Files
from klamm.log.log import LogConfig
from klamm.log.record_batch import iter_batches
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles, parse_name
from klamm.metadata.codec import UnknownRecordError
from klamm.metadata.snapshot_batches import SnapshotReader


async def restore(files: Files, source: Path, directory: Path, clock: Clock) -> OffsetAndEpoch:
    """Durable once this returns.

    Raises:
        StartError: The file is damaged, or is no snapshot; the directory is not new; or the
            disk fails.
    """
    snapshot_id = parse_name(source.name)
    if snapshot_id is None or not files.exists(source):
        raise StartError(f"There is no snapshot {source}: its name is OFFSET-EPOCH.checkpoint.")
    meta = read_meta(files, directory)
    if files.exists(directory / RESTORING):
        _clear(files, directory)
    if files.exists(directory / METADATA_LOG):
        raise StartError(f"{directory} has a {METADATA_LOG} already. Restore into a new one.")
    try:
        data, last_ms = _verified(files, source, snapshot_id)
        voter = Voter(node_id=meta.node_id, directory_id=meta.directory_id)
        header = build_snapshot_header(
            VoterSet((voter,)),
            epoch=snapshot_id.epoch,
            last_timestamp_ms=last_ms,
            timestamp_ms=clock.wall_ms(),
        )
        write_atomically(files, directory / RESTORING, source.name.encode())
        disk = open_disk(files, directory, LogConfig(), has_peers=False)
        with closing(LogStore(files, disk, clock)) as store:
            part = store.snapshots.create(snapshot_id)
            part.append(header)
            part.append(data)
            part.verify()
            vote = SaveQuorumState(epoch=snapshot_id.epoch, voted_for=None, leader=NO_NODE)
            await store.save(vote)
            part.finish()
        files.remove(directory / RESTORING)
        files.sync_directory(directory)
    except (CorruptSnapshotError, CorruptBatchError, UnknownRecordError) as error:
        raise StartError(f"{source} cannot be restored: {error}.") from error
    except (OSError, StorageError) as error:
        raise StartError(f"{source} could not be restored: {error}.") from error
    return snapshot_id


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


def _verified(files: Files, source: Path, snapshot_id: OffsetAndEpoch) -> tuple[bytes, int]:
    """All behind the header, and the time of the last record that it includes."""
    SnapshotFiles(files, source.parent).verify(snapshot_id)
    file = files.open(source)
    try:
        data = file.read_at(0, file.size)
    finally:
        file.close()
    reader, header_bytes = SnapshotReader(snapshot_id), 0
    for header, batch in iter_batches(data):
        reader.take(batch)
        header_bytes = header_bytes or header.size_bytes
    reader.finish()
    return data[header_bytes:], reader.last_timestamp_ms
