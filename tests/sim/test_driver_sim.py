"""The quorum's shell under every seed of the CI budget, with planted bugs, and its failovers.

Two hundred seeds of some twenty simulated seconds; `python -m tests.sim.driver.replay` runs on.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.sim.driver.clients import Clients
from tests.sim.driver.mutants import MUTANTS, SLOW
from tests.sim.driver.replay import _parser
from tests.sim.driver.scenario import TROUBLE_S, Run, fail, run_seed, shrink
from tests.sim.driver.snapshots import small
from tests.sim.driver.states import STATES, trouble_and_states
from tests.sim.driver.troubles import PROFILES, WIPED
from tests.sim.driver.world import World, run
from tests.sim.planting import planted

SEEDS = 200
CHUNK = 10
PROFILE_SEEDS = 15
STATE_SEEDS = 40


def writing(world: World, clients: Clients) -> Callable[[int], bool]:
    """Each call proposes through whoever leads; were more than so many acknowledged by then?"""

    def acknowledged_after(count: int) -> bool:
        for node in world.nodes:
            if node.claims:
                clients.propose(node)
        return len(world.history.acknowledged) > count

    return acknowledged_after


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_quorum_shell_survives(first: int) -> None:
    acknowledged = sum(
        len(run_seed(seed).history.acknowledged) for seed in range(first, first + CHUNK)
    )
    assert acknowledged > CHUNK * 100, "hardly anything was committed: the run proves nothing"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("profile", PROFILES)
def test_quorum_shell_survives_its_disks(profile: str) -> None:
    """Scenarios 29 to 32: bits flip, fsyncs fail, votes are lost; and it is all well again."""
    acknowledged = sum(
        len(run_seed(seed, profile).history.acknowledged) for seed in range(PROFILE_SEEDS)
    )
    assert acknowledged > PROFILE_SEEDS * 50


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, STATE_SEEDS, CHUNK))
def test_replicas_agree_on_one_state(first: int) -> None:
    """Scenarios 24 and 72: who is wrong says so, ends or is rebuilt, and in the end all agree."""
    for seed in range(first, first + CHUNK):
        run_seed(seed, STATES)


def test_states_are_misled_found_and_rebuilt() -> None:
    """The seeds above prove something only if that happens in them."""
    found = []

    async def main(world: World) -> None:
        found.append(await trouble_and_states(world, TROUBLE_S))

    with small():
        for seed in range(CHUNK):
            run(seed, main)
    assert sum(each.misled for each in found) > CHUNK / 2
    assert sum(each.diverged for each in found) > 1


def test_disks_are_lost_and_replaced() -> None:
    """Scenario 19. As above; and in the mixture too."""
    wiped = [run_seed(seed, WIPED) for seed in range(CHUNK)]
    assert sum(each.disks_lost for each in wiped) > 3 * CHUNK
    assert sum(each.disks_replaced for each in wiped) > 2 * CHUNK
    assert sum(run_seed(seed).disks_replaced for seed in range(CHUNK)) > CHUNK / 3


HISTORIES = """
from tests.sim.driver.replay import describe
from tests.sim.driver.scenario import Run, fail, run_seed, shrink
for seed in (1, 3, 7, 12):
    print(describe(run_seed(seed)))
print(describe(run_seed(1, "states")))
"""


def test_same_seed_same_history_in_every_process() -> None:
    """Under whatever order sets of strings happen to have there."""
    told = {
        subprocess.run(
            [sys.executable, "-c", HISTORIES],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in range(3)
    }
    assert len(told) == 1
    assert len(set(told.pop().split("\n"))) == 6


def test_a_failure_is_shrunk_to_a_smaller_one_in_the_same_place() -> None:
    """With a planted bug: less time and fewer kinds of trouble; and the command that it prints."""
    (mutant,) = (each for each in MUTANTS if each.name == "no fsync")
    run = Run(3)
    with planted(mutant):
        before = fail(run)
        smaller = shrink(run, runs_max=12)
        after = fail(smaller)
    assert before is not None
    assert after is not None
    assert after.place == before.place
    assert after.steps < before.steps
    words = smaller.again().split()[3:]
    arguments = _parser().parse_args(words)
    again = Run(arguments.seed, arguments.size, tuple(arguments.without), arguments.trouble_s)
    assert again == smaller
    assert fail(smaller) is None, "it is the bug's, and not the code's"


def failover_s(seed: int, size: int) -> float:
    """From the leader's death as a process to the next acknowledged proposal."""
    took: list[float] = []

    async def main(world: World) -> None:
        clients, history = Clients(world), world.history
        for node in world.nodes:
            node.start()

        acknowledged_after = writing(world, clients)
        await world.until(lambda: acknowledged_after(50), 5.0, "leader at the start")
        (leader,) = [node for node in world.nodes if node.claims]
        leader.kill()
        count = len(history.acknowledged)
        took.append(await world.until(lambda: acknowledged_after(count), 10.0, "failover"))

    run(seed, main, size=size)
    return took[0]


