"""Fetch: what is visible to whom, what is waited for, and what is told at once."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from broker.api import fetch
from broker.kafka.api import ApiKey
from broker.kafka.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
    ReplicaState,
)
from broker.replica.partition import Partition
from klamm.errors import ErrorCode
from klamm.log.record_batch import iter_batches
from tests.unit.api.worlds import (
    EPOCHS,
    ME,
    TOPIC,
    TOPIC_ID,
    TWO,
    Replicas,
    batch,
    context,
    partition_image,
)


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    """Alone with TWO in the ISR; three batches, of which TWO has acknowledged two."""
    made = Replicas(tmp_path)
    made.publish(partition_image(replicas=(ME, TWO)))
    for value in (b"a", b"b", b"c"):
        leading(made).append_as_leader(batch(value), needs_in_sync=False)
    ask(made, 2, replica=True, last_epoch=1, wait_ms=0)
    assert leading(made).high_watermark == 2
    return made


def leading(replicas: Replicas) -> Partition:
    partition = replicas.manager.partition(TOPIC, 0)
    assert partition is not None
    return partition


def ask(
    replicas: Replicas,
    offset: int,
    *,
    version: int = 17,
    replica: bool = False,
    epoch: int = -1,
    last_epoch: int = -1,
    wait_ms: int = 60_000,
    min_bytes: int = 1,
    max_bytes: int = 1 << 20,
    topic: str = TOPIC,
    topic_id: UUID = TOPIC_ID,
    **more: Any,
) -> Any:
    asked = FetchPartition(
        partition=0,
        current_leader_epoch=epoch,
        fetch_offset=offset,
        last_fetched_epoch=last_epoch,
        partition_max_bytes=max_bytes,
    )
    request = FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=min_bytes,
        topics=[FetchTopic(topic=topic, topic_id=topic_id, partitions=[asked])],
        **more,
    )
    if replica:
        request.replica_state = ReplicaState(replica_id=TWO, replica_epoch=EPOCHS[TWO])
    return fetch.handle(replicas.services, context(ApiKey.FETCH, version), request)


def row(response: FetchResponse) -> PartitionData:
    ((only,),) = (topic.partitions for topic in response.responses)
    return only


def offsets(response: FetchResponse) -> list[int]:
    records = row(response).records
    assert isinstance(records, bytes | memoryview)
    return [header.base_offset for header, _ in iter_batches(records)]


def test_consumers_see_what_is_committed(replicas: Replicas) -> None:
    response = ask(replicas, 0)
    assert offsets(response) == [0, 1]
    only = row(response)
    assert (only.high_watermark, only.last_stable_offset, only.log_start_offset) == (2, 2, 0)
    assert response.session_id == 0


def test_followers_see_everything(replicas: Replicas) -> None:
    assert offsets(ask(replicas, 1, replica=True, last_epoch=1)) == [1, 2]


def test_between_high_watermark_and_end_there_is_nothing(replicas: Replicas) -> None:
    response = ask(replicas, 3, wait_ms=0)
    assert (row(response).error_code, offsets(response)) == (0, [])


def test_one_batch_always_gets_through(replicas: Replicas) -> None:
    assert offsets(ask(replicas, 0, max_bytes=1)) == [0]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"offset": 4}, ErrorCode.OFFSET_OUT_OF_RANGE),
        ({"offset": -1}, ErrorCode.OFFSET_OUT_OF_RANGE),
        ({"offset": 0, "epoch": 0}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"offset": 0, "epoch": 2}, ErrorCode.UNKNOWN_LEADER_EPOCH),
        ({"offset": 0, "epoch": 1}, ErrorCode.NONE),
        ({"offset": 0, "topic_id": UUID(int=1)}, ErrorCode.UNKNOWN_TOPIC_ID),
        ({"offset": 0, "version": 12, "topic": "no"}, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        ({"offset": 0, "version": 12}, ErrorCode.NONE),
    ],
)
def test_errors_are_told_at_once(
    replicas: Replicas, asked: dict[str, Any], code: ErrorCode
) -> None:
    response = ask(replicas, **asked)
    assert isinstance(response, FetchResponse)
    assert row(response).error_code == code


def test_an_unknown_session_is_refused(replicas: Replicas) -> None:
    response = ask(replicas, 0, session_id=7, session_epoch=3)
    assert response.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_divergence_is_told_at_once(replicas: Replicas) -> None:
    """A follower with records of epoch 1 that this leader never had, and one of epoch 0."""
    for last_epoch, offset, epoch, end in ((1, 9, 1, 3), (0, 2, 0, 0)):
        diverging = row(ask(replicas, offset, replica=True, last_epoch=last_epoch)).diverging_epoch
        assert diverging is not None
        assert (diverging.epoch, diverging.end_offset) == (epoch, end)
    assert leading(replicas).high_watermark == 2, "it has acknowledged nothing"


def test_who_leads_instead(replicas: Replicas) -> None:
    replicas.publish(
        partition_image(leader=TWO, leader_epoch=2, partition_epoch=2, replicas=(ME, TWO))
    )
    response = ask(replicas, 0)
    hint = row(response).current_leader
    assert row(response).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert hint is not None
    assert (hint.leader_id, hint.leader_epoch) == (TWO, 2)
    assert [each.host for each in response.node_endpoints] == ["broker-2"]


async def test_a_consumer_waits_for_the_commit(replicas: Replicas) -> None:
    waiting = ask(replicas, 2)
    ask(replicas, 3, replica=True, last_epoch=1, wait_ms=0)
    assert offsets(await waiting) == [2]
    assert replicas.manager.purgatory.fetches == 0
    assert leading(replicas).watchers == {}


async def test_a_follower_waits_for_an_append(replicas: Replicas) -> None:
    waiting = ask(replicas, 3, replica=True, last_epoch=1)
    for value in (b"d", b"e"):
        leading(replicas).append_as_leader(batch(value), needs_in_sync=False)
    assert offsets(await waiting) == [3, 4], "what arrives together leaves together"


async def test_bytes_are_counted_as_they_are_committed(replicas: Replicas) -> None:
    size = len(batch(b"c"))
    waiting = ask(replicas, 2, min_bytes=3 * size)
    ask(replicas, 3, replica=True, last_epoch=1, wait_ms=0)
    for value in (b"d", b"e"):
        leading(replicas).append_as_leader(batch(value), needs_in_sync=False)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done(), "appended, but not committed"
    ask(replicas, 5, replica=True, last_epoch=1, wait_ms=0)
    assert offsets(await waiting) == [2, 3, 4]


async def test_the_deadline_answers_with_what_there_is(replicas: Replicas) -> None:
    response = await ask(replicas, 1, min_bytes=10_000, wait_ms=1)
    assert offsets(response) == [1]


async def test_a_change_of_leader_ends_the_wait(replicas: Replicas) -> None:
    waiting = ask(replicas, 2)
    replicas.publish(
        partition_image(leader=TWO, leader_epoch=2, partition_epoch=2, replicas=(ME, TWO))
    )
    assert row(await waiting).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_a_connection_that_is_gone_leaves_nothing_behind(replicas: Replicas) -> None:
    for _ in range(1_000):
        ask(replicas, 2).cancel()
    await asyncio.sleep(0)
    assert (replicas.manager.purgatory.fetches, leading(replicas).watchers) == (0, {})
