"""One run: trouble for a while, then peace, then every disk's word against what was promised."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.sim import shrinking
from tests.sim.driver import voting
from tests.sim.driver.administrator import Administrator
from tests.sim.driver.clients import Clients
from tests.sim.driver.snapshots import Snapshots, small
from tests.sim.driver.states import STATES, trouble_and_states
from tests.sim.driver.troubles import KINDS, WIPED, Troubles
from tests.sim.driver.world import World, run
from tests.sim.linearizability import agree_with_positions
from tests.sim.shrinking import Failure, place_of

SIZES = (3, 3, 3, 5, 3, 3, 5, 1)
"""Voters, by the seed."""

TROUBLE_S = 17.0
STOPS_FOR_GOOD = 0.4
"""Of the seeds of WIPED."""
WIPED_S = 3.0
PEACE_S = 10.0
"""Until a proposal commits, and all nodes know of it; of which two seconds are used, mostly."""


async def trouble_and_peace(
    world: World, trouble_s: float = TROUBLE_S, without: Sequence[str] = (), profile: str = ""
) -> None:
    clients, troubles = Clients(world), Troubles(world, without, profile)
    administrator = Administrator(world)
    for node in world.nodes:
        node.start()
    healing = world.loop.create_task(administrator.go_on())
    work = [
        world.loop.create_task(each)
        for each in (
            clients.propose_for_ever(0.08),
            clients.read_for_ever(0.15),
            troubles.go_on(),
            Snapshots(world).go_on(),
        )
    ]
    await world.watch([*work, healing], trouble_s)
    for each in work:
        each.cancel()
    if profile == WIPED and world.size > 1 and world.rng.random() < STOPS_FOR_GOOD:
        await stop_for_good(world, troubles)
        return
    troubles.stop()
    await settle(world, clients)
    await world.until(administrator.all_is_well, PEACE_S, "quorum of all nodes in peace")
    healing.cancel()
    for node in world.nodes:
        node.cut_power()
    for node in world.nodes:
        node.start()
    await settle(world, clients)
    world.tell("end", world.history.end, world.loop.steps)


async def stop_for_good(world: World, troubles: Troubles) -> None:
    """Most of the disks are wiped at once: who is left waits for a person, and nobody begins anew.

    Scenario 19; what they do then, `klamm quorum recover`, has tests of its own.
    """
    kept = troubles.wipe_most()
    troubles.stop()
    for node in kept:
        if world.rng.random() < 0.5:
            node.kill()
    await world.watch([], WIPED_S)  # What was under way may have its end.
    claims, end = len(world.history.claims), world.history.end
    for node in world.nodes:
        if not node.alive:
            node.start()
    await world.watch([], WIPED_S)
    if voting.are_lost(world):
        assert len(world.history.claims) == claims, "somebody leads without a majority's disks"
        assert world.history.end == end, "something is committed without a majority's disks"
    world.tell("end", end, world.loop.steps)


async def settle(world: World, clients: Clients) -> None:
    """A proposal is acknowledged, and every node is told of everything."""
    history = world.history
    known = len(history.acknowledged)

    def acknowledged() -> bool:
        for node in world.nodes:
            if not node.alive:  # It was stopping when peace came.
                node.start()
            if node.claims and len(history.acknowledged) == known:
                clients.propose(node)
        return len(history.acknowledged) > known

    await world.until(acknowledged, PEACE_S, "proposal acknowledged in peace")

    def up_to_date() -> bool:
        for node in world.nodes:
            if not node.alive:
                node.start()
        return all(node.running and node.recorder.end == history.end for node in world.nodes)

    await world.until(up_to_date, PEACE_S, "node up to date in peace")
    for value, end in history.acknowledged.items():
        assert history.place.get(value) == end, f"{value!r} is lost"
    wrong = agree_with_positions(clients.operations)
    assert wrong is None, wrong


@dataclass(frozen=True, slots=True)
class Run:
    seed: int
    size: int | None = None
    """Voters; by the seed if nobody says."""
    without: tuple[str, ...] = ()
    """Kinds of trouble that are left out."""
    trouble_s: float = TROUBLE_S
    profile: str = ""
    """Of `troubles.PROFILES`; its own mixture if empty; STATES: with what controllers believe."""

    @property
    def voters(self) -> int:
        if self.size is None and self.profile == STATES:
            return 3  # Of fewer none could say who is wrong.
        return self.size or SIZES[self.seed % len(SIZES)]

    def go(self) -> World:
        """Raises an AssertionError that says how to see it again."""
        worlds: list[World] = []

        async def main(world: World) -> None:
            worlds.append(world)
            if self.profile == STATES:
                await trouble_and_states(world, self.trouble_s, self.without)
            else:
                await trouble_and_peace(world, self.trouble_s, self.without, self.profile)

        try:
            with small():
                return run(self.seed, main, size=self.voters)
        except Exception as error:
            told = "\n".join(f"  {each}" for each in worlds[0].history.last) if worlds else ""
            raise AssertionError(
                f"seed {self.seed}: {type(error).__name__}: {error}\n{told}\nagain: {self.again()}"
            ) from error

    def again(self) -> str:
        words = [f"python -m tests.sim.driver.replay {self.seed}"]
        words += [] if self.size is None else [f"--size {self.size}"]
        words += [f"--without {each}" for each in self.without]
        words += [] if self.trouble_s == TROUBLE_S else [f"--trouble-s {self.trouble_s}"]
        words += [f"--profile {self.profile}"] if self.profile else []
        return " ".join(words)


def run_seed(seed: int, profile: str = "") -> World:
    return Run(seed, profile=profile).go()


def fail(run: Run) -> Failure[Run] | None:
    try:
        run.go()
    except AssertionError as error:
        # The time is the size: steps of the loop are gone with it.
        return Failure(run, place_of(error), int(1_000 * run.trouble_s) + run.voters)
    return None


def shrink(run: Run, runs_max: int = 100) -> Run:
    """Less trouble, fewer voters, fewer kinds of it; the same check fails."""

    def attempts(failing: Run) -> Iterator[Run]:
        yield replace(failing, trouble_s=round(failing.trouble_s / 2, 3))
        for size in range(1, failing.voters):
            yield replace(failing, size=size)
        for kind in KINDS:
            if kind not in failing.without:
                yield replace(failing, without=(*failing.without, kind))

    def with_seed(attempt: Run, number: int) -> Run:
        return replace(attempt, seed=run.seed + number, size=attempt.voters)

    return shrinking.shrink(run, fail, attempts, with_seed, runs_max=runs_max)
