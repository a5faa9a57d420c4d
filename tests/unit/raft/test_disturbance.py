"""Disturb nobody: one bad link, a flapping one, a late epoch, a removed voter (scenario 14).

Worlds of the core alone; times are simulated.
"""

from dataclasses import replace

import pytest

from controller.raft import events as ev
from controller.raft.messages import Request, VoteRequest
from controller.raft.state import RaftConfig, SavedState
from klamm.ids import Epoch, NodeId
from tests.unit.raft.world import World, config


class Counting(World):
    """Counts the campaigns that anybody hears of."""

    def __init__(self, seed: int, size: int = 3) -> None:
        self.pre_votes = 0
        self.votes = 0
        super().__init__(seed, size)

    def config(self, node: NodeId) -> RaftConfig:
        """With the backoff that is the default."""
        return replace(config(node, self.size), election_backoff_max_ms=1_000)

    def _send(self, node: NodeId, to: NodeId, request: Request) -> None:
        if isinstance(request, VoteRequest):
            self.pre_votes += request.pre_vote
            self.votes += not request.pre_vote
        super()._send(node, to, request)


def settled(seed: int, size: int = 3) -> tuple[Counting, NodeId, list[NodeId]]:
    """A world with a leader, and its followers."""
    world = Counting(seed, size)
    world.run(3_000)
    leader = world.leader()
    assert leader is not None
    world.pre_votes = world.votes = 0
    return world, leader, [each for each in world.disks if each != leader]


def assert_undisturbed(world: Counting, leader: NodeId, epoch: Epoch) -> None:
    assert world.leader() == leader
    assert world.states[leader].epoch == epoch
    assert world.votes == 0


@pytest.mark.parametrize("size", [3, 5])
def test_a_link_that_flaps_for_a_minute_moves_nobody_and_costs_few_campaigns(size: int) -> None:
    """Every 20 ms it breaks, or is whole: 1,500 breaks; each is longer waited for than the last."""
    world, leader, (follower, *_) = settled(1, size)
    epoch = world.states[leader].epoch
    link = {(leader, follower), (follower, leader)}
    written = 0
    for flap in range(3_000):
        world.cut = link if flap % 2 == 0 else set()
        if flap % 2 == 0:
            world._step(follower, ev.StreamLost(leader))
            world._step(leader, ev.StreamLost(follower))
        written += world.propose(flap)
        world.run(world.now_ms + 20)
    assert_undisturbed(world, leader, epoch)
    assert written == 3_000
    assert world.pre_votes <= 100 * (size - 1), "damped"
    world.cut = set()
    world.run(world.now_ms + 1_500)
    assert len(world.committed) >= written
    assert world.states[follower].leader == leader
    assert world.states[follower].high_watermark == len(world.committed)


def test_a_leader_that_dies_soon_after_its_link_flapped_is_replaced_all_the_same() -> None:
    """Damping costs at most the longest backoff, and is forgotten when the link is steady."""
    world, leader, (follower, *_) = settled(4)
    for _ in range(50):
        world._step(follower, ev.StreamLost(leader))
        world.run(world.now_ms + 20)
    world.crash(leader)
    died_ms = world.now_ms
    world.run(died_ms + 1_000)
    assert any(ms > died_ms for ms, _, _ in world.claims)
    world.start(leader)
    world.run(world.now_ms + 3_000)
    assert all(state.attempts == 0 for state in world.states.values())


def test_a_partition_that_heals_moves_nobody() -> None:
    """Who is cut off asks for pre-votes and gets none: it returns in the epoch that it left."""
    world, leader, (follower, other) = settled(5)
    epoch = world.states[leader].epoch
    world.cut = {(a, b) for a in world.disks for b in world.disks if follower in (a, b)}
    world.run(world.now_ms + 30_000)
    assert world.states[follower].epoch == epoch
    world.cut = set()
    world.run(world.now_ms + 3_000)
    assert_undisturbed(world, leader, epoch)
    assert world.states[follower].leader == world.states[other].leader == leader


def test_a_node_that_comes_back_with_a_higher_epoch_costs_one_short_election() -> None:
    """It cannot follow an earlier epoch, so there must be a later one; it must not win it.

    Its log is behind. Between the last write of the old epoch and the first of the new one pass
    round trips and fsyncs, and no timeout; what was written is kept.
    """
    gaps: list[int] = []
    for seed in range(20):
        world, leader, (follower, _) = settled(100 + seed)
        epoch = world.states[leader].epoch
        world.crash(follower)
        written = sum(world.propose(number) for number in range(3))
        world.run(world.now_ms + 50)
        before = len(world.committed)
        world.disks[follower].saved = SavedState(epoch=Epoch(epoch + 7))
        began_ms, claims = world.now_ms, len(world.claims)
        world.start(follower)
        last_led_ms = began_ms
        while len(world.claims) == claims:
            last_led_ms = world.now_ms if world.leader() == leader else last_led_ms
            world.run(world.now_ms + 1)
            assert world.now_ms < began_ms + 2_000, "nobody leads"
        gaps.append(world.now_ms - last_led_ms)
        world.run(world.now_ms + 3_000)
        new = world.leader()
        assert new not in (None, follower)
        assert written == 3
        assert len(world.committed) > before >= written
        assert len(world.claims) == claims + 1, "one election"
        assert world.states[follower].leader == new
    assert max(gaps) <= 100, gaps
    assert sorted(gaps)[10] <= 30, gaps


class Removed(Counting):
    """Voter 4 of four was removed, and has not heard of it; its log is empty."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, 4)
        self.size = 3

    def config(self, node: NodeId) -> RaftConfig:
        return replace(config(node, 4 if node == GONE else 3), election_backoff_max_ms=1_000)


GONE = NodeId(4)


def test_a_removed_voter_that_has_not_heard_of_it_moves_nobody() -> None:
    """It asks for pre-votes as long as it lives. Nobody who hears a leader grants one."""
    world = Removed(6)
    world.cut = {(a, b) for a in world.disks for b in world.disks if GONE in (a, b)}
    world.run(3_000)
    leader = world.leader()
    assert leader not in (None, GONE)
    assert leader is not None
    epoch = world.states[leader].epoch
    world.cut = {(leader, GONE), (GONE, leader)}
    world.votes = world.pre_votes = 0
    world.run(world.now_ms + 30_000)
    assert world.pre_votes > 10, "it tries"
    assert_undisturbed(world, leader, epoch)
    # When the leader dies the others elect, and not it: it has not what is committed.
    world.cut = set()
    world.propose("x")
    world.run(world.now_ms + 5)
    world.crash(leader)
    world.run(world.now_ms + 1_000)
    assert world.leader() not in (None, leader, GONE)


def test_losing_a_connection_says_nothing_about_the_log() -> None:
    """Connection loss only brings the campaign forward: who is behind is refused all the same."""
    world, leader, (follower, other) = settled(8)
    world.cut = {(leader, follower), (follower, leader)}
    written = world.propose("kept")
    world.run(world.now_ms + 10)
    assert written
    assert world.states[follower].log.end_offset < world.states[other].log.end_offset
    world.crash(leader)
    world._step(follower, ev.StreamLost(leader))
    world.run(world.now_ms + 1_000)
    assert world.leader() == other
    assert "kept" in [value for _, value in world.committed]
