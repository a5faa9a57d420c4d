"""A voter whose log has lost what it acknowledged: it follows, and has no say until it is whole.

    restore(distrust="…") ──▶ Recovering(reason)
        no vote, no pre-vote, never stands; fetches, and acknowledges what it has by then
    an answer of a leader to this process ──▶ target = where that leader's log ended, or lower
                                                       once another answer has said so
    all up to the target durable, and the leader's own epoch committed ──▶ as any other voter

Why that is safe. Let A be the voter, s the epoch of its vote file (which is sound), r a record that
A had acknowledged to the leader of epoch e, e ≤ s, and has lost. If r is or will be committed with
the help of that acknowledgement, A must have it again before its vote can elect anybody. A becomes
whole under the leader B of an epoch b ≥ s.

    b = e   B itself sent r to A: r stood in B's log before A came back. A leader never cuts, so r
            is below where B's log ended when it answered A's new process: below the target. It
            does not matter that B may learn late of the lost acknowledgement.
    b > e   Some voter X both holds r in epoch e, and voted for B in b. If X had r when it voted,
            B has it (Raft 5.4), from before its epoch's start. X = A voted before the loss, for
            s < b could not have been otherwise: it had r then. Any other X that lost r between the
            two was whole again when it voted, under a leader of an epoch before b: by induction
            over epochs it had r again. So B has r below its own epoch's start, below the target.

So A's log again has all that counts of what A ever acknowledged, and A is a voter as any other.
That the leader's own epoch has been committed is asked for on top: it shows that a majority still
follows that leader. Vote and epoch were never lost; where they are, see the store, which goes on in
an epoch that this voter has never voted in.

A voter whose log holds nothing may also have a new disk, in the place of one that was wiped: with
configured voters nothing tells the two apart, and two such disks, or one and a voter that is far
behind, could elect each other and begin a second history (KAFKA-14077). So it has no say either,
until a leader has made it whole, or all others have answered that their logs hold nothing too:

    no leader heard ──▶ asks all others ── every log is empty ──▶ the first start: as any other

That is as safe. A record that was committed with this voter's help stands in the log of the leader
that sent it, or in that of a later leader which replaced it: one of the others would have said so,
unless it lost its disk as well. A vote that was given before the loss counts for nobody: with the
question each of the others has met the new disk, and a vote of the old one is of a stranger; who
had met the old one before does not answer that its log is empty. Its vote file is lost too, with
what it promised to later leaders: so what it fetches in doubt is no acknowledgement before its disk
is named (see `voters`).

A majority that has lost records must wait for an administrator: it cannot know what was committed.
"""

from controller.raft.effects import Effects, SendRequest
from controller.raft.events import Moment
from controller.raft.messages import FetchResponse, VoteRequest, VoteResponse
from controller.raft.state import END_UNKNOWN, Follower, RaftState, Recovering, Unattached
from controller.raft.voters import ReplicaKey
from klamm.frozen import replace
from klamm.ids import LOG_START, Epoch, Offset

SOON_MS = (10, 30)
"""Who starts for the first time waits for the others to find that out too."""


def heard(state: RaftState, response: FetchResponse) -> RaftState:
    """A leader's answer to a fetch of this process, which makes sense, sets the target.

    The smallest that its leader has named counts: a log only grows in its leader's epoch, so it
    is the first, but for a leader that has once named an end that no log has. One that names less
    than it has shown itself is not believed.
    """
    recovering, end = state.recovering, response.log_end_offset
    if recovering is None or end == END_UNKNOWN or end < _shown(state, response):
        return state
    if recovering.epoch == state.epoch and recovering.target <= end:
        return state
    target = Recovering(reason=recovering.reason, epoch=state.epoch, target=end)
    return replace(state, recovering=target)


def _shown(state: RaftState, response: FetchResponse) -> Offset:
    """Where the leader's log must end at the least, by the rest of what it says."""
    shown = [state.high_watermark, response.high_watermark]
    if response.diverging is None and response.snapshot_id is None:
        shown.append(state.log.end_offset)  # It has what we have, and the batches come behind it.
    shown += [Offset(each.base_offset + each.count) for each in response.batches]
    return max(shown)


def settle(state: RaftState) -> RaftState:
    """The state as it is, or whole again."""
    recovering = state.recovering
    if recovering is None or recovering.epoch != state.epoch:
        return state
    whole = (
        isinstance(state.role, Follower)
        and state.flushed >= recovering.target
        and _has_committed(state, state.epoch)
    )
    return replace(state, recovering=None) if whole else state


def ask_all(state: RaftState) -> Effects:
    """Whether they have anything. A pre-vote, for it is answered by anybody and changes nothing."""
    if not _has_nothing(state):
        return ()
    request = VoteRequest(epoch=state.epoch, log_end=state.log.end, pre_vote=True)
    return tuple(SendRequest(voter, request) for voter in state.others)


def hurry(state: RaftState, sender: ReplicaKey, request: VoteRequest, moment: Moment) -> RaftState:
    """Somebody with an empty log has come: what it says we want to hear now."""
    role = state.role
    if not _has_nothing(state) or not isinstance(role, Unattached):
        return state
    assert state.recovering is not None
    if request.log_end.offset > LOG_START or sender.node_id in state.recovering.empty:
        return state
    deadline_ms = min(role.deadline_ms, moment.within(*SOON_MS))
    return replace(state, role=replace(role, deadline_ms=deadline_ms))


def answered(
    state: RaftState, disk: ReplicaKey, response: VoteResponse, moment: Moment
) -> RaftState:
    """Once all others have nothing, nothing is lost: a voter as any other."""
    if not _has_nothing(state):
        return state
    assert state.recovering is not None
    says_so = response.log_is_empty and state.admits(disk)
    empty = state.recovering.empty - {disk.node_id}
    empty |= {disk.node_id} if says_so else frozenset()
    if not empty.issuperset(state.others):
        return replace(state, recovering=replace(state.recovering, empty=empty))
    role = state.role
    if isinstance(role, Unattached):
        role = replace(role, deadline_ms=moment.within(*SOON_MS))
    return replace(state, recovering=None, role=role)


def _has_nothing(state: RaftState) -> bool:
    doubted = state.recovering is not None and state.is_voter
    return doubted and state.log.end_offset == LOG_START


def _has_committed(state: RaftState, epoch: Epoch) -> bool:
    """Is a record of this epoch known to be committed?"""
    if state.log.start.epoch == epoch:
        return True  # A snapshot ends with one.
    start = state.log.start_of(epoch)
    return start is not None and state.high_watermark > start
