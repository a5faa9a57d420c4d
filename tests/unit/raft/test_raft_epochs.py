"""Every request in a lower, the same and a higher epoch, in every role (reliability 2.1: 12)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.raft.effects import SaveQuorumState, SendRequest, SendResponse
from controller.raft.events import Moment, ResponseReceived, TimePassed
from controller.raft.messages import (
    STRANGE,
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchRequest,
    FetchResponse,
    Refusal,
    Request,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import Follower, Unattached
from controller.raft.step import step
from klamm.ids import EPOCH_MAX, Epoch, NodeId, Offset
from tests.unit.raft.voter import (
    EPOCH,
    ME,
    NOW,
    ROLES,
    THREE,
    TWO,
    answer_of,
    ask,
    at,
    leader,
    voter,
)

END = at(9, 4)


def vote(epoch: int) -> Request:
    return VoteRequest(epoch=Epoch(epoch), log_end=END)


def pre_vote(epoch: int) -> Request:
    return VoteRequest(epoch=Epoch(epoch), log_end=END, pre_vote=True)


def begin(epoch: int) -> Request:
    return BeginQuorumEpochRequest(epoch=Epoch(epoch))


def end(epoch: int) -> Request:
    return EndQuorumEpochRequest(epoch=Epoch(epoch), successors=())


def fetch(epoch: int) -> Request:
    return FetchRequest(
        epoch=Epoch(epoch),
        log_end=at(5, 3),
        high_watermark=Offset(0),
        max_bytes=1_000,
        max_wait_ms=0,
    )


STATES = {name: voter(role) for name, role in ROLES.items()} | {"leader": leader()}
REQUESTS = (vote, pre_vote, begin, end, fetch)


@pytest.mark.parametrize("role", STATES)
@pytest.mark.parametrize("request_of", REQUESTS)
def test_a_lower_epoch_is_fenced_and_changes_nothing(role: str, request_of: object) -> None:
    assert callable(request_of)
    state, effects = ask(STATES[role], 3, request_of(4))
    answer = answer_of(effects)
    assert answer.refusal is Refusal.FENCED_LEADER_EPOCH
    assert answer.epoch == EPOCH
    assert len(effects) == 1
    assert (state.epoch, state.role, state.voted_for, state.log) == (
        STATES[role].epoch,
        STATES[role].role,
        STATES[role].voted_for,
        STATES[role].log,
    )


@pytest.mark.parametrize("role", STATES)
def test_a_higher_vote_moves_everybody_and_is_saved_first(role: str) -> None:
    state, effects = ask(STATES[role], 3, vote(6))
    assert state.epoch == 6
    assert isinstance(state.role, Unattached)
    assert isinstance(effects[0], SaveQuorumState)
    assert effects[0].epoch == 6
    # 9 records of epoch 4 are more than ours: the vote is given, and it is in that one save.
    assert effects[0].voted_for == state.voted_for
    assert isinstance(effects[-1], SendResponse)


@pytest.mark.parametrize("role", STATES)
def test_a_higher_announcement_is_followed(role: str) -> None:
    state, effects = ask(STATES[role], 3, begin(6))
    assert state.epoch == 6
    assert isinstance(state.role, Follower)
    assert state.leader == 3
    assert isinstance(effects[0], SaveQuorumState)


@pytest.mark.parametrize("role", STATES)
def test_a_higher_end_moves_everybody(role: str) -> None:
    state, _ = ask(STATES[role], 3, end(6))
    assert state.epoch == 6
    assert isinstance(state.role, Unattached)


@pytest.mark.parametrize("role", STATES)
@pytest.mark.parametrize("request_of", [pre_vote, fetch])
def test_a_question_moves_nobody(role: str, request_of: object) -> None:
    """A pre-vote or a fetch of a later epoch leaves the epoch as it is (KIP-996)."""
    assert callable(request_of)
    state, effects = ask(STATES[role], 3, request_of(6))
    assert state.epoch == EPOCH
    assert not [each for each in effects if isinstance(each, SaveQuorumState)]
    if request_of is fetch:
        assert answer_of(effects).refusal is Refusal.UNKNOWN_LEADER_EPOCH


@pytest.mark.parametrize("role", ROLES)
def test_only_a_leader_serves_fetches(role: str) -> None:
    _, effects = ask(STATES[role], 3, fetch(5))
    assert answer_of(effects).refusal is Refusal.NOT_LEADER_OR_FOLLOWER


@pytest.mark.parametrize("role", ["unattached", "prospective", "candidate", "lost follower"])
def test_an_announcement_in_the_same_epoch_is_followed(role: str) -> None:
    state, _ = ask(STATES[role], 2, begin(5))
    assert isinstance(state.role, Follower)
    assert state.leader == 2


@pytest.mark.parametrize(
    ("role", "stranger"), [("leader", 2), ("follower", 3), ("lost follower", 9)]
)
def test_a_second_leader_of_an_epoch_is_refused_and_changes_nothing(
    role: str, stranger: int
) -> None:
    before = STATES[role]
    state, effects = ask(before, stranger, begin(5))
    assert answer_of(effects).refusal is Refusal.INVALID_REQUEST
    assert len(effects) == 1
    assert state == before


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("epoch", [EPOCH, EPOCH + 1])
@pytest.mark.parametrize("request_of", [pre_vote, fetch, begin])
def test_who_asks_with_our_own_id_is_refused_by_name(
    role: str, epoch: int, request_of: object
) -> None:
    """Its messages are its own that come back, or the id is used twice: nothing moves."""
    assert callable(request_of)
    state, effects = ask(STATES[role], ME, request_of(epoch))
    assert state == STATES[role]
    assert answer_of(effects).refusal is Refusal.DUPLICATE_VOTER
    assert len(effects) == 1


@pytest.mark.parametrize("role", ["unattached", "lost follower", "prospective", "resigned"])
def test_nobody_stands_where_no_epoch_is_left(role: str) -> None:
    """A vote for the next one would be refused by all, and could not be told after that."""
    state = replace(STATES[role], epoch=EPOCH_MAX)
    for _ in range(20):
        moment = Moment(now_ms=state.next_deadline_ms, draw=0.5)
        state, effects = step(state, TimePassed(), moment)
        asked = [each.request for each in effects if isinstance(each, SendRequest)]
        assert not any(isinstance(each, VoteRequest) for each in asked)
    assert state.epoch == EPOCH_MAX


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_an_answer_that_names_a_second_leader_is_not_believed(role: str) -> None:
    before = STATES[role]
    asked = VoteRequest(epoch=EPOCH, log_end=END)
    answer = VoteResponse(epoch=EPOCH, leader=NodeId(9), vote_granted=True)
    state, effects = step(before, ResponseReceived(NodeId(3), asked, answer), NOW)
    assert (state.role, state.epoch) == (before.role, before.epoch)
    assert effects == ()


RESPONSES = {
    vote: VoteResponse,
    pre_vote: VoteResponse,
    begin: BeginQuorumEpochResponse,
    end: EndQuorumEpochResponse,
    fetch: FetchResponse,
}


@pytest.mark.parametrize("role", STATES)
@pytest.mark.parametrize("refusal", STRANGE)
@pytest.mark.parametrize("request_of", RESPONSES)
def test_the_epoch_of_who_is_a_stranger_by_its_own_word_is_not_ours(
    role: str, refusal: Refusal, request_of: Callable[[int], Request]
) -> None:
    """An address that has become another cluster's, which is further on and has a leader: it
    neither deposes ours nor is followed. (An operator's slip, or an address used again.)"""
    before = STATES[role]
    kind = RESPONSES[request_of]
    answer = kind(refusal=refusal, epoch=Epoch(2_003), leader=TWO)
    state, effects = step(before, ResponseReceived(THREE, request_of(EPOCH), answer), NOW)
    assert state.epoch == EPOCH
    assert type(state.role) is type(before.role)
    assert state.leader == before.leader
    assert not [each for each in effects if isinstance(each, SaveQuorumState)]
