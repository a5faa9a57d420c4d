"""AdminService and ControllerService over real gRPC: the door, rows, how a call ends, sessions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import grpc.aio
import pytest

from controller.active import Standing
from controller.plan.configs import AlterResult, Operation
from controller.plan.isr import IsrResult
from controller.plan.producer_ids import Block
from controller.plan.topics import CreateResult, DeleteResult
from controller.server.admin_service import AdminService
from controller.server.controller_service import ControllerService
from controller.server.refusals import Refusals
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    ErrorCode,
    KlammError,
    NotControllerError,
    OverloadedError,
)
from klamm.ids import Epoch, NodeId, Offset, TopicId
from klamm.metadata.records import ResourceType
from klamm.rpc.status import BadRequestError, HintedNotControllerError, from_call
from klamm.v1 import admin_pb2, controller_pb2, records_pb2
from klamm.v1.admin_pb2_grpc import AdminServiceStub, add_AdminServiceServicer_to_server
from klamm.v1.controller_pb2_grpc import (
    ControllerServiceStub,
    add_ControllerServiceServicer_to_server,
)
from tests.unit.server.fakes import FakeQuorum, serving

TOPIC = TopicId(UUID(int=9))
ID = b"0123456789abcdef"


class FakeActive:
    """Answers each call with what the test has put there, or raises it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Any = None
        self.closed: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        async def call(*given: Any, **named: Any) -> Any:
            self.asked.append((name, *given, named))
            if isinstance(self.answer, KlammError):
                raise self.answer
            return self.answer

        return call

    def open_session(self, broker_id: NodeId, broker_epoch: Offset) -> int:
        self.asked.append(("open_session", broker_id, broker_epoch))
        return 5

    def close_session(self, broker_id: NodeId, stream: int) -> None:
        self.closed.append((broker_id, stream))


class World:
    def __init__(self, channel: grpc.aio.Channel, active: FakeActive, quorum: FakeQuorum) -> None:
        self.active = active
        self.quorum = quorum
        self.admin = AdminServiceStub(channel)
        self.control = ControllerServiceStub(channel)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    active, quorum = FakeActive(), FakeQuorum()
    refusals = Refusals(quorum)
    admin = AdminService(active, quorum, None, None, refusals)  # type: ignore[arg-type]
    control = ControllerService(active, quorum, refusals)  # type: ignore[arg-type]

    def register(server: grpc.aio.Server) -> None:
        add_AdminServiceServicer_to_server(admin, server)
        add_ControllerServiceServicer_to_server(control, server)

    async with serving("both", register) as channel:
        yield World(channel, active, quorum)


async def refused(call: Any) -> KlammError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_call(caught.value)


async def test_topics_are_answered_row_by_row(world: World) -> None:
    taken = CreateResult(name="b", error=ErrorCode.TOPIC_ALREADY_EXISTS, message="b is there")
    made = CreateResult(name="a", topic_id=TOPIC, num_partitions=3, replication_factor=2)
    world.active.answer = ((made, taken), Offset(17))
    request = admin_pb2.CreateTopicsRequest(
        topics=[
            admin_pb2.NewTopic(name="a", num_partitions=3, configs={"retention.ms": "5"}),
            admin_pb2.NewTopic(
                name="b", assignments=[admin_pb2.ReplicaAssignment(partition=0, broker_ids=[2, 1])]
            ),
        ],
        principal="User:eve",
        request_id="r1",
    )
    answer = await world.admin.CreateTopics(request)
    assert answer.committed_offset == 17
    assert [each.error_code for each in answer.results] == [0, 36]
    assert (answer.results[0].topic_id, answer.results[0].num_partitions) == (TOPIC.bytes, 3)
    assert answer.results[1].error_message == "b is there"
    ((_, topics, cause, timeout_ms, named),) = world.active.asked
    assert (topics[0].num_partitions, topics[0].configs) == (3, {"retention.ms": "5"})
    assert topics[1].assignments == ((0, (2, 1)),)
    assert (cause.principal, cause.request, cause.request_id) == ("User:eve", "CreateTopics", "r1")
    assert (timeout_ms, named) == (30_000, {"validate_only": False})


