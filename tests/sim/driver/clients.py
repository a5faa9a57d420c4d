"""Who proposes and reads; each at a node of its own choice, and dead with it."""

import asyncio
import random

from controller.quorum.node import QuorumNode
from klamm.errors import CommitUnknownError, DefiniteError, UnreachableError
from klamm.ids import Offset
from klamm.log.records import NewRecord
from tests.sim.chance import exponential
from tests.sim.driver.world import Node, World
from tests.sim.linearizability import Operation

COMMIT_WAIT_MS = 1_500
READ_WAIT_MS = 1_000


class Clients:
    def __init__(self, world: World) -> None:
        self.proposals = 0
        self.operations: list[Operation] = []
        """Acknowledged writes and answered reads, with the loop's times."""
        self._world = world
        self._rng = random.Random(f"clients {world.seed}")

    async def propose_for_ever(self, every_s: float, value_bytes: int = 40) -> None:
        """To those that claim to lead; at times to one that does not."""
        world, rng = self._world, self._rng
        while True:
            await asyncio.sleep(exponential(rng, every_s))
            claimants = [node for node in world.nodes if node.claims]
            running = [node for node in world.nodes if node.running]
            some = claimants if claimants and rng.random() < 0.95 else running
            if not some:
                continue
            node, ahead = rng.choice(some), 0
            for _ in range(rng.choice((1, 1, 1, 6))):
                count = rng.choice((1, 1, 3))
                self.propose(node, count, ahead, value_bytes)
                ahead += rng.choice((count, count, count, 0))

    async def read_for_ever(self, every_s: float) -> None:
        world, rng = self._world, self._rng
        while True:
            await asyncio.sleep(exponential(rng, every_s))
            running = [node for node in world.nodes if node.running]
            if running:
                node = rng.choice(running)
                assert node.quorum is not None
                world.network.spawn(node.incarnation, self._read, node.quorum)

    def propose(self, node: Node, count: int = 1, ahead: int = 0, value_bytes: int = 40) -> None:
        """`ahead` records past the end that the node knows of: behind those on their way."""
        assert node.quorum is not None
        self.proposals += 1
        values = [
            f"{self.proposals}.{each}".encode().ljust(value_bytes, b" ") for each in range(count)
        ]
        base = Offset(node.quorum.log_end.offset + ahead)
        self._world.network.spawn(node.incarnation, self._propose, node, base, values)

    async def _propose(self, node: Node, base: Offset, values: list[bytes]) -> None:
        history, quorum, recorder = self._world.history, node.quorum, node.recorder
        called = self._world.loop.time()
        assert quorum is not None
        epoch = quorum.epoch if recorder.epoch is None else recorder.epoch
        records = [NewRecord(value=each) for each in values]
        # One half in two calls, the other in one, as the active controller does.
        at_once = self.proposals % 2 == 0
        try:
            if at_once:
                end = await quorum.write(epoch, base, records, COMMIT_WAIT_MS)
            else:
                end = await quorum.propose(epoch, base, records)
        except DefiniteError as error:
            for value in values:
                history.refuse(value)
            self._world.tell("refused", values[0], type(error).__name__)
            return
        except CommitUnknownError:
            history.unknown += 1
            self._world.tell("unknown", values[0])
            return
        assert end == base + len(values), "not where it was proposed"
        try:
            if not at_once:
                await quorum.wait_committed(epoch, end, COMMIT_WAIT_MS)
        except CommitUnknownError:
            history.unknown += 1
            self._world.tell("unknown", values[0])
            return
        assert recorder.end >= end, "acknowledged before on_commit"
        for behind, value in enumerate(values, base + 1):
            history.acknowledge(value, behind)
        self._did(values[-1], called, end - 1)
        self._world.tell("acknowledged", values[0], end)

    async def _read(self, quorum: QuorumNode) -> None:
        history = self._world.history
        known_before, called = history.end, self._world.loop.time()
        try:
            index = await quorum.read_index(READ_WAIT_MS)
        except UnreachableError:
            return
        history.read(index, known_before)
        self._did(None, called, index)
        self._world.tell("read", quorum.node_id, index)

    def _did(self, value: bytes | None, called: float, position: int) -> None:
        """A write of this value, or a read that saw all below `position`."""
        self.operations.append(
            Operation(
                is_write=value is not None,
                value=value,
                called=called,
                returned=self._world.loop.time(),
                position=position,
            )
        )
