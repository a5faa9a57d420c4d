"""Each planted bug is caught; with the number of seeds that it took (docs/testing.md)."""

import pytest

from tests.sim.quorum.faults import ROTATION
from tests.sim.quorum.mutants import MUTANTS, Mutant, planted
from tests.sim.quorum.replay import TROUBLE_MS
from tests.sim.quorum.world import World

SEEDS_MAX = 150
"""Of the mutant's profile."""


def seeds_to_catch(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> int | None:
    """How many seeds of its profile it took, or None if it survived them all."""
    place = ROTATION.index(mutant.profile)
    with planted(mutant):
        for number in range(seeds_max):
            try:
                World(number * len(ROTATION) + place).run(TROUBLE_MS)
            except (AssertionError, KeyError, ValueError):
                return number + 1
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_planted_bug_is_caught(mutant: Mutant, record_property: pytest.FixtureRequest) -> None:
    took = seeds_to_catch(mutant)
    record_property("seeds", took)  # type: ignore[operator]
    assert took is not None, f"{mutant.name} ({mutant.story}) survived {SEEDS_MAX} seeds"
