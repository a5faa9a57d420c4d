"""Snapshots on their way to a follower: chunks, verified, installed; the core (kraft 6.5).

log       epoch  1 1 1 3 3 | end 5         the follower's LOG, in EPOCH 5
told of   a snapshot at 900, epoch 4
"""

from dataclasses import replace

import pytest

from controller.raft import download
from controller.raft.download import CHUNK_BYTES_FIRST, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN
from controller.raft.effects import (
    AbandonDownload,
    AppendChunk,
    Effects,
    InstallSnapshot,
    LoadSnapshot,
    SendRequest,
    VerifySnapshot,
)
from controller.raft.events import (
    Event,
    Moment,
    RequestFailed,
    ResponseReceived,
    SnapshotDamaged,
    SnapshotVerified,
    StreamLost,
    TimePassed,
)
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Refusal,
)
from controller.raft.state import (
    Candidate,
    Follower,
    HeldSnapshot,
    Prospective,
    RaftState,
    SavedState,
    restore,
)
from controller.raft.step import step
from controller.raft.voters import VoterSet, voters_at
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from tests.unit.raft.voter import (
    EPOCH,
    FOLLOWER,
    LOG,
    ME,
    NOW,
    THREE,
    TWO,
    ask,
    at,
    voter,
)
from tests.unit.raft.world import config, voter_set

FAR = at(900, 4)
SIZE_BYTES = 200_000


def fetch(end: OffsetAndEpoch) -> FetchRequest:
    return FetchRequest(
        epoch=EPOCH, log_end=end, high_watermark=Offset(0), max_bytes=1_000, max_wait_ms=0
    )


def told(snapshot_id: OffsetAndEpoch = FAR, state: RaftState | None = None) -> RaftState:
    """A follower of TWO whose fetch was answered with a snapshot's id."""
    state = state or voter(replace(FOLLOWER, fetch=fetch(LOG.end)))
    assert isinstance(state.role, Follower)
    request = state.role.fetch
    assert isinstance(request, FetchRequest)
    response = FetchResponse(epoch=EPOCH, leader=TWO, snapshot_id=snapshot_id)
    return step(state, ResponseReceived(TWO, request, response), NOW)[0]


def out(state: RaftState) -> FetchSnapshotRequest:
    assert isinstance(state.role, Follower)
    assert isinstance(state.role.fetch, FetchSnapshotRequest)
    return state.role.fetch


def chunk(
    state: RaftState, size: int, now_ms: int = NOW.now_ms, **changes: object
) -> tuple[RaftState, Effects]:
    """The leader's answer to the request that is out."""
    request = out(state)
    response = FetchSnapshotResponse(
        epoch=EPOCH,
        leader=TWO,
        snapshot_id=request.snapshot_id,
        size_bytes=SIZE_BYTES,
        position=request.position,
        length=size,
        data=b"...",
    )
    response = replace(response, **changes)  # type: ignore[arg-type]
    return step(state, ResponseReceived(TWO, request, response), Moment(now_ms=now_ms, draw=0.5))


def test_a_laggard_takes_the_snapshot() -> None:
    """Row 106: told, chunks, verified, installed, loaded, and Fetch goes on behind it."""
    state = told()
    assert out(state) == FetchSnapshotRequest(
        epoch=EPOCH, snapshot_id=FAR, position=0, max_bytes=CHUNK_BYTES_FIRST
    )
    state, effects = chunk(state, 150_000)
    assert effects[0] == AppendChunk(snapshot_id=FAR, position=0, data=b"...")
    assert out(state).position == 150_000
    assert state.log == LOG, "the old log stands"
    state, effects = chunk(state, 50_000)
    append = AppendChunk(snapshot_id=FAR, position=150_000, data=b"...")
    assert effects == (append, VerifySnapshot(FAR))
    assert state.log == LOG
    voters = voter_set(2)
    state, effects = step(state, SnapshotVerified(snapshot_id=FAR, voters=voters), NOW)
    assert effects[:2] == (InstallSnapshot(FAR), LoadSnapshot(FAR))
    (sent,) = effects[2:]
    assert isinstance(sent, SendRequest)
    assert isinstance(sent.request, FetchRequest)
    assert (sent.to, sent.request.log_end) == (TWO, FAR)
    assert sent.request.high_watermark == 900
    assert state.log == EpochChain().begin_at(FAR)
    assert (state.high_watermark, state.flushed, state.voters) == (900, 900, voters)
    assert [each.snapshot_id for each in state.snapshots] == [FAR]
    assert voters_at(state.voter_history, Offset(900)) == voters


