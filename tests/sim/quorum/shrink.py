"""A run of the quorum's simulator as a value, and what can be taken away from it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from tests.sim import shrinking
from tests.sim.quorum.faults import CALM, Faults
from tests.sim.quorum.world import World
from tests.sim.shrinking import Failure, place_of

NO_FAULTS = ("voters", "misfortune_every_ms", "election_timeout_ms", "fetch_timeout_ms")
"""These are not taken away."""


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


def fail(run: Run) -> Failure[Run] | None:
    world = run.world()
    try:
        world.run(run.trouble_ms)
    except AssertionError as error:
        if world.now_ms < run.trouble_ms:
            run = replace(run, trouble_ms=float(int(world.now_ms) + 1))
        return Failure(run, place_of(error), world.steps)
    return None


def shrink(run: Run, runs_max: int = shrinking.RUNS_MAX) -> Run:
    def with_seed(attempt: Run, number: int) -> Run:
        return replace(attempt, seed=run.seed + number)

    return shrinking.shrink(run, fail, attempts, with_seed, runs_max=runs_max)


def attempts(run: Run) -> Iterator[Run]:
    """Each with one thing less: time, voters, kinds of faults."""
    faults = run.faults
    yield replace(run, trouble_ms=run.trouble_ms / 2)
    for voters in range(1, faults.voters):
        yield replace(run, faults=replace(faults, voters=voters))
    for field in fields(Faults):
        calm = getattr(CALM, field.name)
        if field.name not in NO_FAULTS and getattr(faults, field.name) != calm:
            yield replace(run, faults=replace(faults, **{field.name: calm}))
