"""Each planted bug is caught, and docs/testing.md says with how many seeds."""

import logging

import pytest

from controller.raft import step
from tests.sim.mutants import (
    CORE,
    RANGES,
    REGISTRY,
    Simulator,
    recorded,
    recorded_seed,
    row_of,
    seeds_to_catch,
)
from tests.sim.planting import Mutant, Patch

PLANTED_MIN = 50


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("simulator", "mutant"),
    REGISTRY,
    ids=[f"{simulator.name}-{mutant.name.replace(' ', '-')}" for simulator, mutant in REGISTRY],
)
def test_planted_bug_is_caught(simulator: Simulator, mutant: Mutant) -> None:
    logging.disable()
    try:
        row = recorded().get(mutant.name)
        likely = None if row is None else recorded_seed(row)
        took = seeds_to_catch(simulator, mutant, likely=likely)
    finally:
        logging.disable(logging.NOTSET)
    assert took is not None, f"{mutant.name} ({mutant.story}) survived {simulator.seeds_max} seeds"


def test_the_table_is_that_of_the_registry() -> None:
    """`python -m tests.sim.mutants` writes it."""
    rows = list(recorded().values())
    assert rows == [
        row_of(simulator, mutant, row[-1])
        for (simulator, mutant), row in zip(REGISTRY, rows, strict=True)
    ]
    for row in rows:
        seeds = row[-1].split(", ")
        assert len(seeds) == len(RANGES)
        assert seeds[0].isdigit(), f"{row[0]} was not caught"


def test_enough_is_planted_under_names_of_their_own() -> None:
    names = [mutant.name for _, mutant in REGISTRY]
    assert len(set(names)) == len(names) >= PLANTED_MIN


def test_a_patch_that_does_not_fit_catches_nothing() -> None:
    """A core that has moved on breaks a patch of it; that is no bug that was seen."""

    def patches() -> list[Patch]:
        return [(step, "_on_time", lambda only_one_argument: None)]

    wreck = Mutant("wreck", "of another time", patches, "swarm")
    with pytest.raises(AssertionError, match="TypeError"):
        seeds_to_catch(CORE, wreck)