def test_the_log_goes_on_behind_the_snapshot_after_a_restart() -> None:
    held = (HeldSnapshot(snapshot_id=FAR, size_bytes=9),)
    log = EpochChain().begin_at(FAR).append(EPOCH, 2)
    saved = SavedState(epoch=EPOCH)
    state = restore(config(1), saved, log, ((Offset(899), voter_set(2)),), NOW, snapshots=held)
    assert (state.high_watermark, state.log.start, state.log.end) == (900, FAR, at(902, EPOCH))
    with pytest.raises(AssertionError, match="no snapshot at"):
        restore(config(1), saved, log, (), NOW)


@pytest.mark.parametrize("snapshot_id", [at(3, 1), at(900, 6), at(900, -1)])
def test_a_snapshot_that_cannot_be_is_not_taken(snapshot_id: OffsetAndEpoch) -> None:
    """Row 108: it stays a follower, and asks again a little later."""
    state = voter(replace(FOLLOWER, fetch=fetch(LOG.end)))
    state = told(snapshot_id, replace(state, high_watermark=Offset(3)))
    assert isinstance(state.role, Follower)
    assert (state.role.fetch, state.download) == (None, None)
    assert state.role.retry_ms > NOW.now_ms


def test_an_uncommitted_tail_that_reaches_beyond_the_snapshot_does_not_keep_it_away() -> None:
    """The leader's log begins at 4 in epoch 4; ours ends at 5 with records nobody has."""
    state = told(at(4, 4))
    assert out(state).snapshot_id == at(4, 4)


def test_chunks_are_sized_by_the_time_that_they_take() -> None:
    """KAFKA-19541: a slow link gets through, a fast one is used."""
    assert download.chunk_bytes(64_000, 10) == 128_000
    assert download.chunk_bytes(64_000, 100) == 64_000
    assert download.chunk_bytes(64_000, 125) == 51_200
    assert download.chunk_bytes(64_000, 100_000) == 32_000
    assert download.chunk_bytes(CHUNK_BYTES_MIN, 100_000) == CHUNK_BYTES_MIN
    assert download.chunk_bytes(CHUNK_BYTES_MAX, 0) == CHUNK_BYTES_MAX
    state, _ = chunk(told(), 60_000, now_ms=NOW.now_ms + 200)
    assert out(state).max_bytes == CHUNK_BYTES_FIRST // 2


@pytest.mark.parametrize("bytes_per_ms", [8, 20, 1_000, 100_000])
def test_a_link_of_any_speed_gets_a_snapshot_through(bytes_per_ms: int) -> None:
    """KAFKA-19541: a chunk that takes longer than a deadline is asked for again, and smaller."""
    state, now_ms, failed = told(), NOW.now_ms, 0
    while state.download is not None and not state.download.complete:
        assert now_ms < NOW.now_ms + 200_000
        request = out(state)
        length = min(request.max_bytes, SIZE_BYTES - request.position)
        took_ms = length // bytes_per_ms
        if took_ms >= state.config.fetch_timeout_ms:
            failed += 1
            now_ms += state.config.fetch_timeout_ms - 1
            state, _ = step(state, RequestFailed(TWO, request), Moment(now_ms=now_ms, draw=0.0))
            assert isinstance(state.role, Follower)
            state = replace(state, role=replace(state.role, deadline_ms=now_ms + 600))
            now_ms = state.role.retry_ms  # type: ignore[union-attr]
            state, _ = step(state, TimePassed(), Moment(now_ms=now_ms, draw=0.5))
        else:
            now_ms += took_ms
            state, _ = chunk(state, length, now_ms=now_ms)
    assert state.download is not None
    assert (failed > 0) is (bytes_per_ms < 100)


