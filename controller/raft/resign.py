"""Giving up leadership, and what the others make of it.

give_up ──▶ EndQuorumEpoch(successors, the most caught up first) ──▶ first: stands at once
       └──▶ parked fetches: refused, with the same list              others: wait their turn

Both say the same, as either may come first: a follower that learned no more than that its leader
leads no more would campaign at once, against the successor.
"""

from controller.raft import election, slow_disk
from controller.raft.effects import Effects, SendRequest, SendResponse
from controller.raft.epoch import leave
from controller.raft.events import Moment, ResignRequested
from controller.raft.messages import (
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchRequest,
    FetchResponse,
    Refusal,
)
from controller.raft.state import (
    NEVER_MS,
    Follower,
    Leader,
    Prospective,
    RaftState,
    Resigned,
    Unattached,
)
from controller.raft.voters import ReplicaKey
from klamm.frozen import replace
from klamm.ids import NO_NODE, NodeId

Step = tuple[RaftState, Effects]


def on_requested(state: RaftState, event: ResignRequested, moment: Moment) -> Step:
    role = state.role
    if not isinstance(role, Leader) or event.epoch != state.epoch or not state.others:
        return state, ()
    return give_up(state, role, moment)


def give_up(
    state: RaftState, role: Leader, moment: Moment, successor: NodeId | None = None
) -> Step:
    """Lead no more. The epoch stays, and nobody else may lead it."""
    ranked = sorted(
        role.progress,
        key=lambda each: (
            each.recovering,
            each.node_id != successor,
            -each.end_offset,
            # Of what is acknowledged by nobody yet these have been told.
            each.node_id not in role.quick,
            each.node_id,
        ),
    )
    successors = tuple(each.node_id for each in ranked)
    ending = EndQuorumEpochRequest(epoch=state.epoch, successors=successors)
    timeout_ms = state.config.election_timeout_ms
    left = leave(state, state.epoch, NO_NODE, successors)
    resigned = Resigned(
        deadline_ms=moment.within(timeout_ms, 2 * timeout_ms),
        unacked=successors,
        ending=ending,
        retry_ms=_retry_ms(state, moment),
    )
    state = replace(state, role=resigned)
    return state, (*(SendRequest(each, ending) for each in successors), *left)


def on_end_request(
    state: RaftState,
    call: int,
    sender: ReplicaKey,
    request: EndQuorumEpochRequest,
    moment: Moment,
) -> Step:
    if request.epoch < state.epoch:
        refusal = Refusal.FENCED_LEADER_EPOCH
        answer = EndQuorumEpochResponse(refusal=refusal, epoch=state.epoch, leader=state.leader)
        return state, (SendResponse(call, answer),)
    state, effects = _succeed(state, sender.node_id, request.successors, moment)
    answer = EndQuorumEpochResponse(epoch=state.epoch, leader=state.leader)
    return state, (*effects, SendResponse(call, answer))


def on_fetch_refused(
    state: RaftState,
    sender: NodeId,
    request: FetchRequest,
    response: FetchResponse,
    moment: Moment,
) -> Step:
    """The leader that it fetched from has resigned, and says in which order to stand."""
    role = state.role
    current = isinstance(role, Follower) and role.leader == sender and role.fetch == request
    if not current or response.epoch != state.epoch:
        return state, ()
    return _succeed(state, sender, response.successors, moment)


def _succeed(
    state: RaftState, leader: NodeId, successors: tuple[NodeId, ...], moment: Moment
) -> Step:
    role = state.role
    if not isinstance(role, Follower | Prospective | Unattached):
        return state, ()
    known = NO_NODE if isinstance(role, Unattached) else role.leader
    if known not in (leader, NO_NODE):
        return state, ()
    named = successors[:1] == (state.config.me,)
    if named and state.may_stand and moment.now_ms >= state.no_room_until_ms:
        return election.stand(state, moment)
    deadline_ms = moment.now_ms + _turn_ms(state, successors)
    if known == NO_NODE:
        return replace(state, role=Unattached(deadline_ms=deadline_ms)), ()
    lost = Follower(leader=leader, lost=True, deadline_ms=deadline_ms)
    return replace(state, role=lost), ()


def _turn_ms(state: RaftState, successors: tuple[NodeId, ...]) -> int:
    """The further down the list, the later, in powers of two (KIP-595)."""
    longest_ms = state.config.election_backoff_max_ms
    if state.config.me not in successors:
        return longest_ms
    place = successors.index(state.config.me)
    return (longest_ms >> (len(successors) - 1)) << max(place - 1, 0)


def on_end_answered(state: RaftState, sender: NodeId, moment: Moment) -> RaftState:
    role = state.role
    if not isinstance(role, Resigned):
        return state
    unacked = tuple(each for each in role.unacked if each != sender)
    if unacked:
        return replace(state, role=replace(role, unacked=unacked))
    deadline_ms = role.deadline_ms
    if not state.is_voter:
        # It has removed itself: nobody announces the next leader to it, so it asks, and soon.
        deadline_ms = min(deadline_ms, _retry_ms(state, moment))
    role = replace(role, unacked=(), retry_ms=NEVER_MS, deadline_ms=deadline_ms)
    return replace(state, role=role)


def on_time(state: RaftState, role: Resigned, moment: Moment) -> Step:
    """Say goodbye again to those that have not heard; at the end, campaign like anybody."""
    if moment.now_ms >= role.deadline_ms:
        if not (state.may_stand and slow_disk.owes(state, role)):
            return election.start_pre_vote(state, moment)
        timeout_ms = state.config.election_timeout_ms
        role = replace(role, deadline_ms=moment.within(timeout_ms, 2 * timeout_ms))
        state = replace(state, role=role)
    if role.ending is None or moment.now_ms < role.retry_ms:
        return state, ()
    again = tuple(SendRequest(each, role.ending) for each in role.unacked)
    state = replace(state, role=replace(role, retry_ms=_retry_ms(state, moment)))
    return state, again


def _retry_ms(state: RaftState, moment: Moment) -> int:
    backoff_ms = state.config.retry_backoff_ms
    return moment.within(5 * backoff_ms, 10 * backoff_ms)
