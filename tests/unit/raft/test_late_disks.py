"""A voter's disk that no record of the log names: it counts for nothing until one does.

Scenario 19, kraft.md 7.2 (10). Its node may have had another disk a moment ago, which voted in a
later epoch or acknowledged to a later leader; who was named with the first leaders knows better.
"""

from dataclasses import replace
from uuid import UUID

import pytest

from controller.raft import membership
from controller.raft.effects import AnswerRead, AppendVoters, Commit, Effects
from controller.raft.events import (
    ProposalMade,
    ReadRequested,
    RequestReceived,
    ResponseReceived,
)
from controller.raft.messages import FetchRequest, VoteRequest, VoteResponse
from controller.raft.state import Candidate, Leader, RaftState
from controller.raft.step import step
from controller.raft.voters import BOOTSTRAP, ReplicaKey, Voter, VoterSet
from klamm.ids import NO_NODE, DirectoryId, Epoch, NodeId, Offset
from klamm.log.epochs import EpochChain
from tests.sim.planting import Mutant, Patch, planted
from tests.unit.raft.test_first_start import NewDisks
from tests.unit.raft.test_world import heal
from tests.unit.raft.voter import CANDIDATE, EPOCH, NOW, answer_of, ask, at, key, leader, voter
from tests.unit.raft.world import voter_set

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


def naming(*nodes: int) -> VoterSet:
    """Three voters; the disks of these are known."""
    return VoterSet(
        tuple(
            Voter(node_id=NodeId(each), directory_id=key(each).directory_id)
            if each in nodes
            else Voter(node_id=NodeId(each))
            for each in (1, 2, 3)
        )
    )


def with_names(state: RaftState, *nodes: int) -> RaftState:
    return replace(state, voter_history=((BOOTSTRAP, voter_set(3)), (Offset(1), naming(*nodes))))


def fetched(
    state: RaftState, end: int, *, disk: int = 3, recovering: bool = False, read_round: int = 0
) -> tuple[RaftState, Effects]:
    """Voter 3 acknowledges what is below `end`, with this disk."""
    request = FetchRequest(
        epoch=EPOCH,
        log_end=at(end, 5),
        high_watermark=state.high_watermark,
        max_bytes=1_000,
        max_wait_ms=500,
        recovering=recovering,
        read_round=read_round,
    )
    sender = ReplicaKey(node_id=THREE, directory_id=DirectoryId(UUID(int=disk)))
    return step(state, RequestReceived(7, sender, request), NOW)


def appended(effects: Effects) -> list[VoterSet]:
    return [each.voters for each in effects if isinstance(each, AppendVoters)]


def commits(effects: Effects) -> list[int]:
    return [each.high_watermark for each in effects if isinstance(each, Commit)]


def leading(*nodes: int) -> RaftState:
    """With a record at 6 that is durable here, and nowhere else."""
    state = with_names(leader(), *nodes)
    log = state.log.append(EPOCH, 1)
    return replace(state, log=log, flushed=log.end_offset)


def test_a_disk_in_doubt_counts_for_nothing() -> None:
    _, effects = fetched(leading(1, 2), 7, recovering=True)
    assert not commits(effects)
    assert not appended(effects)
    _, effects = fetched(leading(1, 2, 3), 7, recovering=True)
    assert commits(effects) == [7], "one that is named has its vote, and knows what it promised"


def test_a_disk_that_is_whole_is_named_and_counts_from_then_on() -> None:
    state, effects = fetched(leading(1, 2), 7)
    assert appended(effects) == [naming(1, 2, 3)]
    assert state.high_watermark == 7
    _, effects = fetched(state, 8, disk=77)
    assert not commits(effects), "it was swapped: another disk of the same id"
    state, effects = fetched(state, 8)
    assert not appended(effects)


def test_a_disk_in_doubt_that_the_last_record_names_counts_once_others_have_committed_it() -> None:
    """It was met before the election, and may have been another since."""
    state = leading(1, 2)
    state = replace(
        state,
        log=EpochChain().append(EPOCH, 2),
        voter_history=((BOOTSTRAP, voter_set(3)), (Offset(1), naming(1, 2, 3))),
        high_watermark=Offset(0),
        flushed=Offset(2),
    )
    assert isinstance(state.role, Leader)
    begun = replace(state.role, epoch_start=Offset(0), first_end=Offset(2), claimed=False)
    state = replace(state, role=begun)
    assert not commits(fetched(state, 2, recovering=True)[1])
    assert commits(fetched(state, 2)[1]) == [2]


def test_nothing_is_named_before_the_epoch_has_committed_something() -> None:
    """A change of the voters as any other (the thesis' bug, 2015)."""
    state = with_names(leader(committed=5), 1, 2)
    _, effects = fetched(state, 6)
    assert not appended(effects)
    assert not commits(effects)