def test_a_chunk_keeps_the_leader_heard() -> None:
    state, _ = chunk(told(), 1_000, now_ms=NOW.now_ms + 500)
    assert isinstance(state.role, Follower)
    assert state.role.deadline_ms == NOW.now_ms + 500 + state.config.fetch_timeout_ms


def test_a_broken_stream_costs_one_chunk() -> None:
    state, _ = chunk(told(), 150_000)
    for lost in (StreamLost(TWO), RequestFailed(TWO, out(state))):
        after, _ = step(state, lost, NOW)
        assert isinstance(after.role, Follower)
        assert after.role.fetch is None
        again = Moment(now_ms=after.role.retry_ms, draw=0.5)
        after = replace(after, role=replace(after.role, deadline_ms=99_999))
        after, _ = step(after, TimePassed(), again)
        assert out(after).position == 150_000
    assert out(after).max_bytes < out(state).max_bytes, "a chunk that did not come was too large"


def test_the_leader_announced_again_does_not_double_the_fetch() -> None:
    state = told()
    after, effects = ask(state, TWO, BeginQuorumEpochRequest(epoch=EPOCH))
    assert [each for each in effects if isinstance(each, SendRequest)] == []
    assert out(after) == out(state)


FORGOTTEN: dict[str, dict[str, object]] = {
    "missing": {"refusal": Refusal.SNAPSHOT_NOT_FOUND},
    "position": {"refusal": Refusal.POSITION_OUT_OF_RANGE},
    "another id": {"snapshot_id": at(901, 4)},
    "another size": {"size_bytes": SIZE_BYTES + 1},
    "more than there is": {"length": SIZE_BYTES},
    "another place": {"position": 7},
    "nothing": {"length": 0},
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_download_that_leads_nowhere_begins_again_with_a_fetch(name: str) -> None:
    """Row 107: MissingSnapshot, WithInvalidId."""
    state, _ = chunk(told(), 1_000)
    state, effects = chunk(state, 1_000, **FORGOTTEN[name])
    assert effects == (AbandonDownload(FAR),)
    assert isinstance(state.role, Follower)
    assert (state.download, state.role.fetch) == (None, None)
    assert not state.role.lost
    again = Moment(now_ms=state.role.retry_ms, draw=0.5)
    state, _ = step(state, TimePassed(), again)
    assert isinstance(state.role, Follower)
    assert isinstance(state.role.fetch, FetchRequest)


EPOCHS: dict[str, tuple[dict[str, object], type, bool]] = {
    # the answer, the role afterwards, is the download kept?
    "newer epoch, no leader": (
        {"refusal": Refusal.FENCED_LEADER_EPOCH, "epoch": Epoch(6), "leader": NodeId(-1)},
        object,
        False,
    ),
    "newer epoch, another leader": (
        {"refusal": Refusal.FENCED_LEADER_EPOCH, "epoch": Epoch(6), "leader": THREE},
        Follower,
        False,
    ),
    "older epoch": (
        {"refusal": Refusal.UNKNOWN_LEADER_EPOCH, "epoch": Epoch(4), "leader": NodeId(-1)},
        Follower,
        True,
    ),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_a_chunk_obeys_the_rules_of_epochs(name: str) -> None:
    """Row 107: FromNewerEpoch{NotLeader,Leader}, FromOlderEpoch."""
    changes, role, kept = EPOCHS[name]
    state, _ = chunk(told(), 1_000)
    state, effects = chunk(state, 1_000, **changes)
    assert isinstance(state.role, role)
    assert (state.download is not None) is kept
    assert (AbandonDownload(FAR) in effects) is not kept
    assert not [each for each in effects if isinstance(each, AppendChunk)]


def test_a_chunk_for_who_follows_no_more_is_nothing() -> None:
    """Row 107: ToNotFollower."""
    state = told()
    request = out(state)
    response = FetchSnapshotResponse(
        epoch=EPOCH, leader=TWO, snapshot_id=FAR, size_bytes=9, length=3
    )
    state = voter(Candidate(deadline_ms=99_999, granted=frozenset({ME})))
    response = replace(response, leader=NO_NODE)
    assert step(state, ResponseReceived(TWO, request, response), NOW) == (state, ())


def test_another_snapshot_begins_anew() -> None:
    state, _ = chunk(told(), 150_000)
    assert isinstance(state.role, Follower)
    request = fetch(LOG.end)
    state = replace(state, role=replace(state.role, fetch=request))
    response = FetchResponse(epoch=EPOCH, leader=TWO, snapshot_id=at(950, 5))
    state, effects = step(state, ResponseReceived(TWO, request, response), NOW)
    assert effects[0] == AbandonDownload(FAR)
    assert (out(state).snapshot_id, out(state).position) == (at(950, 5), 0)


def complete() -> RaftState:
    return chunk(told(), SIZE_BYTES)[0]


STALE: dict[str, Event] = {
    "another's": SnapshotVerified(snapshot_id=at(901, 4), voters=voter_set(3)),
    "another's damage": SnapshotDamaged(at(901, 4)),
}


@pytest.mark.parametrize("name", STALE)
def test_what_is_said_of_another_download_is_nothing(name: str) -> None:
    state = complete()
    assert step(state, STALE[name], NOW) == (state, ())


def test_a_damaged_download_is_fetched_again() -> None:
    state, effects = step(complete(), SnapshotDamaged(FAR), NOW)
    assert effects == (AbandonDownload(FAR),)
    assert state.download is None
    assert state.log == LOG


def test_who_verifies_is_seen_alive() -> None:
    """It fetches now and then, and what the answer says of snapshots does not disturb it."""
    state = complete()
    assert isinstance(state.role, Follower)
    soon = Moment(now_ms=state.role.retry_ms, draw=0.5)
    assert soon.now_ms < state.role.deadline_ms
    state, effects = step(state, TimePassed(), soon)
    assert isinstance(state.role, Follower)
    request = state.role.fetch
    assert isinstance(request, FetchRequest)
    response = FetchResponse(epoch=EPOCH, leader=TWO, snapshot_id=at(950, 5))
    state, effects = step(state, ResponseReceived(TWO, request, response), soon)
    assert effects == ()
    assert state.download is not None
    assert state.download.complete


def test_who_lost_its_leader_installs_all_the_same() -> None:
    """The snapshot is of what is committed, whoever leads; only a leader never loads one."""
    role = Prospective(leader=TWO, deadline_ms=99_999, granted=frozenset({ME}))
    state = replace(complete(), role=role)
    state, effects = step(state, SnapshotVerified(snapshot_id=FAR, voters=voter_set(3)), NOW)
    assert effects == (InstallSnapshot(FAR), LoadSnapshot(FAR))
    assert state.role == role


def test_a_later_epoch_ends_the_download() -> None:
    """Restarted when the leader changes: another node's snapshot is made of other bytes."""
    state, effects = ask(complete(), THREE, BeginQuorumEpochRequest(epoch=Epoch(6)))
    assert AbandonDownload(FAR) in effects
    verified = SnapshotVerified(snapshot_id=FAR, voters=voter_set(3))
    assert step(state, verified, NOW) == (state, ())
    assert state.log == LOG


def test_voters_come_from_the_snapshot() -> None:
    voters = VoterSet(voter_set(3).voters[1:])
    verified = SnapshotVerified(snapshot_id=FAR, voters=voters)
    state, _ = step(complete(), verified, NOW)
    assert state.voters == voters
    assert not state.is_voter
