"""A snapshot's file is restored into a new directory, exactly; what is damaged is refused."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from controller.quorum.control import build_snapshot_footer, build_snapshot_header
from controller.quorum.installs import voters_of
from controller.quorum.known_voters import nobody
from controller.quorum.opening import METADATA_LOG, RESTORING
from controller.quorum.store import LogStore
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from controller.recovery.compare import EPOCH_JUMP, EPOCH_MAX
from controller.recovery.raised import OFFSET_JUMP, raised
from controller.recovery.restore import restore
from klamm.clock import SystemClock
from klamm.directory import META_PROPERTIES, MetaProperties
from klamm.errors import StartError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.checkpoint import write_atomically
from klamm.log.log import LogConfig
from klamm.log.record_batch import iter_batches
from klamm.log.snapshot import format_name
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import ConfigRecord
from klamm.metadata.snapshot_batches import SnapshotReader, image_batches
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.metadata.histories import history
from tests.unit.metadata.test_backup_file import backup_of

ID = OffsetAndEpoch(epoch=Epoch(7), offset=Offset(40))
NEW_ID = OffsetAndEpoch(epoch=ID.epoch, offset=Offset(ID.offset + OFFSET_JUMP))
SOURCE = Path("/backup") / format_name(ID)
NEW = Path("/new")


def prepare() -> tuple[SimFiles, bytes]:
    """A snapshot with some state, and a directory that was formatted."""
    files = SimFiles()
    delta = MetadataDelta(EMPTY)
    for at in range(30):
        record = ConfigRecord(resource_type=4, resource_name="1", key=f"k{at}", value="v")
        delta.replay(record, Offset(at))
    image = delta.apply(ID)
    voters = VoterSet((Voter(node_id=NodeId(1)), Voter(node_id=NodeId(2))))
    data, end = (
        build_snapshot_header(voters, epoch=ID.epoch, last_timestamp_ms=5, timestamp_ms=6),
        2,
    )
    for piece, behind in image_batches(image, base_offset=Offset(2), timestamp_ms=6):
        data, end = data + piece, behind
    data += build_snapshot_footer(Offset(end), epoch=ID.epoch, timestamp_ms=6)
    files.make_directory(SOURCE.parent)
    write_atomically(files, SOURCE, data)
    meta = MetaProperties(cluster_id="c", node_id=NodeId(9), directory_id=DirectoryId(UUID(int=9)))
    files.make_directory(NEW)
    write_atomically(files, NEW / META_PROPERTIES, meta.encode())
    return files, data


async def test_the_same_state_with_one_voter() -> None:
    files, data = prepare()
    await restore(files, SOURCE, NEW, SystemClock())
    store = LogStore.open(files, NEW, SystemClock(), LogConfig(), has_peers=nobody)
    loaded = store.load()
    assert (loaded.log.end_offset, loaded.log.last_epoch) == (40 + OFFSET_JUMP, 7)
    assert loaded.saved.epoch == 7 + EPOCH_JUMP
    assert voters_of(partial(store.snapshots.read, NEW_ID)).ids == (9,)
    restored = store.snapshots.read(NEW_ID, 0, store.snapshots.size(NEW_ID))
    store.close()
    assert _image(restored, NEW_ID) == raised(_image(data, ID))
    assert _image(restored, NEW_ID).configs == _image(data, ID).configs != EMPTY.configs
    with pytest.raises(StartError, match="already"):
        await restore(files, SOURCE, NEW, SystemClock())


async def test_a_damaged_file_is_refused_and_nothing_written() -> None:
    files, data = prepare()
    bad = bytearray(data)
    bad[len(data) // 2] ^= 1
    write_atomically(files, SOURCE, bytes(bad))
    with pytest.raises(StartError, match=r"checkpoint is no snapshot.*at 2 does not hold"):
        await restore(files, SOURCE, NEW, SystemClock())
    assert set(files.list(NEW)) == {META_PROPERTIES}


def _image(data: bytes, snapshot_id: OffsetAndEpoch) -> MetadataImage:
    reader = SnapshotReader(snapshot_id)
    for _, batch in iter_batches(data):
        reader.take(batch)
    return reader.finish()


async def test_a_crash_at_every_operation_leaves_nothing_or_the_whole() -> None:
    """Scenario 21: half a state is never started on, and another try makes it whole."""
    finished = halves = 0
    for operation in range(1_000):
        files, _ = prepare()
        files.crash_at_operation = files.operations + operation
        try:
            await restore(files, SOURCE, NEW, SystemClock())
        except PowerCutError:
            files.crash(Random(operation))
        else:
            finished = operation
            break
        if files.exists(NEW / RESTORING):
            halves += 1
            with pytest.raises(StartError, match="did not finish"):
                LogStore.open(files, NEW, SystemClock(), LogConfig(), has_peers=nobody)
        if files.exists(NEW / RESTORING) or not files.exists(NEW / METADATA_LOG):
            await restore(files, SOURCE, NEW, SystemClock())
        store = LogStore.open(files, NEW, SystemClock(), LogConfig(), has_peers=nobody)
        assert store.load().log.end_offset == NEW_ID.offset, operation
        store.close()
    assert finished > 20
    assert halves > 10


BACKUP = Path("/backup/monday")
DISKS = {each: DirectoryId(UUID(int=each)) for each in (1, 2, 9)}


def a_backup() -> tuple[SimFiles, bytes]:
    """As `prepare`, of three voters, one of which has the disk that is restored to."""
    files, _ = prepare()
    voters = VoterSet(
        tuple(Voter(node_id=NodeId(each), directory_id=disk) for each, disk in DISKS.items()),
        (ReplicaKey(node_id=NodeId(5), directory_id=DirectoryId(UUID(int=5))),),
    )
    data = backup_of(history(Random(6), 40)[1], voters=voters)
    write_atomically(files, BACKUP, data)
    return files, data


async def test_a_backup_begins_a_generation_that_the_old_disks_have_no_vote_in() -> None:
    files, _ = a_backup()
    done = await restore(files, BACKUP, NEW, SystemClock())
    assert done.backup.image == history(Random(6), 40)[1]
    assert done.backup.origin is not None
    assert done.epoch == done.backup.end.epoch + EPOCH_JUMP
    store = LogStore.open(files, NEW, SystemClock(), LogConfig(), has_peers=False)
    loaded = store.load()
    voters = voters_of(partial(store.snapshots.read, done.end))
    store.close()
    assert loaded.saved.epoch == done.epoch
    assert loaded.log.end_offset == done.end.offset == done.backup.end.offset + OFFSET_JUMP
    assert voters.ids == (9,)
    assert {each.node_id for each in voters.removed} == {1, 2, 5}
    assert voters.admits(ReplicaKey(node_id=NodeId(9), directory_id=DISKS[9]))


@pytest.mark.parametrize("seed", range(20))
async def test_a_damaged_backup_is_refused_by_name_and_nothing_is_written(seed: int) -> None:
    """Every cut and every bit: tests/unit/metadata/test_backup_file.py."""
    random = Random(seed)
    files, data = a_backup()
    bad = bytearray(data)
    bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
    write_atomically(files, BACKUP, bytes(bad) if seed % 2 else data[: random.randrange(len(data))])
    with pytest.raises(StartError, match="/backup/monday cannot be restored: /backup/monday is no"):
        await restore(files, BACKUP, NEW, SystemClock())
    assert set(files.list(NEW)) == {META_PROPERTIES}


async def test_an_epoch_that_nothing_is_left_above_is_refused() -> None:
    files, _ = a_backup()
    last = OffsetAndEpoch(epoch=Epoch(EPOCH_MAX - EPOCH_JUMP + 1), offset=Offset(4))
    write_atomically(files, BACKUP, backup_of(replace(EMPTY, provenance=last)))
    with pytest.raises(StartError, match="no epoch is left above"):
        await restore(files, BACKUP, NEW, SystemClock())
