"""One message does not use the epochs up: at the last of them nobody stands any more."""

import pytest

from controller.raft.epoch import EPOCH_LEAP_MAX
from controller.raft.events import ResponseReceived
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    Refusal,
    Request,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import Follower, RaftState
from controller.raft.step import step
from klamm.ids import EPOCH_MAX, NO_NODE, Epoch, NodeId
from tests.unit.raft.voter import EPOCH, NOW, ROLES, answer_of, ask, at, key, leader, voter

STATES = {**{name: voter(role) for name, role in ROLES.items()}, "leader": leader()}
FAR = Epoch(EPOCH + EPOCH_LEAP_MAX)
TOO_FAR = (Epoch(FAR + 1), EPOCH_MAX)
THREE = NodeId(3)


def vote(epoch: Epoch) -> VoteRequest:
    return VoteRequest(epoch=epoch, log_end=at(9, EPOCH))


def goodbye(epoch: Epoch) -> EndQuorumEpochRequest:
    return EndQuorumEpochRequest(epoch=epoch, successors=())


@pytest.mark.parametrize("role", STATES)
@pytest.mark.parametrize("epoch", TOO_FAR)
@pytest.mark.parametrize("request_of", [vote, goodbye])
def test_a_request_from_too_far_away_moves_nobody(
    role: str, epoch: Epoch, request_of: object
) -> None:
    assert callable(request_of)
    request: Request = request_of(epoch)
    state, effects = ask(STATES[role], 3, request)
    assert state == STATES[role]
    assert answer_of(effects).refusal is Refusal.INVALID_REQUEST
    near: Request = request_of(FAR)
    assert ask(STATES[role], 3, near)[0].epoch == FAR


def told(state: RaftState, epoch: Epoch, leads: NodeId) -> RaftState:
    asked = VoteRequest(epoch=EPOCH, log_end=state.log.end, pre_vote=True)
    answer = VoteResponse(
        epoch=epoch, leader=leads, vote_granted=True, directory_id=key(3).directory_id
    )
    return step(state, ResponseReceived(THREE, asked, answer), NOW)[0]


@pytest.mark.parametrize("role", STATES)
@pytest.mark.parametrize("epoch", TOO_FAR)
def test_an_answer_from_too_far_away_is_none(role: str, epoch: Epoch) -> None:
    state = told(STATES[role], epoch, NO_NODE)
    assert state.epoch == EPOCH
    assert type(state.role) is type(STATES[role].role) or role == "prospective"
    assert told(STATES[role], FAR, NO_NODE).epoch == FAR


@pytest.mark.parametrize("role", STATES)
def test_a_leader_is_followed_wherever_it_is(role: str) -> None:
    """Who was away for half a year, or is new, hears of it."""
    far = Epoch(EPOCH_MAX - 1)
    begun, _ = ask(STATES[role], 3, BeginQuorumEpochRequest(epoch=far))
    for state in (begun, told(STATES[role], far, THREE)):
        assert isinstance(state.role, Follower)
        assert (state.epoch, state.role.leader) == (far, THREE)


def test_questions_move_nobody_at_all() -> None:
    """Pre-votes (KIP-996): as before."""
    before = STATES["follower"]
    asked = VoteRequest(epoch=EPOCH_MAX, log_end=at(9, EPOCH), pre_vote=True)
    state, _ = ask(before, 3, asked)
    assert (state.epoch, state.role) == (before.epoch, before.role)
