"""Scenario 40: the leader whose fsync does not end gives up; the others do without it."""

from dataclasses import replace

from controller.raft.effects import SendRequest
from controller.raft.events import LogFlushed, Moment, ProposalMade, TimePassed
from controller.raft.messages import EndQuorumEpochRequest, FetchRequest
from controller.raft.state import NEVER_MS, Leader, RaftState, Resigned
from controller.raft.step import step
from klamm.ids import NodeId, Offset
from tests.unit.raft.voter import EPOCH, NOW, ask, at, leader, voter

TIMEOUT_MS = 600
"""As the fetch timeout of the bench's voters."""


def proposed(state: RaftState) -> RaftState:
    event = ProposalMade(
        call=1, epoch=EPOCH, base_offset=state.log.end_offset, count=1, records=("x",)
    )
    return step(state, event, NOW)[0]


def fetched(state: RaftState, sender: int, end: int) -> RaftState:
    fetch = FetchRequest(
        epoch=EPOCH, log_end=at(end, 5), high_watermark=Offset(6), max_bytes=1, max_wait_ms=100
    )
    return ask(state, sender, fetch)[0]


def due_ms(state: RaftState) -> int:
    assert isinstance(state.role, Leader)
    return state.role.flush_due_ms


def later(state: RaftState, ms: int) -> tuple[RaftState, tuple[object, ...]]:
    """Time passes, and the followers are heard all the while."""
    now_ms = NOW.now_ms + ms
    role = state.role
    assert isinstance(role, Leader)
    heard = tuple(replace(each, fetched_ms=now_ms, begin_ms=now_ms + 900) for each in role.progress)
    state = replace(state, role=replace(role, progress=heard))
    return step(state, TimePassed(), Moment(now_ms=now_ms, draw=0.5))


def test_the_others_commit_and_our_disk_is_silent() -> None:
    state = proposed(leader())
    assert due_ms(state) == NOW.now_ms + TIMEOUT_MS
    state = fetched(fetched(state, 2, 7), 3, 7)
    assert (state.high_watermark, state.flushed) == (7, 6)
    state, _ = later(state, TIMEOUT_MS - 1)
    assert isinstance(state.role, Leader)
    state, effects = later(state, TIMEOUT_MS)
    assert isinstance(state.role, Resigned)
    ended = [each for each in effects if isinstance(each, SendRequest)]
    assert {each.to for each in ended} == {2, 3}
    assert all(isinstance(each.request, EndQuorumEpochRequest) for each in ended)

    # It does not stand while it owes; and does, once it does not.
    moment = Moment(now_ms=state.next_deadline_ms + 2_000, draw=0.5)
    state, effects = step(state, TimePassed(), moment)
    assert isinstance(state.role, Resigned)
    assert {each.to for each in effects if isinstance(each, SendRequest)} == {2, 3}
    state, _ = step(state, LogFlushed(Offset(7), 0), moment)
    state, _ = step(state, TimePassed(), Moment(now_ms=moment.now_ms + 2_000, draw=0.5))
    assert state.role_name == "prospective"


def test_who_is_needed_stays() -> None:
    """One follower is dead or as slow: nobody would commit without us."""
    state = fetched(proposed(leader()), 2, 7)
    assert state.high_watermark == 6
    state, _ = later(state, TIMEOUT_MS)
    assert isinstance(state.role, Leader)
    assert due_ms(state) == NOW.now_ms + 2 * TIMEOUT_MS


def test_a_disk_that_gets_on_is_not_silent() -> None:
    state = proposed(proposed(leader()))
    moment = Moment(now_ms=NOW.now_ms + 500, draw=0.5)
    state, _ = step(state, LogFlushed(Offset(7), 0), moment)
    assert due_ms(state) == moment.now_ms + TIMEOUT_MS
    state, _ = step(state, LogFlushed(Offset(8), 0), moment)
    assert due_ms(state) == NEVER_MS


def test_the_time_does_not_move_with_each_append() -> None:
    state = proposed(leader())
    due = due_ms(state)
    moment = Moment(now_ms=NOW.now_ms + 300, draw=0.5)
    event = ProposalMade(call=1, epoch=EPOCH, base_offset=Offset(7), count=1, records=("y",))
    state, _ = step(state, event, moment)
    assert due_ms(state) == due


def test_who_resigned_by_a_restart_owes_nothing() -> None:
    state = replace(voter(Resigned(deadline_ms=NOW.now_ms - 1)), flushed=Offset(5))
    state, _ = step(state, TimePassed(), NOW)
    assert state.role_name == "prospective"
    assert NodeId(1) == state.config.me
