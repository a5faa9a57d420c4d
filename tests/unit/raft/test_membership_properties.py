"""Any sequence of changes, under crashes and cuts: what holds of every set and of every history."""

from itertools import combinations, pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.raft.effects import AcceptChange
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    Voter,
    VoterSet,
    share_majority,
)
from klamm.ids import DirectoryId, NodeId
from klamm.metadata.records import Endpoint
from tests.unit.raft.world import World

SEEDS = 30
ROUNDS = 25


def disk(number: int) -> DirectoryId:
    return DirectoryId(UUID(int=number))


def member(node: int, directory: int | None = None) -> Voter:
    return Voter(
        node_id=NodeId(node),
        directory_id=disk(node if directory is None else directory),
        endpoint=Endpoint(name="CONTROLLER", host="here", port=node),
    )


def chance(world: World) -> None:
    """One change or one misfortune."""
    node = NodeId(world.rng.choice(list(world.disks)))
    match world.rng.choice(["add", "add", "remove", "remove", "crash", "cut", "heal", "propose"]):
        case "add":
            world.change(AddVoter(voter=member(node), readmit=True))
        case "remove":
            world.change(RemoveVoter(key=ReplicaKey(node_id=node)))
        case "crash" if node in world.states:
            world.crash(node)
        case "cut":
            other = NodeId(world.rng.choice(list(world.disks)))
            world.cut |= {(node, other), (other, node)}
        case "heal":
            world.cut.clear()
        case _:
            world.propose(world.rng.random())


def check(world: World) -> None:
    for node, state in world.states.items():
        replayed = tuple(each for batch in world.disks[node].batches for each in batch.voters)
        assert state.voter_history[1:] == replayed, f"{node}: not what its log says"
        sets = [each for _, each in state.voter_history]
        for one, two in pairwise(sets):
            assert share_majority(one, two), f"{node}: {one.ids} and {two.ids}"


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_scenario_17_history_is_the_replay_of_the_log(first: int) -> None:
    """And commits go on once peace has come, whatever set was arrived at."""
    changed = 0
    for seed in range(first, first + 10):
        world = World(seed, 3, spares=2)
        for _ in range(ROUNDS):
            world.run(world.now_ms + world.rng.choice((5, 50, 400, 1_500)))
            chance(world)
            check(world)
            for node in world.disks:
                if node not in world.states and world.rng.random() < 0.7:
                    world.start(node)
        world.cut.clear()
        for node in world.disks:
            if node not in world.states:
                world.start(node)
        world.run(world.now_ms + 5_000)
        check(world)
        committed = len(world.committed)
        assert world.propose("after peace"), f"seed {seed}: nobody leads"
        world.run(world.now_ms + 500)
        assert len(world.committed) > committed, f"seed {seed}: nothing is committed"
        leader = world.leader()
        assert leader is not None
        changed += len(world.states[leader].voter_history) - 2
    assert changed >= 10, "the changes were made"


@given(st.sets(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 9))
def test_row_120_one_voter_more_or_less_shares_a_majority(nodes: set[int], other: int) -> None:
    one = VoterSet(tuple(map(member, sorted(nodes))))
    if other in nodes:
        if len(nodes) > 1:
            assert share_majority(one, one.left(NodeId(other)))
    else:
        assert share_majority(one, one.joined(member(other)))


@given(
    st.dictionaries(st.integers(0, 5), st.integers(0, 1), min_size=1),
    st.dictionaries(st.integers(0, 5), st.integers(0, 1), min_size=1),
)
def test_row_120_shared_majorities_counted_by_hand(
    one: dict[int, int], two: dict[int, int]
) -> None:
    """Against all pairs of majorities of small sets."""

    def majorities(nodes: dict[int, int]) -> list[set[tuple[int, int]]]:
        return [set(each) for each in combinations(nodes.items(), len(nodes) // 2 + 1)]

    def voters(nodes: dict[int, int]) -> VoterSet:
        return VoterSet(tuple(member(each, nodes[each]) for each in sorted(nodes)))

    by_hand = all(a & b for a in majorities(one) for b in majorities(two))
    assert share_majority(voters(one), voters(two)) is by_hand


def test_row_120_another_disk_for_one_of_three_shares_no_majority() -> None:
    """Why a disk is replaced by a removal and an addition, and not by one record."""
    old = VoterSet(tuple(map(member, (1, 2, 3))))
    new = VoterSet((member(1), member(2), member(3, 33)))
    assert not share_majority(old, new)
    assert share_majority(old, old.left(NodeId(3)))
    assert share_majority(old.left(NodeId(3)), new)


def test_from_one_to_five_and_back() -> None:
    world = World(1, 1, spares=4)
    world.run(300)
    for node in (2, 3, 4, 5):
        assert isinstance(world.change(AddVoter(voter=member(node))), AcceptChange)
        world.propose(node)
        world.run(world.now_ms + 100)
    for node in (1, 2, 3, 4):
        told = world.change(RemoveVoter(key=ReplicaKey(node_id=NodeId(node))))
        assert isinstance(told, AcceptChange), told
        world.run(world.now_ms + 1_000)
        assert world.propose(node)
    leader = world.leader()
    assert leader == 5
    assert world.states[leader].voters.ids == (5,)
    check(world)