async def test_a_broker_is_unregistered(world: World) -> None:
    world.active.answer = Offset(17)
    request = admin_pb2.UnregisterBrokerRequest(broker_id=3, timeout_ms=5, request_id="r1")
    assert (await world.admin.UnregisterBroker(request)).committed_offset == 17
    ((name, broker_id, cause, timeout_ms, _),) = world.active.asked
    assert (name, broker_id, timeout_ms) == ("unregister_broker", 3, 5)
    assert (cause.request, cause.request_id) == ("UnregisterBroker", "r1")
    found = await refused(
        world.admin.UnregisterBroker(admin_pb2.UnregisterBrokerRequest(broker_id=-1))
    )
    assert isinstance(found, BadRequestError)
    assert list(found.violations) == ["broker_id"]


async def test_topics_are_deleted_by_name_or_id(world: World) -> None:
    gone = DeleteResult(name="a", topic_id=TOPIC)
    unknown = DeleteResult(topic_id=TOPIC, error=ErrorCode.UNKNOWN_TOPIC_ID)
    world.active.answer = ((gone, unknown), Offset(3))
    answer = await world.admin.DeleteTopics(
        admin_pb2.DeleteTopicsRequest(
            topics=[
                admin_pb2.TopicReference(name="a"),
                admin_pb2.TopicReference(topic_id=TOPIC.bytes),
            ]
        )
    )
    assert [each.error_code for each in answer.results] == [0, 100]
    assert world.active.asked[0][1] == ("a", TOPIC)


async def test_configs_are_altered(world: World) -> None:
    world.active.answer = (
        (AlterResult(resource_type=ResourceType.TOPIC, resource_name="a"),),
        Offset(3),
    )
    resource = admin_pb2.AlterConfigResource(
        resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
        resource_name="a",
        alterations=[
            admin_pb2.AlterConfig(
                key="k", operation=admin_pb2.ALTER_CONFIG_OPERATION_SET, value="v"
            ),
            admin_pb2.AlterConfig(key="l", operation=admin_pb2.ALTER_CONFIG_OPERATION_DELETE),
        ],
    )
    await world.admin.IncrementalAlterConfigs(
        admin_pb2.IncrementalAlterConfigsRequest(resources=[resource])
    )
    (asked,) = world.active.asked[0][1]
    assert [(each.key, each.operation, each.value) for each in asked.alterations] == [
        ("k", Operation.SET, "v"),
        ("l", Operation.DELETE, None),
    ]


