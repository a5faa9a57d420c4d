"""Queries over real gRPC: how fresh, page by page, and the log as events."""

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from controller.server.metadata_service import NAME, MetadataService
from klamm.clock import SystemClock
from klamm.errors import KlammError, UnreachableError
from klamm.ids import Epoch, Offset
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.delta import Statement
from klamm.metadata.records import StateChecksumRecord
from klamm.rpc.status import BadRequestError, CompactedError, from_call
from klamm.v1 import metadata_pb2 as pb
from klamm.v1 import records_pb2
from klamm.v1.metadata_pb2_grpc import (
    MetadataServiceStub,
    add_MetadataServiceServicer_to_server,
)
from tests.unit.server.fakes import FakeMetadata, FakeQuorum, an_image, serving

LOCAL = pb.Consistency(level=pb.CONSISTENCY_LEVEL_LOCAL)


class World:
    def __init__(self, channel: grpc.aio.Channel, quorum: FakeQuorum, data: FakeMetadata) -> None:
        self.quorum = quorum
        self.data = data
        self.stub = MetadataServiceStub(channel)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    quorum, data = FakeQuorum(), FakeMetadata()
    service = MetadataService(quorum, data, SystemClock())
    async with serving(
        NAME, lambda server: add_MetadataServiceServicer_to_server(service, server)
    ) as channel:
        yield World(channel, quorum, data)


async def refused(call: object) -> KlammError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return from_call(caught.value)


async def test_a_header_says_as_of_when_and_by_whom(world: World) -> None:
    world.quorum.elect(2)
    world.data.publish(an_image(17, topics=("a", "b"), brokers=3))
    answer = await world.stub.DescribeCluster(pb.DescribeClusterRequest(consistency=LOCAL))
    header = answer.header
    assert (header.offset, header.epoch, header.leader_id) == (17, 1, 2)
    assert (header.responder_id, header.cluster_id) == (1, "abc")
    assert [each.active for each in answer.controllers] == [False, True, False]
    assert (answer.topic_count, answer.partition_count) == (2, 4)
    assert (answer.offline_partition_count, answer.under_replicated_partition_count) == (2, 2)
    assert [each.state for each in answer.brokers] == [
        pb.BROKER_STATE_ACTIVE,
        pb.BROKER_STATE_FENCED,
        pb.BROKER_STATE_ACTIVE,
    ]
    assert [each.leader_count for each in answer.brokers] == [2, 0, 0]
    assert [each.replica_count for each in answer.brokers] == [4, 4, 0]


# ── Freshness ─────────────────────────────────────────────────────────────────────────────────────


async def test_linearizable_is_the_default_and_waits_for_the_leaders_end(world: World) -> None:
    world.quorum.index = Offset(20)
    world.data.publish(an_image(17))
    call = asyncio.ensure_future(world.stub.DescribeCluster(pb.DescribeClusterRequest()))
    await world.stub.ListBrokers(pb.ListBrokersRequest(consistency=LOCAL))
    assert not call.done()
    world.data.publish(an_image(20))
    assert (await call).header.offset == 20


async def test_linearizable_fails_without_a_leader(world: World) -> None:
    request = pb.DescribeClusterRequest()
    assert isinstance(await refused(world.stub.DescribeCluster(request)), UnreachableError)


async def test_bounded_waits_for_its_offset_and_no_longer_than_asked(world: World) -> None:
    world.data.publish(an_image(17))
    asked = pb.Consistency(level=pb.CONSISTENCY_LEVEL_BOUNDED, min_offset=18, timeout_ms=20)
    error = await refused(world.stub.ListTopics(pb.ListTopicsRequest(consistency=asked)))
    assert isinstance(error, UnreachableError)
    assert "up to offset 17, and not up to 18 within 20 ms" in str(error)
    asked.min_offset = 17
    answer = await world.stub.ListTopics(pb.ListTopicsRequest(consistency=asked))
    assert answer.header.offset == 17


