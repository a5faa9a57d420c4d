"""Snapshots that this replica holds: who needs one, who may read one, what becomes of the log.

    written, up to an end ≤ high watermark ──▶ held ──▶ the log begins at it; older ones are gone

    0 ─────── log start ══════════ high watermark ────── end
                  ▲ a snapshot's end, always (or 0)

Each node writes its own, at ends of its choice (KIP-630). The fetching side is in `download`.
"""

from enum import Enum

from controller.raft import replication
from controller.raft.effects import DeleteSnapshot, Effects, SendChunk, SendResponse, TrimLog
from controller.raft.events import Moment, SnapshotWritten, TrimRequested
from controller.raft.messages import FetchSnapshotRequest, FetchSnapshotResponse, Refusal
from controller.raft.state import HeldSnapshot, Leader, RaftState
from controller.raft.voters import ReplicaKey, start_at
from klamm.frozen import replace
from klamm.ids import OffsetAndEpoch

CHUNK_BYTES_MAX = 4 * 1024 * 1024
"""Of a snapshot, in one answer."""

Step = tuple[RaftState, Effects]


class Creation(Enum):
    """Whether a snapshot may be written."""

    ALLOWED = "allowed"
    NEEDLESS = "needless"
    """It is there already, or the log begins above its end."""
    INVALID = "invalid"
    """Its end is not committed, or not of that epoch."""


def may_create(state: RaftState, snapshot_id: OffsetAndEpoch) -> Creation:
    """May this node write a snapshot of the log up to there (row 95)?

    That the end is one of a batch is for the shell to see to.
    """
    if snapshot_id.offset > state.high_watermark:
        return Creation.INVALID
    if snapshot_id.offset < state.log.start_offset or _held(state, snapshot_id) is not None:
        return Creation.NEEDLESS
    return Creation.ALLOWED if state.log.holds(snapshot_id) else Creation.INVALID


def needed(state: RaftState, end: OffsetAndEpoch) -> OffsetAndEpoch | None:
    """The snapshot for whoever has a log that ends at `end`; None if this log reaches back to it.

    An empty log gets one if there is any: that is faster (kraft 1.8).
    """
    if not state.snapshots:
        return None
    start = state.log.start
    unreached = (
        end.offset < start.offset
        or (end.offset == start.offset and end.epoch != start.epoch)
        or end.epoch < start.epoch
    )
    return state.snapshots[-1].snapshot_id if unreached or end.offset == 0 else None


def on_request(
    state: RaftState,
    call: int,
    sender: ReplicaKey,
    request: FetchSnapshotRequest,
    moment: Moment,
) -> Step:
    """A follower asks for a chunk. That counts as a sign of life (KAFKA-15489)."""
    answer = FetchSnapshotResponse(
        refusal=replication.refusal_of(state, request.epoch),
        epoch=state.epoch,
        leader=state.leader,
        snapshot_id=request.snapshot_id,
        position=request.position,
    )
    role = state.role
    if answer.refusal is not Refusal.NONE or not isinstance(role, Leader):
        return state, (SendResponse(call, answer),)
    if state.admits(sender):
        heard = tuple(
            replace(each, fetched_ms=moment.now_ms) if each.node_id == sender.node_id else each
            for each in role.progress
        )
        state = replace(state, role=replace(role, progress=heard))
    held = _held(state, request.snapshot_id)
    if held is None:
        refused = replace(answer, refusal=Refusal.SNAPSHOT_NOT_FOUND)
        return state, (SendResponse(call, refused),)
    answer = replace(answer, size_bytes=held.size_bytes)
    if not 0 <= request.position < held.size_bytes:
        refused = replace(answer, refusal=Refusal.POSITION_OUT_OF_RANGE)
        return state, (SendResponse(call, refused),)
    max_bytes = max(1, min(request.max_bytes, CHUNK_BYTES_MAX))
    return state, (SendChunk(call=call, response=answer, max_bytes=max_bytes),)


def on_written(state: RaftState, event: SnapshotWritten) -> Step:
    """This node has a snapshot more. While it was written the log may have moved past it."""
    match may_create(state, event.snapshot_id):
        case Creation.NEEDLESS if _held(state, event.snapshot_id) is None:
            return state, (DeleteSnapshot(event.snapshot_id),)
        case Creation.NEEDLESS:
            return state, ()
        case Creation.INVALID:
            raise AssertionError(f"{event.snapshot_id} was written, and is not of this log")
    held = HeldSnapshot(snapshot_id=event.snapshot_id, size_bytes=event.size_bytes)
    snapshots = sorted((*state.snapshots, held), key=lambda each: each.snapshot_id.offset)
    return replace(state, snapshots=tuple(snapshots)), ()


def on_trim(state: RaftState, event: TrimRequested) -> Step:
    """Begin the log at a snapshot that is held. What is gone by now is no error."""
    to = event.to
    if _held(state, to) is None or to.offset <= state.log.start_offset:
        return state, ()
    state = replace(
        state,
        log=state.log.start_at(to),
        voter_history=start_at(state.voter_history, to.offset),
        snapshots=tuple(each for each in state.snapshots if each.snapshot_id.offset >= to.offset),
    )
    return state, (TrimLog(to),)


def _held(state: RaftState, snapshot_id: OffsetAndEpoch) -> HeldSnapshot | None:
    for each in state.snapshots:
        if each.snapshot_id == snapshot_id:
            return each
    return None
