"""Run seeds: one to look at, or many for a time.

python -m tests.sim.quorum.replay 4711             one seed; prints what happened at its end
python -m tests.sim.quorum.replay --seconds 600    from a fresh seed on, until one fails
"""

import argparse
import itertools
import random
import sys
import time

from tests.sim.quorum.faults import PROFILES
from tests.sim.quorum.world import World

TROUBLE_MS = 45_000.0
"""And twenty seconds of peace after it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate the quorum from seeds.")
    parser.add_argument("seed", type=int, nargs="?", help="this one only")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--from", dest="first", type=int, help="first seed (default: by chance)")
    parser.add_argument("--profile", choices=PROFILES, help="of faults (default: in turn)")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return 0 if run(arguments.seed, arguments.profile) else 1
    first = random.randrange(1 << 40) if arguments.first is None else arguments.first
    until, elections, done = time.monotonic() + arguments.seconds, 0, 0
    for seed in itertools.count(first):
        if time.monotonic() > until:
            break
        world = World(seed, profile=arguments.profile)
        try:
            world.run(TROUBLE_MS)
        except AssertionError as error:
            print(error)
            return 1
        elections += world.invariants.elections
        done += 1
    print(f"{done} seeds from {first}, {elections} elections, nothing found")
    return 0


def run(seed: int, profile: str | None = None) -> bool:
    world = World(seed, profile=profile, traced=True)
    try:
        world.run(TROUBLE_MS)
    except AssertionError as error:
        print(error)
        return False
    print(
        f"seed {seed} ({world.profile}, {world.faults.voters} voters): {world.steps} steps, "
        f"{world.troubles.crashes} crashes, {world.invariants.elections} elections, "
        f"{len(world.invariants.committed)} records committed, history {history(world)}"
    )
    return True


def history(world: World) -> str:
    """All that happened, as one number."""
    assert world.trace is not None, "only of a world that is traced"
    return world.trace.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
