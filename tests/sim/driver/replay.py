"""Run seeds: one to look at, or many for a time.

python -m tests.sim.driver.replay 4711             one seed; prints what happened at its end
python -m tests.sim.driver.replay --seconds 600    from a fresh seed on, until one fails
"""

import argparse
import itertools
import logging
import random
import sys
import time

from tests.sim.driver.scenario import run_seed
from tests.sim.driver.world import World


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate the quorum's shell from seeds.")
    parser.add_argument("seed", type=int, nargs="?", help="this one only")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default 600)")
    parser.add_argument("--from", dest="first", type=int, help="first seed (default: by chance)")
    arguments = parser.parse_args()
    logging.disable()
    if arguments.seed is not None:
        return 0 if one(arguments.seed) else 1
    first = random.randrange(1 << 40) if arguments.first is None else arguments.first
    until, done, acknowledged = time.monotonic() + arguments.seconds, 0, 0
    for seed in itertools.count(first):
        if time.monotonic() > until:
            break
        try:
            acknowledged += len(run_seed(seed).history.acknowledged)
        except AssertionError as error:
            print(error)
            return 1
        done += 1
    print(f"{done} seeds from {first}, {acknowledged} records acknowledged, nothing found")
    return 0


def one(seed: int) -> bool:
    try:
        print(describe(run_seed(seed)))
    except AssertionError as error:
        print(error)
        return False
    return True


def describe(world: World) -> str:
    history = world.history
    return (
        f"seed {world.seed} ({world.size} voters): {world.loop.steps} steps, "
        f"{world.network.messages} messages, {len(history.claims)} claims, "
        f"{history.end} offsets committed, {len(history.acknowledged)} records acknowledged, "
        f"{len(history.refused)} refused, {history.unknown} proposals unknown, "
        f"{history.reads} reads, {world.disk_failures} disks failed, history {history.crc:08x}"
    )


if __name__ == "__main__":
    sys.exit(main())
