"""python -m tests.fuzz --target all --inputs 10000000

Splits the inputs over the targets by their shares, and ends with 1 at the first that breaks one:
it is saved beneath tests/fuzz/crashers, and belongs into tests/fuzz/corpus with its repair.
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.fuzz.engine import CRASHERS, Result, corpus, fuzz
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SEEDS = 200
"""Valid inputs that libFuzzer begins with."""
INPUT_BYTES_MAX = 4_096
MEMORY_MIB_MAX = 1_024
SECONDS_MAX = 300
"""Of the wall's clock, for what hangs where Python does not come; see `engine.SECONDS_MAX`."""
PROGRESS_S = 10

_PULSE = re.compile(r"#(\d+)\s.*?cov: (\d+)")
_DONE = re.compile(r"Done (\d+) runs")


def main() -> None:
    arguments = _arguments()
    chosen = list(TARGETS.values())
    if arguments.target != "all":
        chosen = [TARGETS[arguments.target]]
    run = _covered if arguments.engine == "coverage" else _plain
    shares = sum(each.share for each in chosen)
    results: list[Result] = []
    for target in chosen:
        inputs = max(1, arguments.inputs * target.share // shares)
        results.append(run(target, inputs, arguments.seed))
        _say(str(results[-1]))
    seconds = sum(each.seconds for each in results)
    inputs = sum(each.inputs for each in results)
    _say(f"{inputs:,} inputs in {seconds:.0f} s, {inputs / seconds:,.0f} a second, no finding")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Hostile bytes into every decoder."
    )
    parser.add_argument("--target", choices=["all", *TARGETS], default="all")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    best = "coverage" if importlib.util.find_spec("atheris") else "plain"
    parser.add_argument("--engine", choices=["plain", "coverage"], default=best)
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, flush=True)


def _plain(target: Target, inputs: int, seed: int) -> Result:
    return fuzz(target, inputs, seed, _say)


def _covered(target: Target, inputs: int, seed: int) -> Result:
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{target.name}-") as directory:
        seeds = Path(directory)
        random = Random(f"{target.name} {seed}")
        for number in range(SEEDS):
            (seeds / f"seed-{number}").write_bytes(target.grow(random))
        for path in corpus(target):
            (seeds / path.name).write_bytes(path.read_bytes())
        return _watched(target, inputs, seed, seeds)


def _watched(target: Target, inputs: int, seed: int, seeds: Path) -> Result:
    crashers = CRASHERS / target.name
    crashers.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "tests.fuzz.coverage", target.name),
        *(f"-runs={inputs}", f"-seed={seed + 1}", f"-max_len={INPUT_BYTES_MAX}"),
        *(f"-timeout={SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MIB_MAX}"),
        *(f"-artifact_prefix={crashers}/", str(seeds)),
    ]
    began = told = time.monotonic()
    runs, tail = 0, ["?"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            tail = [*tail[-30:], line]
            if found := _PULSE.match(line) or _DONE.match(line):
                runs = int(found[1])
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                _say(f"  {target.name}: {line.strip()[:90]}")
    seconds = time.monotonic() - began
    if process.returncode != 0:
        raise SystemExit("".join(tail) + f"{target.name}: the input is in {crashers}")
    return Result(target=target.name, inputs=runs, read=0, seconds=seconds)


if __name__ == "__main__":
    main()