def test_a_read_round_is_confirmed_by_named_disks() -> None:
    for nodes, confirmed in (((1, 2), False), ((1, 2, 3), True)):
        state, _ = step(leading(*nodes), ReadRequested(3), NOW)
        _, effects = fetched(state, 6, recovering=True, read_round=1)
        assert any(isinstance(each, AnswerRead) for each in effects) is confirmed


def test_votes_are_of_named_disks() -> None:
    request = VoteRequest(epoch=EPOCH, log_end=voter(CANDIDATE).log.end)
    for node, elects in ((3, False), (2, True)):
        answer = VoteResponse(
            epoch=EPOCH, leader=NO_NODE, vote_granted=True, directory_id=key(node).directory_id
        )
        event = ResponseReceived(NodeId(node), request, answer)
        state, _ = step(with_names(voter(CANDIDATE), 1, 2), event, NOW)
        assert isinstance(state.role, Leader) is elects
        state, _ = step(voter(CANDIDATE), event, NOW)
        assert isinstance(state.role, Leader), "no record names anybody yet"


def test_who_is_not_named_itself_needs_all_the_others() -> None:
    state = with_names(
        replace(voter(CANDIDATE), role=Candidate(deadline_ms=1, granted=frozenset())), 2, 3
    )
    assert state.vote_of_its_own == frozenset()
    assert with_names(state, 1).vote_of_its_own == {ONE}


def test_another_disk_than_the_first_is_not_told_that_a_log_is_empty() -> None:
    """The first may have voted for us: then there will be a log."""
    state = replace(voter(CANDIDATE, log=EpochChain()), epoch=Epoch(1))
    request = VoteRequest(epoch=Epoch(0), log_end=EpochChain().end, pre_vote=True)
    state, effects = ask(state, 3, request)
    first = answer_of(effects)
    sender = ReplicaKey(node_id=THREE, directory_id=DirectoryId(UUID(int=77)))
    _, effects = step(state, RequestReceived(7, sender, request), NOW)
    second = answer_of(effects)
    assert isinstance(first, VoteResponse)
    assert isinstance(second, VoteResponse)
    assert (first.log_is_empty, second.log_is_empty) == (True, False)


# ── the story ────────────────────────────────────────────────────────────────────────────────


class Formatted(NewDisks):
    """Somebody has formatted the first disks, so nobody asks all others before it votes."""

    formatted = True

    def start(self, node: NodeId) -> None:
        self.doubted = not self.formatted
        super().start(node)


def apart(*groups: tuple[NodeId, ...]) -> set[tuple[NodeId, NodeId]]:
    """Whose links are cut."""
    at_home = {each: group for group in groups for each in group}
    return {(one, other) for one in at_home for other in at_home if at_home[one] != at_home[other]}


def two_leaders(seed: int) -> Formatted:
    """One voter is late, helps another to lead, and comes back wiped to the first."""
    world = Formatted(seed)
    world.cut = apart((ONE, TWO), (THREE,))
    while world.leader() is None:
        world.run(world.now_ms + 1)
    first = world.leader()
    assert first is not None
    second = TWO if first == ONE else ONE
    assert world.propose("first")
    world.run(world.now_ms + 100)
    assert world.committed[-1][1] == "first"
    world.cut = apart((first,), (second, THREE))
    for _ in range(880):
        world.run(world.now_ms + 1)
        if world.leader() == second:
            break
    if world.leader() == second:
        world.propose("second")
        world.run(world.now_ms + 10)
    world.formatted = False
    world.cut = apart((first, THREE), (second,))
    world.wipe(THREE)
    for _ in range(20):
        world.run(world.now_ms + 5)
        state = world.states[first]
        if isinstance(state.role, Leader):
            world._step(first, _proposal(state))
    world.run(world.now_ms + 200)
    return world


def _proposal(state: RaftState) -> ProposalMade:
    return ProposalMade(
        call=0, epoch=state.epoch, base_offset=state.log.end_offset, count=1, records=("third",)
    )


@pytest.mark.parametrize("seed", range(10))
def test_a_voter_that_was_late_and_is_wiped_makes_no_second_history(seed: int) -> None:
    """It had voted for another leader, and acknowledged to it; the first knew nothing of that."""
    world = two_leaders(seed)
    heal(world)
    world.run(world.now_ms + 10_000)
    assert world.propose("last")
    world.run(world.now_ms + 2_000)
    assert world.committed[-1][1] == "last"


def _unnamed_disks_count() -> list[Patch]:
    return [
        (RaftState, "has_weight", lambda self, node_id: self.voters.find(node_id) is not None),
        (RaftState, "was_named", lambda *_: True),
        (membership, "name_disk", lambda now, *_: (now, ())),
    ]


UNNAMED_DISKS_COUNT = Mutant("unnamed disks count", "a voter has one disk", _unnamed_disks_count)


def test_without_the_rule_there_would_be_two() -> None:
    """What the test above would find."""
    found = 0
    for seed in range(10):
        with planted(UNNAMED_DISKS_COUNT):
            try:
                two_leaders(seed)
            except AssertionError:
                found += 1
    assert found > 5
