"""The front door: one event in, the next state and its effects out."""

from typing import assert_never

from controller.raft import (
    download,
    election,
    epoch,
    follow,
    leadership,
    membership,
    no_room,
    reads,
    replication,
    resign,
    slow_disk,
    snapshots,
    transfer,
    trust,
    vote,
)
from controller.raft.effects import Effect, Effects, SaveQuorumState
from controller.raft.events import (
    Event,
    LogFlushed,
    Moment,
    NoRoomFound,
    ProposalMade,
    ReadRequested,
    RequestDropped,
    RequestFailed,
    RequestReceived,
    ResignRequested,
    ResponseReceived,
    SnapshotDamaged,
    SnapshotVerified,
    SnapshotWritten,
    StreamLost,
    TimePassed,
    TransferRequested,
    TrimRequested,
    VoterChangeAsked,
)
from controller.raft.messages import (
    STRANGE,
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import (
    Candidate,
    Follower,
    Leader,
    Prospective,
    RaftState,
    Resigned,
)
from klamm.frozen import replace

Step = tuple[RaftState, Effects]

NOTHING: Effects = ()


def step(state: RaftState, event: Event, moment: Moment) -> Step:
    """Advance one voter by one event.

    Args:
        state: What the voter remembers. Not changed.
        event: What happened. Nothing else happens in between.
        moment: The time, and one random draw.

    Returns:
        The next state, and the effects that the shell must carry out, in order.
    """
    if isinstance(event, RequestReceived) and event.sender.node_id == state.config.me:
        return epoch.refuse_own_id(state, event)
    if isinstance(event, ResponseReceived) and event.response.refusal in STRANGE:
        event = RequestFailed(event.sender, event.request)
    after, entered = state, NOTHING
    if isinstance(event, RequestReceived | ResponseReceived):
        if epoch.names_second_leader(state, event) or epoch.leaps(state, event):
            if isinstance(event, RequestReceived):
                return epoch.refuse_nonsense(state, event)
            event = RequestFailed(event.sender, event.request)
        after, entered = epoch.observe(state, event, moment)
    after, effects = _dispatch(after, event, moment)
    if after.download is not None and after.download.epoch != after.epoch:
        after, abandoned = download.drop(after)
        effects += abandoned
    after = slow_disk.watch(before=state, after=trust.settle(after), moment=moment)
    after, handed_over = transfer.proceed(after, moment)
    after, left = membership.settle(after, moment)
    _check(state, after)
    if isinstance(event, TimePassed):
        assert after.next_deadline_ms > moment.now_ms, "a deadline that has come moves"
    return after, _one_save(entered + effects + handed_over + left)


def _dispatch(state: RaftState, event: Event, moment: Moment) -> Step:
    match event:
        case RequestReceived():
            return _on_request(state.acquainted(event.sender), event, moment)
        case ResponseReceived():
            return _on_response(state, event, moment)
        case TimePassed():
            return _on_time(state, moment)
        case LogFlushed():
            return _on_flushed(state, event, moment)
        case ProposalMade():
            return replication.on_proposal(state, event, moment)
        case VoterChangeAsked():
            return membership.on_change(state, event, moment)
        case RequestFailed():
            return _on_failed(state, event, moment)
        case StreamLost(peer):
            if isinstance(state.role, Follower) and state.role.leader == peer:
                return follow.lose_leader(state, state.role, moment), ()
            return leadership.on_follower_lost(state, peer, moment)
        case RequestDropped(call):
            return replication.on_dropped(state, call), ()
        case ReadRequested(call):
            return reads.on_read(state, call)
        case ResignRequested():
            return resign.on_requested(state, event, moment)
        case TransferRequested():
            return transfer.on_requested(state, event, moment)
        case SnapshotWritten():
            return snapshots.on_written(state, event)
        case TrimRequested():
            return snapshots.on_trim(state, event)
        case SnapshotVerified():
            return download.on_verified(state, event, moment)
        case SnapshotDamaged():
            return download.on_damaged(state, event, moment)
        case NoRoomFound():
            return no_room.on_found(state, moment)
    assert_never(event)


def _on_request(state: RaftState, event: RequestReceived, moment: Moment) -> Step:
    call, sender, request = event.call, event.sender, event.request
    match request:
        case FetchRequest():
            return replication.on_fetch(state, call, sender, request, moment)
        case FetchSnapshotRequest():
            return snapshots.on_request(state, call, sender, request, moment)
        case VoteRequest():
            return vote.on_request(state, call, sender, request, moment)
        case BeginQuorumEpochRequest():
            return epoch.on_begin_request(state, call, request, moment)
        case EndQuorumEpochRequest():
            return resign.on_end_request(state, call, sender, request, moment)
    assert_never(request)


def _on_response(state: RaftState, event: ResponseReceived, moment: Moment) -> Step:
    sender, request, response = event.sender, event.request, event.response
    match request, response:
        case FetchRequest(), FetchResponse(successors=(_, *_)):
            return resign.on_fetch_refused(state, sender, request, response, moment)
        case FetchRequest(), FetchResponse():
            return follow.on_response(state, sender, request, response, moment)
        case FetchSnapshotRequest(), FetchSnapshotResponse():
            return download.on_response(state, sender, request, response, moment)
        case VoteRequest(), VoteResponse():
            return election.on_vote_response(state, sender, request, response, moment)
        case EndQuorumEpochRequest(), _:
            return resign.on_end_answered(state, sender, moment), ()
    return state, ()


def _on_failed(state: RaftState, event: RequestFailed, moment: Moment) -> Step:
    request = event.request
    match request:
        case FetchRequest():
            role = state.role
            if isinstance(role, Follower) and role.leader == event.to and role.fetch == request:
                return follow.lose_leader(state, role, moment), ()
            return state, ()
        case FetchSnapshotRequest():
            role = state.role
            if isinstance(role, Follower) and role.leader == event.to and role.fetch == request:
                return download.on_failed(state, role, moment), ()
            return state, ()
        case VoteRequest():
            return election.on_vote_failed(state, event.to, request, moment)
        case BeginQuorumEpochRequest(epoch=begun):
            if begun == state.epoch:
                return leadership.on_begin_failed(state, event.to, moment), ()
            return state, ()
        case EndQuorumEpochRequest():
            return state, ()
    assert_never(request)


def _on_time(state: RaftState, moment: Moment) -> Step:
    role = state.role
    if moment.now_ms < state.next_deadline_ms:
        return state, ()
    match role:
        case Leader():
            return leadership.on_time(state, role, moment)
        case Resigned():
            return resign.on_time(state, role, moment)
        case Follower() if moment.now_ms < role.deadline_ms:
            return follow.fetch(state, role, moment)
    return election.on_time(state, moment)


def _on_flushed(state: RaftState, event: LogFlushed, moment: Moment) -> Step:
    if event.truncations != state.truncations or event.end_offset <= state.flushed:
        # What was flushed then may have been cut off since.
        return state, ()
    assert event.end_offset <= state.log.end_offset, "flushed what was never appended"
    state = replace(state, flushed=event.end_offset)
    match state.role:
        case Leader():
            return replication.on_flushed(state, moment)
        case Follower() as role:
            return follow.on_flushed(state, role, moment)
    return state, ()


def _one_save(effects: Effects) -> Effects:
    """Of several saves in one step the last, at the place of the first: one fsync, and earlier."""
    saves = [each for each in effects if isinstance(each, SaveQuorumState)]
    if len(saves) < 2:
        return effects
    kept: list[Effect] = []
    for effect in effects:
        if not isinstance(effect, SaveQuorumState):
            kept.append(effect)
        elif effect is saves[0]:
            kept.append(saves[-1])
    return tuple(kept)


def _check(before: RaftState, after: RaftState) -> None:
    """What holds between any two steps. Cheap, so it is never turned off."""
    assert after.epoch >= before.epoch, "an epoch never falls"
    assert after.high_watermark >= before.high_watermark, "the high watermark never falls"
    assert after.high_watermark <= after.log.end_offset
    assert after.flushed <= after.log.end_offset
    if after.log is not before.log and after.log.start_offset > 0:
        starts = any(each.snapshot_id == after.log.start for each in after.snapshots)
        assert starts, "the log begins at a snapshot"
    assert after.log.last_epoch <= after.epoch
    leads = isinstance(after.role, Leader)
    if after.epoch == before.epoch:
        assert before.voted_for in (None, after.voted_for), "one vote an epoch"
        if isinstance(before.role, Leader):
            assert leads or isinstance(after.role, Resigned), "a leader leads, or resigns"
            assert after.truncations == before.truncations, "a leader never cuts its log"
            if before.role.transfer is not None:
                appended = after.log.end_offset != before.log.end_offset
                assert not appended, "nothing is appended while leadership moves"
        elif leads:
            assert not isinstance(before.role, Resigned), "an epoch is led once"
    if after.recovering is not None:
        assert not isinstance(after.role, Leader | Prospective | Candidate), "it has no say"
    if leads:
        assert after.voted_for == after.config.key, "a leader has voted for itself"