def failovers_s(size: int) -> list[float]:
    return sorted(failover_s(seed, size) for seed in range(20))


@pytest.mark.parametrize("size", [3, 5])
def test_a_killed_leader_is_replaced_in_milliseconds(size: int) -> None:
    """Of simulated time: fsyncs of up to 4 ms, round trips of up to 4 ms, the jitter."""
    took_s = failovers_s(size)
    assert took_s[10] < 0.12
    assert took_s[-1] < 0.4


def test_a_break_that_is_not_told_shows_in_the_failover() -> None:
    with planted(SLOW):
        assert failovers_s(3)[10] > 0.3


SLOW_S = 8.0


@pytest.mark.parametrize("seed", range(6))
def test_a_leader_whose_disk_has_stopped_gives_up_and_nobody_storms(seed: int) -> None:
    """Scenario 40: fsyncs of eight seconds on the leader."""
    epochs: list[int] = []

    async def main(world: World) -> None:
        clients, history = Clients(world), world.history
        for node in world.nodes:
            node.start()

        acknowledged_after = writing(world, clients)
        await world.until(lambda: acknowledged_after(50), 5.0, "leader at the start")
        (slow,) = [node for node in world.nodes if node.claims]
        before = len(history.claims)
        world.loop.disk_s[str(slow.id)] = (SLOW_S, SLOW_S)
        await world.until(
            lambda: acknowledged_after(0) and any(e.claims and e is not slow for e in world.nodes),
            4.0,
            "leader with a disk that goes",
        )
        count = len(history.acknowledged)
        await world.until(lambda: acknowledged_after(count + 200), 5.0, "two hundred records")
        until_s = world.loop.time() + 2 * SLOW_S
        while world.loop.time() < until_s:
            await asyncio.sleep(0.1)
            acknowledged_after(0)
            world.check()
        epochs.append(len(history.claims) - before)

    run(seed, main, size=3)
    assert epochs[0] <= 2


@pytest.mark.parametrize("seed", range(4))
def test_a_slow_follower_slows_nobody(seed: int) -> None:
    """Scenario 40: commits come as fast beside fsyncs of eight seconds on a follower."""

    async def main(world: World) -> None:
        clients, history = Clients(world), world.history
        for node in world.nodes:
            node.start()

        acknowledged_after = writing(world, clients)
        await world.until(lambda: acknowledged_after(50), 5.0, "leader at the start")
        slow = next(node for node in world.nodes if not node.claims)
        claims = len(history.claims)
        fast_s = await world.until(lambda: acknowledged_after(200), 5.0, "records")
        world.loop.disk_s[str(slow.id)] = (SLOW_S, SLOW_S)
        slow_s = await world.until(lambda: acknowledged_after(400), 10.0, "records")
        assert slow_s < 3 * fast_s + 0.5
        assert len(history.claims) == claims

    run(seed, main, size=3)


@pytest.mark.parametrize("seed", range(6))
def test_a_leader_without_room_makes_way_and_comes_back_without_a_restart(seed: int) -> None:
    """Scenario 34: a definite refusal, another leader, and all is well when there is room."""

    async def main(world: World) -> None:
        clients, history = Clients(world), world.history
        for node in world.nodes:
            node.start()

        acknowledged_after = writing(world, clients)
        await world.until(lambda: acknowledged_after(50), 5.0, "leader at the start")
        (full,) = [node for node in world.nodes if node.claims]
        life, refused = full.incarnation, len(history.refused)
        full.files.capacity = sum(map(len, full.files.snapshot().values()))
        await world.until(
            lambda: (
                not acknowledged_after(1 << 30)
                and any(each.claims for each in world.nodes if each is not full)
            ),
            5.0,
            "leader with room",
        )
        assert len(history.refused) > refused
        count = len(history.acknowledged)
        await world.until(lambda: acknowledged_after(count + 100), 5.0, "a hundred records")
        assert full.recorder.end < history.end
        full.files.heal()
        await world.until(lambda: full.recorder.end == history.end, 5.0, "the full one's rest")
        assert full.incarnation == life
        assert full.running

    run(seed, main, size=3)
