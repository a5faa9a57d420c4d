"""Leaders that die, one after the other, and how long it takes until another one commits.

Nothing else goes wrong, and streams to the dead break at once: what is left is the protocol's own
time, and the simulator's speed.
"""

import time

from tests.sim.quorum.faults import Faults
from tests.sim.quorum.world import World

FAILOVERS_PER_WORLD = 50
CATCH_UP_MS = 50.0
"""The dead come back, and are no longer behind when the next leader dies."""

LIMIT_MS = 10_000.0


class Failovers:
    """A world in which leaders are killed by whoever holds this."""

    def __init__(self, seed: int, voters: int = 3) -> None:
        faults = Faults(
            voters=voters,
            misfortune_every_ms=1e12,
            proposal_every_ms=20.0,
            cut=False,
            pause=False,
        )
        self.world = World(seed, faults)
        for node in self.world.nodes:
            node.start()
        self.world.after(0, self.world._propose)
        self._until_committed(0)
        # The first leader of all must have named everybody's disk: until then only those count
        # that elected it, and it is needed for a majority of them.
        self.world.until(self.world.now_ms + CATCH_UP_MS)

    def kill_leader(self) -> float:
        """Simulated milliseconds from its death to its successor's first commit."""
        world = self.world
        (leader,) = [node for node in world.nodes if node.leads]
        assert leader.state is not None
        epoch = leader.state.epoch
        leader.crash()
        took_ms = self._until_committed(epoch)
        leader.start()
        world.until(world.now_ms + CATCH_UP_MS)
        return took_ms

    def _until_committed(self, after_epoch: int) -> float:
        world = self.world
        epochs, began_ms = world.invariants.commit_epochs, world.now_ms
        while not epochs or epochs[-1] <= after_epoch:
            assert world.now_ms < began_ms + LIMIT_MS, "no commit after a failover"
            world.until(world.now_ms + 1)
        return world.now_ms - began_ms


def measure(seconds: float, voters: int = 3) -> str:
    """For so much of one core's time."""
    took_ms: list[float] = []
    began, seed = time.process_time(), 0
    while time.process_time() - began < seconds:
        failovers = Failovers(seed, voters)
        took_ms += [failovers.kill_leader() for _ in range(FAILOVERS_PER_WORLD)]
        seed += 1
    spent = time.process_time() - began
    took_ms.sort()
    return (
        f"{len(took_ms)} failovers of {voters} voters in {spent:.1f} s of one core: "
        f"{60 * len(took_ms) / spent:.0f} a minute; simulated, p50 {took_ms[len(took_ms) // 2]:.0f}"
        f" ms, p99 {took_ms[len(took_ms) * 99 // 100]:.0f} ms, most {took_ms[-1]:.0f} ms"
    )
