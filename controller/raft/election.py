"""Campaigns: pre-vote, vote, and what becomes of them (KIP-595, KIP-996).

    nobody heard ─▶ Prospective: "would you?" ─ majority ─▶ Candidate: "do!" ─ majority ─▶ Leader
                       │ ▲                                   │ over: split, refused, timed out
                       ▼ └───────────── backoff ─────────────┘
                 back to where it came from

A round is over as soon as it cannot be won any more: refused and unreachable count alike.

A candidate asks for the others' votes while its own is being saved: to ask is not to vote. A vote
is given once it is durable, and only durable votes are counted. Another's is, since its answer
waits for that. Our own is, since answers are counted in later steps than the one that asked, and no
step begins before the effects of the one before it are done. So nobody leads an epoch without a
majority of disks that say so, and each disk says so of one replica an epoch.

    we crash between asking and the save    We come back in an epoch before, and may vote for
                                            another in this one. The answers died with us; the votes
                                            for us elect nobody: who has voted for another never
                                            stands in that epoch.
    the save finds no room                  The event did not happen, but that we asked. We may
                                            stand in the same epoch later, and an answer to the
                                            earlier question may come only then. It counts if it was
                                            given to the log that we still have: that vote is
                                            durable, and that log was held to be good enough.

(etcd's raft does the same: its own vote counts once it is durable, and the others are asked
meanwhile.)
"""

from typing import TypeVar

from controller.raft import follow, leadership, trust
from controller.raft.effects import Effects, SendRequest
from controller.raft.epoch import save
from controller.raft.events import Moment
from controller.raft.messages import FetchRequest, VoteRequest, VoteResponse
from controller.raft.state import (
    NEVER_MS,
    Candidate,
    Follower,
    Prospective,
    RaftState,
    Unattached,
)
from controller.raft.voters import ReplicaKey
from klamm.frozen import replace
from klamm.ids import NO_NODE, Epoch, NodeId

Step = tuple[RaftState, Effects]

_Campaign = TypeVar("_Campaign", Prospective, Candidate)


