"""Who asks for other voters: changes are clients' operations like others.

Nobody waits for a change to end: what the core does not refuse is its own affair.
"""

from typing import TYPE_CHECKING

from controller.raft.events import VoterChangeAsked
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    UpdateVoter,
    Voter,
    VoterChange,
)
from klamm.metadata.records import Endpoint
from tests.sim.chance import exponential

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node
    from tests.sim.quorum.world import World


class Members:
    """Asks whoever takes itself for the leader."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._call = 3_000_000

    def go_on(self) -> None:
        """Until peace comes."""
        world = self.world
        if not world.faults.change_every_ms or world.peaceful:
            return
        world.after(exponential(world.rng, world.faults.change_every_ms), self.go_on)
        leaders = [node for node in world.nodes if node.leads and not node.paused]
        if leaders:
            self._call += 1
            world.rng.choice(leaders).happen(VoterChangeAsked(self._call, self._change()))

    def _change(self) -> VoterChange:
        rng = self.world.rng
        node = rng.choice(self.world.nodes)
        match rng.choice(("add", "add", "remove", "remove", "move")):
            case "add":
                return AddVoter(voter=_voter(node, port=1), readmit=rng.random() < 0.8)
            case "remove":
                return RemoveVoter(key=ReplicaKey(node_id=node.config.me))
        return UpdateVoter(voter=_voter(node, port=rng.randint(1, 9)))


def _voter(node: "Node", port: int) -> Voter:
    return Voter(
        node_id=node.config.me,
        directory_id=node.config.directory_id,
        endpoint=Endpoint(name="CONTROLLER", host="simulated", port=port),
    )
