"""Whoever sees to it that each node's disk is a voter's: the real shell's changes of the voters.

    a node is back with a new disk ─▶ it follows without a vote ─▶ "replace", asked of the leader:
    controller/members waits until it has caught up, removes the old disk, adds the new one

Asked by a person who looks now and then, tries again, and may die of impatience, but never of the
quorum: whatever is refused is tried later.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import cast

from controller.decisions import DecisionLog
from controller.members import Asked, Members, ReplaceVoter
from controller.quorum.node import QuorumNode
from controller.raft.voters import Voter, VoterSet
from controller.relocations import Relocations
from klamm.errors import CommitUnknownError, DefiniteError
from klamm.ids import NodeId, Offset
from tests.sim.chance import exponential
from tests.sim.driver import voting
from tests.sim.driver.world import Node, SimClock, World, endpoint

AGAIN_S = 0.3
"""In which somebody gives the same command twice."""
PATIENCE_MS = (300, 1_000, 5_000)
"""So long the leader may take for a change."""
LOOKS_EVERY_S = (0.05, 0.2, 1.0)


class Between:
    """`DecisionLog`, where nothing is decided."""

    async def alongside(self, append: Callable[[], Awaitable[Offset]], timeout_ms: int) -> Offset:
        del timeout_ms
        return await append()


def undecided(node: Node) -> DecisionLog:
    """Of a node of which nothing is decided."""
    del node
    return cast("DecisionLog", Between())


class Administrator:
    def __init__(self, world: World, log_of: Callable[[Node], DecisionLog] = undecided) -> None:
        self._world = world
        self._log_of = log_of
        self._rng = random.Random(f"administrator {world.seed}")
        self._every_s = self._rng.choice(LOOKS_EVERY_S)
        self._members: dict[str, Members] = {}
        """By incarnation."""
        opened = world.opened

        def also_opened(node: Node, quorum: QuorumNode, clock: SimClock) -> None:
            opened(node, quorum, clock)
            self._opened(node, quorum, clock)

        world.opened = also_opened

    def _opened(self, node: Node, quorum: QuorumNode, clock: SimClock) -> None:
        members = Members(quorum, self._log_of(node), clock)
        self._members[node.incarnation] = members
        relocations = Relocations(quorum, members, clock)
        self._world.network.spawn(node.incarnation, relocations.run)

    async def go_on(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(exponential(self._rng, self._every_s))
            self.look()

    def look(self) -> None:
        """Ask a leader, or who takes itself for one, for what is to be done."""
        leaders = [node for node in self._world.nodes if node.claims]
        if not leaders:
            return
        leader = self._rng.choice(leaders)
        assert leader.quorum is not None
        strange = [each for each in self._world.nodes if not _votes(leader.quorum.voters, each)]
        waiting = [each for each in strange if each.running]
        if waiting:
            self._see_to(self._rng.choice(waiting), leader)

    def _see_to(self, node: Node, leader: Node) -> None:
        """Who takes itself for a voter, in an epoch that the quorum has not, follows nobody: it
        says so, and its disk is emptied (controller/quorum/identity.py)."""
        assert node.quorum is not None
        assert leader.quorum is not None
        if node.quorum.epoch <= leader.quorum.epoch or not node.is_voter:
            self._ask(leader, node)
        elif voting.may_lose(self._world, node):
            node.kill()
            node.lose_disk()
            node.disk.formats_itself = True
            node.start()

    def all_is_well(self) -> bool:
        """Is each node's disk a voter's, as its log says, and that of the others?"""
        nodes = self._world.nodes
        known = [node.quorum.voters for node in nodes if node.quorum is not None]
        every = all(_votes(voters, node) for voters in known for node in nodes)
        return every and len(known) == len(nodes)

    def _ask(self, leader: Node, node: Node) -> None:
        """At times with all that the new voter would say itself; at times twice."""
        voter = Voter(node_id=NodeId(node.id))
        if self._rng.random() < 0.3:
            voter = Voter(
                node_id=NodeId(node.id),
                directory_id=node.disk.directory_id,
                endpoint=endpoint(node.id),
            )
        world, asked = self._world, ReplaceVoter(voter=voter)
        world.tell("replace", voter.node_id, leader.incarnation)

        def ask() -> None:
            patience_ms = self._rng.choice(PATIENCE_MS)
            world.network.spawn(leader.incarnation, self._change, leader, asked, patience_ms)

        ask()
        if self._rng.random() < 0.5:
            world.network.after(self._rng.uniform(0.0, AGAIN_S), ask)

    async def _change(self, leader: Node, asked: Asked, patience_ms: int) -> None:
        world = self._world
        try:
            done = await self._members[leader.incarnation].change(asked, patience_ms)
        except (DefiniteError, CommitUnknownError) as error:
            world.tell("not replaced", leader.incarnation, type(error).__name__)
            return
        world.disks_replaced += 1
        assert done.end_offset <= world.history.end, f"{done} is answered, and not committed"
        world.tell("replaced", leader.incarnation, done.end_offset)


def _votes(voters: VoterSet, node: Node) -> bool:
    """With the disk that it has by now."""
    voter = voters.find(NodeId(node.id))
    named = None if voter is None else voter.directory_id
    return named is not None and named == node.disk.directory_id
