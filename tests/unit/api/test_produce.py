"""Produce: who is answered what, and when."""

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest

from broker.api import fetch, produce
from broker.api.produce import UnacknowledgedProduceError
from broker.kafka.api import ApiKey
from broker.kafka.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ReplicaState,
)
from broker.kafka.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from klamm.errors import ErrorCode
from klamm.ids import NodeId
from tests.unit.api.worlds import (
    EPOCHS,
    ME,
    THREE,
    TOPIC,
    TOPIC_ID,
    TWO,
    Replicas,
    batch,
    context,
    partition_image,
)

VERSION = 11


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    made = Replicas(tmp_path)
    made.publish(partition_image(), configs={"min.insync.replicas": "2"})
    return made


def request(
    *records: memoryview | bytes, acks: int = -1, topic: str = TOPIC, timeout_ms: int = 1_000
) -> ProduceRequest:
    data = [PartitionProduceData(index=at, records=each) for at, each in enumerate(records)]
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[TopicProduceData(name=topic, partition_data=data)],
    )


def send(replicas: Replicas, sent: ProduceRequest, version: int = VERSION) -> Any:
    return produce.handle(replicas.services, context(ApiKey.PRODUCE, version), sent)


def row(response: ProduceResponse) -> PartitionProduceResponse:
    ((only,),) = (topic.partition_responses for topic in response.responses)
    return only


def follow(replicas: Replicas, broker: NodeId, offset: int, last_epoch: int = 1) -> Any:
    """A follower's fetch from `offset`, which acknowledges all before it."""
    asked = FetchPartition(
        partition=0,
        current_leader_epoch=replicas.manager.partition(TOPIC, 0).leader_epoch,  # type: ignore[union-attr]
        fetch_offset=offset,
        last_fetched_epoch=last_epoch if offset else -1,
        partition_max_bytes=1 << 20,
    )
    sent = FetchRequest(
        replica_state=ReplicaState(replica_id=broker, replica_epoch=EPOCHS[broker]),
        max_wait_ms=500,
        min_bytes=1,
        topics=[FetchTopic(topic_id=TOPIC_ID, partitions=[asked])],
    )
    return fetch.handle(replicas.services, context(ApiKey.FETCH, 17), sent)


def test_acks_1_is_answered_at_once(replicas: Replicas) -> None:
    first = row(send(replicas, request(batch(b"a", b"b"), acks=1)))
    second = row(send(replicas, request(batch(b"c"), acks=1)))
    assert (first.error_code, first.base_offset) == (0, 0)
    assert (second.error_code, second.base_offset) == (0, 2)
    assert first.log_append_time_ms == -1


def test_acks_0_is_not_answered(replicas: Replicas) -> None:
    assert send(replicas, request(batch(b"a"), acks=0)) is None
    with pytest.raises(UnacknowledgedProduceError):
        send(replicas, request(batch(b"a"), acks=0, topic="nowhere"))


async def test_acks_all_waits_for_the_isr(replicas: Replicas) -> None:
    waiting = send(replicas, request(batch(b"a")))
    await follow_until(replicas, TWO, 1)
    assert not waiting.done()
    await follow_until(replicas, THREE, 1)
    assert row(await waiting).base_offset == 0
    assert replicas.manager.purgatory.produces == 0


async def follow_until(replicas: Replicas, broker: NodeId, offset: int) -> None:
    parked = follow(replicas, broker, offset)
    if asyncio.isfuture(parked):
        parked.cancel()
        await asyncio.sleep(0)
    assert replicas.manager.purgatory.fetches == 0


async def test_acks_all_times_out(replicas: Replicas) -> None:
    answer = row(await send(replicas, request(batch(b"a"), timeout_ms=1)))
    assert (answer.error_code, answer.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)


async def test_a_new_leader_ends_the_wait(replicas: Replicas) -> None:
    waiting = send(replicas, request(batch(b"a")))
    replicas.publish(partition_image(leader=TWO, leader_epoch=2, partition_epoch=2))
    assert row(await waiting).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_too_few_in_sync(replicas: Replicas) -> None:
    replicas.publish(partition_image(isr=(ME,), partition_epoch=2))
    refused = row(send(replicas, request(batch(b"a"))))
    assert refused.error_code == ErrorCode.NOT_ENOUGH_REPLICAS
    assert row(send(replicas, request(batch(b"a"), acks=1))).base_offset == 0, "nothing before"


async def test_too_few_in_sync_after_the_append(replicas: Replicas) -> None:
    """The high watermark stands still, so it is not known: not a success."""
    waiting = send(replicas, request(batch(b"a"), timeout_ms=1))
    replicas.publish(partition_image(isr=(ME,), partition_epoch=2))
    await follow_until(replicas, TWO, 1)
    assert row(await waiting).error_code == ErrorCode.REQUEST_TIMED_OUT


