"""Replication as Kafka's tests prove it, where no other file does: kraft.md 6.4, rows 71 to 93.

Rows that other files hold are in docs/testing.md, and those that do not apply, with the reason.
"""

from dataclasses import replace

import pytest

from controller.raft.effects import Commit, Effects, SendRequest
from controller.raft.events import (
    LogFlushed,
    Moment,
    ProposalMade,
    RequestFailed,
    RequestReceived,
    ResponseReceived,
    TimePassed,
)
from controller.raft.membership import LEARNER_FORGOTTEN_MS, learners
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    FetchedBatch,
    FetchRequest,
    FetchResponse,
    Refusal,
    Request,
)
from controller.raft.state import Follower, Leader, Progress, RaftState, SavedState, restore
from controller.raft.step import step
from controller.raft.voters import Voter, VoterSet
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from tests.unit.raft.voter import (
    CANDIDATE,
    EPOCH,
    LOG,
    ME,
    NOW,
    THREE,
    TWO,
    answer_of,
    ask,
    at,
    key,
    leader,
    voter,
)
from tests.unit.raft.world import config

NEXT = Epoch(EPOCH + 1)


def fetch(end: OffsetAndEpoch, *, epoch: Epoch = EPOCH) -> FetchRequest:
    return FetchRequest(
        epoch=epoch, log_end=end, high_watermark=Offset(6), max_bytes=1_000, max_wait_ms=500
    )


def following(*, deadline_ms: int = 10_600) -> RaftState:
    """Follows 2, with a fetch out."""
    role = Follower(leader=TWO, deadline_ms=deadline_ms, retry_ms=NOW.now_ms)
    state, effects = step(voter(role), TimePassed(), NOW)
    assert len(effects) == 1
    return state


def out(state: RaftState) -> FetchRequest:
    """The fetch that this follower waits for."""
    assert isinstance(state.role, Follower)
    assert isinstance(state.role.fetch, FetchRequest)
    return state.role.fetch


def answer(*, high_watermark: int = 0, records: int = 0) -> FetchResponse:
    batch = FetchedBatch(base_offset=LOG.end_offset, epoch=EPOCH, count=records)
    return FetchResponse(
        epoch=EPOCH,
        leader=TWO,
        high_watermark=Offset(high_watermark),
        batches=(batch,) if records else (),
    )


def sent(effects: Effects) -> list[tuple[NodeId, Request]]:
    return [(each.to, each.request) for each in effects if isinstance(each, SendRequest)]


def leading(*others: int) -> RaftState:
    """Voter 1 and these are all the voters; nothing of its epoch is flushed or committed."""
    state = leader(committed=0)
    assert isinstance(state.role, Leader)
    ids = (1, *others)
    voters = (Voter(node_id=NodeId(e), directory_id=key(e).directory_id) for e in ids)
    progress = tuple(
        Progress(node_id=NodeId(each), fetched_ms=9_900, begin_ms=10_200) for each in others
    )
    return replace(
        state,
        flushed=Offset(5),
        voter_history=(*state.voter_history, (Offset(1), VoterSet(tuple(voters)))),
        role=replace(state.role, progress=progress),
    )


def test_row_72_an_answer_without_records_is_a_sign_of_life_and_tells_what_is_committed() -> None:
    state = following(deadline_ms=10_050)
    state, effects = step(state, ResponseReceived(TWO, out(state), answer(high_watermark=5)), NOW)
    assert Commit(Offset(5)) in effects
    assert isinstance(state.role, Follower)
    assert state.role.deadline_ms == NOW.now_ms + state.config.fetch_timeout_ms
    assert [to for to, _ in sent(effects)] == [TWO], "and the next is asked for"


def test_row_73_who_fetches_has_heard_who_leads() -> None:
    later = Moment(now_ms=10_200, draw=0.5)
    state, _ = step(leader(), TimePassed(), replace(later, now_ms=10_199))
    state, _ = ask(state, 2, fetch(at(6, 5)))
    _, effects = step(state, TimePassed(), later)
    assert sent(effects) == [(THREE, BeginQuorumEpochRequest(epoch=EPOCH))]


def test_row_76_a_parked_fetch_fails_with_its_epoch() -> None:
    state, effects = ask(leader(), 2, fetch(at(6, 5)))
    assert not effects, "parked"
    _, effects = step(state, _begun_by(THREE, call=8), NOW)
    assert answer_of(tuple(each for each in effects if getattr(each, "call", 7) == 7)).refusal in (
        Refusal.NOT_LEADER_OR_FOLLOWER,
        Refusal.FENCED_LEADER_EPOCH,
    )


@pytest.mark.parametrize("becomes", ["candidate", "follower of another"])
def test_row_77_an_answer_that_comes_after_the_role_has_ended_appends_nothing(
    becomes: str,
) -> None:
    """One that only thinks of standing takes it: its leader is there after all."""
    state = following()
    asked = out(state)
    if becomes == "candidate":
        state = replace(state, epoch=NEXT, voted_for=key(1), role=CANDIDATE)
    else:
        state, _ = step(state, _begun_by(THREE, call=8), NOW)
        assert state.leader == THREE
    response = answer(high_watermark=5, records=2)
    after, _ = step(state, ResponseReceived(TWO, asked, response), NOW)
    assert (after.log, after.high_watermark) == (state.log, state.high_watermark)


