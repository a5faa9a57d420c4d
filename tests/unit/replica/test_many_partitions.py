"""A broker with many partitions stops, and drops them, without a sync for each of them in turn.

With a disk that takes 5 ms a sync, four hundred empty partitions took 16 s to stop, and the loop
stood still for as long when their topic was deleted.
"""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import UUID

from broker.replica.storage import PartitionStorage, Stored
from klamm.clock import SystemClock
from klamm.config.topic import TopicConfig
from klamm.ids import Offset, TopicId, TopicPartition
from klamm.log.files import SystemFile, SystemFiles
from tests.sim.disk import SimFiles
from tests.unit.api.worlds import Replicas, batch, partition_image

DEADLINE_S = 20.0
MANY = 100
TOPIC_ID = TopicId(UUID(int=7))
CONFIG = TopicConfig.effective({})
EPOCH = 9
ROOT = Path("/data")

Partitions = list[tuple[TopicPartition, Stored]]


class CountedFile(SystemFile):
    synced: Callable[[], None]

    def sync(self) -> None:
        self.synced()
        super().sync()


class CountedFiles(SystemFiles):
    """How often a disk was asked to sync, and what is done meanwhile."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.meanwhile: Callable[[], None] = lambda: None

    def open(self, path: Path) -> SystemFile:
        file = CountedFile(path)
        file.synced = self._synced
        return file

    def sync_directory(self, path: Path) -> None:
        self._synced()
        super().sync_directory(path)

    def _synced(self) -> None:
        self.counts["syncs"] += 1
        self.meanwhile()


def made(storage: PartitionStorage, count: int) -> Partitions:
    names = [TopicPartition("orders", each) for each in range(count)]
    return [(each, storage.create(each, TOPIC_ID, CONFIG)) for each in names]


def test_empty_partitions_stop_with_a_few_syncs_for_all_of_them(tmp_path: Path) -> None:
    files = CountedFiles()
    storage = PartitionStorage(files, tmp_path, SystemClock())
    partitions = made(storage, MANY)
    storage.sync_new()
    files.counts.clear()
    storage.close(partitions, EPOCH)
    assert files.counts["syncs"] < 10, files.counts
    again = PartitionStorage(files, tmp_path, SystemClock())
    assert len(again.load(CONFIG)) == MANY
    assert again.clean_shutdown_epoch == EPOCH


def test_partitions_with_records_are_made_durable_side_by_side(tmp_path: Path) -> None:
    files = CountedFiles()
    storage = PartitionStorage(files, tmp_path, SystemClock())
    partitions = made(storage, 2)
    storage.sync_new()
    for _, each in partitions:
        each.log.append(bytes(batch(b"kept")))
    both, here = threading.Barrier(2), threading.get_ident()
    waited = set[int]()

    def meanwhile() -> None:
        me = threading.get_ident()
        if me != here and me not in waited:
            waited.add(me)
            both.wait(DEADLINE_S)

    files.meanwhile = meanwhile
    storage.close(partitions, EPOCH)
    assert len(waited) == 2, "and neither waited for the other to end"


def test_what_was_stopped_in_order_survives_a_power_cut_whole() -> None:
    """Also a partition that was made a moment before: its id was not synced by the stop."""
    for seed in range(20):
        files = SimFiles()
        files.make_directory(ROOT)
        storage = PartitionStorage(files, ROOT, SystemClock())
        assert storage.load(CONFIG) == {}
        partitions = made(storage, 4)
        for _, each in partitions[:2]:
            each.log.append(bytes(batch(b"kept", producer_id=5, producer_epoch=0, base_sequence=0)))
            each.producers.replay(each.log, Offset(0), 0)
        storage.close(partitions, EPOCH)
        files.crash(Random(seed))
        again = PartitionStorage(files, ROOT, SystemClock())
        found = again.load(CONFIG)
        assert again.clean_shutdown_epoch == EPOCH
        assert {each: one.log.end_offset for each, one in found.items()} == {
            name: 1 if name.partition < 2 else 0 for name, _ in partitions
        }
        assert all(5 in found[name].producers.table for name, _ in partitions[:2])


def test_a_topic_is_dropped_without_a_sync(tmp_path: Path) -> None:
    """On the loop: each would stop it."""
    replicas = Replicas(tmp_path)
    files = CountedFiles()
    replicas.manager._storage = PartitionStorage(files, tmp_path, replicas.clock)
    replicas.publish(*map(partition_image, range(MANY)))
    found = replicas.manager.partition("orders", 0)
    assert found is not None
    found.append_as_leader(batch(b"gone"), needs_in_sync=False)
    files.counts.clear()
    replicas.remove()
    assert files.counts["syncs"] == 0
    assert not len(replicas.manager)


def test_a_flush_that_comes_behind_a_drop_does_nothing(tmp_path: Path) -> None:
    """It ran in a thread while the loop dropped the partition: an assertion ended the broker."""
    storage = PartitionStorage(SystemFiles(), tmp_path, SystemClock())
    ((name, stored),) = made(storage, 1)
    stored.log.append(bytes(batch(b"gone")))
    storage.set_aside(name, stored)
    assert stored.log.flush() == 0
