"""Producer ids: never given twice, and fetched before they are needed."""

import asyncio

import pytest

from broker.control.producer_ids import PREFETCH_LEFT, ProducerIds
from klamm.errors import UnreachableError
from klamm.ids import NodeId, Offset
from klamm.v1 import controller_pb2 as pb

BLOCK = 1_000


class Uptime:
    broker_epoch = Offset(5)


class Allocator:
    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail = False

    async def allocate_producer_ids(
        self, request: pb.AllocateProducerIdsRequest, timeout_ms: int = 0
    ) -> pb.AllocateProducerIdsResponse:
        assert (request.broker_id, request.broker_epoch) == (3, 5)
        self.asked += 1
        first = self.asked * 10 * BLOCK
        await self.gate.wait()
        if self.fail:
            raise UnreachableError("nobody leads")
        return pb.AllocateProducerIdsResponse(first_producer_id=first, count=BLOCK)


async def test_all_ids_differ_over_many_blocks() -> None:
    allocator = Allocator()
    ids = ProducerIds(allocator, NodeId(3), Uptime())
    given = [await ids.next_id(100) for _ in range(3 * BLOCK)]
    assert len(set(given)) == len(given)
    assert 3 <= allocator.asked <= 4
    await ids.close()


async def test_those_that_wait_together_get_different_ids() -> None:
    ids = ProducerIds(Allocator(), NodeId(3), Uptime())
    given = await asyncio.gather(*(ids.next_id(1_000) for _ in range(2 * BLOCK + 1)))
    assert len(set(given)) == len(given)
    await ids.close()


async def test_the_next_block_is_fetched_before_this_one_ends() -> None:
    allocator = Allocator()
    ids = ProducerIds(allocator, NodeId(3), Uptime())
    for _ in range(BLOCK - PREFETCH_LEFT - 1):
        await ids.next_id(100)
    assert allocator.asked == 1
    await ids.next_id(100)
    await asyncio.sleep(0)
    assert allocator.asked == 2
    await ids.close()


async def test_no_controller_costs_nothing_until_the_block_ends() -> None:
    allocator = Allocator()
    ids = ProducerIds(allocator, NodeId(3), Uptime())
    await ids.next_id(100)
    allocator.fail = True
    for _ in range(BLOCK - 1):
        await ids.next_id(100)
    with pytest.raises(UnreachableError, match="nobody leads"):
        await ids.next_id(100)
    allocator.fail = False
    await ids.next_id(100)
    await ids.close()


async def test_waiting_has_an_end() -> None:
    allocator = Allocator()
    allocator.gate.clear()
    ids = ProducerIds(allocator, NodeId(3), Uptime())
    with pytest.raises(UnreachableError, match="within 20 ms"):
        await ids.next_id(20)
    await ids.close()
