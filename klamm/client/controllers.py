"""Who leads the quorum, asked of all controllers and remembered.

unknown ──search──▶ Leader(id, epoch, address)
   ▲                        │ its connection broke, or it refused without naming another
   └────────────────────────┘ (the next search asks for a later epoch than `lost`)

Controllers come and go: who runs for long asks now and then where they all are (`keep_learning`),
or might know nobody when the last of those that it was told of at its start has gone.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace

import grpc.aio
from tenacity import AsyncRetrying, retry_if_result, wait_random_exponential

from klamm.client.node import Node
from klamm.errors import NotControllerError, UnreachableError
from klamm.ids import NO_EPOCH, NO_NODE, Epoch, NodeId
from klamm.rpc.status import HintedNotControllerError
from klamm.telemetry import logs
from klamm.v1 import metadata_pb2 as pb

_log = logs.logger("klamm.client")

NODES_MAX = 64
"""Addresses remembered; a quorum is three or five. One that was learned makes room."""

LEARN_INTERVAL_S = 5.0

ASK_WAIT_MS = 1_000
"""A controller may hold its answer so long; then it is asked again."""

ASK_GRACE_MS = 500
"""Beyond ASK_WAIT_MS, a controller that has not answered counts as gone."""

DOUBT_AFTER_MS = 500
"""A leader that leaves a call unanswered for so long may be paused: the others are asked."""

ROUND_PAUSE_MS = (5, 100)
"""Between rounds in which nobody knew a leader: from 0 to the first, doubled up to the last."""


@dataclass(frozen=True, slots=True)
class Leader:
    node_id: NodeId
    epoch: Epoch
    address: str


class Controllers:
    """The controllers' addresses, a node for each, and the leader as far as is known."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """`addresses` are `host:port`, one at least; others are learned from the answers."""
        assert addresses, "a client needs the address of one controller"
        self._told = frozenset(addresses[:NODES_MAX])
        self._nodes = {address: Node(address) for address in addresses[:NODES_MAX]}
        self._closing: set[asyncio.Task[None]] = set()
        self._leader: Leader | None = None
        self._by_id: dict[NodeId, str] = {}
        self._changed = asyncio.Event()
        self._lost = Leader(NO_NODE, NO_EPOCH, "")
        self._search: asyncio.Task[Leader] | None = None
        self._next_any = random.randrange(len(self._nodes))

    @property
    def leader(self) -> Leader | None:
        """As far as is known; None while it is looked for."""
        return self._leader

    @leader.setter
    def leader(self, leader: Leader | None) -> None:
        self._leader = leader
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._nodes)

    def node(self, address: str) -> Node:
        return self._nodes[address]

    def any(self) -> Node:
        """One controller after the other, from a random one on."""
        nodes = list(self._nodes.values())
        return nodes[self._next_any % len(nodes)]

    def try_another(self) -> None:
        """The one that `any` gave is gone or behind."""
        self._next_any += 1

    def lost(self, leader: Leader) -> None:
        """The connection to `leader` broke: it is asked for again, unless another is known."""
        if self.leader == leader:
            self.leader = None
        if leader.epoch > self._lost.epoch:
            self._lost = leader

    def refused(self, leader: Leader, error: NotControllerError) -> None:
        """`leader` says that it does not lead. Follow its hint if there is one."""
        address = error.address if isinstance(error, HintedNotControllerError) else ""
        if error.leader != NO_NODE and error.epoch >= leader.epoch and address:
            self._add(address, error.leader)
            self.leader = Leader(error.leader, error.epoch, address)
        else:
            self.lost(leader)

    def heard(self, node_id: NodeId, epoch: Epoch) -> None:
        """Someone says who leads: news only if the epoch is later than the one known."""
        known = self._lost.epoch if self._leader is None else self._leader.epoch
        address = self._by_id.get(node_id)
        if address is not None and epoch > known:
            self.leader = Leader(node_id, epoch, address)

    def id_of(self, address: str) -> NodeId:
        """The controller at `address`, or NO_NODE if none has told yet."""
        return next((node for node, at in self._by_id.items() if at == address), NO_NODE)

    async def wait_other_leader(self, address: str) -> Leader:
        """Waits until another controller than the one at `address` is known to lead."""
        while self._leader is None or self._leader.address == address:
            await self._changed.wait()
        return self._leader

    async def doubt(self, leader: Leader) -> None:
        """Ask the others who leads after `leader`, until one does. Cancel it when it has answered.

        A paused node keeps its connections: nothing but another's election says that it is gone.
        """
        await asyncio.sleep(DOUBT_AFTER_MS / 1_000)
        later = await self._in_rounds(replace(leader, address=""))
        self.heard(later.node_id, later.epoch)

    async def find(self, timeout_ms: int) -> Leader:
        """The leader: the one remembered, or the first that a search brings.

        Raises:
            UnreachableError: No controller answered, or none led, in time.
        """
        if self.leader is not None:
            return self.leader
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._run_search(), name="find controller")
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                return await asyncio.shield(self._search)
        except TimeoutError:
            tried = ", ".join(self._nodes)
            raise UnreachableError(
                f"no active controller within {timeout_ms} ms; asked {tried}"
            ) from None

    async def keep_learning(self) -> None:
        """Learn, now and then, until cancelled."""
        while True:
            await asyncio.sleep(LEARN_INTERVAL_S)
            await self.learn()

    async def learn(self) -> None:
        """Ask one where all of them are. If it does not answer, another is asked the next time."""
        node = self.any() if self._leader is None else self.node(self._leader.address)
        self.try_another()
        request = pb.FindControllerRequest(after_epoch=NO_EPOCH)
        try:
            response = await node.metadata.FindController(request, timeout=ASK_WAIT_MS / 1_000)
        except grpc.aio.AioRpcError:
            return
        for controller in response.controllers:
            self._add(controller.grpc, NodeId(controller.node_id))

    async def close(self) -> None:
        if self._search is not None:
            self._search.cancel()
        await asyncio.gather(*self._closing, *(each.close() for each in self._nodes.values()))

    async def _run_search(self) -> Leader:
        leader = await self._in_rounds(None)
        self.leader = leader
        return leader

    async def _in_rounds(self, lost: Leader | None) -> Leader:
        """Rounds, each asking all controllers together, until one of them names a later leader."""
        first_ms, max_ms = ROUND_PAUSE_MS
        pause = wait_random_exponential(multiplier=first_ms / 1_000, max=max_ms / 1_000)
        retrying = AsyncRetrying(wait=pause, retry=retry_if_result(lambda leader: leader is None))
        leader: Leader | None = await retrying(self._ask_all, lost)
        assert leader is not None, "retried until there is one"
        return leader

    async def _ask_all(self, lost: Leader | None) -> Leader | None:
        """One round. `lost`: after whom; None: after whoever is lost by now."""
        asks: list[Coroutine[object, object, Leader | None]]
        asks = [self._ask(node, lost or self._lost) for node in list(self._nodes.values())]
        tasks = [asyncio.create_task(each) for each in asks]
        try:
            for answer in asyncio.as_completed(tasks):
                if (leader := await answer) is not None:
                    return leader
        finally:
            for task in tasks:
                task.cancel()
        return None

    async def _ask(self, node: Node, lost: Leader) -> Leader | None:
        """Whom `node` names, once it knows a leader that is news."""
        # The lost leader itself may be there still: then the connection broke, and no reign ended.
        after = lost.epoch - 1 if node.address == lost.address else lost.epoch
        request = pb.FindControllerRequest(after_epoch=after, max_wait_ms=ASK_WAIT_MS)
        try:
            response = await node.metadata.FindController(
                request, timeout=(ASK_WAIT_MS + ASK_GRACE_MS) / 1_000
            )
        except grpc.aio.AioRpcError:
            return None
        header = response.header
        if header.leader_id == NO_NODE or header.epoch <= after:
            return None
        for controller in response.controllers:
            self._add(controller.grpc, NodeId(controller.node_id))
        for controller in response.controllers:
            if controller.node_id == header.leader_id:
                return Leader(NodeId(header.leader_id), Epoch(header.epoch), controller.grpc)
        return None

    def _add(self, address: str, node_id: NodeId) -> None:
        self._by_id[node_id] = address
        if address in self._nodes:
            return
        if len(self._nodes) >= NODES_MAX:
            self._forget_one()
        self._nodes[address] = Node(address)
        _log.info("another controller is known", node=node_id, address=address)

    def _forget_one(self) -> None:
        """The one that was learned first; whom this client was told of at its start, only then."""
        kept = {self._leader.address} if self._leader is not None else set()
        others = [each for each in self._nodes if each not in kept]
        learned = (each for each in others if each not in self._told)
        node = self._nodes.pop(next(learned, others[0]))
        closing = asyncio.create_task(node.close(), name=f"forget {node.address}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
