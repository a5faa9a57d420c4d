"""The model (tests/sim/model; scenario 26): what it sees, and all of a small world."""

import logging
from dataclasses import replace

import pytest

from tests.sim.driver.scenario import run_seed
from tests.sim.model import alone
from tests.sim.model.search import CI, Bounds, Search
from tests.sim.model.witness import NotAllowedError
from tests.sim.mutants import Simulator, seeds_to_catch
from tests.sim.planting import Mutant, planted
from tests.sim.quorum import mutants
from tests.sim.quorum.world import World
from tests.sim.shrinking import place_of

SEEN_MIN = 45

RECORDED = alone.recorded()
SEEN = [
    (simulator, mutant, int(seeds))
    for simulator, mutant in alone.REGISTRY
    for _, seeds in [RECORDED.get(mutant.name, ("", alone.UNSEEN))]
    if seeds != alone.UNSEEN
]


def test_each_step_of_both_simulators_is_judged() -> None:
    world = World(3)
    world.run(8_000)
    judged = sum(node.witness.transitions for node in world.nodes if node.witness is not None)
    assert judged == world.steps > 1_000
    assert run_seed(1).judge.transitions > 1_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("simulator", "mutant", "seeds"), SEEN, ids=[f"{s.name}-{m.name}" for s, m, _ in SEEN]
)
def test_the_model_alone_sees_it(simulator: Simulator, mutant: Mutant, seeds: int) -> None:
    """Everything else that would see it is silent."""
    logging.disable()
    try:
        took = seeds_to_catch(simulator, mutant, likely=seeds - 1)
    finally:
        logging.disable(logging.NOTSET)
    assert took is not None, f"{mutant.name} ({mutant.story}) is allowed by the model"


def test_what_it_sees_is_on_record() -> None:
    """`python -m tests.sim.model.alone` writes the table."""
    assert set(RECORDED) <= {mutant.name for _, mutant in alone.REGISTRY}
    assert len(SEEN) >= SEEN_MIN


# ── all of a small world ─────────────────────────────────────────────────────────────────────


def test_a_smaller_run_fails_for_the_same_reason() -> None:
    """To the model's reasons one place is common; which of them it was, its first word says."""
    votes, commits = (NotAllowedError(1, wrong) for wrong in ("votes for 2", "commits 3"))
    assert place_of(votes) != place_of(commits) == place_of(NotAllowedError(2, "commits 4"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bounds", "states_min"), list(zip(CI, (20_000, 150_000), strict=True)))
def test_nothing_can_go_wrong_in_a_small_world(bounds: Bounds, states_min: int) -> None:
    search = Search(bounds)
    search.run()
    assert search.complete
    assert search.states >= states_min


def test_it_is_the_same_search_every_time() -> None:
    counts = set()
    for _ in range(2):
        search = Search(CI[0])
        search.run(states_max=5_000)
        counts.add((search.states, search.transitions))
    assert len(counts) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "bounds", "told"),
    [
        ("vote for any log", CI[1], "leads 2 without"),
        ("vote twice", CI[1], "do not match"),
        ("majority off by one", CI[0], "do not match"),
        ("stale votes count", CI[1], "do not match"),
        ("no log matching", CI[1], "commits another record"),
        ("leader counts page cache", Bounds(crashes=1, slow_disks=True), "leads 2 without"),
        ("fetch before fsync", Bounds(crashes=1, slow_disks=True), "leads 2 without"),
        ("longer log wins", Bounds(epochs=3), "leads 3 without"),
        ("who disagrees counts", Bounds(epochs=3), "leads 3 without"),
    ],
)
def test_the_search_finds_a_planted_bug(name: str, bounds: Bounds, told: str) -> None:
    """By the four properties alone, and with the way to it: one of the shortest."""
    (mutant,) = (each for each in mutants.MUTANTS if each.name == name)
    with planted(mutant), pytest.raises(AssertionError, match=f"{told}(.|\\n)*stand"):
        Search(replace(bounds, judged=False)).run()
