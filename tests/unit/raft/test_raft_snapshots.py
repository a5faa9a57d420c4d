"""Snapshots in the core: who gets one, how it comes, and what becomes of the log (kraft 6.5).

log       epoch  1 1 1 3 3 5 | end 6       the leader's LOG and its own first batch
snapshot         at 3: (3, epoch 1)        at 5: (5, epoch 3)
"""

from dataclasses import replace

import pytest

from controller.raft.effects import (
    DeleteSnapshot,
    SendChunk,
    TrimLog,
)
from controller.raft.events import (
    Moment,
    RequestReceived,
    SnapshotWritten,
    TimePassed,
    TrimRequested,
)
from controller.raft.messages import (
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Refusal,
)
from controller.raft.snapshots import Creation, may_create
from controller.raft.state import (
    Leader,
    RaftState,
    Resigned,
    quorum_until_ms,
)
from controller.raft.step import step
from controller.raft.voters import BOOTSTRAP, VoterHistory, start_at, voters_at
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from tests.unit.raft.voter import (
    EPOCH,
    FOLLOWER,
    ME,
    NOW,
    TWO,
    answer_of,
    ask,
    at,
    key,
    leader,
)
from tests.unit.raft.world import voter_set

THREE_ONE, FIVE_THREE = at(3, 1), at(5, 3)


def holding(state: RaftState, *ids: OffsetAndEpoch, size_bytes: int = 1_000) -> RaftState:
    for each in ids:
        state, _ = step(state, SnapshotWritten(snapshot_id=each, size_bytes=size_bytes), NOW)
    return state


def trimmed(to: OffsetAndEpoch) -> RaftState:
    """A leader whose log begins at `to`; it holds both snapshots, if it can."""
    state, effects = step(holding(leader(), THREE_ONE, FIVE_THREE), TrimRequested(to), NOW)
    assert effects == (TrimLog(to),)
    return state


def fetch(end: OffsetAndEpoch) -> FetchRequest:
    return FetchRequest(
        epoch=EPOCH, log_end=end, high_watermark=Offset(0), max_bytes=1_000, max_wait_ms=0
    )


# ── own snapshots ────────────────────────────────────────────────────────────────────────────


CREATIONS = {
    "at a batch of the past": (at(3, 1), Creation.ALLOWED),
    "at the high watermark": (at(6, 5), Creation.ALLOWED),
    "later than the high watermark": (at(7, 5), Creation.INVALID),
    "of a much later epoch": (at(5, 4), Creation.INVALID),
    "diverging: the epoch ends before": (at(5, 1), Creation.INVALID),
    "of an older epoch": (at(6, 3), Creation.INVALID),
    "of an epoch that the log has not": (at(3, 2), Creation.INVALID),
    "at nothing": (at(0, 0), Creation.INVALID),
}


@pytest.mark.parametrize("name", CREATIONS)
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_snapshot_is_of_what_is_committed(name: str, role: str) -> None:
    """Rows 95, 110."""
    snapshot_id, expected = CREATIONS[name]
    state = leader()
    if role == "follower":
        state = replace(state, role=FOLLOWER, voted_for=None)
    assert may_create(state, snapshot_id) is expected
    if expected is Creation.INVALID:
        with pytest.raises(AssertionError, match="not of this log"):
            holding(state, snapshot_id)


def test_no_snapshot_is_needed_below_the_log_or_twice() -> None:
    """Row 95: BeforeLogStartOffset, ExistingSnapshot."""
    state = trimmed(FIVE_THREE)
    assert may_create(state, THREE_ONE) is Creation.NEEDLESS
    assert may_create(state, FIVE_THREE) is Creation.NEEDLESS
    assert step(state, SnapshotWritten(snapshot_id=FIVE_THREE, size_bytes=9), NOW) == (state, ())


def test_a_snapshot_that_the_log_has_passed_while_it_was_written_is_deleted() -> None:
    event = SnapshotWritten(snapshot_id=THREE_ONE, size_bytes=9)
    assert step(trimmed(FIVE_THREE), event, NOW)[1] == (DeleteSnapshot(THREE_ONE),)


def test_the_log_begins_at_a_snapshot() -> None:
    """Row 101; invariant 12."""
    state = trimmed(THREE_ONE)
    assert state.log.start == THREE_ONE
    assert [each.snapshot_id for each in state.snapshots] == [THREE_ONE, FIVE_THREE]
    state, _ = step(state, TrimRequested(FIVE_THREE), NOW)
    assert state.log.start == FIVE_THREE
    assert [each.snapshot_id for each in state.snapshots] == [FIVE_THREE]
    assert state.log.end_offset == 6


@pytest.mark.parametrize("to", [at(3, 1), at(4, 3), at(6, 5)])
def test_the_log_is_trimmed_to_what_is_held_and_never_back(to: OffsetAndEpoch) -> None:
    state = trimmed(FIVE_THREE)
    assert step(state, TrimRequested(to), NOW) == (state, ())


def test_voters_as_of_any_offset() -> None:
    """Row 111."""
    sets = {offset: voter_set(size) for offset, size in ((-1, 1), (3, 2), (7, 3), (9, 4))}
    history: VoterHistory = tuple((Offset(at), voters) for at, voters in sets.items())
    for end, offset in ((0, -1), (3, -1), (4, 3), (7, 3), (8, 7), (10, 9)):
        assert voters_at(history, Offset(end)) == sets[offset], end
    kept = start_at(history, Offset(8))
    assert [offset for offset, _ in kept] == [BOOTSTRAP, 7, 9]
    assert all(voters_at(kept, Offset(end)) == voters_at(history, Offset(end)) for end in (8, 10))
    assert [offset for offset, _ in start_at(history, Offset(7))] == [BOOTSTRAP, 3, 7, 9]


