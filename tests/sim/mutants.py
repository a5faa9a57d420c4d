"""All planted bugs of the quorum, core and shell, and how many seeds each took to be caught.

A simulator that finds nothing proves nothing until it is known what it would find.

python -m tests.sim.mutants             measure all, and write the table into docs/testing.md
python -m tests.sim.mutants NAME ...    these, and leave the other rows as they are

To plant one more: a Mutant in the list of its simulator, then this command.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sim.driver import mutants as shell
from tests.sim.driver.scenario import run_seed
from tests.sim.planting import Mutant, planted
from tests.sim.quorum import mutants as core
from tests.sim.quorum.world import World

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
BEGIN, END = "<!-- planted bugs: begin -->", "<!-- planted bugs: end -->"
HEADER = ("planted bug", "what it believes", "simulator", "faults", "seeds")

RANGES = (0, 1_000_000, 2_000_000)
"""Seeds are counted from each of these."""

WRECKED = (AttributeError, NameError, TypeError)
"""What a patch ends in that does not fit the code any more: nothing was caught by it."""


@dataclass(frozen=True, slots=True)
class Simulator:
    name: str
    run: Callable[[int, str], object]
    """One seed under the faults of a profile; an AssertionError if anything does not hold, from
    what was raised first."""
    seeds_max: int
    """A planted bug must be caught within so many."""
    mutants: tuple[Mutant, ...]


def _run_core(seed: int, profile: str) -> None:
    World(seed, profile=profile or None).run()


CORE = Simulator("core", _run_core, 150, core.MUTANTS)
SHELL = Simulator("shell", run_seed, 60, shell.MUTANTS)
REGISTRY = tuple((each, mutant) for each in (CORE, SHELL) for mutant in each.mutants)


def seeds_to_catch(
    simulator: Simulator, mutant: Mutant, first: int = 0, likely: int | None = None
) -> int | None:
    """How many seeds it took, or None if the bug survived them all.

    Args:
        simulator: Where it is planted.
        mutant: Which.
        first: Seeds from here on.
        likely: This seed before the others: it has caught the bug once. Changes of the code give
            each seed another history, so it may have to be searched anew.
    """
    numbers = list(range(simulator.seeds_max))
    if likely in numbers:
        numbers.remove(likely)
        numbers.insert(0, likely)
    with planted(mutant):
        for number in numbers:
            try:
                simulator.run(first + number, mutant.profile)
            except AssertionError as error:
                if isinstance(error.__cause__, WRECKED):
                    raise
                return number + 1
    return None


# ── on record ────────────────────────────────────────────────────────────────────────────────


def recorded() -> dict[str, tuple[str, ...]]:
    """The rows of the table in docs/testing.md, by name."""
    between = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in between.strip().splitlines()[2:]
    ]
    return {row[0]: row for row in rows}


def row_of(simulator: Simulator, mutant: Mutant, seeds: str) -> tuple[str, ...]:
    return mutant.name, mutant.story, simulator.name, mutant.profile or "mixed", seeds


def recorded_seed(row: tuple[str, ...]) -> int:
    """The seed that caught it when the table was written, counted from the first range."""
    return int(row[-1].partition(",")[0]) - 1


def write(rows: Iterator[tuple[str, ...]]) -> None:
    lines = [HEADER, ("---",) * len(HEADER), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


def measure(simulator: Simulator, mutant: Mutant) -> str:
    took = [seeds_to_catch(simulator, mutant, first) for first in RANGES]
    return ", ".join(str(each or f"> {simulator.seeds_max}") for each in took)


def main() -> int:
    logging.disable()
    parser = argparse.ArgumentParser(description="Count the seeds that planted bugs take.")
    parser.add_argument("name", nargs="*", help="of planted bugs (default: all)")
    names = parser.parse_args().name or [mutant.name for _, mutant in REGISTRY]
    rows = recorded()
    for simulator, mutant in REGISTRY:
        if mutant.name in names:
            rows[mutant.name] = row_of(simulator, mutant, measure(simulator, mutant))
            print(*rows[mutant.name], sep=" · ", flush=True)
    write(rows[mutant.name] for _, mutant in REGISTRY if mutant.name in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
