"""Producer ids, taken from blocks that the active controller gives out (KIP-360).

block in use  [1000 … 1999]   next = 1901, PREFETCH left
block ahead   [4000 … 4999]   fetched before the first is used up, so that nobody waits
"""

import asyncio
from typing import Protocol

from klamm.errors import KlammError, UnreachableError
from klamm.ids import NodeId, Offset
from klamm.v1 import controller_pb2 as pb

PREFETCH_LEFT = 100
"""Ids left in the block in use when the next is asked for."""

ALLOCATE_TIMEOUT_MS = 10_000


class Allocator(Protocol):
    """The part of ControllerClient that is used here."""

    async def allocate_producer_ids(
        self, request: pb.AllocateProducerIdsRequest, timeout_ms: int = ...
    ) -> pb.AllocateProducerIdsResponse: ...


class Uptime(Protocol):
    """The part of BrokerSession that is used here."""

    @property
    def broker_epoch(self) -> Offset: ...


class ProducerIds:
    """Ids that no other broker and no other uptime gives out."""

    def __init__(self, controllers: Allocator, broker_id: NodeId, uptime: Uptime) -> None:
        self._controllers = controllers
        self._broker_id = broker_id
        self._uptime = uptime
        self._block = range(0)
        self._ahead = range(0)
        self._fetch: asyncio.Task[None] | None = None

    async def next_id(self, timeout_ms: int) -> int:
        """A producer id, never given before.

        Raises:
            UnreachableError: No block was left, and none came in time.
        """
        if not self._block and not self._ahead:
            await self._wait_block(timeout_ms)
        if not self._block:
            self._block, self._ahead = self._ahead, range(0)
        producer_id, self._block = self._block[0], self._block[1:]
        if len(self._block) <= PREFETCH_LEFT and not self._ahead:
            self._begin_fetch()
        return producer_id

    async def close(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.gather(self._fetch, return_exceptions=True)

    async def _wait_block(self, timeout_ms: int) -> None:
        """Again if the others that waited have taken all of a block."""
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while not self._block and not self._ahead:
                    await asyncio.shield(self._begin_fetch())
        except (TimeoutError, KlammError) as error:
            raise UnreachableError(f"no producer ids within {timeout_ms} ms: {error}") from error

    def _begin_fetch(self) -> asyncio.Task[None]:
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.create_task(self._fetch_block(), name="producer ids")
            self._fetch.add_done_callback(_look_at_failure)
        return self._fetch

    async def _fetch_block(self) -> None:
        request = pb.AllocateProducerIdsRequest(
            broker_id=self._broker_id, broker_epoch=self._uptime.broker_epoch
        )
        answer = await self._controllers.allocate_producer_ids(request, ALLOCATE_TIMEOUT_MS)
        self._ahead = range(answer.first_producer_id, answer.first_producer_id + answer.count)


def _look_at_failure(fetch: asyncio.Task[None]) -> None:
    """A prefetch that failed is tried again by whoever needs an id; it is no event of its own."""
    if not fetch.cancelled():
        fetch.exception()
