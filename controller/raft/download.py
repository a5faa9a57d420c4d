"""The fetching side of snapshots: chunk after chunk, then one step from the old log to the new.

    Fetch ──▶ "take snapshot S" ──▶ FetchSnapshot(S, 0) ──▶ chunk ──▶ FetchSnapshot(S, n) ──▶ …
    last chunk ──▶ verify (beside) ──▶ install: S named, log empty behind it ──▶ load ──▶ Fetch

A stream that breaks costs one chunk. The bytes are one node's: another leader, that is another
epoch, begins anew, and so does another snapshot. Until it is installed the old log stands, and is
what this replica votes by; what the snapshot replaces is committed, so nothing that was
acknowledged is lost with the old log.
"""

from controller.raft import follow
from controller.raft.effects import (
    AbandonDownload,
    AppendChunk,
    Effects,
    InstallSnapshot,
    LoadSnapshot,
    SendRequest,
    VerifySnapshot,
)
from controller.raft.events import Moment, SnapshotDamaged, SnapshotVerified
from controller.raft.messages import FetchSnapshotRequest, FetchSnapshotResponse, Refusal
from controller.raft.state import (
    NEVER_MS,
    Download,
    Follower,
    HeldSnapshot,
    Prospective,
    RaftState,
    Unattached,
)
from klamm.frozen import replace
from klamm.ids import NodeId, Offset, OffsetAndEpoch

CHUNK_MS = 100
"""What a chunk should take, so that a slow link gets through and no timer is starved."""

CHUNK_BYTES_MIN = 4 * 1024
CHUNK_BYTES_FIRST = 64 * 1024
CHUNK_BYTES_MAX = 4 * 1024 * 1024

Step = tuple[RaftState, Effects]


