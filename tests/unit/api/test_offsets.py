"""ListOffsets and OffsetForLeaderEpoch."""

from pathlib import Path
from typing import Any

import pytest

from broker.api import list_offsets, offset_for_leader_epoch
from broker.kafka.api import ApiKey
from broker.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from broker.kafka.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from klamm.errors import ErrorCode
from tests.unit.api.worlds import ME, TOPIC, TWO, Replicas, batch, context, partition_image


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    """Epoch 1 has offsets 0 and 1, epoch 3 has 2; all is committed."""
    made = Replicas(tmp_path)
    for epoch, times in ((1, (100, 300)), (3, (200,))):
        made.publish(partition_image(replicas=(ME,), leader_epoch=epoch, partition_epoch=epoch))
        for time_ms in times:
            partition = made.manager.partition(TOPIC, 0)
            assert partition is not None
            partition.append_as_leader(batch(b"x", timestamp_ms=time_ms), needs_in_sync=True)
    return made


def find(
    replicas: Replicas, timestamp: int, *, version: int = 9, epoch: int = -1, topic: str = TOPIC
) -> ListOffsetsPartitionResponse:
    asked = ListOffsetsPartition(partition_index=0, current_leader_epoch=epoch, timestamp=timestamp)
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])]
    )
    response = list_offsets.handle(
        replicas.services, context(ApiKey.LIST_OFFSETS, version), request
    )
    ((row,),) = (each.partitions for each in response.topics)
    return row


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (-1, (3, -1, 3)),
        (-2, (0, -1, 1)),
        (-3, (1, 300, 1)),
        (-4, (0, -1, 1)),
        (-5, (-1, -1, -1)),
        (0, (0, 100, 1)),
        (100, (0, 100, 1)),
        (101, (1, 300, 1)),
        (301, (-1, -1, -1)),
    ],
)
def test_offsets(replicas: Replicas, timestamp: int, expected: tuple[int, int, int]) -> None:
    row = find(replicas, timestamp)
    assert row.error_code == 0
    assert (row.offset, row.timestamp, row.leader_epoch) == expected


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"timestamp": -1, "epoch": 2}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"timestamp": -1, "epoch": 4}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ({"timestamp": -1, "topic": "no"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"timestamp": -6}, ErrorCode.UNSUPPORTED_VERSION),
        ({"timestamp": -3, "version": 6}, ErrorCode.UNSUPPORTED_VERSION),
    ],
)
def test_refusals(replicas: Replicas, asked: dict[str, Any], code: ErrorCode) -> None:
    assert find(replicas, **asked).error_code == code


def test_a_new_leader_does_not_go_back(replicas: Replicas) -> None:
    """Its high watermark may be less than its predecessor's for a while (KIP-207)."""
    partition = replicas.manager.partition(TOPIC, 0)
    assert partition is not None
    two = (ME, TWO)
    replicas.publish(partition_image(leader_epoch=4, partition_epoch=4, replicas=two))
    partition.append_as_leader(batch(b"y", timestamp_ms=400), needs_in_sync=False)
    replicas.publish(partition_image(leader_epoch=5, partition_epoch=5, replicas=two))
    assert find(replicas, -1).error_code == ErrorCode.OFFSET_NOT_AVAILABLE
    assert find(replicas, -1, version=4).error_code == ErrorCode.LEADER_NOT_AVAILABLE
    assert find(replicas, -2).offset == 0


def test_what_is_not_committed_is_not_told_of(replicas: Replicas) -> None:
    two = (ME, TWO)
    replicas.publish(partition_image(leader_epoch=4, partition_epoch=4, replicas=two))
    partition = replicas.manager.partition(TOPIC, 0)
    assert partition is not None
    partition.append_as_leader(batch(b"y", timestamp_ms=999), needs_in_sync=False)
    assert find(replicas, 500).offset == -1
    assert find(replicas, -1).offset == 3


@pytest.mark.parametrize(
    ("epoch", "end"),
    [
        (1, (1, 2)),
        (2, (1, 2)),
        (3, (3, 3)),
        (0, (0, 0)),
        (4, (-1, -1)),
        (-1, (-1, -1)),
    ],
)
def test_epoch_ends(replicas: Replicas, epoch: int, end: tuple[int, int]) -> None:
    row = end_of(replicas, epoch)
    assert (row.error_code, row.leader_epoch, row.end_offset) == (0, *end)


def test_the_leaders_own_epoch_ends_at_the_end(replicas: Replicas) -> None:
    replicas.publish(partition_image(replicas=(ME,), leader_epoch=9, partition_epoch=9))
    row = end_of(replicas, 9)
    assert (row.leader_epoch, row.end_offset) == (9, 3)


def end_of(replicas: Replicas, epoch: int) -> EpochEndOffset:
    asked = OffsetForLeaderPartition(partition=0, current_leader_epoch=-1, leader_epoch=epoch)
    request = OffsetForLeaderEpochRequest(
        replica_id=-1, topics=[OffsetForLeaderTopic(topic=TOPIC, partitions=[asked])]
    )
    response = offset_for_leader_epoch.handle(
        replicas.services, context(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4), request
    )
    ((row,),) = (each.partitions for each in response.topics)
    return row
