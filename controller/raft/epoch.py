"""Epochs: seeing a later one, following whoever leads it, and leaving what one was before.

Every message tells its sender's epoch, and every answer a leader that its sender hears. Exempt are
pre-votes and fetches, which are questions: they must not move who answers them (KIP-996); and the
answers to a goodbye, which is followed by a request for a vote.

Epochs are few enough to be used up by one message that is wrong: at EPOCH_MAX nobody stands any
more, and no new generation begins. So nobody moves further than EPOCH_LEAP_MAX at once but to a
leader. A member whose epoch is wrong stays alone with it; a new voter, or one that was away, hears
of the leader.
"""

from controller.raft import download, follow
from controller.raft.effects import (
    Effects,
    RefuseRead,
    RefuseTransfer,
    Renounce,
    SaveQuorumState,
    SendResponse,
    TransferRefusal,
)
from controller.raft.events import Event, Moment, RequestReceived, ResponseReceived
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    EndQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    Refusal,
    VoteRequest,
    refused,
)
from controller.raft.state import Follower, Leader, Prospective, RaftState, Resigned, Unattached
from controller.raft.voters import ReplicaKey
from klamm.frozen import replace
from klamm.ids import NO_NODE, Epoch, NodeId

Step = tuple[RaftState, Effects]

EPOCH_LEAP_MAX = 2**24
"""An election a second takes half a year for so many; a vote that is lost takes a thousand."""


def observe(state: RaftState, event: Event, moment: Moment) -> Step:
    """Take into account what a message tells of epochs and leaders, before it is looked at."""
    match event:
        case RequestReceived(
            request=VoteRequest(pre_vote=True) | FetchRequest() | FetchSnapshotRequest()
        ):
            return state, ()
        case RequestReceived(sender=sender, request=VoteRequest()) if disturbs(state, sender):
            return state, ()
        case RequestReceived(sender=sender, request=BeginQuorumEpochRequest(epoch=epoch)):
            return _seen(state, epoch, sender.node_id, moment, leader_speaks=True)
        case RequestReceived(request=request):
            return _seen(state, request.epoch, NO_NODE, moment)
        case ResponseReceived(request=EndQuorumEpochRequest(), response=response) if (
            response.leader == NO_NODE
        ):
            # The successor stands. Its request for a vote is on its way, with the same epoch: both
            # are one save, and the new leader has one voter more the sooner.
            return state, ()
        case ResponseReceived(sender=sender, response=response):
            said = response.leader
            return _seen(state, response.epoch, said, moment, leader_speaks=said == sender)
    return state, ()


def disturbs(state: RaftState, candidate: ReplicaKey) -> bool:
    """Is this somebody who was removed, or not admitted yet, while a leader is heard?

    Its epoch, however high, deposes nobody (Raft's thesis, 4.2.3). Once no leader is heard it is
    a candidate as any other: it may be our own set that lags.
    """
    return state.leader != NO_NODE and not state.admits(candidate)


def leaps(state: RaftState, event: Event) -> bool:
    """Does a message tell of an epoch that is too far away, and of no leader who has come there?"""
    match event:
        case RequestReceived(request=VoteRequest(pre_vote=False) | EndQuorumEpochRequest() as told):
            return told.epoch > state.epoch + EPOCH_LEAP_MAX
        case ResponseReceived(response=response) if response.leader == NO_NODE:
            return response.epoch > state.epoch + EPOCH_LEAP_MAX
    return False


def names_second_leader(state: RaftState, event: Event) -> bool:
    """Does a message name another leader of this epoch than the one we know?

    A majority elects one, so no voter says that: a node's id is used twice, or somebody lies. It
    is not believed, and who is followed already stays the leader.
    """
    match event:
        case RequestReceived(sender=sender, request=BeginQuorumEpochRequest(epoch=epoch)):
            named = sender.node_id
        case ResponseReceived(response=response):
            epoch, named = response.epoch, response.leader
        case _:
            return False
    if epoch != state.epoch or named in (NO_NODE, state.config.me):
        return False
    match state.role:
        case Leader():
            return True
        case Follower(leader=known) | Prospective(leader=known):
            return known not in (NO_NODE, named)
    return False


def _seen(
    state: RaftState, epoch: Epoch, leader: NodeId, moment: Moment, *, leader_speaks: bool = False
) -> Step:
    known = NO_NODE if leader == state.config.me else leader
    if epoch > state.epoch:
        if known == NO_NODE:
            return become_unattached(state, epoch, moment)
        return become_follower(state, epoch, known, moment)
    if epoch < state.epoch or known == NO_NODE:
        return state, ()
    match state.role:
        case Follower():
            return state, ()  # The same one: see `names_second_leader`.
        case Prospective(leader=lost) if lost == known and not leader_speaks:
            # Somebody still hears the leader that we lost; that alone does not bring it back.
            return state, ()
    return become_follower(state, epoch, known, moment)


