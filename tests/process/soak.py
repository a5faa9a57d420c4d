"""Faults on controllers in network namespaces, seed after seed, until the time is over.

python -m tests.process.soak --seconds 1200           fresh seeds, each two minutes of faults
python -m tests.process.soak --seconds 60 --seed 4711 one seed, for that long
python -m tests.process.soak --clocks                 only if wall clocks can be set (scenario 59)
python -m tests.process.soak --versions               only faults that mix versions (scenario 63)
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.process.namespaces.controllers import faketime
from tests.process.namespaces.history import Kind
from tests.process.namespaces.network import Unavailable
from tests.process.namespaces.trial import Trial

ROUND_S = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Faults on real controllers (needs root).")
    parser.add_argument("--seconds", type=float, default=1_200.0, help="of faults (default 1200)")
    parser.add_argument("--seed", type=int, help="this one only (default: by chance)")
    parser.add_argument("--clocks", action="store_true", help="fail where clocks cannot be set")
    parser.add_argument("--versions", action="store_true", help="only faults that mix versions")
    arguments = parser.parse_args()
    clocks = faketime()
    if arguments.clocks and clocks is None:
        print("cannot set clocks: apt-get install libfaketime")
        return 2
    try:
        asyncio.run(soak(arguments.seconds, arguments.seed, clocks, of_versions=arguments.versions))
    except Unavailable as why:
        print(f"cannot: {why}")
        return 2
    except AssertionError as wrong:
        print(wrong)
        return 1
    return 0


async def soak(
    seconds: float, seed: int | None, clocks: Path | None, *, of_versions: bool = False
) -> None:
    """One seed for all the time, or a fresh one for each round."""
    began = time.monotonic()
    rounds = writes = reads = 0
    while (left_s := began + seconds - time.monotonic()) > 0:
        this = random.randrange(1 << 32) if seed is None else seed
        with tempfile.TemporaryDirectory(prefix="klamm-soak-") as directory:
            fault_s = seconds if seed is not None else min(ROUND_S, left_s)
            trial = Trial(Path(directory) / "run", this, fault_s, clocks, of_versions)
            history = await trial.run()
        rounds += 1
        writes += history.count(Kind.WRITE)
        reads += history.count(Kind.LINEARIZABLE)
        print(
            f"{time.monotonic() - began:6.0f} s  {rounds} seeds, the last {this}: {writes} writes "
            f"acknowledged, {reads} linearizable reads, nothing found",
            flush=True,
        )
        if seed is not None:
            return


if __name__ == "__main__":
    sys.exit(main())