# ── the leader ───────────────────────────────────────────────────────────────────────────────


POSITIONS = {
    # log start, the fetcher's end: what it gets
    "offset zero, and there is a snapshot": (None, at(0, -1), FIVE_THREE),
    "less than the log's start": (FIVE_THREE, at(4, 3), FIVE_THREE),
    "at the log's start with its epoch": (FIVE_THREE, at(5, 3), None),
    "at the log's start with another": (FIVE_THREE, at(5, 4), FIVE_THREE),
    "of an epoch before the oldest snapshot": (FIVE_THREE, at(6, 1), FIVE_THREE),
    "the older snapshot's end, the latest one is told": (THREE_ONE, at(2, 1), FIVE_THREE),
    "within the log": (THREE_ONE, at(4, 3), None),
    "at its end": (FIVE_THREE, at(6, 5), None),
    "within a log that was never trimmed": (None, at(2, 1), None),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_who_is_told_of_a_snapshot(name: str) -> None:
    """Rows 100, 103."""
    start, end, expected = POSITIONS[name]
    state = holding(leader(), THREE_ONE, FIVE_THREE) if start is None else trimmed(start)
    after, effects = ask(state, TWO, fetch(end))
    if expected is None:
        assert not [each for each in effects if getattr(each, "response", None) is None]
        responses = [each.response for each in effects]  # type: ignore[union-attr]
        assert [(each.snapshot_id, each.diverging) for each in responses] == [(None, None)]  # type: ignore[union-attr]
        return
    answer = answer_of(effects)
    assert isinstance(answer, FetchResponse)
    assert (answer.snapshot_id, answer.diverging, answer.refusal) == (expected, None, Refusal.NONE)
    assert answer.log_start_offset == state.log.start_offset
    assert isinstance(after.role, Leader)
    assert not after.role.progress[0].has_fetched, "its log is not known to be ours"


def test_a_divergence_above_the_start_is_cut_and_not_replaced() -> None:
    """Row 100: DIVERGING with an end offset; row 103: truncated to the log's start."""
    for end, expected in ((at(9, 3), FIVE_THREE), (at(9, 4), FIVE_THREE), (at(9, 5), at(6, 5))):
        answer = answer_of(ask(trimmed(FIVE_THREE), TWO, fetch(end))[1])
        assert isinstance(answer, FetchResponse)
        assert (answer.diverging, answer.snapshot_id) == (expected, None)


def chunk_request(
    snapshot_id: OffsetAndEpoch = FIVE_THREE, position: int = 0, epoch: Epoch = EPOCH
) -> FetchSnapshotRequest:
    return FetchSnapshotRequest(
        epoch=epoch, snapshot_id=snapshot_id, position=position, max_bytes=64
    )


REFUSED_CHUNKS = {
    "missing": (chunk_request(at(4, 3)), Refusal.SNAPSHOT_NOT_FOUND),
    "the bootstrap checkpoint": (chunk_request(at(0, 0)), Refusal.SNAPSHOT_NOT_FOUND),
    "at its end": (chunk_request(position=1_000), Refusal.POSITION_OUT_OF_RANGE),
    "negative position": (chunk_request(position=-1), Refusal.POSITION_OUT_OF_RANGE),
    "older epoch": (chunk_request(epoch=Epoch(4)), Refusal.FENCED_LEADER_EPOCH),
    "newer epoch": (chunk_request(epoch=Epoch(6)), Refusal.UNKNOWN_LEADER_EPOCH),
}


@pytest.mark.parametrize("name", REFUSED_CHUNKS)
def test_chunks_that_are_refused(name: str) -> None:
    """Row 104."""
    request, refusal = REFUSED_CHUNKS[name]
    answer = answer_of(ask(trimmed(FIVE_THREE), TWO, request)[1])
    assert isinstance(answer, FetchSnapshotResponse)
    assert (answer.refusal, answer.epoch, answer.leader) == (refusal, EPOCH, ME)


def test_a_follower_serves_no_chunks() -> None:
    """Row 104: AsFollower."""
    state = replace(trimmed(FIVE_THREE), role=FOLLOWER, voted_for=None)
    assert answer_of(ask(state, TWO, chunk_request())[1]).refusal is Refusal.NOT_LEADER_OR_FOLLOWER


def test_a_chunk_is_served_from_its_position_on() -> None:
    """Row 105."""
    _, effects = ask(trimmed(FIVE_THREE), TWO, chunk_request(position=640))
    answer = FetchSnapshotResponse(
        epoch=EPOCH, leader=ME, snapshot_id=FIVE_THREE, size_bytes=1_000, position=640
    )
    assert effects == (SendChunk(call=7, response=answer, max_bytes=64),)


@pytest.mark.parametrize("stranger", [False, True])
def test_asking_for_chunks_is_a_sign_of_life(stranger: bool) -> None:
    """Row 109: a majority that downloads keeps its leader."""
    state = trimmed(FIVE_THREE)
    assert isinstance(state.role, Leader)
    until_ms = quorum_until_ms(state, state.role)
    later = Moment(now_ms=until_ms - 1, draw=0.5)
    sender = replace(key(TWO), directory_id=key(9).directory_id) if stranger else key(TWO)
    state = state.acquainted(key(TWO))
    state, _ = step(state, RequestReceived(1, sender, chunk_request()), later)
    state, _ = step(state, TimePassed(), Moment(now_ms=until_ms, draw=0.5))
    assert isinstance(state.role, Resigned if stranger else Leader)