@pytest.mark.parametrize(
    "error",
    [
        ApiError(ErrorCode.POLICY_VIOLATION, "too many"),
        OverloadedError("INBOX_MAX"),
        CommitUnknownError("may yet commit"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_call_ends_as_it_failed(world: World, error: KlammError) -> None:
    world.active.answer = error
    back = await refused(world.admin.CreateTopics(admin_pb2.CreateTopicsRequest()))
    assert type(back) is type(error)
    assert str(back) == str(error)


async def test_the_wrong_node_says_where_the_leader_is(world: World) -> None:
    world.active.answer = NotControllerError(NodeId(3), Epoch(7))
    back = await refused(world.admin.DeleteTopics(admin_pb2.DeleteTopicsRequest()))
    assert isinstance(back, HintedNotControllerError)
    assert (back.leader, back.epoch, back.address) == (3, 7, "c3:9093")


async def test_the_door_comes_first(world: World) -> None:
    request = admin_pb2.CreateTopicsRequest(timeout_ms=600_001)
    assert isinstance(await refused(world.admin.CreateTopics(request)), BadRequestError)
    register = controller_pb2.RegisterBrokerRequest()
    assert isinstance(await refused(world.control.RegisterBroker(register)), BadRequestError)
    assert world.active.asked == []


async def test_a_broker_registers(world: World) -> None:
    world.active.answer = Offset(12)
    world.quorum.epoch = Epoch(4)
    answer = await world.control.RegisterBroker(
        controller_pb2.RegisterBrokerRequest(
            cluster_id="abc",
            broker_id=7,
            incarnation_id=ID,
            endpoints=[records_pb2.Endpoint(name="PLAINTEXT", host="b7", port=9092)],
            log_dirs=[ID],
            rack="r1",
        )
    )
    assert (answer.broker_epoch, answer.controller_epoch) == (12, 4)
    _, cluster_id, asked, _, _ = world.active.asked[0]
    assert (cluster_id, asked.broker_id, asked.rack) == ("abc", 7, "r1")
    assert (asked.endpoints[0].host, asked.log_dirs) == ("b7", (UUID(bytes=ID),))


async def test_isrs_and_producer_ids(world: World) -> None:
    row = IsrResult(
        topic_id=TOPIC, partition=1, leader=NodeId(2), isr=(NodeId(2),), partition_epoch=8
    )
    world.active.answer = ((row,), Offset(4))
    change = controller_pb2.AlterPartitionChange(
        topic_id=TOPIC.bytes,
        partition=1,
        partition_epoch=7,
        new_isr=[controller_pb2.IsrMember(broker_id=2, broker_epoch=-1)],
    )
    answer = await world.control.AlterPartition(
        controller_pb2.AlterPartitionRequest(broker_id=2, broker_epoch=5, partitions=[change])
    )
    assert (answer.results[0].isr, answer.results[0].partition_epoch) == ([2], 8)
    world.active.answer = Block(3_000)
    ids = await world.control.AllocateProducerIds(
        controller_pb2.AllocateProducerIdsRequest(broker_id=2, broker_epoch=5)
    )
    assert (ids.first_producer_id, ids.count) == (3_000, 1_000)


async def test_a_session_is_open_for_as_long_as_its_stream(world: World) -> None:
    world.active.answer = Standing(is_caught_up=True, is_fenced=False, should_shut_down=False)
    call = world.control.Session()
    for _ in range(2):
        await call.write(controller_pb2.SessionRequest(broker_id=7, broker_epoch=5))
        answer = await call.read()
        assert isinstance(answer, controller_pb2.SessionResponse)
        assert (answer.is_caught_up, answer.is_fenced) == (True, False)
    assert [each[0] for each in world.active.asked] == ["open_session", "heartbeat", "heartbeat"]
    assert world.active.closed == []
    call.cancel()
    async with asyncio.timeout(2):
        while not world.active.closed:
            await asyncio.sleep(0.001)
    assert world.active.closed == [(7, 5)]


async def test_a_session_that_is_refused_is_closed_too(world: World) -> None:
    world.active.answer = ApiError(ErrorCode.STALE_BROKER_EPOCH, "another uptime")
    call = world.control.Session()
    await call.write(controller_pb2.SessionRequest(broker_id=7, broker_epoch=5))
    back = await refused(call.read())
    assert isinstance(back, ApiError)
    assert back.code == ErrorCode.STALE_BROKER_EPOCH
    # The status is on its way before the server's own handler has ended.
    async with asyncio.timeout(10):
        while not world.active.closed:
            await asyncio.sleep(0.001)
    assert world.active.closed == [(7, 5)]


async def test_leadership_is_handed_over_by_who_leads(world: World) -> None:
    """As with other changes, a standby names the leader."""
    request = admin_pb2.TransferLeadershipRequest(voter_id=3)
    world.quorum.elect(2)
    error = await refused(world.admin.TransferLeadership(request))
    assert isinstance(error, HintedNotControllerError)
    assert (error.leader, error.address) == (2, "c2:9093")
    world.quorum.elect(1)
    answer = await world.admin.TransferLeadership(request)
    assert (answer.former_leader_id, answer.leader_id, answer.leader_epoch) == (1, 3, 3)
    assert answer.took_ms == 5


async def test_a_transfer_to_nobody_is_refused(world: World) -> None:
    world.quorum.elect(1)
    error = await refused(
        world.admin.TransferLeadership(admin_pb2.TransferLeadershipRequest(voter_id=9))
    )
    assert isinstance(error, ApiError)
    assert error.code is ErrorCode.VOTER_NOT_FOUND
    error = await refused(
        world.admin.TransferLeadership(admin_pb2.TransferLeadershipRequest(voter_id=-1))
    )
    assert isinstance(error, BadRequestError)
