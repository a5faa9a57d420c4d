"""Quorums under writes of which some are quick and the others rest: who stops, dies, reads."""

import itertools
from uuid import UUID

import pytest

from controller.raft.effects import AcceptChange
from controller.raft.events import StreamLost
from controller.raft.state import Leader
from controller.raft.thrift import REST_MS
from controller.raft.voters import RemoveVoter, ReplicaKey
from klamm.ids import DirectoryId, NodeId
from tests.unit.raft.world import World

BUSY_MS = 2
"""Between two writes."""

ROUND_MS = 12
"""A record's way, at the most: there, two syncs, and back, in `World`'s time."""

SEEDS = range(4)


class Busy:
    def __init__(self, seed: int, size: int) -> None:
        self.world = World(seed, size)
        self.world.batches_max = 100
        while self.world.leader() is None:
            self.run(10)
        self._number = 0
        self.write_for(100)

    def run(self, ms: int) -> None:
        self.world.run(self.world.now_ms + ms)

    def write_for(self, ms: int) -> int:
        """The longest time without a commit, while there were writes."""
        until_ms, committed = self.world.now_ms + ms, len(self.world.committed)
        longest_ms, since_ms = 0, self.world.now_ms
        while self.world.now_ms < until_ms:
            if self._number % BUSY_MS == 0:
                self.world.propose(f"value-{self._number}")
            self._number += 1
            self.run(1)
            if len(self.world.committed) > committed:
                committed, since_ms = len(self.world.committed), self.world.now_ms
            longest_ms = max(longest_ms, self.world.now_ms - since_ms)
        return longest_ms

    @property
    def leader(self) -> NodeId:
        leading = self.world.leader()
        assert leading is not None
        return leading

    @property
    def quick(self) -> tuple[NodeId, ...]:
        role = self.world.states[self.leader].role
        assert isinstance(role, Leader)
        return tuple(sorted(role.quick))


@pytest.mark.parametrize("size", [5, 7])
def test_whoever_stops_commits_go_on_after_a_rest(size: int) -> None:
    """As many as may be, by SIGSTOP: nothing tells the leader of it (scenarios 9 and 10)."""
    for seed in range(3):
        busy = Busy(seed, size)
        others = [each for each in busy.world.states if each != busy.leader]
        for stopped in itertools.islice(itertools.combinations(others, size // 2), 5):
            for each in stopped:
                busy.world.pause(each)
            assert busy.write_for(150) <= REST_MS + ROUND_MS
            assert not set(busy.quick) & set(stopped)
            for each in stopped:
                busy.world.resume(each)
            busy.write_for(60)


def test_an_acknowledgement_that_gets_lost_costs_a_rest() -> None:
    """A quick one that hears the leader and is not heard by it."""
    for seed in SEEDS:
        busy = Busy(seed, 3)
        leader, (quick, *_) = busy.leader, busy.quick
        busy.world.cut.add((quick, leader))
        assert busy.write_for(150) <= REST_MS + ROUND_MS
        assert busy.leader == leader


@pytest.mark.parametrize(("size", "with_it"), [(3, 0), (5, 0), (5, 1), (7, 2)])
def test_a_leader_that_dies_under_writes_is_replaced_as_soon_as_any(
    size: int, with_it: int
) -> None:
    """Some of the quick with it; all that was committed is on those that are left."""
    for seed in range(8):
        busy = Busy(seed, size)
        dead = (busy.leader, *busy.quick[:with_it])
        claims = len(busy.world.claims)
        for each in dead:
            busy.world.crash(each)
        busy.run(150)
        assert len(busy.world.claims) > claims, f"seed {seed}: nobody leads after {dead}"
        assert busy.leader not in dead
        assert busy.write_for(50) <= ROUND_MS


def test_reads_wait_for_nobody_that_rests() -> None:
    for seed in SEEDS:
        busy = Busy(seed, 5)
        for _ in range(30):
            busy.write_for(7)
            done = busy.world.reads_done
            busy.world.read()
            busy.run(ROUND_MS)
            assert busy.world.reads_done == done + 1


def test_reads_are_confirmed_by_those_that_rest_if_the_quick_are_silent() -> None:
    """Also by who asks while the round is out, and would rest."""
    for seed in SEEDS:
        busy = Busy(seed, 5)
        for _ in range(20):
            silent = busy.quick
            for each in silent:
                busy.world.pause(each)
            done = busy.world.reads_done
            busy.world.read()
            busy.world.propose("beside it")
            busy.run(ROUND_MS)
            assert busy.world.reads_done == done + 1
            for each in silent:
                busy.world.resume(each)
            busy.write_for(33)


def test_two_quick_ones_that_are_lost_at_once_cost_no_rest() -> None:
    for seed in SEEDS:
        busy = Busy(seed, 5)
        world, lost = busy.world, busy.quick
        for each in lost:
            world.pause(each)
        world.propose("the first without them")
        for each in lost:
            world._step(busy.leader, StreamLost(each))
        end = world.states[busy.leader].log.end_offset
        busy.run(ROUND_MS)
        assert world.states[busy.leader].high_watermark == end


def test_a_quick_one_that_is_removed_costs_no_rest() -> None:
    for seed in SEEDS:
        busy = Busy(seed, 5)
        removed = busy.quick[0]
        key = ReplicaKey(node_id=removed, directory_id=DirectoryId(UUID(int=removed)))
        assert isinstance(busy.world.change(RemoveVoter(key=key)), AcceptChange)
        assert removed not in busy.quick
        busy.world.pause(removed)
        assert busy.write_for(60) <= ROUND_MS


def test_writes_go_on_after_a_transfer_that_was_refused() -> None:
    """The target fell silent after it had begun: nobody rests from what came meanwhile."""
    for seed in SEEDS:
        busy = Busy(seed, 3)
        world, leader = busy.world, busy.leader
        target = next(each for each in world.states if each not in (leader, *busy.quick))
        world.propose("one that it lacks")
        world.pause(target)
        world.transfer(target)
        assert world.transfers, "under way"
        busy.run(world.states[leader].config.election_timeout_ms)
        assert not world.transfers
        assert busy.leader == leader
        assert busy.write_for(60) <= ROUND_MS