def start_pre_vote(state: RaftState, moment: Moment) -> Step:
    """Ask all voters whether they would vote for us. Our epoch stays."""
    if not state.may_stand or moment.now_ms < state.no_room_until_ms:
        return _look_around(state, moment)
    role = state.role
    lost = role.leader if isinstance(role, Follower | Prospective) else NO_NODE
    timeout_ms = state.config.election_timeout_ms
    prospective = Prospective(
        leader=lost,
        deadline_ms=moment.within(timeout_ms // 2, timeout_ms),
        granted=state.vote_of_its_own,
    )
    state = replace(state, role=prospective, attempts=state.attempts + 1)
    if len(prospective.granted) >= state.voters.majority:
        return _become_candidate(state, moment)
    request = VoteRequest(epoch=state.epoch, log_end=state.log.end, pre_vote=True)
    return state, tuple(SendRequest(voter, request) for voter in state.others)


def stand(state: RaftState, moment: Moment) -> Step:
    """Become a candidate at once: the leader itself has named us its successor."""
    return _become_candidate(state, moment)


def on_vote_response(
    state: RaftState, sender: NodeId, request: VoteRequest, response: VoteResponse, moment: Moment
) -> Step:
    disk = ReplicaKey(node_id=sender, directory_id=response.directory_id)
    state = trust.answered(state.acquainted(disk), disk, response, moment)
    # The vote of another disk than the voter's is nobody's vote.
    granted = response.vote_granted and state.admits(disk) and state.has_weight(sender)
    return _count(state, sender, request, moment, granted=granted)


def on_vote_failed(state: RaftState, to: NodeId, request: VoteRequest, moment: Moment) -> Step:
    return _count(state, to, request, moment, granted=False)


def _count(
    state: RaftState, voter: NodeId, request: VoteRequest, moment: Moment, *, granted: bool
) -> Step:
    role = state.role
    asked = request.epoch == state.epoch and request.log_end == state.log.end
    if not asked or voter not in state.others:
        return state, ()
    if isinstance(role, Prospective) and request.pre_vote:
        role = _with(role, voter, granted=granted)
        state = replace(state, role=role)
        if len(role.granted) >= state.voters.majority:
            return _become_candidate(state, moment)
        return _end_pre_vote(state, moment) if _cannot_win(state, role) else (state, ())
    if isinstance(role, Candidate) and not request.pre_vote:
        candidate = _with(role, voter, granted=granted)
        state = replace(state, role=candidate)
        if len(candidate.granted) >= state.voters.majority:
            return leadership.become_leader(state, candidate.granted, moment)
        if not candidate.over and _cannot_win(state, candidate):
            over = replace(candidate, over=True, deadline_ms=follow.hurry(state, moment))
            state = replace(state, role=over)
    return state, ()


def _with(role: _Campaign, voter: NodeId, *, granted: bool) -> _Campaign:
    if granted:
        return replace(role, granted=role.granted | {voter}, refused=role.refused - {voter})
    if voter in role.granted:
        return role
    return replace(role, refused=role.refused | {voter})


def _cannot_win(state: RaftState, role: Prospective | Candidate) -> bool:
    undecided = len(state.voters.voters) - len(role.granted) - len(role.refused)
    return len(role.granted) + undecided < state.voters.majority


def on_time(state: RaftState, moment: Moment) -> Step:
    """The deadline of a role that is not Leader has come."""
    match state.role:
        case Prospective():
            return _end_pre_vote(state, moment)
        case Follower(lost=False) as role if state.flushed < state.log.end_offset:
            # Not the leader is silent but our own disk.
            later_ms = moment.now_ms + state.config.fetch_timeout_ms
            return replace(state, role=replace(role, deadline_ms=later_ms)), ()
    return start_pre_vote(state, moment)


def _end_pre_vote(state: RaftState, moment: Moment) -> Step:
    """Not now. Back to the leader that was lost, or to nobody; and try again later each time."""
    role = state.role
    assert isinstance(role, Prospective)
    again_ms = follow.hurry(state, moment)
    if role.leader == NO_NODE:
        return replace(state, role=Unattached(deadline_ms=again_ms)), ()
    role = Follower(leader=role.leader, lost=True, deadline_ms=again_ms)
    return follow.fetch(state, role, moment)


def _become_candidate(state: RaftState, moment: Moment) -> Step:
    """Enter the next epoch, with a vote for ourselves that is durable before anything counts."""
    assert state.may_stand, "only voters stand, and only with all that they acknowledged"
    timeout_ms = state.config.election_timeout_ms
    role = Candidate(
        deadline_ms=moment.within(timeout_ms, 2 * timeout_ms),
        granted=state.vote_of_its_own,
    )
    state = replace(state, epoch=Epoch(state.epoch + 1), voted_for=state.config.key, role=role)
    if len(role.granted) >= state.voters.majority:
        state_, effects = leadership.become_leader(state, role.granted, moment)
        return state_, (save(state), *effects)
    request = VoteRequest(epoch=state.epoch, log_end=state.log.end)
    votes = (SendRequest(voter, request) for voter in state.others)
    return state, (*votes, save(state))


def _look_around(state: RaftState, moment: Moment) -> Step:
    """Who has no vote asks one voter after the other where the leader is, with a fetch.

    Or one of those that it was given to begin with: the voters that it knows may be gone.
    """
    known = (*state.others, *state.config.bootstrap)
    deadline_ms = moment.now_ms + state.config.election_timeout_ms
    if not known:  # Alone: it waits for room, or has nobody to wait for.
        deadline_ms = state.no_room_until_ms if state.may_stand else NEVER_MS
    role = state.role
    lost = role.leader if isinstance(role, Follower | Prospective | Unattached) else NO_NODE
    state = replace(state, role=Unattached(deadline_ms=deadline_ms, leader=lost))
    if not known:
        return state, ()
    request = FetchRequest(
        epoch=state.epoch,
        log_end=state.log.truncate(state.flushed).end,
        high_watermark=state.high_watermark,
        max_bytes=state.config.fetch_bytes_max,
        max_wait_ms=0,
    )
    asked = SendRequest(known[int(moment.draw * len(known))], request)
    return state, (asked, *trust.ask_all(state))
