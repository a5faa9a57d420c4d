"""Elections and epochs as Kafka's own tests prove them: kraft.md 6.2, rows 15 to 54, row by row.

Rows that other files hold are in docs/testing.md, and those that do not apply, with the reason.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from controller.raft.effects import (
    AppendControl,
    Effects,
    ProposalRefusal,
    RefuseProposal,
    SaveQuorumState,
    SendRequest,
    SendResponse,
)
from controller.raft.events import (
    Moment,
    ProposalMade,
    RequestFailed,
    RequestReceived,
    ResponseReceived,
    TimePassed,
)
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    EndQuorumEpochRequest,
    FetchRequest,
    Refusal,
    Request,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import (
    Candidate,
    Follower,
    Leader,
    Prospective,
    RaftState,
    Resigned,
    Role,
    SavedState,
    Unattached,
    restore,
)
from controller.raft.step import Step, step
from controller.raft.voters import Voter, VoterSet
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.log.epochs import EpochChain
from tests.unit.raft.voter import (
    CANDIDATE,
    EPOCH,
    FOLLOWER,
    LOG,
    ME,
    NOW,
    RESIGNED,
    THREE,
    TWO,
    UNATTACHED,
    answer_of,
    ask,
    key,
    leader,
    voter,
)
from tests.unit.raft.world import config

NEXT = Epoch(EPOCH + 1)


def due(state: RaftState) -> Step:
    """Its deadline comes."""
    return step(state, TimePassed(), Moment(now_ms=state.next_deadline_ms, draw=0.5))


def sent(effects: Effects) -> list[tuple[NodeId, Request]]:
    return [(each.to, each.request) for each in effects if isinstance(each, SendRequest)]


def vote_of(state: RaftState, sender: int, epoch: int) -> tuple[RaftState, VoteResponse]:
    """What `state` answers a candidate whose log is as good as its own."""
    request = VoteRequest(epoch=Epoch(epoch), log_end=state.log.end)
    state, effects = ask(state, sender, request)
    answer = answer_of(effects)
    assert isinstance(answer, VoteResponse)
    return state, answer


def voted(state: RaftState, sender: int, *, granted: bool, pre_vote: bool = False) -> Step:
    """Another voter answers this one's campaign."""
    request = VoteRequest(epoch=state.epoch, log_end=state.log.end, pre_vote=pre_vote)
    response = VoteResponse(
        epoch=state.epoch,
        leader=NO_NODE,
        vote_granted=granted,
        directory_id=key(sender).directory_id,
    )
    return step(state, ResponseReceived(NodeId(sender), request, response), NOW)


def campaigning(state: RaftState) -> RaftState:
    """Its deadline came, and another gave it a pre-vote: a candidate of the next epoch."""
    state, _ = due(state)
    assert isinstance(state.role, Prospective)
    state, _ = voted(state, 3, granted=True, pre_vote=True)
    assert isinstance(state.role, Candidate)
    return state


def observer(role: Role) -> RaftState:
    """Voter 1, but 2, 3 and 4 are the voters."""
    voters = VoterSet(tuple(Voter(node_id=NodeId(each)) for each in (2, 3, 4)))
    state = restore(
        replace(config(1), voters=voters), SavedState(epoch=EPOCH), LOG, ((Offset(1), voters),), NOW
    )
    return replace(state, role=role)


def test_row_16_a_single_voter_that_led_leads_the_next_epoch() -> None:
    saved = SavedState(epoch=Epoch(2), voted_for=key(1), leader=ME)
    log = EpochChain().append(Epoch(2), 4)
    state, effects = due(restore(config(1, size=1), saved, log, (), NOW))
    assert isinstance(state.role, Leader)
    assert (state.epoch, effects[0]) == (
        3,
        SaveQuorumState(epoch=Epoch(3), voted_for=key(1), leader=NO_NODE),
    )


