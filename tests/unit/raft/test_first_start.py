"""Scenario 19, kraft.md 7.2 (10): a new disk, and one that was wiped, look the same.

With voters from a configuration nobody has named the disks, and a wiped one and a voter that was
never reached could elect each other, and begin a second history (KAFKA-14077).
"""

from dataclasses import replace
from uuid import UUID

import pytest

from controller.raft.effects import SendRequest
from controller.raft.events import Moment, RequestReceived, ResponseReceived, TimePassed
from controller.raft.messages import VoteRequest, VoteResponse
from controller.raft.state import RaftConfig, RaftState, SavedState, restore
from controller.raft.step import step
from klamm.ids import NO_NODE, DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from tests.unit.raft.test_world import heal, shake
from tests.unit.raft.voter import answer_of, key
from tests.unit.raft.world import Disk, World, config

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
EMPTY = EpochChain().end


class NewDisks(World):
    """Nobody has a vote with an empty disk; and disks may be wiped."""

    doubted = True

    def __init__(self, seed: int, size: int = 3) -> None:
        self.wiped = dict.fromkeys(range(1, size + 1), 0)
        super().__init__(seed, size)

    def config(self, node: NodeId) -> RaftConfig:
        directory_id = DirectoryId(UUID(int=100 * self.wiped[node] + node))
        return replace(super().config(node), directory_id=directory_id)

    def start(self, node: NodeId) -> None:
        if self.doubted and self.disks[node] == Disk():
            self.distrust[node] = "new"
        super().start(node)

    def wipe(self, node: NodeId) -> None:
        if node in self.states:
            self.crash(node)
        self.disks[node] = Disk()
        self.wiped[node] += 1
        self.start(node)

    def isolate(self, node: NodeId) -> None:
        self.cut = {(node, each) for each in self.disks} | {(each, node) for each in self.disks}

    def until_all_have_a_vote(self) -> None:
        while self.distrust:
            self.run(self.now_ms + 1)
            assert self.now_ms < 20_000, "no first start"


class Undoubted(NewDisks):
    """As it was: who finds nothing on its disk votes at once."""

    doubted = False


def with_one_never_reached(kind: type[NewDisks], seed: int) -> tuple[NewDisks, NodeId, NodeId]:
    """Records on two disks, of which one is wiped and the other down; the third has nothing."""
    without: list[NodeId] = []
    while not without:  # The first leader may be there before the last voter has its vote.
        world = kind(seed)
        world.until_all_have_a_vote()
        without = [node for node, disk in world.disks.items() if not disk.batches]
        seed += 100
    behind = without[seed % len(without)]
    world.isolate(behind)
    world.run(world.now_ms + 5_000)
    assert world.propose("acknowledged")
    world.run(world.now_ms + 2_000)
    assert world.committed[-1][1] == "acknowledged"
    down, lost = (each for each in world.disks if each != behind)
    world.crash(down)
    world.wipe(lost)
    world.cut = set()
    world.claims.clear()
    return world, down, lost


@pytest.mark.parametrize("seed", range(12))
def test_a_wiped_disk_and_one_never_reached_elect_nobody(seed: int) -> None:
    world, down, lost = with_one_never_reached(NewDisks, seed)
    world.run(world.now_ms + 20_000)
    assert not world.claims
    assert world.distrust == {lost: "new"}
    world.start(down)
    world.run(world.now_ms + 8_000)
    assert world.propose("last"), "the one with the records leads"
    world.run(world.now_ms + 3_000)
    values = [value for _, value in world.committed]
    assert "acknowledged" in values
    assert values[-1] == "last"
    assert not world.distrust, "it was filled"


def test_undoubted_they_would() -> None:
    """What the test above would find."""
    found = 0
    for seed in range(12):
        world, _, _ = with_one_never_reached(Undoubted, seed)
        try:
            world.run(world.now_ms + 20_000)
            found += bool(world.claims)
        except AssertionError:
            found += 1
    assert found == 12


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_first_start_takes_no_timeout(size: int) -> None:
    for seed in range(20):
        world = NewDisks(seed, size)
        world.run(3_000)
        assert not world.distrust
        assert world.claims
        assert world.claims[0][0] <= 1_000, (seed, world.claims)