async def test_a_retry_gets_the_first_offset(replicas: Replicas) -> None:
    def sent() -> ProduceRequest:
        records = batch(b"a", b"b", producer_id=5, producer_epoch=0, base_sequence=0)
        return request(records, acks=1)

    assert row(send(replicas, sent())).base_offset == 0
    assert row(send(replicas, sent())).base_offset == 0
    retried = send(replicas, ProduceRequest(acks=-1, timeout_ms=9, topic_data=sent().topic_data))
    await follow_until(replicas, TWO, 2)
    await follow_until(replicas, THREE, 2)
    assert row(await retried).base_offset == 0
    late = batch(b"z", producer_id=5, producer_epoch=0, base_sequence=7)
    assert row(send(replicas, request(late, acks=1))).error_code == 45
    old = batch(b"z", producer_id=5, producer_epoch=2, base_sequence=0)
    assert row(send(replicas, request(old, acks=1))).error_code == 0
    fenced = batch(b"z", producer_id=5, producer_epoch=1, base_sequence=1)
    assert row(send(replicas, request(fenced, acks=1))).error_code == 47


def damaged() -> memoryview:
    data = batch(b"value")
    data[70] ^= 1
    return data


def with_magic(magic: int) -> memoryview:
    data = batch(b"value")
    data[16] = magic
    return data


def with_count(count: int) -> memoryview:
    """The checksum is right; the batch is not."""
    from broker.replica.admission import stamp
    from klamm.log.record_batch import read_header

    data = batch(b"value")
    struct.pack_into(">i", data, 57, count)
    header = read_header(data)
    assert header is not None
    stamp(data, header, 5)
    return data


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (damaged(), ErrorCode.CORRUPT_MESSAGE),
        (batch(b"value")[:-1], ErrorCode.CORRUPT_MESSAGE),
        (batch(b"value")[:10], ErrorCode.CORRUPT_MESSAGE),
        (memoryview(bytearray()), ErrorCode.INVALID_RECORD),
        (memoryview(bytearray(batch(b"a")) + bytearray(batch(b"b"))), ErrorCode.INVALID_RECORD),
        (with_magic(1), ErrorCode.INVALID_RECORD),
        (with_magic(3), ErrorCode.INVALID_RECORD),
        (with_count(2), ErrorCode.INVALID_RECORD),
        (with_count(0), ErrorCode.INVALID_RECORD),
        (batch(b"a", control=True), ErrorCode.INVALID_RECORD),
        (batch(b"a", transactional=True, producer_id=1), ErrorCode.INVALID_TXN_STATE),
        (batch(b"a", producer_id=1, producer_epoch=0), ErrorCode.INVALID_RECORD),
        (batch(b"x" * 1_048_588), ErrorCode.MESSAGE_TOO_LARGE),
    ],
)
def test_bad_batches(replicas: Replicas, records: memoryview, code: ErrorCode) -> None:
    answer = row(send(replicas, request(records, acks=1)))
    assert (answer.error_code, answer.base_offset) == (code, -1)
    assert answer.error_message
    partition = replicas.manager.partition(TOPIC, 0)
    assert partition is not None
    assert partition.log.end_offset == 0


def test_bad_acks(replicas: Replicas) -> None:
    answer = row(send(replicas, request(batch(b"a"), acks=2)))
    assert answer.error_code == ErrorCode.INVALID_REQUIRED_ACKS


@pytest.mark.parametrize(
    ("topic", "partition", "code"),
    [
        ("nowhere", 0, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, 1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ("elsewhere", 0, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    ],
)
def test_no_such_partition(replicas: Replicas, topic: str, partition: int, code: ErrorCode) -> None:
    from uuid import UUID

    from klamm.ids import TopicId

    moved = partition_image(replicas=(TWO, THREE), leader=TWO)
    replicas.publish(moved, topic="elsewhere", topic_id=TopicId(UUID(int=9)))
    data = [PartitionProduceData(index=partition, records=batch(b"a"))]
    sent = ProduceRequest(acks=1, topic_data=[TopicProduceData(name=topic, partition_data=data)])
    assert row(send(replicas, sent)).error_code == code


def test_who_leads_instead(replicas: Replicas) -> None:
    replicas.publish(partition_image(leader=TWO, leader_epoch=4, partition_epoch=4))
    response = send(replicas, request(batch(b"a"), acks=1))
    hint = row(response).current_leader
    assert hint is not None
    assert (hint.leader_id, hint.leader_epoch) == (TWO, 4)
    ((endpoint,),) = (response.node_endpoints,)
    assert (endpoint.node_id, endpoint.host) == (TWO, "broker-2")
    assert row(send(replicas, request(batch(b"a"), acks=1), version=9)).current_leader is None


def test_the_topics_own_rules(replicas: Replicas) -> None:
    replicas.publish(partition_image(), configs={"message.timestamp.type": "LogAppendTime"})
    answer = row(send(replicas, request(batch(b"a", timestamp_ms=5), acks=1)))
    assert answer.log_append_time_ms == replicas.clock.wall_ms()
    replicas.publish(partition_image(), configs={"message.timestamp.after.max.ms": "1000"})
    ahead = batch(b"a", timestamp_ms=replicas.clock.wall_ms() + 2_000)
    assert row(send(replicas, request(ahead, acks=1))).error_code == ErrorCode.INVALID_TIMESTAMP
    replicas.publish(partition_image(), configs={"cleanup.policy": "compact"})
    answer = row(send(replicas, request(batch(b"keyless"), acks=1)))
    assert answer.error_code == ErrorCode.INVALID_RECORD
    assert answer.record_errors
