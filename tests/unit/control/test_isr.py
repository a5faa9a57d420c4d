"""ISR proposals on their way: one request in flight, every proposal answered once."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from broker.control.isr import IsrProposals
from broker.replica.isr import IsrAnswer, IsrChange, IsrMember
from klamm.errors import ApiError, ErrorCode, UnreachableError
from klamm.ids import Epoch, NodeId, Offset, TopicId
from klamm.v1 import controller_pb2 as pb

TOPIC = TopicId(UUID(int=1))


class Uptime:
    broker_epoch = Offset(5)


class Controller:
    def __init__(self) -> None:
        self.requests: list[pb.AlterPartitionRequest] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def alter_partition(
        self, request: pb.AlterPartitionRequest, timeout_ms: int = 0
    ) -> pb.AlterPartitionResponse:
        self.requests.append(request)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return pb.AlterPartitionResponse(
            results=[
                pb.AlterPartitionResult(
                    topic_id=row.topic_id,
                    partition=row.partition,
                    leader_epoch=row.leader_epoch,
                    partition_epoch=row.partition_epoch + 1,
                    isr=[each.broker_id for each in row.new_isr],
                )
                for row in request.partitions
            ]
        )


class World:
    def __init__(self) -> None:
        self.controller = Controller()
        self.proposals = IsrProposals(self.controller, NodeId(1), Uptime())
        self.answers: dict[int, list[IsrAnswer]] = {}

    def submit(self, partition: int) -> None:
        answers = self.answers.setdefault(partition, [])
        self.proposals.submit(TOPIC, partition, change(partition), answers.append)

    async def all_answered(self, rounds: int = 1) -> None:
        async with asyncio.timeout(2):
            while not all(len(each) >= rounds for each in self.answers.values()):
                await asyncio.sleep(0.001)


def change(partition: int) -> IsrChange:
    members = (IsrMember(NodeId(1), 5), IsrMember(NodeId(2), 9))
    return IsrChange(leader_epoch=Epoch(3), partition_epoch=partition, members=members)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.proposals.run())
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_submitted_together_travels_together(world: World) -> None:
    for partition in range(100):
        world.submit(partition)
    await world.all_answered()
    (request,) = world.controller.requests
    assert (request.broker_id, request.broker_epoch) == (1, 5)
    assert [row.partition for row in request.partitions] == list(range(100))
    assert world.answers[7] == [
        IsrAnswer(
            error=ErrorCode.NONE,
            leader_epoch=Epoch(3),
            partition_epoch=8,
            isr=(NodeId(1), NodeId(2)),
        )
    ]


async def test_one_request_is_in_flight_and_the_rest_goes_with_the_next(world: World) -> None:
    world.controller.gate.clear()
    world.submit(0)
    while not world.controller.requests:
        await asyncio.sleep(0)
    world.submit(1)
    world.submit(2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(world.controller.requests) == 1
    world.controller.gate.set()
    await world.all_answered()
    assert [row.partition for row in world.controller.requests[1].partitions] == [1, 2]


async def test_a_second_proposal_for_a_partition_is_not_attempted(world: World) -> None:
    world.controller.gate.clear()
    world.submit(0)
    world.submit(0)
    await world.all_answered()
    assert [each.error for each in world.answers[0]] == [ErrorCode.OPERATION_NOT_ATTEMPTED]
    world.controller.gate.set()
    await world.all_answered(rounds=2)
    assert world.answers[0][1].error == ErrorCode.NONE


@pytest.mark.parametrize(
    "failure",
    [
        UnreachableError("nobody leads"),
        ApiError(ErrorCode.STALE_BROKER_EPOCH, "registering anew"),
    ],
)
async def test_a_request_is_repeated_until_it_is_answered(world: World, failure: Exception) -> None:
    world.controller.failures = [failure, failure]
    world.submit(0)
    await world.all_answered()
    assert len(world.controller.requests) == 3
    assert [each.error for each in world.answers[0]] == [ErrorCode.NONE]
