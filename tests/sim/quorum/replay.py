"""Run seeds: one to look at, or many for a time.

python -m tests.sim.quorum.replay 4711             one seed; prints what happened at its end
python -m tests.sim.quorum.replay 4711 --shrink    and if it fails, a smaller run that fails too
python -m tests.sim.quorum.replay --seconds 600    from a fresh seed on, until one fails
python -m tests.sim.quorum.replay --failovers      how many a minute this machine simulates
"""

import argparse
import ast
import itertools
import random
import sys
import time
from dataclasses import replace

from tests.sim.quorum import failover
from tests.sim.quorum.faults import PROFILES, Faults, of_seed
from tests.sim.quorum.shrink import Run, shrink
from tests.sim.quorum.world import TROUBLE_MS, World

PROGRESS_S = 10.0
"""A line is printed so often."""


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.failovers:
        print(failover.measure(arguments.seconds or 20.0))
        return 0
    if arguments.seed is None:
        return search(arguments.first, arguments.seconds or 600.0, arguments.profile)
    run = Run(arguments.seed, _faults(arguments), arguments.profile, arguments.ms)
    world = run.world(traced=True)
    try:
        world.run(arguments.ms)
    except AssertionError as error:
        print(error)
        if arguments.shrink:
            print(f"smaller: {shrink(run).world().again()}")
        return 1
    print(describe(world))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Simulate the quorum from seeds.")
    parser.add_argument("seed", type=int, nargs="?", help="this one only")
    parser.add_argument("--seconds", type=float, help="how long (600, 20 for failovers)")
    parser.add_argument("--from", dest="first", type=int, help="first seed (default: by chance)")
    parser.add_argument("--profile", choices=PROFILES, help="of faults (default: in turn)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FAULT=VALUE", help="other than drawn"
    )
    parser.add_argument("--ms", type=float, default=TROUBLE_MS, help="of simulated trouble")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller failure")
    parser.add_argument("--failovers", action="store_true", help="measure the simulator's speed")
    return parser


def _faults(arguments: argparse.Namespace) -> Faults:
    _, faults = of_seed(arguments.seed, arguments.profile)
    pairs = (each.partition("=") for each in arguments.set)
    return replace(faults, **{name: ast.literal_eval(value) for name, _, value in pairs})


def search(first: int | None, seconds: float, profile: str | None) -> int:
    """Seed after seed, until the time is over or one fails."""
    first = random.randrange(1 << 40) if first is None else first
    began = told = time.monotonic()
    elections = operations = 0
    for seed in itertools.count(first):
        now = time.monotonic()
        if now - told > PROGRESS_S or now - began > seconds:
            told = now
            print(
                f"{now - began:6.0f} s  {seed - first} seeds from {first}, {elections} elections, "
                f"{operations} operations judged, nothing found",
                flush=True,
            )
        if now - began > seconds:
            return 0
        world = World(seed, profile=profile)
        try:
            world.run()
        except AssertionError as error:
            print(error)
            return 1
        elections += world.invariants.elections
        operations += len(world.clients.operations)
    return 0


def describe(world: World) -> str:
    return (
        f"seed {world.seed} ({world.profile}, {world.faults.voters} voters, "
        f"{world.faults.observers} observers): {world.steps} steps, "
        f"{world.troubles.crashes} crashes, {world.invariants.elections} elections, "
        f"{len(world.invariants.committed)} records committed, "
        f"{len(world.clients.operations)} operations judged, history {history(world)}"
    )


def history(world: World) -> str:
    """All that happened, as one number."""
    assert world.trace is not None, "only of a world that is traced"
    return world.trace.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