@pytest.mark.parametrize("leader_id", [ME, NO_NODE])
def test_rows_17_18_19_who_led_or_may_have_led_is_resigned(leader_id: NodeId) -> None:
    """It appends nothing, and stands in the next epoch, which it saves before anything counts.

    Row 19 differs: Kafka goes on as a candidate of the epoch in which it had voted for itself.
    That epoch it may have won before it crashed, so here nobody leads an epoch in two lives.
    """
    saved = SavedState(epoch=EPOCH, voted_for=key(1), leader=leader_id)
    state = restore(config(1), saved, LOG, (), NOW)
    assert isinstance(state.role, Resigned)
    proposal = ProposalMade(call=1, epoch=EPOCH, base_offset=Offset(5), count=1, records=())
    state, effects = step(state, proposal, NOW)
    assert effects == (RefuseProposal(1, ProposalRefusal.NOT_LEADER, Offset(5)),)
    state, effects = due(state)
    assert [each.pre_vote for _, each in sent(effects) if isinstance(each, VoteRequest)] == [
        True
    ] * 2
    state, effects = voted(state, 3, granted=True, pre_vote=True)
    assert isinstance(state.role, Candidate)
    assert effects[-1] == SaveQuorumState(epoch=NEXT, voted_for=key(1), leader=NO_NODE)


@pytest.mark.parametrize("log", [EpochChain(), LOG], ids=["empty", "not empty"])
def test_row_21_a_stored_leader_is_fetched_from_at_the_logs_end(log: EpochChain) -> None:
    state = restore(config(1), SavedState(epoch=EPOCH, leader=TWO), log, (), NOW)
    _, effects = step(state, TimePassed(), NOW)
    ((to, request),) = sent(effects)
    assert isinstance(request, FetchRequest)
    assert (to, request.epoch, request.log_end) == (TWO, EPOCH, log.end)


def test_row_22_a_silent_leader_is_campaigned_against_after_the_fetch_timeout() -> None:
    state, effects = due(voter(FOLLOWER))
    assert isinstance(state.role, Prospective)
    assert (state.epoch, len(sent(effects))) == (EPOCH, 2)
    state, effects = voted(state, 3, granted=True, pre_vote=True)
    assert isinstance(state.role, Candidate)
    assert state.epoch == NEXT


def test_rows_23_51_an_observer_that_loses_its_leader_looks_for_it_and_never_stands() -> None:
    state = observer(FOLLOWER)
    for _ in range(5):
        state, effects = due(state)
        assert isinstance(state.role, Follower | Unattached)
        assert [type(each) for _, each in sent(effects)] == [FetchRequest]
    assert state.epoch == EPOCH
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(ME,))
    state, _ = ask(state, 2, ending)
    assert not isinstance(state.role, Candidate), "not even when it is named"


def test_row_24_an_observer_without_a_leader_asks_one_voter_after_the_other() -> None:
    state = observer(UNATTACHED)
    for _ in range(5):
        state, effects = due(state)
        assert isinstance(state.role, Unattached)
        ((to, request),) = sent(effects)
        assert to in (2, 3, 4)
        assert isinstance(request, FetchRequest)


@pytest.mark.parametrize("role", [FOLLOWER, UNATTACHED])
def test_rows_23_32_51_an_observer_votes_in_a_later_epoch(role: Role) -> None:
    """It may be a voter by a record that it has not seen."""
    state, answer = vote_of(observer(role), 3, NEXT)
    assert answer.vote_granted
    assert (type(state.role), state.voted_for) == (Unattached, key(3))


def test_row_25_a_vote_is_saved_before_it_is_given() -> None:
    _, effects = ask(voter(UNATTACHED), 2, VoteRequest(epoch=EPOCH, log_end=LOG.end))
    assert effects[0] == SaveQuorumState(epoch=EPOCH, voted_for=key(2), leader=NO_NODE)
    assert answer_of(effects[1:]) == VoteResponse(
        epoch=EPOCH, leader=NO_NODE, vote_granted=True, directory_id=key(1).directory_id
    )


def test_row_26_a_follower_refuses_and_names_its_leader() -> None:
    state, answer = vote_of(voter(FOLLOWER), 3, EPOCH)
    assert (answer.vote_granted, answer.leader) == (False, TWO)
    assert state.role == FOLLOWER


def test_row_27_who_has_voted_votes_for_nobody_else() -> None:
    state = voter(UNATTACHED, voted_for=2)
    assert not vote_of(state, 3, EPOCH)[1].vote_granted
    assert vote_of(state, 2, EPOCH)[1].vote_granted


