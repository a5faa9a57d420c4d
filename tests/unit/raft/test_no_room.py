"""Scenario 34: a full disk is no reason to hold on, nor to storm."""

from dataclasses import replace

import pytest

from controller.raft.effects import Renounce, SaveQuorumState, SendRequest, SendResponse
from controller.raft.events import Moment, NoRoomFound, RequestReceived, TimePassed
from controller.raft.messages import EndQuorumEpochRequest, FetchRequest
from controller.raft.no_room import NO_ROOM_FETCH_BYTES, NO_ROOM_MS, may_not_have_happened
from controller.raft.state import Follower, Resigned, SavedState, restore
from controller.raft.step import step
from klamm.log.epochs import EpochChain
from tests.unit.raft.voter import (
    EPOCH,
    FOLLOWER,
    ME,
    NOW,
    ROLES,
    THREE,
    config,
    key,
    leader,
    voter,
)


def test_a_leader_gives_up() -> None:
    state, effects = step(leader(), NoRoomFound(), NOW)
    assert isinstance(state.role, Resigned)
    assert Renounce(EPOCH) in effects
    asked = [each.request for each in effects if isinstance(each, SendRequest)]
    assert asked
    assert all(isinstance(each, EndQuorumEpochRequest) for each in asked)


def test_a_follower_asks_again_later_and_stays_one() -> None:
    state, effects = step(voter(FOLLOWER), NoRoomFound(), NOW)
    assert effects == ()
    role = state.role
    assert isinstance(role, Follower)
    assert not role.lost
    assert NOW.now_ms + 200 < role.retry_ms < role.deadline_ms
    _, (asked,) = step(state, TimePassed(), Moment(now_ms=role.retry_ms, draw=0.5))
    assert isinstance(asked, SendRequest)
    assert isinstance(asked.request, FetchRequest)


def test_a_follower_asks_for_less_as_long_as_there_may_be_no_room() -> None:
    """What did not fit would not fit the next time, and would be sent each time."""
    state, _ = step(voter(FOLLOWER), NoRoomFound(), NOW)
    usual = state.config.fetch_bytes_max
    for after_ms, wanted in ((500, NO_ROOM_FETCH_BYTES), (NO_ROOM_MS, usual)):
        later = Moment(now_ms=NOW.now_ms + after_ms, draw=0.5)
        role = state.role
        assert isinstance(role, Follower)
        due = replace(state, role=replace(role, deadline_ms=later.now_ms + 1, retry_ms=0))
        _, (asked,) = step(due, TimePassed(), later)
        assert isinstance(asked, SendRequest)
        assert isinstance(asked.request, FetchRequest)
        assert asked.request.max_bytes == wanted
    assert wanted > NO_ROOM_FETCH_BYTES


def test_a_successor_without_room_asks_for_votes_once() -> None:
    """To ask again with each goodbye would hold back everybody who votes for it."""
    follower = voter(FOLLOWER)
    goodbye = RequestReceived(7, key(2), EndQuorumEpochRequest(epoch=EPOCH, successors=(ME, THREE)))
    _, effects = step(follower, goodbye, NOW)
    *asked, save, answer = effects
    assert isinstance(save, SaveQuorumState)
    assert all(may_not_have_happened(effects, each) for each in (*asked, save))
    assert not may_not_have_happened(effects, answer), "a vote is on the disk"
    state, _ = step(follower, NoRoomFound(), NOW)
    state, effects = step(state, goodbye, NOW)
    assert [type(each) for each in effects] == [SendResponse]


@pytest.mark.parametrize("role", sorted(ROLES))
def test_whoever_it_was_stands_only_when_there_may_be_room(role: str) -> None:
    state, effects = step(voter(ROLES[role]), NoRoomFound(), NOW)
    assert not any(isinstance(each, SaveQuorumState) for each in effects)
    assert state.next_deadline_ms > NOW.now_ms
    while state.next_deadline_ms < NOW.now_ms + NO_ROOM_MS:
        state, _ = step(state, TimePassed(), Moment(now_ms=state.next_deadline_ms, draw=0.5))
        assert state.role_name != "prospective"
    for _ in range(20):
        state, _ = step(state, TimePassed(), Moment(now_ms=state.next_deadline_ms, draw=0.5))
        if state.role_name == "prospective":
            return
    pytest.fail("it never stood again")


def test_who_votes_alone_stands_again_when_there_may_be_room() -> None:
    """It asked nobody, for there is nobody, and never looked at its clock again."""
    alone = restore(config(1, size=1), SavedState(), EpochChain(), (), NOW)
    state, _ = step(alone, NoRoomFound(), NOW)
    while state.next_deadline_ms < NOW.now_ms + NO_ROOM_MS:
        state, _ = step(state, TimePassed(), Moment(now_ms=state.next_deadline_ms, draw=0.5))
        assert state.role_name == "unattached"
    assert state.next_deadline_ms == NOW.now_ms + NO_ROOM_MS
    state, _ = step(state, TimePassed(), Moment(now_ms=state.next_deadline_ms, draw=0.5))
    assert state.role_name == "leader"
