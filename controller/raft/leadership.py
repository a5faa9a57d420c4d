"""Leading: the epoch's first records, announcing it, and knowing when it is over.

become_leader ──▶ LeaderChange (+ Voters, if the log does not say the same) ──▶ Begin to all
on_time       ──▶ Begin again to those that do not fetch; parked fetches that are due; no
                  majority heard for 1.5 fetch timeouts: resign (KAFKA-15489)
"""

from controller.raft import membership, replication, resign, slow_disk, thrift, transfer
from controller.raft.effects import AppendControl, Effects, SendRequest
from controller.raft.events import Moment
from controller.raft.messages import BeginQuorumEpochRequest
from controller.raft.state import Leader, Progress, RaftState, quorum_until_ms
from controller.raft.voters import VoterSet
from klamm.frozen import replace
from klamm.ids import NodeId, Offset

BEGIN_BACKOFF_MAX_MS = 100
"""A voter that comes back hears of the leader within about so long."""

Step = tuple[RaftState, Effects]


def become_leader(state: RaftState, granted: frozenset[NodeId], moment: Moment) -> Step:
    """The vote is won. Nothing is committed in this epoch before its first batch is."""
    voters = _voters_to_write(state)
    start = state.log.end_offset
    count = 1 if voters is None else 2
    history = state.voter_history
    if voters is not None:
        history = (*history, (Offset(start + 1), voters))
    heartbeat_ms = moment.now_ms + state.config.fetch_timeout_ms // 2
    role = Leader(
        epoch_start=start,
        first_end=Offset(start + count),
        progress=tuple(
            Progress(node_id=voter, fetched_ms=moment.now_ms, begin_ms=heartbeat_ms)
            for voter in state.others
        ),
    )
    state = replace(
        state,
        log=state.log.append(state.epoch, count),
        voter_history=history,
        role=role,
        attempts=0,
    )
    append = AppendControl(
        base_offset=start,
        epoch=state.epoch,
        leader=state.config.me,
        voter_ids=state.voters.ids,
        granting_voters=tuple(sorted(granted)),
        voters=voters,
    )
    begin = BeginQuorumEpochRequest(epoch=state.epoch)
    return state, (append, *(SendRequest(each, begin) for each in state.others))


def _voters_to_write(state: RaftState) -> VoterSet | None:
    """The voters with what is known of them by now, if the log does not say so already.

    A leader says itself where it is reached (KIP-853); of the others the log knows best.
    """
    voters = membership.known(state)
    me, endpoint = voters.find(state.config.me), state.config.endpoint
    if me is not None and state.is_voter and endpoint is not None:
        voters = voters.updated(replace(me, endpoint=endpoint))
    written = len(state.voter_history) > 1
    return None if written and voters == state.voters else voters


def on_time(state: RaftState, role: Leader, moment: Moment) -> Step:
    if moment.now_ms >= quorum_until_ms(state, role):
        return resign.give_up(state, role, moment)
    if slow_disk.has_stopped(state, role, moment):
        return resign.give_up(state, role, moment)
    state, failed = transfer.on_time(state, role, moment)
    assert isinstance(state.role, Leader)
    state, answered = replication.answer_due(state, state.role, moment)
    assert isinstance(state.role, Leader)
    role = state.role
    heartbeat_ms = state.config.fetch_timeout_ms // 2
    begin = BeginQuorumEpochRequest(epoch=state.epoch)
    progress: list[Progress] = []
    sent: list[SendRequest] = []
    for each in role.progress:
        if moment.now_ms < each.begin_ms:
            progress.append(each)
        elif each.has_fetched and moment.now_ms < each.fetched_ms + heartbeat_ms:
            # It follows; that is as good as an acknowledgement.
            progress.append(replace(each, begin_ms=each.fetched_ms + heartbeat_ms))
        else:
            progress.append(replace(each, begin_ms=moment.now_ms + heartbeat_ms))
            sent.append(SendRequest(each.node_id, begin))
    role = replace(role, progress=tuple(progress))
    return replace(state, role=role), (*failed, *answered, *sent)


def on_begin_failed(state: RaftState, to: NodeId, moment: Moment) -> RaftState:
    """It did not hear: again, a little later each time."""
    backoff_ms = state.config.retry_backoff_ms
    return _announce_again(state, to, moment, backoff_ms)


def on_follower_lost(state: RaftState, follower: NodeId, moment: Moment) -> Step:
    """Its stream broke. If it comes back as another process, it must hear who leads."""
    state, failed = transfer.on_follower_lost(state, follower)
    state = _announce_again(state, follower, moment, state.config.retry_backoff_ms)
    role = state.role
    if not isinstance(role, Leader) or follower not in role.quick:
        return state, failed
    state, told = replication.release(replace(state, role=thrift.look_again(role)), moment)
    return state, failed + told


def _announce_again(state: RaftState, to: NodeId, moment: Moment, backoff_ms: int) -> RaftState:
    role = state.role
    if not isinstance(role, Leader):
        return state

    def sooner(each: Progress) -> Progress:
        wait_ms = min(backoff_ms << min(each.begin_failures, 10), BEGIN_BACKOFF_MAX_MS)
        return replace(
            each,
            begin_ms=min(each.begin_ms, moment.now_ms + wait_ms),
            begin_failures=each.begin_failures + 1,
            fetched_ms=each.fetched_ms,
        )

    progress = tuple(sooner(each) if each.node_id == to else each for each in role.progress)
    return replace(state, role=replace(role, progress=progress))