def test_row_33_a_vote_request_moves_a_leader_only_in_a_later_epoch_and_from_a_voter() -> None:
    """Kafka's leader steps down for a stranger too. Here one that was removed deposes nobody."""
    for sender, epoch in ((3, EPOCH), (9, EPOCH), (9, NEXT)):
        state, answer = vote_of(leader(), sender, epoch)
        assert (answer.vote_granted, answer.leader) == (False, ME)
        assert isinstance(state.role, Leader)
    state, answer = vote_of(leader(), 3, NEXT)
    assert answer.vote_granted
    assert isinstance(state.role, Unattached)


def test_row_34_leader_and_candidate_refuse_in_their_epoch_and_stay_what_they_are() -> None:
    for state in (leader(), voter(CANDIDATE)):
        after, answer = vote_of(state, 3, EPOCH)
        assert not answer.vote_granted
        assert (after.role, after.voted_for) == (state.role, state.voted_for)


def test_row_35_a_refused_candidate_waits_and_then_tries_in_a_later_epoch() -> None:
    state = campaigning(voter(UNATTACHED))
    state, _ = voted(state, 2, granted=False)
    state, effects = voted(state, 3, granted=False)
    assert isinstance(state.role, Candidate)
    assert state.role.over
    assert effects == ()
    early, effects = step(state, TimePassed(), Moment(state.next_deadline_ms - 1, 0.5))
    assert (early, effects) == (state, ()), "no earlier"
    state, effects = due(state)
    assert {each.pre_vote for _, each in sent(effects) if isinstance(each, VoteRequest)} == {True}
    state, _ = voted(state, 2, granted=True, pre_vote=True)
    assert state.epoch == NEXT + 1


def test_row_36_a_vote_request_that_fails_ends_the_round_and_is_asked_again_after_a_wait() -> None:
    """Kafka sends it again in the same epoch. Here a campaign that cannot be won is over, and the
    next one follows within milliseconds."""
    state = campaigning(voter(UNATTACHED))
    request = VoteRequest(epoch=state.epoch, log_end=LOG.end)
    for peer in (TWO, THREE):
        state, effects = step(state, RequestFailed(peer, request), NOW)
        assert effects == ()
    assert isinstance(state.role, Candidate)
    assert state.role.over
    assert state.next_deadline_ms <= NOW.now_ms + 60
    # A vote that comes late after all is a vote: it is of this epoch.
    state, effects = voted(state, 2, granted=True)
    assert isinstance(state.role, Leader)


def test_row_37_votes_that_come_after_a_leader_was_announced_are_void() -> None:
    state = campaigning(voter(UNATTACHED))
    state, _ = ask(state, 3, BeginQuorumEpochRequest(epoch=state.epoch))
    after, effects = voted(state, 2, granted=True)
    assert (after.role, effects) == (state.role, ())
    assert state.leader == THREE


@pytest.mark.parametrize("role", [RESIGNED, CANDIDATE])
def test_rows_38_39_who_gave_up_votes_in_a_later_epoch_and_not_in_its_own(role: Role) -> None:
    """Also a node that stops: it has resigned, and goes on to vote until it is gone."""
    assert not vote_of(voter(role), 3, EPOCH)[1].vote_granted
    assert vote_of(voter(role), 3, NEXT)[1].vote_granted


def test_rows_40_41_the_first_successor_stands_at_once_the_second_later() -> None:
    state, _ = ask(voter(UNATTACHED), 2, EndQuorumEpochRequest(epoch=EPOCH, successors=(ME, THREE)))
    assert isinstance(state.role, Candidate)
    state, _ = ask(voter(UNATTACHED), 2, EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, ME)))
    assert isinstance(state.role, Unattached)
    assert state.next_deadline_ms == NOW.now_ms + 50
    state, effects = due(state)
    assert isinstance(state.role, Prospective)
    assert len(sent(effects)) == 2


@pytest.mark.parametrize("make", [leader, lambda: voter(CANDIDATE)])
def test_row_42_an_end_of_an_earlier_epoch_is_fenced(make: object) -> None:
    assert callable(make)
    before = make()
    state, effects = ask(before, 3, EndQuorumEpochRequest(epoch=Epoch(4), successors=(ME,)))
    assert answer_of(effects).refusal is Refusal.FENCED_LEADER_EPOCH
    assert state.role == before.role