def become_unattached(state: RaftState, epoch: Epoch, moment: Moment) -> Step:
    """Enter a later epoch without knowing who leads it."""
    assert epoch > state.epoch, "an epoch is entered without a leader once"
    timeout_ms = state.config.election_timeout_ms
    deadline_ms = moment.within(timeout_ms, 2 * timeout_ms)
    if isinstance(state.role, Leader):
        # It has a good log, and followers: if nobody is about to win (it has not been asked for a
        # vote that it gives), a node has come back with a later epoch. It costs no timeout.
        deadline_ms = follow.hurry(state, moment)
    elif not isinstance(state.role, Resigned):
        # Who was about to campaign has not become less eager by another's attempt.
        deadline_ms = min(deadline_ms, state.role.deadline_ms)
    if not state.may_stand and state.recovering is None:
        # Who has no vote disturbs nobody by asking soon who leads.
        backoff_ms = state.config.retry_backoff_ms
        deadline_ms = moment.within(5 * backoff_ms, 10 * backoff_ms)
    left = leave(state, epoch, NO_NODE)
    state = replace(state, epoch=epoch, voted_for=None, role=Unattached(deadline_ms=deadline_ms))
    return state, (save(state), *left)


def become_follower(state: RaftState, epoch: Epoch, leader: NodeId, moment: Moment) -> Step:
    """Follow the leader of this epoch or of a later one, and fetch from it at once."""
    assert leader != state.config.me, "nobody follows itself"
    left = leave(state, epoch, leader)
    deadline_ms = moment.now_ms + state.config.fetch_timeout_ms
    entered: Effects = ()
    abandoned: Effects = ()
    later = epoch > state.epoch
    regained = isinstance(state.role, Prospective) and state.role.leader == leader and not later
    role = Follower(leader=leader, deadline_ms=deadline_ms, steady_since_ms=moment.now_ms)
    state = replace(state, epoch=epoch, voted_for=None if later else state.voted_for, role=role)
    if not regained:
        state = replace(state, attempts=0)
    if later:
        # Within an epoch the leader is not saved: a vote given is what must not be forgotten.
        entered = (save(state),)
        state, abandoned = download.drop(state)
    state, fetch = follow.fetch(state, role, moment)
    return state, (*entered, *left, *abandoned, *fetch)


def leave(
    state: RaftState, epoch: Epoch, leader: NodeId, successors: tuple[NodeId, ...] = ()
) -> Effects:
    """What a leader owes to those that wait, when it is one no longer; nothing for other roles."""
    role = state.role
    if not isinstance(role, Leader):
        return ()
    answer = FetchResponse(
        refusal=Refusal.NOT_LEADER_OR_FOLLOWER, epoch=epoch, leader=leader, successors=successors
    )
    transfer: Effects = ()
    if role.transfer is not None:
        transfer = (RefuseTransfer(role.transfer.call, TransferRefusal.NOT_LEADER),)
    return (
        *(SendResponse(parked.call, answer) for parked in role.parked),
        *(RefuseRead(read.call) for read in role.reads),
        *transfer,
        Renounce(state.epoch),
    )


def save(state: RaftState) -> SaveQuorumState:
    return SaveQuorumState(epoch=state.epoch, voted_for=state.voted_for, leader=state.leader)


def refuse_own_id(state: RaftState, event: RequestReceived) -> Step:
    """Somebody asks with our own id: it is used twice, or what we said comes back to us."""
    answer = refused(event.request, Refusal.DUPLICATE_VOTER, state.epoch, state.leader)
    return state, (SendResponse(event.call, answer),)


def refuse_nonsense(state: RaftState, event: RequestReceived) -> Step:
    """What a second leader is told, and who leaps."""
    answer = refused(event.request, Refusal.INVALID_REQUEST, state.epoch, state.leader)
    return state, (SendResponse(event.call, answer),)


def on_begin_request(
    state: RaftState, call: int, request: BeginQuorumEpochRequest, moment: Moment
) -> Step:
    """The leader announces itself; `observe` has made it ours."""
    if request.epoch < state.epoch:
        refusal = Refusal.FENCED_LEADER_EPOCH
        answer = BeginQuorumEpochResponse(refusal=refusal, epoch=state.epoch, leader=state.leader)
        return state, (SendResponse(call, answer),)
    role = state.role
    assert isinstance(role, Follower), "an announced leader is followed"
    effects: Effects = ()
    if role.lost or role.fetch is None:
        state, role = follow.hear(state, role, moment)
        state, effects = follow.fetch(state, role, moment)
    answer = BeginQuorumEpochResponse(epoch=state.epoch, leader=role.leader)
    return state, (SendResponse(call, answer), *effects)
