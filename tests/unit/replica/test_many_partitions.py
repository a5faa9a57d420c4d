"""A broker with many partitions stops, and drops them, without a sync for each of them in turn.

With a disk that takes 5 ms a sync, four hundred empty partitions took 16 s to stop, and the loop
stood still for as long when their topic was deleted.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import UUID

from broker.replica.storage import PartitionStorage, Stored
from broker.replica.unmade import MADE_AT_ONCE, MADE_IN_A_TURN
from klamm.clock import SystemClock
from klamm.config.topic import TopicConfig
from klamm.errors import ErrorCode
from klamm.ids import Offset, TopicId, TopicPartition
from klamm.log.files import SystemFile, SystemFiles
from tests.sim.disk import SimFiles
from tests.unit.api.worlds import THREE, TWO, Replicas, batch, partition_image

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


async def test_thousands_of_new_partitions_leave_others_their_turn(tmp_path: Path) -> None:
    """Five thousand on a busy machine stopped the loop for three seconds."""
    replicas = Replicas(tmp_path)
    manager = replicas.manager
    replicas.publish()
    before = len(manager)
    count = 10 * MADE_AT_ONCE
    replicas.publish(*map(partition_image, range(count)))
    assert len(manager) - before == MADE_AT_ONCE
    last = TopicPartition("orders", count - 1)
    assert manager.partition("orders", count - 1) is None
    assert manager.absence(last).code is ErrorCode.NOT_LEADER_OR_FOLLOWER, "clients try again"
    making = asyncio.create_task(manager._unmade.run())
    turns = 0
    async with asyncio.timeout(DEADLINE_S):
        while len(manager) < count:
            turns += 1
            await asyncio.sleep(0)
    assert turns >= (count - MADE_AT_ONCE) // MADE_IN_A_TURN
    found = manager.partition("orders", count - 1)
    assert found is not None
    assert found.leader is not None
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)


def test_what_is_made_later_is_as_it_is_to_be_by_then(tmp_path: Path) -> None:
    """Led by another, moved away, in a later epoch; or its topic is gone."""
    replicas = Replicas(tmp_path)
    manager = replicas.manager
    replicas.publish()
    count = MADE_AT_ONCE + 6
    images = [*map(partition_image, range(count))]
    replicas.publish(*images)
    assert list(manager._unmade._names) == [
        TopicPartition("orders", each) for each in range(MADE_AT_ONCE, count)
    ]
    images[-1] = partition_image(count - 1, leader=TWO, leader_epoch=2)
    images[-2] = partition_image(count - 2, replicas=(TWO, THREE), leader=TWO, leader_epoch=2)
    images[-3] = partition_image(count - 3, leader_epoch=3)
    # So few that are new are made at once; who has a turn still finds them made.
    replicas.publish(*images)
    while manager._unmade:
        manager._unmade.make_some()
    made = [manager.partition("orders", each) for each in range(count - 3, count)]
    assert made[0] is not None
    assert made[0].leader_epoch == 3
    assert made[1] is None
    assert made[2] is not None
    assert made[2].follower is not None
    replicas.remove()
    assert not len(manager)


def test_what_was_to_be_made_later_and_is_gone_is_not_made(tmp_path: Path) -> None:
    replicas = Replicas(tmp_path)
    replicas.publish()
    replicas.publish(*map(partition_image, range(MADE_AT_ONCE + 3)))
    replicas.remove()
    while replicas.manager._unmade:
        replicas.manager._unmade.make_some()
    assert not len(replicas.manager)
    assert not [each for each in tmp_path.iterdir() if not each.name.endswith("-delete")]
