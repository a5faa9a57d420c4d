"""Run seeds: one to look at, or many for a time.

python -m tests.sim.driver.replay 4711             one seed; prints what happened at its end
python -m tests.sim.driver.replay 4711 --shrink    and if it fails, a smaller run that fails too
python -m tests.sim.driver.replay --seconds 600    from a fresh seed on, until one fails
"""

import argparse
import itertools
import logging
import random
import sys
import time

from tests.sim.driver.scenario import TROUBLE_S, Run, run_seed, shrink
from tests.sim.driver.states import STATES
from tests.sim.driver.troubles import KINDS, PROFILES
from tests.sim.driver.world import World

PROGRESS_S = 10.0
"""A line is printed so often."""


def main() -> int:
    arguments = _parser().parse_args()
    logging.disable()
    if arguments.seed is None:
        return search(arguments.first, arguments.seconds, arguments.profile)
    run = Run(
        arguments.seed,
        arguments.size,
        tuple(arguments.without),
        arguments.trouble_s,
        arguments.profile,
    )
    try:
        print(describe(run.go()))
    except AssertionError as error:
        print(error)
        if arguments.shrink:
            print(f"smaller: {shrink(run).again()}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Simulate the quorum's shell from seeds.")
    parser.add_argument("seed", type=int, nargs="?", help="this one only")
    parser.add_argument(
        "--profile", default="", choices=sorted((*PROFILES, STATES)), help="kind of trouble"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--from", dest="first", type=int, help="first seed (default: by chance)")
    parser.add_argument("--size", type=int, help="voters (default: by the seed)")
    parser.add_argument("--without", action="append", default=[], choices=KINDS, metavar="KIND")
    parser.add_argument("--trouble-s", type=float, default=TROUBLE_S, help="simulated seconds")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller failure")
    return parser


def search(first: int | None, seconds: float, profile: str = "") -> int:
    """Seed after seed, until the time is over or one fails."""
    first = random.randrange(1 << 40) if first is None else first
    began = told = time.monotonic()
    acknowledged = reads = 0
    for seed in itertools.count(first):
        now = time.monotonic()
        if now - told > PROGRESS_S or now - began > seconds:
            told = now
            print(
                f"{now - began:6.0f} s  {seed - first} seeds from {first}, {acknowledged} records "
                f"acknowledged, {reads} reads, nothing found",
                flush=True,
            )
        if now - began > seconds:
            return 0
        try:
            history = run_seed(seed, profile).history
        except AssertionError as error:
            print(error)
            return 1
        acknowledged += len(history.acknowledged)
        reads += history.reads
    return 0


def describe(world: World) -> str:
    history = world.history
    return (
        f"seed {world.seed} ({world.size} voters): {world.loop.steps} steps, "
        f"{world.network.messages} messages, {len(history.claims)} claims, "
        f"{history.end} offsets committed, {len(history.acknowledged)} records acknowledged, "
        f"{len(history.refused)} refused, {history.unknown} proposals unknown, "
        f"{history.reads} reads, {world.disk_failures} disks failed, "
        f"{world.disks_lost} lost, {world.disks_replaced} replaced, "
        f"history {history.trace.hexdigest()}"
    )


if __name__ == "__main__":
    sys.exit(main())
