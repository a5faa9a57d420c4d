"""A snapshot's file is restored into a new directory, exactly; what is damaged is refused."""

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
from controller.raft.voters import Voter, VoterSet
from controller.recovery.compare import EPOCH_JUMP
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
from klamm.metadata.image import EMPTY
from klamm.metadata.records import ConfigRecord
from klamm.metadata.snapshot_batches import SnapshotReader, image_batches
from tests.sim.disk import PowerCutError, SimFiles

ID = OffsetAndEpoch(epoch=Epoch(7), offset=Offset(40))
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
    assert (loaded.log.end_offset, loaded.log.last_epoch) == (40, 7)
    assert loaded.saved.epoch == 7 + EPOCH_JUMP
    assert voters_of(partial(store.snapshots.read, ID)).ids == (9,)
    restored = store.snapshots.read(ID, 0, store.snapshots.size(ID))
    store.close()
    assert _checksum(restored) == _checksum(data) != EMPTY.checksum
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


def _checksum(data: bytes) -> int:
    reader = SnapshotReader(ID)
    for _, batch in iter_batches(data):
        reader.take(batch)
    return reader.finish().checksum


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
        assert store.load().log.end_offset == ID.offset, operation
        store.close()
    assert finished > 20
    assert halves > 10
