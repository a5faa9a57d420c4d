"""From a run that fails to a smaller one that fails in the same place.

Any change gives a seed another history, so each attempt tries some seeds. An attempt is kept if it
ends in the same check, after fewer steps. What is taken away: time, voters, kinds of faults.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from types import TracebackType

from tests.sim.quorum.faults import CALM, Faults
from tests.sim.quorum.world import World

SEEDS_PER_ATTEMPT = 6

MATTERS_LITTLE = ("misfortune_every_ms", "election_timeout_ms", "fetch_timeout_ms")
"""What is no fault, and stays."""

Place = tuple[str, str]
"""File and function of the check that did not hold."""


@dataclass(frozen=True, slots=True)
class Run:
    seed: int
    faults: Faults
    profile: str | None
    trouble_ms: float

    def world(self, *, traced: bool = False) -> World:
        world = World(self.seed, self.faults, profile=self.profile, traced=traced)
        world.trouble_ms = self.trouble_ms
        return world


@dataclass(frozen=True, slots=True)
class Failure:
    run: Run
    place: Place
    steps: int


def fail(run: Run) -> Failure | None:
    """How it fails, with no more trouble than it needs; or None."""
    world = run.world()
    try:
        world.run(run.trouble_ms)
    except AssertionError as error:
        cause = error.__cause__ or error
        if world.now_ms < run.trouble_ms:
            run = replace(run, trouble_ms=float(int(world.now_ms) + 1))
        return Failure(run, _place(cause.__traceback__), world.steps)
    return None


def _place(traceback: TracebackType | None) -> Place:
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code.co_filename, code.co_name


def shrink(run: Run, runs_max: int = 400) -> Run:
    """The smallest that was found in so many runs. `run` must fail."""
    smallest = fail(run)
    assert smallest is not None, "it does not fail"
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for attempt in _attempts(smallest.run):
            for seed in range(run.seed, run.seed + SEEDS_PER_ATTEMPT):
                if runs_max == 0:
                    return smallest.run
                runs_max -= 1
                found = fail(replace(attempt, seed=seed))
                if found and found.place == smallest.place and found.steps <= smallest.steps:
                    smallest, is_smaller = found, True
                    break
    return smallest.run


def _attempts(run: Run) -> Iterator[Run]:
    """Each with one thing less."""
    faults = run.faults
    yield replace(run, trouble_ms=run.trouble_ms / 2)
    for voters in range(1, faults.voters):
        yield replace(run, faults=replace(faults, voters=voters))
    for field in fields(Faults):
        calm = getattr(CALM, field.name)
        if field.name not in (*MATTERS_LITTLE, "voters") and getattr(faults, field.name) != calm:
            yield replace(run, faults=replace(faults, **{field.name: calm}))
