"""Fetches at the leader, answers at the follower, and what is committed (kraft 6.4)."""

from dataclasses import replace

import pytest

from controller.raft.effects import (
    AcceptProposal,
    AnswerRead,
    AppendFetched,
    AppendRecords,
    Claim,
    Commit,
    Effects,
    ProposalRefusal,
    RefuseProposal,
    RefuseRead,
    Renounce,
    SendRecords,
    SendRequest,
    SendResponse,
    Truncate,
)
from controller.raft.events import (
    LogFlushed,
    Moment,
    ProposalMade,
    ReadRequested,
    RequestDropped,
    ResignRequested,
    ResponseReceived,
    TimePassed,
)
from controller.raft.messages import (
    EndQuorumEpochRequest,
    FetchedBatch,
    FetchRequest,
    FetchResponse,
    Refusal,
)
from controller.raft.replication import NEWS_WAIT_MS
from controller.raft.state import Follower, Leader, Prospective, RaftState, Resigned
from controller.raft.step import Step, step
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from tests.unit.raft.voter import (
    EPOCH,
    FOLLOWER,
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


def fetch(
    end: OffsetAndEpoch, *, high_watermark: int = 0, read_round: int = 0, wait_ms: int = 500
) -> FetchRequest:
    return FetchRequest(
        epoch=EPOCH,
        log_end=end,
        high_watermark=Offset(high_watermark),
        max_bytes=1_000,
        max_wait_ms=wait_ms,
        read_round=read_round,
    )


def proposal(state: RaftState, base: int, count: int = 1, epoch: Epoch = EPOCH) -> Step:
    event = ProposalMade(
        call=9, epoch=epoch, base_offset=Offset(base), count=count, records=("x",) * count
    )
    return step(state, event, NOW)


@pytest.mark.parametrize(
    ("follower_end", "diverges_at"),
    [
        # The leader's log: epochs 1 1 1 3 3 5, end 6.
        (at(0, -1), None),
        (at(2, 1), None),
        (at(5, 3), None),
        # Too long in an epoch that the leader has.
        (at(4, 1), at(3, 1)),
        (at(6, 3), at(5, 3)),
        # An epoch that the leader never had: fall back to the one before.
        (at(4, 2), at(3, 1)),
        (at(6, 4), at(5, 3)),
    ],
)
def test_a_fetch_is_answered_with_records_or_where_the_logs_part(
    follower_end: OffsetAndEpoch, diverges_at: OffsetAndEpoch | None
) -> None:
    _, effects = ask(leader(), 2, fetch(follower_end, high_watermark=6))
    if diverges_at is None:
        (sent,) = [each for each in effects if isinstance(each, SendRecords)]
        assert sent.start_offset == follower_end.offset
    else:
        answer = answer_of(effects)
        assert isinstance(answer, FetchResponse)
        assert answer.diverging == diverges_at


@pytest.mark.parametrize(
    ("diverging", "ends_at"),
    [
        # Ours: epochs 1 1 1 3 3, end 5.
        (at(2, 1), 2),
        # The leader's epoch 1 is longer than ours: to the end of ours.
        (at(4, 1), 3),
        (at(4, 3), 4),
        # An epoch that we never had: to the end of the one before.
        (at(4, 2), 3),
        (at(0, 0), 0),
    ],
)
def test_a_follower_cuts_back_to_what_both_have(diverging: OffsetAndEpoch, ends_at: int) -> None:
    state, effects = fetched(following(), diverging=diverging)
    assert Truncate(Offset(ends_at)) in effects
    assert state.log.end_offset == ends_at
    # And it asks again from there.
    assert isinstance(state.role, Follower)
    assert state.role.fetch is not None
    assert state.role.fetch.log_end.offset == ends_at


def test_row_96_a_follower_never_cuts_what_is_committed() -> None:
    """It does not end for one message either: that leader is lost to it, and it may stand."""
    known, _ = fetched(following(), high_watermark=5)
    assert known.high_watermark == 5
    state, effects = fetched(known, diverging=at(3, 1))
    assert effects == ()
    assert (state.log, state.high_watermark) == (known.log, 5)
    assert isinstance(state.role, Follower)
    assert state.role.lost
    assert state.refused_cut == at(3, 1)
    moment = Moment(now_ms=state.next_deadline_ms, draw=0.5)
    state, effects = step(state, TimePassed(), moment)
    while isinstance(state.role, Follower):
        (asked,) = effects
        assert isinstance(asked, SendRequest)
        answer = FetchResponse(epoch=EPOCH, leader=TWO, diverging=at(3, 1))
        state, effects = step(state, ResponseReceived(TWO, asked.request, answer), moment)
        moment = Moment(now_ms=state.next_deadline_ms, draw=0.5)
        state, effects = step(state, TimePassed(), moment)
    assert isinstance(state.role, Prospective), "it may be the one that has what was committed"


def test_a_leader_that_was_refused_is_followed_again_once_it_makes_sense() -> None:
    state, _ = fetched(following(), high_watermark=5)
    state, _ = fetched(state, diverging=at(3, 1))
    assert isinstance(state.role, Follower)
    state = replace(state, role=replace(state.role, deadline_ms=state.role.retry_ms + 1))
    state, _ = step(state, TimePassed(), Moment(now_ms=state.next_deadline_ms, draw=0.5))
    state, effects = fetched(state, batches=(batch(5, 5, 2),), high_watermark=5)
    assert [type(each) for each in effects] == [AppendFetched]
    assert state.refused_cut is None


def test_a_read_round_that_has_not_begun_is_confirmed_by_nobody() -> None:
    state, _ = step(leader(), ReadRequested(1), NOW)
    assert isinstance(state.role, Leader)
    begun = state.role.read_round
    state, _ = ask(state, 2, fetch(at(6, 5), high_watermark=6, read_round=2**40))
    assert isinstance(state.role, Leader)
    assert max(each.read_round for each in state.role.progress) == begun


def test_a_follower_acknowledges_only_what_is_durable() -> None:
    state, effects = fetched(following(), batches=(batch(5, 5, 2),))
    assert [type(each) for each in effects] == [AppendFetched], "no fetch before the fsync"
    state, effects = step(state, LogFlushed(Offset(6), 0), NOW)
    assert not effects
    state, effects = step(state, LogFlushed(Offset(7), 0), NOW)
    (request,) = effects
    assert isinstance(request, SendRequest)
    assert isinstance(request.request, FetchRequest)
    assert request.request.log_end == at(7, 5)


def test_an_fsync_from_before_a_truncation_proves_nothing() -> None:
    state, _ = fetched(following(), batches=(batch(5, 4, 3),))
    state, _ = step(state, LogFlushed(Offset(8), 0), NOW)
    state, _ = fetched(state, diverging=at(5, 3))
    state, _ = fetched(state, batches=(batch(5, 5, 3),))
    state, effects = step(state, LogFlushed(Offset(8), 0), NOW)
    assert (state.flushed, effects) == (5, ())
    state, effects = step(state, LogFlushed(Offset(8), 1), NOW)
    assert state.flushed == 8


@pytest.mark.parametrize(
    "batches",
    [
        # A gap, an overlap, an epoch that falls, one that is not here yet.
        (FetchedBatch(base_offset=Offset(6), epoch=EPOCH, count=1),),
        (FetchedBatch(base_offset=Offset(4), epoch=EPOCH, count=1),),
        (FetchedBatch(base_offset=Offset(5), epoch=Epoch(2), count=1),),
        (FetchedBatch(base_offset=Offset(5), epoch=Epoch(6), count=1),),
        (FetchedBatch(base_offset=Offset(5), epoch=EPOCH, count=0),),
    ],
)
def test_batches_that_do_not_follow_on_are_not_appended(batches: tuple[FetchedBatch, ...]) -> None:
    """Row 94, of a follower."""
    state, effects = fetched(following(), batches=batches)
    assert state.log == LOG
    assert not effects


def test_an_answer_to_an_earlier_fetch_is_dropped() -> None:
    state = following()
    old = fetch(at(3, 1))
    response = FetchResponse(epoch=EPOCH, leader=TWO, batches=(batch(5, 5, 1),))
    after, effects = step(state, ResponseReceived(TWO, old, response), NOW)
    assert (after, effects) == (state, ())


@pytest.mark.parametrize(
    ("flushed", "two", "three", "high_watermark"),
    [
        # A majority of three: the second largest. Epoch 5 begins at 5.
        (6, 6, -1, 6),
        (6, -1, 6, 6),
        # The leader counts only what its own disk has.
        (5, 6, -1, 0),
        (5, 6, 6, 6),
        # Nothing of this epoch is on a majority: what is older is not committed by counting.
        (6, 5, 5, 0),
    ],
)
def test_the_high_watermark(flushed: int, two: int, three: int, high_watermark: int) -> None:
    state = fresh_leader()
    state, _ = step(state, LogFlushed(Offset(flushed), 0), NOW)
    for node, end in ((2, two), (3, three)):
        if end >= 0:
            state, _ = ask(state, node, fetch(at(end, 5 if end > 5 else 3)))
    assert state.high_watermark == high_watermark


def test_the_claim_comes_with_the_commit_of_the_epochs_own_record() -> None:
    state = fresh_leader()
    refused = proposal(state, 6)[1]
    assert refused == (RefuseProposal(9, ProposalRefusal.NOT_LEADER, Offset(6)),)
    state, _ = step(state, LogFlushed(Offset(6), 0), NOW)
    state, effects = ask(state, 2, fetch(at(6, 5)))
    assert effects[:2] == (Commit(Offset(6)), Claim(EPOCH, Offset(6)))
    assert isinstance(proposal(state, 6)[1][0], AppendRecords)


def test_a_proposal_is_appended_sent_and_accepted_at_exactly_its_place() -> None:
    """Row 94, of a leader: anywhere else it is refused, and nothing is appended."""
    state, _ = ask(leader(), 2, fetch(at(6, 5), high_watermark=6))
    state, effects = proposal(state, 6, count=3)
    assert [type(each) for each in effects] == [AppendRecords, SendRecords, AcceptProposal]
    assert state.log.end_offset == 9
    for base in (6, 8, 10):
        refused = proposal(state, base)[1]
        assert refused == (RefuseProposal(9, ProposalRefusal.LOG_MOVED, Offset(9)),)
    refused = proposal(state, 9, epoch=Epoch(4))[1]
    assert refused == (RefuseProposal(9, ProposalRefusal.NOT_LEADER, Offset(9)),)


def test_a_fetch_waits_for_news_and_no_longer_than_it_may() -> None:
    state, effects = ask(leader(), 2, fetch(at(6, 5), high_watermark=6))
    assert not effects
    assert state.next_deadline_ms <= NOW.now_ms + 500
    _, effects = step(state, TimePassed(), Moment(now_ms=NOW.now_ms + 500, draw=0.5))
    assert isinstance(effects[0], SendResponse)


def test_a_higher_high_watermark_is_news() -> None:
    """KIP-1166: who waits hears of a commit a moment later, or with the next records."""
    state, _ = proposal(leader(), 6)
    state, _ = ask(state, 2, fetch(at(7, 5), high_watermark=7))
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    state, _ = ask(state, 3, fetch(at(7, 5), high_watermark=6))
    soon = replace(NOW, now_ms=NOW.now_ms + NEWS_WAIT_MS)
    assert state.next_deadline_ms == soon.now_ms
    told, effects = step(state, TimePassed(), soon)
    assert effects, "it did not know that 7 is committed"
    assert isinstance(told.role, Leader)
    assert [each.sender for each in told.role.parked] == [key(2)], "which knew it"
    _, effects = proposal(state, 7)
    assert any(isinstance(each, SendRecords) for each in effects)


def test_the_first_commit_of_an_epoch_is_news_at_once() -> None:
    """Whoever handed over waits to hear that its successor has claimed."""
    state, _ = ask(leader(), 3, fetch(at(6, 5), high_watermark=0))
    assert state.next_deadline_ms == NOW.now_ms
    state, effects = step(state, TimePassed(), NOW)
    assert [each.response for each in effects if isinstance(each, SendResponse)]
    assert state.next_deadline_ms > NOW.now_ms


@pytest.mark.parametrize("own_first", [True, False])
def test_a_commit_is_told_to_those_who_wait_already(*, own_first: bool) -> None:
    state, _ = ask(leader(), 2, fetch(at(6, 5), high_watermark=6))
    state, _ = proposal(state, 6)
    state, _ = ask(state, 2, fetch(at(7, 5), high_watermark=6))
    if own_first:
        state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
        state, _ = ask(state, 3, fetch(at(7, 5), high_watermark=6))
    else:
        state, _ = ask(state, 3, fetch(at(7, 5), high_watermark=6))
        state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    assert state.high_watermark == 7
    assert state.next_deadline_ms <= NOW.now_ms + NEWS_WAIT_MS


def test_who_has_gone_is_not_answered() -> None:
    state, _ = ask(leader(), 2, fetch(at(6, 5), high_watermark=6))
    state, _ = step(state, RequestDropped(7), NOW)
    assert isinstance(state.role, Leader)
    assert not state.role.parked


def test_a_stranger_is_served_and_counts_for_nothing() -> None:
    state = fresh_leader()
    state, _ = step(state, LogFlushed(Offset(6), 0), NOW)
    state, effects = ask(state, 9, fetch(at(6, 5)))
    assert state.high_watermark == 0
    _, effects = ask(state, 9, fetch(at(0, -1)))
    assert any(isinstance(each, SendRecords) for each in effects)


def test_a_read_is_answered_when_a_majority_has_brought_its_round_back() -> None:
    state, _ = ask(leader(), 2, fetch(at(6, 5), high_watermark=6))
    state, effects = step(state, ReadRequested(1), NOW)
    # The parked fetch goes out with the round; an old fetch, however late, confirms nothing.
    (told,) = effects
    assert isinstance(told, SendResponse)
    assert isinstance(told.response, FetchResponse)
    assert told.response.read_round == 1
    state, effects = ask(state, 3, fetch(at(6, 5), high_watermark=6, read_round=0))
    assert not any(isinstance(each, AnswerRead) for each in effects)
    state, _ = step(state, ReadRequested(2), NOW)
    state, effects = ask(state, 2, fetch(at(6, 5), high_watermark=6, read_round=1))
    assert AnswerRead(1, Offset(6)) in effects
    assert AnswerRead(2, Offset(6)) not in effects, "it came after the round had begun"
    _, effects = ask(state, 3, fetch(at(6, 5), high_watermark=6, read_round=2))
    assert AnswerRead(2, Offset(6)) in effects


def test_only_a_leader_answers_reads() -> None:
    _, effects = step(voter(FOLLOWER), ReadRequested(1), NOW)
    assert effects == (RefuseRead(1),)


def test_resigning_names_successors_and_owes_nothing_any_more() -> None:
    state, _ = ask(leader(), 3, fetch(at(6, 5), high_watermark=6))
    state, _ = step(state, ReadRequested(1), NOW)
    state, _ = ask(state, 3, fetch(at(6, 5), high_watermark=6, read_round=0))
    state, _ = ask(state, 2, fetch(at(5, 3), high_watermark=5, read_round=0))
    state, effects = step(state, ResignRequested(EPOCH), NOW)
    assert isinstance(state.role, Resigned)
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, TWO))
    assert SendRequest(THREE, ending) in effects
    assert RefuseRead(1) in effects
    assert effects[-1] == Renounce(EPOCH)
    # Of another epoch it is no business.
    other = leader()
    assert step(other, ResignRequested(Epoch(4)), NOW) == (other, ())


