"""The quorum under every seed of the CI budget: safety at each step, progress after peace.

Four hundred seeds of sixty-five simulated seconds each; `make sim SECONDS=…` goes on with others.
"""

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from controller import raft
from tests.sim.chance import exponential
from tests.sim.planting import planted
from tests.sim.quorum.failover import Failovers, measure
from tests.sim.quorum.faults import Faults, of_seed
from tests.sim.quorum.mutants import MUTANTS
from tests.sim.quorum.replay import _faults, _parser
from tests.sim.quorum.shrink import Run, fail, shrink
from tests.sim.quorum.world import World

SEEDS = 400
CHUNK = 20


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_quorum_survives(first: int) -> None:
    for seed in range(first, first + CHUNK):
        World(seed).run()


HISTORIES = """
from tests.sim.quorum.replay import history
from tests.sim.quorum.world import World
for seed in (1, 2, 3, 5, 6, 8):
    world = World(seed, traced=True)
    world.run(8_000)
    print(seed, world.steps, history(world))
"""


def test_same_seed_same_history_in_every_process() -> None:
    """Under whatever order sets of strings happen to have there."""
    told = {
        subprocess.run(
            [sys.executable, "-c", HISTORIES],
            env={"PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in range(3)
    }
    assert len(told) == 1
    assert len(set(told.pop().split("\n"))) > 6


OF_THE_C_LIBRARY = re.compile(
    r"\b(expovariate|gauss|(log)?normalvariate|gammavariate|betavariate|paretovariate"
    r"|weibullvariate|vonmisesvariate|math\.(log|exp|pow|sin|cos|tan)\w*)\b"
)


def test_same_seed_same_history_on_every_machine() -> None:
    """Arithmetic is, and uniform draws are; what ends in a logarithm is not, to the last bit."""
    root = Path(__file__).parent
    pure = Path(raft.__file__).parent
    files = [each for each in (*root.rglob("*.py"), *pure.rglob("*.py")) if each != Path(__file__)]
    found = {each.name for each in files if OF_THE_C_LIBRARY.search(each.read_text())}
    assert found == {"chance.py"}
    drawn = [exponential(Random(seed), 60.0) for seed in range(4)]
    assert drawn == [111.636426664, 8.657463847, 187.460691309, 16.305738194]


def test_a_failing_seed_says_how_to_see_it_again() -> None:
    world = World(3)
    world.invariants.elected = lambda *_: (_ for _ in ()).throw(AssertionError("on purpose"))  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"on purpose(.|\n)*again: python -m .* 3 --profile"):
        world.run(5_000)


def test_a_failure_is_shrunk_to_a_smaller_one_in_the_same_place() -> None:
    """With a planted bug: fewer steps and kinds of faults; and the command that it prints."""
    (mutant,) = (each for each in MUTANTS if each.name == "leader counts page cache")
    _, faults = of_seed(1, "disks")
    run = Run(1, faults, "disks", 20_000.0)
    with planted(mutant):
        before = fail(run)
        assert before is not None
        smaller = shrink(run, runs_max=80)
        after = fail(smaller)
    assert after is not None
    assert after.place == before.place
    assert after.steps < before.steps
    assert after.run.trouble_ms < run.trouble_ms
    command = smaller.world().again()
    assert command.startswith(f"python -m tests.sim.quorum.replay {smaller.seed} --profile disks")
    assert "--set " in command
    assert fail(smaller) is None, "it is the bug's, and not the code's"


def test_a_run_is_what_its_command_says() -> None:
    """Drawn faults, changed ones and the time: all are in the words."""
    faults = Faults(voters=5, loss=0.25, fsync_ms=(1.0, 2.0), cut=False)
    run = Run(7, faults, "network", 1_500.0)
    words = run.world().again().split()[3:]
    arguments = _parser().parse_args(words)
    assert _faults(arguments) == faults
    assert (arguments.seed, arguments.profile, arguments.ms) == (7, "network", 1_500.0)


QUIET = Faults(crash=False, cut=False, pause=False, misfortune_every_ms=1e9)


def test_nothing_happens_in_peace_but_work() -> None:
    """Without misfortune there is one election, and every proposal is taken."""
    world = World(1, QUIET)
    world.run(30_000)
    assert world.invariants.elections == 1
    assert world.invariants.truncations == 0
    assert world.clients.accepted > 100


@pytest.mark.parametrize("voters", [3, 5])
def test_a_dead_leader_is_replaced_in_milliseconds(voters: int) -> None:
    """Simulated milliseconds: two fsyncs, three round trips, and the jitter. No timeout of 1 s."""
    took = sorted(
        took_ms
        for failovers in (Failovers(seed, voters) for seed in range(20))
        for took_ms in (failovers.kill_leader() for _ in range(3))
    )
    assert took[len(took) // 2] < 60
    assert took[-1] < 300


def test_speed_is_measured() -> None:
    """The figure itself is no test; the goal is a thousand a minute on one core."""
    assert " a minute" in measure(0.1)


def test_a_single_cut_link_disturbs_nobody() -> None:
    """Pre-vote (KIP-996): a follower without its leader asks in vain; the epoch stays."""
    for seed in range(20):
        world = World(seed, QUIET)
        for node in world.nodes:
            node.start()
        world.after(0, world._propose)
        world.until(5_000)
        (leader,) = [node for node in world.nodes if node.leads]
        assert leader.state is not None
        epoch = leader.state.epoch
        victim = next(node for node in world.nodes if not node.leads)
        world.network.cut |= {(victim.id, leader.id), (leader.id, victim.id)}
        world.until(world.now_ms + 30_000)
        assert leader.leads
        assert leader.state.epoch == epoch


def test_leadership_is_handed_over_among_crashes_cuts_and_pauses() -> None:
    """Whoever gives up has committed all that it took, and nothing stale is read."""
    handed_over = 0
    for seed in range(12):
        faults = Faults(misfortune_every_ms=200.0, proposal_every_ms=25.0, transfer=True)
        world = World(seed, faults)
        world.run(15_000)
        handed_over += world.clients.handed_over
    assert handed_over > 5
