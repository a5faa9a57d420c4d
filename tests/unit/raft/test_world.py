"""The core among crashes, loss and cuts: safe at every step, live once they end."""

import pytest

from controller.raft.state import Leader
from klamm.ids import NodeId
from tests.unit.raft.world import World

SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
def test_safe_under_faults_and_live_after_them(seed: int) -> None:
    world = World(seed, size=(3, 5)[seed % 2])
    proposed = 0
    for _ in range(25):
        world.run(world.now_ms + world.rng.randint(5, 800))
        proposed += world.propose(proposed)
        world.read()
        shake(world)
    heal(world)
    world.run(world.now_ms + 6_000)
    assert world.propose("last"), "no leader after all faults ended"
    world.run(world.now_ms + 1_500)
    assert world.committed[-1][1] == "last"
    logs = {str(disk.batches) for disk in world.disks.values()}
    assert len(logs) == 1


def shake(world: World) -> None:
    nodes = list(world.disks)
    victim = world.rng.choice(nodes)
    match world.rng.randint(0, 7):
        case 0 | 1 if victim in world.states and len(world.states) > 1:
            world.crash(victim)
        case 2 | 3 if victim not in world.states:
            world.start(victim)
        case 4:
            world.loss = 0.2
        case 5:
            world.loss = 0.0
        case 6:
            world.cut = {(victim, each) for each in nodes} | {(each, victim) for each in nodes}
        case 7:
            world.cut = {(victim, world.rng.choice(nodes))}


def heal(world: World) -> None:
    world.loss = 0.0
    world.cut = set()
    for node in world.disks:
        if node not in world.states:
            world.start(node)


def test_a_killed_leader_is_replaced_within_tens_of_milliseconds() -> None:
    taken: list[int] = []
    for seed in range(30):
        world = World(1_000 + seed)
        world.run(3_000)
        killed = world.leader()
        assert killed is not None
        world.crash(killed)
        world.run(world.now_ms + 2_000)
        at_ms = next(ms for ms, node, _ in world.claims if ms >= 3_000 and node != killed)
        taken.append(at_ms - 3_000)
    taken.sort()
    assert taken[15] <= 30, taken
    assert taken[-1] <= 150, taken


def test_one_bad_link_disturbs_nobody() -> None:
    world = World(7)
    world.run(3_000)
    leader = world.leader()
    assert leader is not None
    epoch = world.states[leader].epoch
    follower = next(each for each in world.disks if each != leader)
    world.cut = {(leader, follower), (follower, leader)}
    world.run(20_000)
    assert world.leader() == leader
    assert world.states[leader].epoch == epoch
    assert isinstance(world.states[leader].role, Leader)
    world.cut = set()
    world.run(25_000)
    assert world.states[follower].leader == leader


def test_a_leader_that_hears_no_majority_resigns_and_answers_no_read() -> None:
    world = World(9)
    world.run(3_000)
    leader = world.leader()
    assert leader is not None
    others = [each for each in world.disks if each != leader]
    world.cut = {pair for each in others for pair in ((leader, each), (each, leader))}
    world.run(3_050)
    world.read()
    waiting = [node for node, _ in world.reads.values()]
    assert waiting == [leader]
    done = world.reads_done
    world.run(3_000 + 600 * 3 // 2 + 50)
    assert not isinstance(world.states[leader].role, Leader)
    assert world.reads_done == done
    assert world.leader() in others


def test_reads_share_rounds() -> None:
    world = World(11)
    world.run(3_000)
    leader = world.leader()
    assert leader is not None
    for _ in range(50):
        world.read()
    world.run(3_020)
    role = world.states[leader].role
    assert isinstance(role, Leader)
    assert world.reads_done == 50
    assert role.read_round <= 3
    assert NodeId(leader) == leader
