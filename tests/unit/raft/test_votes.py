"""Who gets a vote, and who a pre-vote (kraft 6.2; KIP-996)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.raft.effects import AppendControl, SaveQuorumState, SendRequest
from controller.raft.events import (
    Moment,
    RequestFailed,
    RequestReceived,
    ResignRequested,
    ResponseReceived,
    StreamLost,
    TimePassed,
)
from controller.raft.messages import VoteRequest, VoteResponse
from controller.raft.state import (
    Candidate,
    Follower,
    Leader,
    Prospective,
    RaftState,
    Resigned,
    SavedState,
    Unattached,
    restore,
)
from controller.raft.step import Step, step
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from tests.unit.raft.voter import (
    EPOCH,
    LOG,
    LOST,
    ME,
    NOW,
    ROLES,
    THREE,
    TWO,
    UNATTACHED,
    answer_of,
    ask,
    at,
    key,
    leader,
    voter,
)
from tests.unit.raft.world import config


@pytest.mark.parametrize(
    ("log_end", "granted"),
    [
        # As much as ours, or more of the same epoch.
        (at(5, 3), True),
        (at(6, 3), True),
        # A later epoch beats a longer log.
        (at(1, 4), True),
        # Less, or an earlier epoch however long.
        (at(4, 3), False),
        (at(99, 2), False),
        (at(0, -1), False),
    ],
)
@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_vote_goes_to_a_log_as_good_as_ours(
    log_end: OffsetAndEpoch, granted: bool, pre_vote: bool
) -> None:
    request = VoteRequest(epoch=EPOCH, log_end=log_end, pre_vote=pre_vote)
    _, effects = ask(voter(UNATTACHED), 2, request)
    answer = answer_of(effects)
    assert isinstance(answer, VoteResponse)
    assert answer.vote_granted is granted


@pytest.mark.parametrize(
    ("role", "vote", "pre_vote"),
    [
        ("unattached", True, True),
        # Hears its leader.
        ("follower", False, False),
        # Has one in this epoch, and would like another.
        ("lost follower", False, True),
        # Of two that ask each other the higher id stands.
        ("prospective", True, True),
        ("candidate", False, False),
        ("resigned", False, True),
    ],
)
def test_what_each_role_gives(role: str, vote: bool, pre_vote: bool) -> None:
    for asked, granted in ((False, vote), (True, pre_vote)):
        request = VoteRequest(epoch=EPOCH, log_end=at(5, 3), pre_vote=asked)
        answer = answer_of(ask(voter(ROLES[role]), 3, request)[1])
        assert isinstance(answer, VoteResponse)
        assert answer.vote_granted is granted, f"pre_vote={asked}"


def test_a_leader_gives_neither_and_says_that_it_leads() -> None:
    for pre_vote in (False, True):
        request = VoteRequest(epoch=EPOCH, log_end=at(9, 4), pre_vote=pre_vote)
        state, effects = ask(leader(), 3, request)
        answer = answer_of(effects)
        assert isinstance(answer, VoteResponse)
        assert (answer.vote_granted, answer.leader) == (False, ME)
        assert isinstance(state.role, Leader)


def test_one_vote_an_epoch_and_the_same_again_to_the_same() -> None:
    request = VoteRequest(epoch=EPOCH, log_end=at(5, 3))
    state, effects = ask(voter(UNATTACHED), 2, request)
    assert isinstance(effects[0], SaveQuorumState), "durable before it is said"
    assert effects[0].voted_for == key(2)
    again, effects = ask(state, 2, request)
    assert answer_of(effects).vote_granted  # type: ignore[union-attr]
    assert len(effects) == 1, "nothing new to save"
    _, effects = ask(again, 3, request)
    assert not answer_of(effects).vote_granted  # type: ignore[union-attr]


def test_who_has_granted_a_pre_vote_stands_back_once() -> None:
    request = VoteRequest(epoch=EPOCH, log_end=at(5, 3), pre_vote=True)
    state, _ = ask(voter(LOST), 3, request)
    assert isinstance(state.role, Follower)
    assert state.role.deadline_ms >= NOW.now_ms + 20
    again, _ = ask(state, 3, request)
    assert again.role == state.role


def test_a_pre_vote_changes_nothing_durable() -> None:
    state, effects = step(voter(LOST), TimePassed(), later(LOST.deadline_ms))
    assert isinstance(state.role, Prospective)
    assert state.epoch == EPOCH
    asked = [each for each in effects if isinstance(each, SendRequest)]
    assert [each.to for each in asked] == [2, 3]
    assert len(effects) == len(asked)


def test_the_lower_id_yields_and_the_higher_one_asks_again() -> None:
    request = VoteRequest(epoch=EPOCH, log_end=at(5, 3), pre_vote=True)
    three = prospective(node=3)
    refused, _ = answered(three, 1, granted=False, pre_vote=True)
    state, effects = ask(refused, 1, request)
    assert not answer_of(effects).vote_granted  # type: ignore[union-attr]
    # Voter 1 has lost its leader since it refused: it is asked once more, at once.
    assert SendRequest(NodeId(1), request) in effects
    assert isinstance(state.role, Prospective)
    assert not state.role.refused


def test_a_majority_of_pre_votes_makes_a_candidate() -> None:
    """It asks while its own vote is being saved, and counts that one in a later step."""
    state, effects = answered(prospective(), 2, granted=True, pre_vote=True)
    assert isinstance(state.role, Candidate)
    assert state.epoch == EPOCH + 1
    *votes, save = effects
    assert isinstance(save, SaveQuorumState)
    assert save.voted_for == key(1)
    assert all(isinstance(each, SendRequest) for each in votes)


@pytest.mark.parametrize("offset", [4, 99])
def test_a_vote_for_another_log_than_ours_is_not_counted(offset: int) -> None:
    """A full disk undid the campaign that asked; what we had then has been cut, or has grown."""
    state, _ = answered(prospective(), 2, granted=True, pre_vote=True)
    asked = VoteRequest(epoch=state.epoch, log_end=OffsetAndEpoch(EPOCH, Offset(offset)))
    granted = VoteResponse(epoch=state.epoch, leader=NO_NODE, vote_granted=True)
    assert step(state, ResponseReceived(TWO, asked, granted), NOW) == (state, ())


def test_a_pre_vote_that_cannot_be_won_ends_at_once() -> None:
    state, _ = answered(prospective(), 2, granted=False, pre_vote=True)
    assert isinstance(state.role, Prospective)
    failed = VoteRequest(epoch=EPOCH, log_end=LOG.end, pre_vote=True)
    state, _ = step(state, RequestFailed(THREE, failed), NOW)
    assert isinstance(state.role, Unattached)
    assert NOW.now_ms < state.role.deadline_ms < NOW.now_ms + 100


def test_a_majority_of_votes_makes_a_leader() -> None:
    state, effects = answered(voter(ROLES["candidate"]), 3, granted=True)
    assert isinstance(state.role, Leader)
    control = effects[0]
    assert isinstance(control, AppendControl)
    assert control.granting_voters == (1, 3)
    assert control.voters is not None, "the log names the voters from day one"
    # The disks that it has heard of: its own, and the one that voted.
    known = {each.node_id: each.directory_id for each in control.voters.voters}
    assert known == {ME: key(1).directory_id, TWO: None, THREE: key(3).directory_id}
    assert state.high_watermark == 0, "nothing is committed before its own record is"


def test_the_vote_of_another_disk_is_none() -> None:
    state, _ = ask(voter(ROLES["candidate"]), 3, VoteRequest(epoch=EPOCH, log_end=LOG.end))
    response = VoteResponse(
        epoch=EPOCH, leader=NO_NODE, vote_granted=True, directory_id=key(77).directory_id
    )
    request = VoteRequest(epoch=EPOCH, log_end=LOG.end)
    state, _ = step(state, ResponseReceived(THREE, request, response), NOW)
    assert isinstance(state.role, Candidate)


def test_a_late_grant_of_an_earlier_campaign_counts_for_nothing() -> None:
    candidate = voter(ROLES["candidate"])
    response = VoteResponse(epoch=EPOCH, leader=NO_NODE, vote_granted=True)
    for request in (
        VoteRequest(epoch=Epoch(4), log_end=LOG.end),
        VoteRequest(epoch=EPOCH, log_end=LOG.end, pre_vote=True),
    ):
        state, effects = step(candidate, ResponseReceived(TWO, request, response), NOW)
        assert isinstance(state.role, Candidate)
        assert not effects


def test_a_lost_leader_is_campaigned_against_within_milliseconds() -> None:
    state, _ = step(voter(ROLES["follower"]), StreamLost(TWO), NOW)
    assert isinstance(state.role, Follower)
    assert state.leader == NO_NODE
    assert NOW.now_ms < state.role.deadline_ms <= NOW.now_ms + 15
    # Another one's stream is no news.
    other, _ = step(voter(ROLES["follower"]), StreamLost(THREE), NOW)
    assert other.role == ROLES["follower"]


@pytest.mark.parametrize(
    ("saved", "role"),
    [
        (SavedState(epoch=EPOCH), Unattached),
        (SavedState(epoch=EPOCH, voted_for=key(2)), Unattached),
        (SavedState(epoch=EPOCH, leader=TWO), Follower),
        # It may have led: never again in this epoch.
        (SavedState(epoch=EPOCH, voted_for=key(1)), Resigned),
        (SavedState(epoch=EPOCH, voted_for=key(1), leader=ME), Resigned),
    ],
)
def test_coming_back_from_the_disk(saved: SavedState, role: type) -> None:
    state = restore(config(1), saved, LOG, (), NOW)
    assert isinstance(state.role, role)
    assert (state.epoch, state.voted_for) == (saved.epoch, saved.voted_for)
    assert state.next_deadline_ms <= NOW.now_ms + 41


def test_a_single_voter_leads_at_once_in_the_next_epoch() -> None:
    state = restore(config(1, size=1), SavedState(), EpochChain(), (), NOW)
    state, effects = step(state, TimePassed(), NOW)
    assert isinstance(state.role, Leader)
    assert state.epoch == 1
    assert isinstance(effects[0], SaveQuorumState)


def prospective(node: int = 1) -> RaftState:
    state = restore(config(node), SavedState(epoch=EPOCH), LOG, (), NOW)
    state, _ = step(state, TimePassed(), later(state.next_deadline_ms))
    assert isinstance(state.role, Prospective)
    return state


def answered(state: RaftState, sender: int, *, granted: bool, pre_vote: bool = False) -> Step:
    request = VoteRequest(epoch=state.epoch, log_end=LOG.end, pre_vote=pre_vote)
    response = VoteResponse(
        epoch=state.epoch,
        leader=NO_NODE,
        vote_granted=granted,
        directory_id=key(sender).directory_id,
    )
    return step(state, ResponseReceived(NodeId(sender), request, response), NOW)


def later(now_ms: int) -> Moment:
    return Moment(now_ms=now_ms, draw=NOW.draw)


def _votes(moment: Moment) -> RaftState:
    request = VoteRequest(epoch=EPOCH, log_end=at(9, 4))
    state, _ = step(voter(UNATTACHED), RequestReceived(7, key(2), request), moment)
    assert isinstance(state.role, Unattached)
    return state


def _hears_of_a_later_epoch(moment: Moment) -> RaftState:
    request = VoteRequest(epoch=Epoch(EPOCH + 1), log_end=at(0, -1))
    before = replace(voter(Resigned(deadline_ms=10_000)), voted_for=None)
    state, _ = step(before, RequestReceived(7, key(2), request), moment)
    assert isinstance(state.role, Unattached)
    return state


def _stands(moment: Moment) -> RaftState:
    before = voter(Prospective(leader=NO_NODE, deadline_ms=10_200, granted=frozenset({ME})))
    request = VoteRequest(epoch=EPOCH, log_end=LOG.end, pre_vote=True)
    answer = VoteResponse(
        epoch=EPOCH, leader=NO_NODE, vote_granted=True, directory_id=key(2).directory_id
    )
    state, _ = step(before, ResponseReceived(TWO, request, answer), moment)
    assert isinstance(state.role, Candidate)
    return state


def _resigns(moment: Moment) -> RaftState:
    state, _ = step(leader(), ResignRequested(EPOCH), moment)
    assert isinstance(state.role, Resigned)
    return state


@pytest.mark.parametrize("what", [_votes, _hears_of_a_later_epoch, _stands, _resigns])
def test_election_timers_are_drawn_from_one_timeout_to_two(
    what: Callable[[Moment], RaftState],
) -> None:
    """Or voters that wait for the same thing would stand together, again and again."""
    timeout_ms = config(1).election_timeout_ms
    waits_ms = []
    for draw in (0.0, 0.25, 0.5, 0.999):
        role = what(Moment(now_ms=NOW.now_ms, draw=draw)).role
        assert isinstance(role, Unattached | Candidate | Resigned)
        waits_ms.append(role.deadline_ms - NOW.now_ms)
    assert waits_ms[0] == timeout_ms
    assert waits_ms == sorted(set(waits_ms)), "each draw another time"
    assert waits_ms[-1] < 2 * timeout_ms


def test_who_has_heard_an_epochs_leader_gives_no_vote_in_it_however_long_ago() -> None:
    """Also one that has no vote itself, and only looks for whom to follow."""
    state = voter(Unattached(deadline_ms=10_100, leader=TWO))
    late = VoteRequest(epoch=EPOCH, log_end=state.log.end)
    after, effects = ask(state, TWO, late)
    answer = answer_of(effects)
    assert isinstance(answer, VoteResponse)
    assert not answer.vote_granted
    assert after.voted_for is None
    _, effects = ask(state, TWO, replace(late, epoch=Epoch(EPOCH + 1)))
    answer = answer_of(effects)
    assert isinstance(answer, VoteResponse)
    assert answer.vote_granted, "in the next one it does"