@pytest.mark.parametrize("seed", range(20))
def test_a_first_start_among_faults(seed: int) -> None:
    """Crashes between any two steps of it: it may take longer, and comes to its end."""
    world = NewDisks(seed, (3, 5)[seed % 2])
    for _ in range(40):
        world.run(world.now_ms + world.rng.randint(1, 60))
        shake(world)
    heal(world)
    world.run(world.now_ms + 8_000)
    assert world.propose("last"), "no leader after all faults ended"
    world.run(world.now_ms + 3_000)
    assert not world.distrust


# ── by hand ──────────────────────────────────────────────────────────────────────────────────


def new_voter() -> RaftState:
    moment = Moment(now_ms=0, draw=0.5)
    return restore(config(1), SavedState(), EpochChain(), (), moment, distrust="new")


def asked(state: RaftState) -> tuple[RaftState, tuple[VoteRequest, ...]]:
    moment = Moment(now_ms=state.next_deadline_ms, draw=0.5)
    state, effects = step(state, TimePassed(), moment)
    sent = [each.request for each in effects if isinstance(each, SendRequest)]
    return state, tuple(each for each in sent if isinstance(each, VoteRequest))


def told(state: RaftState, sender: NodeId, *, empty: bool, disk: int | None = None) -> RaftState:
    request = VoteRequest(epoch=Epoch(0), log_end=EMPTY, pre_vote=True)
    response = VoteResponse(
        epoch=Epoch(0),
        leader=NO_NODE,
        directory_id=DirectoryId(UUID(int=disk or sender)),
        log_is_empty=empty,
    )
    moment = Moment(now_ms=10, draw=0.5)
    return step(state, ResponseReceived(sender, request, response), moment)[0]


def test_it_asks_all_others_and_needs_all() -> None:
    state, requests = asked(new_voter())
    assert [(each.pre_vote, each.log_end) for each in requests] == [(True, EMPTY)] * 2
    state = told(state, TWO, empty=True)
    assert state.recovering is not None
    state = told(state, TWO, empty=True)
    assert state.recovering is not None, "one that says it twice is one"
    assert told(told(state, TWO, empty=False), THREE, empty=True).recovering is not None
    state = told(state, THREE, empty=True)
    assert state.recovering is None
    assert state.may_stand


def test_another_disk_of_a_voter_that_has_shown_itself_says_nothing() -> None:
    state = told(told(new_voter(), TWO, empty=True), THREE, empty=False)
    assert told(state, THREE, empty=True, disk=77).recovering is not None


def test_a_vote_of_its_own_is_given_only_then() -> None:
    request = RequestReceived(5, key(2), VoteRequest(epoch=Epoch(1), log_end=EMPTY))
    moment = Moment(now_ms=10, draw=0.5)
    for state, granted in (
        (new_voter(), False),
        (told(told(new_voter(), TWO, empty=True), THREE, empty=True), True),
    ):
        answer = answer_of(step(state, request, moment)[1])
        assert isinstance(answer, VoteResponse)
        assert answer.vote_granted is granted
        assert answer.log_is_empty


def test_an_answer_says_whether_there_is_a_log() -> None:
    moment = Moment(now_ms=0, draw=0.5)
    log = EpochChain().append(Epoch(1), 3)
    state = restore(config(1), SavedState(epoch=Epoch(1)), log, (), moment)
    end = OffsetAndEpoch(epoch=Epoch(1), offset=Offset(3))
    for log_end in (EMPTY, end):
        request = VoteRequest(epoch=Epoch(1), log_end=log_end, pre_vote=True)
        answer = answer_of(step(state, RequestReceived(5, key(2), request), moment)[1])
        assert isinstance(answer, VoteResponse)
        assert not answer.log_is_empty
