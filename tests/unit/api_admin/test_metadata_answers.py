"""Metadata: from the image, of the listener that the client came in on."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from broker.api import metadata
from broker.api.auto_create import AutoCreation
from broker.api.context import Encoded, RequestContext
from broker.kafka import codec
from broker.kafka.api import APIS, ApiKey
from broker.kafka.errors import MalformedFrameError
from broker.kafka.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)
from klamm.errors import ApiError, ErrorCode, UnreachableError
from klamm.ids import NO_NODE, NodeId, Offset, TopicId
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    NewPartition,
    PartitionChange,
    PartitionChangeRecord,
    PartitionRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from tests.unit.api_admin.one_broker import ME, OneBroker

TWO, THREE = NodeId(2), NodeId(3)
LATEST = APIS[ApiKey.METADATA].max_version
EVERY = range(LATEST + 1)
ORDERS = TopicId(UUID(int=1))


@pytest.fixture
def broker(tmp_path: Path) -> OneBroker:
    """Three brokers; the third is not on the listener HOST."""
    made = OneBroker(tmp_path)
    made.metadata.publishers.clear()
    made.register(ME, ("PLAINTEXT", 1), ("HOST", 11))
    made.register(TWO, ("PLAINTEXT", 2), ("HOST", 12))
    made.register(THREE, ("PLAINTEXT", 3))
    return made


class Asker:
    def __init__(self, broker: OneBroker) -> None:
        self.broker = broker
        self.handle: Callable[..., Any] = metadata.handler()

    async def ask(
        self,
        request: MetadataRequest,
        version: int = LATEST,
        listener: str = "PLAINTEXT",
    ) -> MetadataResponse:
        """Through the codec, both ways: a version has only the fields that it has."""
        body = b"".join(codec.encode_request(ApiKey.METADATA, version, request))
        read = codec.decode_request(ApiKey.METADATA, version, memoryview(body))
        context = RequestContext(
            api_key=ApiKey.METADATA,
            api_version=version,
            client_id="test",
            principal="User:ANONYMOUS",
            listener=listener,
            client_host="127.0.0.1",
        )
        answer = self.handle(self.broker.services, context, read)
        if not isinstance(answer, Encoded):
            answer = await answer
        written = memoryview(b"".join(answer.body))
        response = codec.decode_response(ApiKey.METADATA, version, written)
        assert isinstance(response, MetadataResponse)
        return response


@pytest.fixture
def asker(broker: OneBroker) -> Asker:
    return Asker(broker)


def add(broker: OneBroker, name: str, *partitions: NewPartition, id_: int = 1) -> None:
    topic_id = TopicId(UUID(int=id_))
    rows = partitions or (partition(),)
    broker.metadata.write(
        TopicRecord(topic_id=topic_id, name=name),
        PartitionRecord(topic_id=topic_id, partitions=rows),
    )


def partition(
    number: int = 0,
    leader: NodeId = ME,
    replicas: tuple[NodeId, ...] = (ME, TWO, THREE),
) -> NewPartition:
    return NewPartition(partition=number, replicas=replicas, isr=replicas, leader=leader)


def fence(broker: OneBroker, broker_id: NodeId) -> None:
    epoch: Offset = broker.metadata.image.brokers[broker_id].broker_epoch
    broker.metadata.write(
        BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=epoch, fenced=True)
    )


def by_name(*names: str, create: bool = False) -> MetadataRequest:
    topics = [MetadataRequestTopic(name=each) for each in names]
    return MetadataRequest(topics=topics, allow_auto_topic_creation=create)


def names(response: MetadataResponse) -> list[str | None]:
    return [each.name for each in response.topics]


ALL = MetadataRequest(topics=None)
NONE = MetadataRequest(topics=[])


class TestWhichTopics:
    @pytest.mark.parametrize("version", range(1, LATEST + 1))
    async def test_null_is_all_and_empty_is_none(self, asker: Asker, version: int) -> None:
        add(asker.broker, "b", id_=1)
        add(asker.broker, "a", id_=2)
        assert names(await asker.ask(ALL, version)) == ["a", "b"]
        assert names(await asker.ask(NONE, version)) == []

    async def test_empty_is_all_in_version_0(self, asker: Asker) -> None:
        add(asker.broker, "a")
        assert names(await asker.ask(NONE, 0)) == ["a"]

    @pytest.mark.parametrize("version", range(4, LATEST + 1))
    async def test_names_in_the_order_asked_each_once(self, asker: Asker, version: int) -> None:
        add(asker.broker, "a")
        response = await asker.ask(by_name("nope", "a", "b d", "a", ".."), version)
        assert [(each.name, each.error_code) for each in response.topics] == [
            ("nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
            ("a", ErrorCode.NONE),
            ("b d", ErrorCode.INVALID_TOPIC_EXCEPTION),
            ("..", ErrorCode.INVALID_TOPIC_EXCEPTION),
        ]

    @pytest.mark.parametrize("version", [12, 13])
    async def test_by_id(self, asker: Asker, version: int) -> None:
        add(asker.broker, "a", id_=7)
        rows = [MetadataRequestTopic(topic_id=UUID(int=each), name=None) for each in (7, 8)]
        known, unknown = (await asker.ask(MetadataRequest(topics=rows), version)).topics
        assert (known.name, known.topic_id, known.error_code) == ("a", UUID(int=7), 0)
        assert (unknown.name, unknown.topic_id) == (None, UUID(int=8))
        assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_ID

    @pytest.mark.parametrize("version", [10, 11])
    async def test_not_by_id_before_version_12(self, asker: Asker, version: int) -> None:
        rows = [MetadataRequestTopic(topic_id=UUID(int=7), name=None)]
        with pytest.raises(ApiError, match="INVALID_REQUEST"):
            await asker.ask(MetadataRequest(topics=rows), version)

    @pytest.mark.parametrize(
        ("count", "says"), [(50_001, "50001 topics are over 50000"), (1_000_000, "elements")]
    )
    async def test_too_many_topics_are_refused(self, asker: Asker, count: int, says: str) -> None:
        rows = [MetadataRequestTopic(name="x")] * count
        with pytest.raises(MalformedFrameError, match=says):
            await asker.ask(MetadataRequest(topics=rows), 4)

    async def test_internal_topics_are_marked(self, asker: Asker) -> None:
        add(asker.broker, "__consumer_offsets")
        (row,) = (await asker.ask(ALL)).topics
        assert row.is_internal


class TestBrokersAndPartitions:
    async def test_each_listener_is_told_its_own_ports(self, asker: Asker) -> None:
        inside = await asker.ask(NONE)
        assert [(each.node_id, each.port) for each in inside.brokers] == [(1, 1), (2, 2), (3, 3)]
        outside = await asker.ask(NONE, listener="HOST")
        assert [(each.node_id, each.port) for each in outside.brokers] == [(1, 11), (2, 12)]
        assert (inside.cluster_id, inside.controller_id) == ("test-cluster", ME)

    async def test_fenced_brokers_are_not_told(self, asker: Asker) -> None:
        await asker.ask(NONE)
        fence(asker.broker, ME)
        response = await asker.ask(NONE)
        assert [each.node_id for each in response.brokers] == [TWO, THREE]
        assert response.controller_id == TWO
        fence(asker.broker, TWO)
        fence(asker.broker, THREE)
        assert (await asker.ask(NONE)).controller_id == NO_NODE

    @pytest.mark.parametrize("version", EVERY)
    async def test_replicas_that_are_away(self, asker: Asker, version: int) -> None:
        add(asker.broker, "a")
        fence(asker.broker, THREE)
        (row,) = (await asker.ask(NONE if version == 0 else ALL, version)).topics[0].partitions
        if version == 0:
            assert row.error_code == ErrorCode.REPLICA_NOT_AVAILABLE
            assert row.replica_nodes == row.isr_nodes == [ME, TWO]
        else:
            assert row.error_code == ErrorCode.NONE
            assert row.replica_nodes == [ME, TWO, THREE]
            assert row.offline_replicas == ([THREE] if version >= 5 else [])
        assert (row.leader_id, row.leader_epoch) == (ME, 0 if version >= 7 else -1)

    @pytest.mark.parametrize("version", EVERY)
    async def test_nobody_leads(self, asker: Asker, version: int) -> None:
        add(asker.broker, "a", partition(leader=NO_NODE))
        (row,) = (await asker.ask(NONE if version == 0 else ALL, version)).topics[0].partitions
        assert (row.error_code, row.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, NO_NODE)

    @pytest.mark.parametrize(
        ("version", "code"),
        [(5, ErrorCode.LEADER_NOT_AVAILABLE), (6, ErrorCode.LISTENER_NOT_FOUND)],
    )
    async def test_the_leader_is_not_on_this_listener(
        self, asker: Asker, version: int, code: ErrorCode
    ) -> None:
        add(asker.broker, "a", partition(leader=THREE))
        (row,) = (await asker.ask(ALL, version, "HOST")).topics[0].partitions
        assert (row.error_code, row.leader_id, row.offline_replicas) == (code, NO_NODE, [THREE])


class TestWhatIsKept:
    """A cached piece is good until the image says otherwise."""

    async def test_a_new_leader_is_told(self, asker: Asker) -> None:
        add(asker.broker, "a")
        assert (await asker.ask(ALL)).topics[0].partitions[0].leader_id == ME
        change = PartitionChange(partition=0, leader=TWO)
        asker.broker.metadata.write(PartitionChangeRecord(topic_id=ORDERS, changes=(change,)))
        for request in (ALL, by_name("a")):
            (row,) = (await asker.ask(request)).topics[0].partitions
            assert (row.leader_id, row.leader_epoch) == (TWO, 1)

    async def test_a_topic_that_is_made_again_has_its_new_id(self, asker: Asker) -> None:
        add(asker.broker, "a")
        await asker.ask(ALL)
        asker.broker.metadata.write(RemoveTopicRecord(topic_id=ORDERS))
        assert names(await asker.ask(ALL)) == []
        add(asker.broker, "a", id_=2)
        for request in (ALL, by_name("a")):
            assert [each.topic_id for each in (await asker.ask(request)).topics] == [UUID(int=2)]

    async def test_versions_and_listeners_are_kept_apart(self, asker: Asker) -> None:
        add(asker.broker, "a")
        for _ in range(2):
            for version in range(1, LATEST + 1):
                for listener, port in (("PLAINTEXT", 1), ("HOST", 11)):
                    response = await asker.ask(ALL, version, listener)
                    assert response.brokers[0].port == port
                    assert names(response) == ["a"]


class TestAutoCreation:
    async def test_it_is_made_and_told_at_once(self, asker: Asker) -> None:
        response = await asker.ask(by_name("new", create=True))
        assert [(each.name, each.error_code) for each in response.topics] == [("new", 0)]
        (request,) = asker.broker.controllers.asked
        assert (request.topics[0].num_partitions, request.topics[0].replication_factor) == (1, 1)

    @pytest.mark.parametrize("version", range(4))
    async def test_clients_that_cannot_say_want_it(self, asker: Asker, version: int) -> None:
        assert names(await asker.ask(by_name("new"), version)) == ["new"]
        assert asker.broker.controllers.asked

    async def test_not_where_the_client_does_not_want_it(self, asker: Asker) -> None:
        response = await asker.ask(by_name("new", create=False))
        assert response.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert not asker.broker.controllers.asked

    async def test_not_where_the_broker_does_not(self, tmp_path: Path) -> None:
        asker = Asker(OneBroker(tmp_path, auto_create_topics_enable="false"))
        response = await asker.ask(by_name("new", create=True))
        assert response.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    @pytest.mark.parametrize("name", ["a b", "..", "", "x" * 250, "__consumer_offsets"])
    async def test_not_under_any_name(self, asker: Asker, name: str) -> None:
        response = await asker.ask(by_name(name, create=True))
        assert response.topics[0].error_code != ErrorCode.NONE
        assert not asker.broker.controllers.asked

    async def test_two_that_ask_make_it_once(self, asker: Asker) -> None:
        asker.broker.controllers.gate = asyncio.Event()
        both = [asyncio.create_task(asker.ask(by_name("new", create=True))) for _ in range(2)]
        while not asker.broker.controllers.asked:
            await asyncio.sleep(0)
        asker.broker.controllers.gate.set()
        for each in await asyncio.gather(*both):
            assert each.topics[0].error_code == ErrorCode.NONE
        assert len(asker.broker.controllers.asked) == 1

    async def test_while_it_takes_time_the_client_shall_ask_again(self, asker: Asker) -> None:
        asker.handle = metadata.handler(AutoCreation(answer_wait_ms=10))
        asker.broker.controllers.gate = asyncio.Event()
        row = await first_row(asker)
        assert row.error_code == ErrorCode.LEADER_NOT_AVAILABLE
        asker.broker.controllers.gate.set()
        assert (await first_row(asker)).error_code == ErrorCode.NONE

    async def test_without_controllers_the_client_shall_ask_again(self, asker: Asker) -> None:
        asker.broker.controllers.failure = UnreachableError("none")
        assert (await first_row(asker)).error_code == ErrorCode.LEADER_NOT_AVAILABLE

    async def test_a_final_refusal_is_told(self, asker: Asker) -> None:
        asker.broker.controllers.failure = ApiError(ErrorCode.POLICY_VIOLATION, "no")
        code = (await first_row(asker)).error_code
        assert code == ErrorCode.POLICY_VIOLATION


async def first_row(asker: Asker) -> MetadataResponseTopic:
    return (await asker.ask(by_name("new", create=True))).topics[0]
