"""Being asked for a vote, or whether one would give it.

neither    to a replica that our set does not name, as long as we hear a leader
neither    while our log has lost what we had acknowledged (see `trust`)
vote       once an epoch, to a log as good as ours, if no leader is known; durable before it
           is said
pre-vote   as often as asked, to a log as good as ours, unless we hear a leader, or stand
           ourselves: a node with one bad link disturbs nobody. Who has less than we have sees us
           stand instead, at once: it may rest while the quorum is busy (see `thrift`)
"""

from controller.raft import trust
from controller.raft.effects import Effects, SendRequest, SendResponse
from controller.raft.epoch import disturbs, save
from controller.raft.events import Moment
from controller.raft.messages import Refusal, VoteRequest, VoteResponse
from controller.raft.state import (
    Candidate,
    Follower,
    Leader,
    Prospective,
    RaftState,
    Resigned,
    Unattached,
)
from controller.raft.voters import ReplicaKey
from klamm.frozen import replace
from klamm.ids import LOG_START, NO_NODE

YIELD_MS = (20, 50)
"""Who has granted a pre-vote lets the other stand first, once."""

Step = tuple[RaftState, Effects]


def on_request(
    state: RaftState, call: int, sender: ReplicaKey, request: VoteRequest, moment: Moment
) -> Step:
    if request.epoch < state.epoch:
        return state, (SendResponse(call, _answer(state, sender, Refusal.FENCED_LEADER_EPOCH)),)
    if request.pre_vote:
        return _on_pre_vote(state, call, sender, request, moment)
    if request.epoch > state.epoch:
        assert disturbs(state, sender), "a voter's later epoch has been entered"
        return state, (SendResponse(call, _answer(state, sender)),)
    if not _may_grant(state, sender, request):
        return state, (SendResponse(call, _answer(state, sender)),)
    # We have just helped someone else to win: our own turn moves out.
    timeout_ms = state.config.election_timeout_ms
    role = Unattached(deadline_ms=moment.within(timeout_ms, 2 * timeout_ms))
    known = state.voted_for == sender
    state = replace(state, voted_for=sender, role=role)
    answer = SendResponse(call, _answer(state, sender, granted=True))
    return state, (answer,) if known else (save(state), answer)


def _may_grant(state: RaftState, candidate: ReplicaKey, request: VoteRequest) -> bool:
    assert request.epoch == state.epoch, "a later epoch has been entered"
    role = state.role
    leaderless = isinstance(role, Unattached | Prospective) and role.leader == NO_NODE
    if state.recovering is not None or not leaderless:
        return False
    if state.voted_for not in (None, candidate):
        return False
    return request.log_end >= state.log.end


def _on_pre_vote(
    state: RaftState, call: int, sender: ReplicaKey, request: VoteRequest, moment: Moment
) -> Step:
    state = trust.hurry(state, sender, request, moment)
    role = state.role
    granted = _would_grant(state, sender, request)
    answer = SendResponse(call, _answer(state, sender, granted=granted))
    if isinstance(role, Prospective) and not granted and sender.node_id in role.refused:
        # It has lost its leader too, since it refused us: ask it again at once.
        asked = replace(role, refused=role.refused - {sender.node_id})
        again = VoteRequest(epoch=state.epoch, log_end=state.log.end, pre_vote=True)
        return replace(state, role=asked), (answer, SendRequest(sender.node_id, again))
    if _is_outdone(state, sender, request):
        # It cannot win, and we may: nobody is served by our waiting on.
        assert isinstance(role, Unattached | Follower)
        return replace(state, role=replace(role, deadline_ms=moment.now_ms)), (answer,)
    if granted and state.attempts == 0 and isinstance(role, Unattached | Follower | Resigned):
        later_ms = max(role.deadline_ms, moment.within(*YIELD_MS))
        state = replace(state, attempts=1, role=replace(role, deadline_ms=later_ms))
    return state, (answer,)


def _would_grant(state: RaftState, sender: ReplicaKey, request: VoteRequest) -> bool:
    if state.recovering is not None:
        return False
    match state.role:
        case Leader() | Candidate(over=False) | Follower(lost=False):
            return False
        case Prospective() if request.epoch == state.epoch:
            # Two ask each other: one of them stands. Who has more log, else the higher id.
            theirs = (request.log_end, sender.node_id)
            return theirs > (state.log.end, state.config.me)
    return request.log_end >= state.log.end


def _is_outdone(state: RaftState, sender: ReplicaKey, request: VoteRequest) -> bool:
    """Does a voter ask for want of a leader that has less than we, who have none either?"""
    role = state.role
    leaderless = isinstance(role, Unattached) or (isinstance(role, Follower) and role.lost)
    lags = request.log_end < state.log.end and request.epoch == state.epoch
    return leaderless and lags and state.may_stand and state.admits(sender)


def _answer(
    state: RaftState,
    asker: ReplicaKey,
    refusal: Refusal = Refusal.NONE,
    *,
    granted: bool = False,
) -> VoteResponse:
    return VoteResponse(
        refusal=refusal,
        epoch=state.epoch,
        leader=state.leader,
        vote_granted=granted,
        directory_id=state.config.directory_id,
        # Another disk of the asker's has been here before: it may have voted for us.
        log_is_empty=state.log.end_offset == LOG_START and state.admits(asker),
    )