def chunk_bytes(before: int, took_ms: int) -> int:
    """How large the next chunk should be, if one of `before` bytes took so long."""
    fitting = before * CHUNK_MS // max(took_ms, 1)
    return min(max(fitting, before // 2, CHUNK_BYTES_MIN), before * 2, CHUNK_BYTES_MAX)


def begin(state: RaftState, role: Follower, told: OffsetAndEpoch, moment: Moment) -> Step:
    """The leader's log does not reach back to ours: take this snapshot, or go on with it."""
    download = state.download
    if download is not None and download.complete:
        # It is being looked at, and we fetch to be seen alive.
        return wait(state, role, moment), ()
    if told.offset <= state.high_watermark or not 0 <= told.epoch <= state.epoch:
        return follow.retry_later(state, role, moment), ()
    if download is not None and download.snapshot_id == told:
        return ask(state, role, download, moment)
    state, abandoned = drop(state)
    download = Download(snapshot_id=told, epoch=state.epoch, chunk_bytes=CHUNK_BYTES_FIRST)
    state, asked = ask(state, role, download, moment)
    return state, abandoned + asked


def ask(state: RaftState, role: Follower, download: Download, moment: Moment) -> Step:
    """For the next chunk."""
    request = FetchSnapshotRequest(
        epoch=state.epoch,
        snapshot_id=download.snapshot_id,
        position=download.position,
        max_bytes=download.chunk_bytes,
    )
    download = replace(download, asked_ms=moment.now_ms)
    role = replace(role, fetch=request, retry_ms=NEVER_MS)
    return replace(state, role=role, download=download), (SendRequest(role.leader, request),)


def on_response(
    state: RaftState,
    sender: NodeId,
    request: FetchSnapshotRequest,
    response: FetchSnapshotResponse,
    moment: Moment,
) -> Step:
    role, download = state.role, state.download
    current = isinstance(role, Follower) and role.leader == sender and role.fetch == request
    if not current or response.epoch != state.epoch or download is None:
        return state, ()
    assert isinstance(role, Follower)
    gone = False
    match response.refusal:
        case Refusal.NONE:
            gone = not _continues(download, response)
        case Refusal.OVERLOADED | Refusal.BROKER_NOT_AVAILABLE:
            return follow.retry_later(state, role, moment), ()
        case Refusal.SNAPSHOT_NOT_FOUND | Refusal.POSITION_OUT_OF_RANGE:
            gone = True
        case _:
            return follow.lose_leader(state, role, moment), ()
    state, role = follow.hear(state, role, moment)
    if gone:
        state, abandoned = drop(state)
        return follow.retry_later(state, role, moment), abandoned
    return _take(state, role, download, response, moment)


def _take(
    state: RaftState,
    role: Follower,
    download: Download,
    response: FetchSnapshotResponse,
    moment: Moment,
) -> Step:
    append = AppendChunk(
        snapshot_id=download.snapshot_id, position=download.position, data=response.data
    )
    position = download.position + response.length
    took_ms = moment.now_ms - download.asked_ms
    download = replace(
        download,
        position=position,
        size_bytes=response.size_bytes,
        chunk_bytes=chunk_bytes(download.chunk_bytes, took_ms),
        complete=position == response.size_bytes,
    )
    if not download.complete:
        state, asked = ask(state, role, download, moment)
        return state, (append, *asked)
    state = wait(replace(state, download=download), role, moment)
    return state, (append, VerifySnapshot(download.snapshot_id))


def wait(state: RaftState, role: Follower, moment: Moment) -> RaftState:
    """Until all is verified; meanwhile the leader hears from us now and then."""
    again_ms = moment.now_ms + state.config.fetch_timeout_ms // 2
    return replace(state, role=replace(role, fetch=None, retry_ms=again_ms))


def on_failed(state: RaftState, role: Follower, moment: Moment) -> RaftState:
    """The chunk did not come in time: a smaller one will, from where we are."""
    if state.download is not None:
        less = max(state.download.chunk_bytes // 2, CHUNK_BYTES_MIN)
        state = replace(state, download=replace(state.download, chunk_bytes=less))
    return follow.retry_later(state, role, moment)


def on_verified(state: RaftState, event: SnapshotVerified, moment: Moment) -> Step:
    """Put it in the place of the log."""
    download, snapshot_id = state.download, event.snapshot_id
    if download is None or not download.complete or download.snapshot_id != snapshot_id:
        return state, ()
    role = state.role
    assert isinstance(role, Follower | Prospective | Unattached), "it ends with its epoch"
    assert snapshot_id.offset > state.high_watermark, "nothing was committed meanwhile"
    held = HeldSnapshot(snapshot_id=snapshot_id, size_bytes=download.size_bytes)
    state = replace(
        state,
        log=state.log.begin_at(snapshot_id),
        flushed=snapshot_id.offset,
        truncations=state.truncations + 1,
        high_watermark=snapshot_id.offset,
        voter_history=(
            state.voter_history[0],
            (Offset(snapshot_id.offset - 1), event.voters),
        ),
        snapshots=(held,),
        download=None,
    )
    asked: Effects = ()
    if isinstance(role, Follower):
        state, asked = follow.fetch(state, role, moment)
    return state, (InstallSnapshot(snapshot_id), LoadSnapshot(snapshot_id), *asked)


def on_damaged(state: RaftState, event: SnapshotDamaged, moment: Moment) -> Step:
    """What came is not what it should be: all of it again."""
    download = state.download
    if download is None or download.snapshot_id != event.snapshot_id:
        return state, ()
    state, abandoned = drop(state)
    if isinstance(state.role, Follower):
        state = follow.retry_later(state, state.role, moment)
    return state, abandoned


def drop(state: RaftState) -> Step:
    """Forget what was downloaded."""
    if state.download is None:
        return state, ()
    return replace(state, download=None), (AbandonDownload(state.download.snapshot_id),)


def _continues(download: Download, response: FetchSnapshotResponse) -> bool:
    """Is it the chunk that we asked for, of the snapshot that we know?"""
    end = response.position + response.length
    return (
        response.snapshot_id == download.snapshot_id
        and response.position == download.position
        and response.length > 0
        and end <= response.size_bytes
        and download.size_bytes in (0, response.size_bytes)
    )
