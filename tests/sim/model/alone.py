"""What the model sees by itself: planted bugs, with everything else that would see them silent.

python -m tests.sim.model.alone             measure all, and write the table into docs/testing.md
python -m tests.sim.model.alone NAME ...    these, and leave the others as they are

In the core's simulator its invariants, its clients' judges and the core's own assertions say
nothing. In the shell's, whoever finds something ends the run; what counts is that it was the model.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from controller.raft import step
from tests.sim import mutants
from tests.sim.model.witness import NotAllowedError
from tests.sim.mutants import Simulator, seeds_to_catch
from tests.sim.planting import Mutant, Patch, planted
from tests.sim.quorum.invariants import Invariants

DOCUMENT = Path(__file__).parents[3] / "docs" / "testing.md"
BEGIN, END = "<!-- seen by the model: begin -->", "<!-- seen by the model: end -->"
HEADER = ("simulator", "seeds", "planted bugs")
SEPARATOR = "; "
UNSEEN = "not seen"
SEEDS_MAX = 60


def silent() -> list[Patch]:
    """Nobody else says what is wrong; what they remember for others goes on."""

    def deaf(check: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(check)
        def says_nothing(*rest: Any) -> Any:
            try:
                return check(*rest)
            except AssertionError:
                return None

        return says_nothing

    checks = [
        name for name, check in vars(Invariants).items() if callable(check) and name[0] != "_"
    ]
    patches: list[Patch] = [(Invariants, name, deaf(vars(Invariants)[name])) for name in checks]
    return [*patches, (step, "_check", lambda *_: None)]


def _run(simulator: Simulator) -> Callable[[int, str], object]:
    def run(seed: int, profile: str) -> None:
        try:
            with planted(Mutant("silent", "nothing", silent)):
                simulator.run(seed, profile)
        except AssertionError as error:
            if isinstance(error.__cause__, NotAllowedError):
                raise

    return run


def alone(simulator: Simulator) -> Simulator:
    """The same, with the model as the only judge."""
    return replace(simulator, run=_run(simulator), seeds_max=SEEDS_MAX)


REGISTRY = tuple((alone(simulator), mutant) for simulator, mutant in mutants.REGISTRY)


# ── on record ────────────────────────────────────────────────────────────────────────────────


def recorded() -> dict[str, tuple[str, str]]:
    """Simulator and seeds of each planted bug, as docs/testing.md has them."""
    between = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in between.strip().splitlines()[2:]
    ]
    return {
        name: (simulator, seeds)
        for simulator, seeds, names in rows
        for name in names.split(SEPARATOR)
    }


def write(found: dict[str, tuple[str, str]]) -> None:
    by_seeds: dict[tuple[str, str], list[str]] = {}
    for simulator, mutant in REGISTRY:
        if mutant.name in found:
            by_seeds.setdefault((simulator.name, found[mutant.name][1]), []).append(mutant.name)
    rows = sorted(by_seeds.items(), key=lambda row: (row[0][0], row[0][1] == UNSEEN, _number(row)))
    cells = [(*where, SEPARATOR.join(names)) for where, names in rows]
    lines = [HEADER, ("---",) * len(HEADER), *cells]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


def _number(row: tuple[tuple[str, str], list[str]]) -> int:
    seeds = row[0][1]
    return 0 if seeds == UNSEEN else int(seeds)


def main() -> int:
    logging.disable()
    parser = argparse.ArgumentParser(description="Count the seeds until the model sees a bug.")
    parser.add_argument("name", nargs="*", help="of planted bugs (default: all)")
    names = parser.parse_args().name or [mutant.name for _, mutant in REGISTRY]
    found = recorded()
    for simulator, mutant in REGISTRY:
        if mutant.name in names:
            took = seeds_to_catch(simulator, mutant)
            found[mutant.name] = (simulator.name, str(took or UNSEEN))
            print(mutant.name, *found[mutant.name], sep=" · ", flush=True)
    write(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
