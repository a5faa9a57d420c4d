"""Scenarios 34 and 42, of a broker: a full disk, or no open file left, takes no partition offline.

It was offline until the broker's next start; now it refuses, and goes on when there is room.
"""

import errno
from pathlib import Path

import pytest

from broker.replica.exchange import NO_ROOM_MS
from broker.replica.follower import FetchAnswer
from broker.replica.partition import Partition
from broker.replica.storage import PartitionStorage
from klamm.errors import ApiError, ErrorCode
from klamm.ids import Epoch, Offset, TopicPartition
from klamm.log.record_batch import assign_offsets
from tests.sim.disk import SimFiles
from tests.unit.api.worlds import ME, TOPIC, TWO, Replicas, batch, partition_image

SHORT = pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE])


@pytest.fixture
def files() -> SimFiles:
    return SimFiles()


@pytest.fixture
def replicas(tmp_path: Path, files: SimFiles) -> Replicas:
    it = Replicas(tmp_path)
    files.make_directory(tmp_path)
    it.manager._storage = PartitionStorage(files, tmp_path, it.clock)
    return it


def the_one(replicas: Replicas) -> Partition:
    found = replicas.manager.partition(TOPIC, 0)
    assert found is not None
    return found


def refused(partition: Partition) -> None:
    with pytest.raises(ApiError) as caught:
        partition.append_as_leader(batch(b"too much"), needs_in_sync=False)
    assert caught.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert partition.offline is None


@SHORT
def test_a_leader_refuses_and_goes_on(replicas: Replicas, files: SimFiles, code: int) -> None:
    replicas.publish(partition_image(replicas=(ME,)))
    leads = the_one(replicas)
    leads.append_as_leader(batch(b"first"), needs_in_sync=False)
    files.fail("append", code, once=False)
    refused(leads)
    assert replicas.manager.no_room()
    files.heal()
    replicas.clock.now_ms += NO_ROOM_MS
    assert not replicas.manager.no_room()
    done = leads.append_as_leader(batch(b"second"), needs_in_sync=False)
    assert (done.base_offset, leads.high_watermark) == (1, 2)


@SHORT
def test_a_follower_waits_and_goes_on(replicas: Replicas, files: SimFiles, code: int) -> None:
    replicas.publish(partition_image(leader=TWO))
    follows = the_one(replicas)
    position = follows.fetch_position()
    assert position is not None
    records = batch(b"first")
    assign_offsets(records, Offset(0), Epoch(1))
    answer = FetchAnswer(position=position, has_records=True, high_watermark=Offset(1))
    files.fail("append", code, once=False)
    assert follows.on_fetch_answered(answer, records) is ErrorCode.KAFKA_STORAGE_ERROR
    assert follows.fetch_position() == position, "it asks again"
    assert replicas.manager.no_room()
    files.heal()
    assert follows.on_fetch_answered(answer, records) is ErrorCode.NONE
    assert (follows.log.end_offset, follows.high_watermark) == (1, 1)


@SHORT
@pytest.mark.parametrize("operation", ["open", "append"])
@pytest.mark.parametrize("after", range(2))
def test_a_new_partition_waits_for_room(
    replicas: Replicas, files: SimFiles, operation: str, code: int, after: int
) -> None:
    """Nothing is left of the attempts; a person would have to look at it."""
    files.fail(operation, code, after=after, once=False)
    replicas.publish(partition_image(0, replicas=(ME,)), partition_image(1, replicas=(ME,)))
    assert replicas.manager.no_room()
    last = TopicPartition(TOPIC, 1)
    assert replicas.manager.partition(TOPIC, 1) is None
    assert replicas.manager.absence(last).code is ErrorCode.KAFKA_STORAGE_ERROR
    for _ in range(3):
        replicas.manager._unmade.look_for_room()
        replicas.manager._unmade.make_some()
    files.heal()
    replicas.manager._unmade.look_for_room()
    replicas.manager._unmade.make_some()
    for index in range(2):
        found = replicas.manager.partition(TOPIC, index)
        assert found is not None
        assert found.append_as_leader(batch(b"first"), needs_in_sync=False).base_offset == 0
    assert not replicas.manager._unmade._waiting
    assert {each.parent.name for each in files.snapshot()} == {"orders-0", "orders-1"}


def test_what_cannot_be_flushed_is_not_acknowledged(replicas: Replicas, files: SimFiles) -> None:
    """`flush.messages`; the next record has both made durable."""
    replicas.publish(partition_image(replicas=(ME,)), configs={"flush.messages": "1"})
    leads = the_one(replicas)
    files.fail("sync_directory", errno.EMFILE, once=False)
    refused(leads)
    files.heal()
    assert leads.append_as_leader(batch(b"second"), needs_in_sync=False).base_offset == 1
    assert leads.log._durable_end == 2


async def test_a_flush_in_the_background_is_tried_again(
    replicas: Replicas, files: SimFiles
) -> None:
    """`flush.ms`."""
    replicas.publish(partition_image(replicas=(ME,)), configs={"flush.ms": "10"})
    leads = the_one(replicas)
    leads.append_as_leader(batch(b"first"), needs_in_sync=False)
    now_ms = replicas.clock.monotonic_ms() + 10
    assert leads.takes_flush(now_ms)
    files.fail("sync_directory", errno.EMFILE, once=False)
    await replicas.manager._flush(leads)
    files.heal()
    assert leads.offline is None
    assert leads.takes_flush(now_ms)
    assert not leads.takes_flush(now_ms)