def test_row_43_an_announced_leader_is_followed_and_one_of_the_past_fenced() -> None:
    state, effects = ask(voter(UNATTACHED), 2, BeginQuorumEpochRequest(epoch=EPOCH))
    assert (state.leader, answer_of(effects).leader) == (TWO, TWO)
    state, effects = ask(voter(UNATTACHED), 2, BeginQuorumEpochRequest(epoch=Epoch(4)))
    assert answer_of(effects).refusal is Refusal.FENCED_LEADER_EPOCH
    assert state.role == UNATTACHED


def test_row_44_a_leader_that_hears_of_a_later_one_follows_it() -> None:
    request = BeginQuorumEpochRequest(epoch=EPOCH)
    response = BeginQuorumEpochResponse(
        refusal=Refusal.FENCED_LEADER_EPOCH, epoch=NEXT, leader=THREE
    )
    state, effects = step(leader(), ResponseReceived(TWO, request, response), NOW)
    assert (state.epoch, state.leader) == (NEXT, THREE)
    assert isinstance(effects[0], SaveQuorumState)


def test_row_46_who_does_not_fetch_is_told_again_each_half_fetch_timeout() -> None:
    """Kafka tells everybody. A fetch says as much as an answer to it, so here it does as well."""
    state = leader()
    fetch = FetchRequest(
        epoch=EPOCH, log_end=state.log.end, high_watermark=Offset(6), max_bytes=1, max_wait_ms=500
    )
    now_ms, told = NOW.now_ms, []
    while now_ms < NOW.now_ms + 3_000:
        now_ms += 100
        state, effects = step(state, TimePassed(), Moment(now_ms, 0.5))
        told += [(now_ms, to) for to, each in sent(effects)]
        state, _ = ask_at(state, 3, fetch, now_ms)
    assert {to for _, to in told} == {TWO}
    assert {b - a for (a, _), (b, _) in pairwise(told)} == {300}


def ask_at(state: RaftState, sender: int, request: Request, now_ms: int) -> Step:
    return step(state, RequestReceived(7, key(sender), request), Moment(now_ms, 0.5))


def test_row_47_fewer_votes_than_a_majority_make_no_leader() -> None:
    state = replace(voter(UNATTACHED), config=config(1, size=5))
    history = ((Offset(-1), config(1, size=5).voters),)
    state = campaigning_in_five(replace(state, voter_history=history))
    state, _ = voted(state, 2, granted=True)
    state, _ = voted(state, 2, granted=True)
    assert isinstance(state.role, Candidate), "one voter's vote counts once"
    state, effects = voted(state, 4, granted=True)
    assert isinstance(state.role, Leader)
    (control,) = [each for each in effects if isinstance(each, AppendControl)]
    assert control.granting_voters == (1, 2, 4), "row 20"


def campaigning_in_five(state: RaftState) -> RaftState:
    state, _ = due(state)
    for voter_id in (3, 4):
        state, _ = voted(state, voter_id, granted=True, pre_vote=True)
    assert isinstance(state.role, Candidate)
    return state


def test_row_48_a_second_leader_of_an_epoch_moves_nobody() -> None:
    """Who says that is no voter of this quorum; Kafka's transition raises, and ends the node."""
    for state, liar in ((leader(), 2), (voter(FOLLOWER), 3)):
        after, effects = ask(state, liar, BeginQuorumEpochRequest(epoch=EPOCH))
        assert after == state
        (refused,) = effects
        assert isinstance(refused, SendResponse)
        assert refused.response.refusal is Refusal.INVALID_REQUEST


def test_row_50_nobody_follows_itself() -> None:
    """Another says that this voter leads a later epoch: no leader is known, and it is none."""
    request = BeginQuorumEpochRequest(epoch=EPOCH)
    response = BeginQuorumEpochResponse(epoch=NEXT, leader=ME)
    for state in (leader(), voter(FOLLOWER), voter(CANDIDATE)):
        after, _ = step(state, ResponseReceived(TWO, request, response), NOW)
        assert isinstance(after.role, Unattached)
        assert (after.epoch, after.leader) == (NEXT, NO_NODE)


def test_row_53_the_high_watermark_survives_a_campaign() -> None:
    state = replace(voter(FOLLOWER), high_watermark=Offset(4))
    assert campaigning(state).high_watermark == 4