@pytest.mark.parametrize(
    ("consistency", "field"),
    [
        (pb.Consistency(level=9), "consistency.level"),  # type: ignore[arg-type]
        (pb.Consistency(min_offset=-1), "consistency.min_offset"),
        (pb.Consistency(timeout_ms=60_001), "consistency.timeout_ms"),
    ],
)
async def test_a_consistency_without_sense_is_refused(
    world: World, consistency: pb.Consistency, field: str
) -> None:
    request = pb.DescribeClusterRequest(consistency=consistency)
    error = await refused(world.stub.DescribeCluster(request))
    assert isinstance(error, BadRequestError)
    assert list(error.violations) == [field]


@pytest.mark.parametrize(
    "consistency",
    [LOCAL, pb.Consistency(level=pb.CONSISTENCY_LEVEL_BOUNDED, min_offset=7), pb.Consistency()],
    ids=["local", "bounded", "linearizable"],
)
async def test_a_state_that_is_not_the_logs_answers_nobody(
    world: World, consistency: pb.Consistency
) -> None:
    """Row 14 of kraft.md 7.2: it stops serving; whoever asks goes to another controller."""
    world.data.publish(an_image(17, ("a",)))
    world.quorum.index = Offset(17)
    record = StateChecksumRecord(offset=Offset(7), checksum=1, format=CHECKSUM_FORMAT)
    world.data.agreement.disagreement = Statement(record, 2)
    for call in (
        world.stub.DescribeCluster(pb.DescribeClusterRequest(consistency=consistency)),
        world.stub.ListBrokers(pb.ListBrokersRequest(consistency=consistency)),
        world.stub.ListTopics(pb.ListTopicsRequest(consistency=consistency)),
        world.stub.DescribeTopics(pb.DescribeTopicsRequest(consistency=consistency, names=["a"])),
    ):
        error = await refused(call)
        assert isinstance(error, UnreachableError)
        assert "the state here is not the one of the log" in str(error)


# ── Pages ─────────────────────────────────────────────────────────────────────────────────────────

NAMES = ("a", "aa", "ab", "b", "ba", "c")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("prefix", ["", "a", "ab", "b", "bb", "z"])
async def test_pages_hold_each_topic_once_in_order(world: World, size: int, prefix: str) -> None:
    world.data.publish(an_image(1, topics=NAMES))
    found: list[str] = []
    token = ""
    while True:
        answer = await world.stub.ListTopics(
            pb.ListTopicsRequest(
                consistency=LOCAL, page_size=size, page_token=token, name_prefix=prefix
            )
        )
        assert len(answer.topics) <= size
        found += [each.name for each in answer.topics]
        token = answer.next_page_token
        if not token:
            break
    assert found == [each for each in NAMES if each.startswith(prefix)]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
async def test_brokers_page_by_page(world: World, size: int) -> None:
    world.data.publish(an_image(1, brokers=3))
    found: list[int] = []
    token = ""
    while True:
        answer = await world.stub.ListBrokers(
            pb.ListBrokersRequest(consistency=LOCAL, page_size=size, page_token=token)
        )
        found += [each.broker_id for each in answer.brokers]
        token = answer.next_page_token
        if not token:
            break
    assert found == [1, 2, 3]


async def test_topics_in_full_by_name(world: World) -> None:
    world.data.publish(an_image(1, topics=NAMES))
    answer = await world.stub.DescribeTopics(
        pb.DescribeTopicsRequest(consistency=LOCAL, names=["b", "nope", "a", "b"])
    )
    assert [each.name for each in answer.topics] == ["a", "b"]
    assert answer.unknown_names == ["nope"]
    assert [each.leader_id for each in answer.topics[0].partitions] == [1, -1]


async def test_pages_and_names_have_limits(world: World) -> None:
    for call in (
        world.stub.ListTopics(pb.ListTopicsRequest(page_size=1_001)),
        world.stub.ListTopics(pb.ListTopicsRequest(page_token="x" * 250)),
        world.stub.ListBrokers(pb.ListBrokersRequest(page_token="one")),
        world.stub.DescribeTopics(pb.DescribeTopicsRequest(names=["a"] * 1_001)),
        world.stub.FindController(pb.FindControllerRequest(max_wait_ms=60_001)),
    ):
        assert isinstance(await refused(call), BadRequestError)