def test_a_parked_fetch_fails_at_once_when_the_leader_resigns() -> None:
    state, _ = ask(leader(), 3, fetch(at(6, 5), high_watermark=6))
    _, effects = step(state, ResignRequested(EPOCH), NOW)
    assert answer_of(effects).refusal is Refusal.NOT_LEADER_OR_FOLLOWER


def test_a_leader_that_hears_no_majority_resigns_in_time() -> None:
    state = leader()
    silent = Moment(now_ms=9_900 + 900, draw=0.5)
    almost, _ = step(state, TimePassed(), Moment(now_ms=silent.now_ms - 1, draw=0.5))
    assert isinstance(almost.role, Leader)
    state, _ = step(state, TimePassed(), silent)
    assert isinstance(state.role, Resigned)


def test_the_first_successor_stands_at_once_and_the_others_wait() -> None:
    for successors, turn in (((ME, THREE), 0), ((THREE, ME), 50), ((THREE, TWO), 100)):
        ending = EndQuorumEpochRequest(epoch=EPOCH, successors=successors)
        state, _ = ask(voter(FOLLOWER), 2, ending)
        if turn == 0:
            assert state.role_name == "candidate"
        else:
            assert state.next_deadline_ms == NOW.now_ms + turn


def batch(base: int, epoch: int, count: int) -> FetchedBatch:
    return FetchedBatch(base_offset=Offset(base), epoch=Epoch(epoch), count=count)


def following(log: EpochChain = LOG) -> RaftState:
    """Follows 2, with a fetch out."""
    role = Follower(leader=TWO, deadline_ms=10_600, retry_ms=NOW.now_ms)
    state, effects = step(voter(role, log=log), TimePassed(), NOW)
    assert len(effects) == 1
    return state


def fetched(
    state: RaftState,
    *,
    diverging: OffsetAndEpoch | None = None,
    batches: tuple[FetchedBatch, ...] = (),
    high_watermark: int = 0,
) -> tuple[RaftState, Effects]:
    """The leader's answer to the fetch that is out."""
    role = state.role
    assert isinstance(role, Follower)
    assert role.fetch is not None
    response = FetchResponse(
        epoch=EPOCH,
        leader=TWO,
        diverging=diverging,
        batches=batches,
        high_watermark=Offset(high_watermark),
    )
    return step(state, ResponseReceived(NodeId(2), role.fetch, response), NOW)


def fresh_leader() -> RaftState:
    """Elected, with its first batch appended and not yet flushed."""
    return replace(leader(committed=0), flushed=Offset(5))