@pytest.mark.parametrize(
    ("epoch", "refusal"),
    [(4, Refusal.FENCED_LEADER_EPOCH), (6, Refusal.UNKNOWN_LEADER_EPOCH)],
)
def test_row_78_a_fetch_of_another_epoch_is_refused_by_name(epoch: int, refusal: Refusal) -> None:
    state = leader()
    after, effects = ask(state, 2, fetch(at(5, 3), epoch=Epoch(epoch)))
    assert answer_of(effects).refusal is refusal
    assert (after.role, after.epoch) == (state.role, EPOCH)


def test_row_79_a_single_voter_commits_by_its_own_fsync() -> None:
    state, effects = step(leading(), LogFlushed(Offset(6), 0), NOW)
    assert Commit(Offset(6)) in effects
    proposal = ProposalMade(call=9, epoch=EPOCH, base_offset=Offset(6), count=1, records=("x",))
    state, effects = step(state, proposal, NOW)
    assert not any(isinstance(each, Commit) for each in effects), "not before it is durable"
    state, effects = step(state, LogFlushed(Offset(7), 0), NOW)
    assert Commit(Offset(7)) in effects


def test_row_84_a_follower_that_fetches_from_below_is_seen_there_and_nothing_is_undone() -> None:
    state, _ = ask(leader(), 2, fetch(at(6, 5)))
    state, _ = ask(state, 2, fetch(at(2, 1)))
    assert isinstance(state.role, Leader)
    assert [each.end_offset for each in state.role.progress if each.node_id == TWO] == [2]
    assert state.high_watermark == 6


def test_row_85_a_learner_that_was_silent_for_long_is_not_listed() -> None:
    state, _ = ask(leader(), 9, fetch(at(6, 5)))
    assert [each.key for each in learners(state, NOW)] == [key(9)]
    at_last = replace(NOW, now_ms=NOW.now_ms + LEARNER_FORGOTTEN_MS)
    assert learners(state, at_last)
    assert not learners(state, replace(at_last, now_ms=at_last.now_ms + 1))


def test_row_86_voters_in_the_log_are_believed_and_the_configured_ones_are_not() -> None:
    in_log = VoterSet((Voter(node_id=ME), Voter(node_id=NodeId(7))))
    state = restore(config(1), SavedState(epoch=EPOCH), LOG, ((Offset(1), in_log),), NOW)
    assert state.config.voters.ids == (ME, TWO, THREE)
    assert state.voters == in_log
    assert state.others == (7,)


@pytest.mark.parametrize(
    ("others", "own", "committed"),
    [
        # One voter: its own fsync. Two: both. The epoch begins at 5.
        ((), 5, 0),
        ((), 6, 6),
        ((6,), 5, 0),
        ((5,), 6, 0),
        ((6,), 6, 6),
    ],
)
def test_row_89_the_high_watermark_of_one_and_of_two_voters(
    others: tuple[int, ...], own: int, committed: int
) -> None:
    state = leading(*range(2, 2 + len(others)))
    state, _ = step(state, LogFlushed(Offset(own), 0), NOW)
    for node, end in enumerate(others, 2):
        state, _ = ask(state, node, fetch(at(end, 5 if end > 5 else 3)))
    assert state.high_watermark == committed


def test_row_91_the_leaders_own_end_never_falls() -> None:
    state = leader()
    assert step(state, LogFlushed(Offset(4), 0), NOW) == (state, ())
    with pytest.raises(AssertionError, match="never appended"):
        step(state, LogFlushed(Offset(7), 0), NOW)


def test_row_93_one_request_is_out_at_a_time_and_the_next_after_a_backoff() -> None:
    state = following()
    asked = out(state)
    state, effects = step(state, LogFlushed(Offset(5), 0), NOW)
    assert not effects
    other = replace(asked, high_watermark=Offset(1))
    assert step(state, RequestFailed(TWO, other), NOW) == (state, ()), "it is not the one"
    state, effects = step(state, RequestFailed(TWO, asked), NOW)
    assert not effects
    assert isinstance(state.role, Follower)
    backoff_ms = state.config.retry_backoff_ms
    assert backoff_ms <= state.role.retry_ms - NOW.now_ms <= 2 * backoff_ms
    state = replace(state, role=replace(state.role, deadline_ms=state.role.retry_ms + 1))
    state, effects = step(state, TimePassed(), replace(NOW, now_ms=state.next_deadline_ms))
    assert sent(effects) == [(TWO, out(state))]


def _begun_by(node: NodeId, *, call: int) -> RequestReceived:
    return RequestReceived(call, key(node), BeginQuorumEpochRequest(epoch=NEXT))