# ── FindController ────────────────────────────────────────────────────────────────────────────────


async def test_a_later_leader_is_told_as_soon_as_it_is_known(world: World) -> None:
    world.quorum.elect(1)
    call = asyncio.ensure_future(
        world.stub.FindController(pb.FindControllerRequest(after_epoch=1, max_wait_ms=5_000))
    )
    known = await world.stub.FindController(pb.FindControllerRequest(after_epoch=-1))
    assert known.header.leader_id == 1
    assert not call.done()
    world.quorum.elect(3)
    answer = await call
    assert answer.header.leader_id == 3
    assert {each.grpc for each in answer.controllers} == {"c1:9093", "c2:9093", "c3:9093"}


# ── Watch ─────────────────────────────────────────────────────────────────────────────────────────


def a_batch(base: int, *names: str, control: bool = False) -> bytes:
    headers = (("principal", b"User:a"), ("request", b"CreateTopics"), ("request-id", b"7"))
    values = [
        records_pb2.MetadataRecord(topic=records_pb2.TopicRecord(name=name)) for name in names
    ]
    records = [
        NewRecord(value=value.SerializeToString(), headers=headers if first == 0 else ())
        for first, value in enumerate(values)
    ]
    if control:
        change = records_pb2.LeaderChangeRecord(leader_id=2)
        records = [NewRecord(key=b"\0\0\0\2", value=change.SerializeToString())]
    return build_batch(
        records, base_offset=Offset(base), leader_epoch=Epoch(4), timestamp_ms=99, control=control
    )


async def test_a_watch_sends_each_committed_record_once(world: World) -> None:
    world.quorum.commit(a_batch(0, control=True))
    world.quorum.commit(a_batch(1, "a", "b"))
    call = world.stub.Watch(pb.WatchRequest(from_offset=0))
    first = await call.read()
    assert isinstance(first, pb.WatchResponse)
    assert [each.offset for each in first.events] == [0, 1, 2]
    assert first.header.offset == 3
    assert first.events[0].leader_change.leader_id == 2
    event = first.events[1]
    assert (event.record.topic.name, event.epoch, event.timestamp_ms) == ("a", 4, 99)
    assert (event.principal, event.request, event.request_id) == ("User:a", "CreateTopics", "7")
    assert first.events[2].principal == ""
    world.quorum.commit(a_batch(3, "c"))
    second = await call.read()
    assert isinstance(second, pb.WatchResponse)
    assert [each.record.topic.name for each in second.events] == ["c"]
    call.cancel()


async def test_a_watch_may_begin_inside_a_batch(world: World) -> None:
    world.quorum.commit(a_batch(0, "a", "b", "c"))
    call = world.stub.Watch(pb.WatchRequest(from_offset=1))
    first = await call.read()
    assert isinstance(first, pb.WatchResponse)
    assert [each.record.topic.name for each in first.events] == ["b", "c"]
    call.cancel()


async def test_a_watch_says_when_nothing_happened(world: World) -> None:
    world.quorum.commit(a_batch(0, "a"))
    call = world.stub.Watch(pb.WatchRequest(from_offset=-1, progress_interval_ms=10))
    for _ in range(2):
        progress = await call.read()
        assert isinstance(progress, pb.WatchResponse)
        assert (list(progress.events), progress.header.offset) == ([], 1)
    world.quorum.commit(a_batch(1, "b"))
    names: list[str] = []
    while not names:
        answer = await call.read()
        assert isinstance(answer, pb.WatchResponse)
        names = [each.record.topic.name for each in answer.events]
    assert names == ["b"]
    call.cancel()


async def test_a_watch_of_what_is_gone_says_where_the_log_begins(world: World) -> None:
    world.quorum.commit(a_batch(5, "a"))
    world.quorum.log_start = Offset(5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.Watch(pb.WatchRequest(from_offset=2)).read()
    error = from_call(caught.value)
    assert isinstance(error, CompactedError)
    assert error.first_offset == 5
