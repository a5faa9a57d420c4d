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

A majority that has lost records must wait for an administrator: it cannot know what was committed.
"""

from dataclasses import replace

from controller.raft.messages import FetchResponse
from controller.raft.state import END_UNKNOWN, Follower, RaftState, Recovering
from klamm.ids import Epoch, Offset


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


def _has_committed(state: RaftState, epoch: Epoch) -> bool:
    """Is a record of this epoch known to be committed?"""
    if state.log.start.epoch == epoch:
        return True  # A snapshot ends with one.
    start = state.log.start_of(epoch)
    return start is not None and state.high_watermark > start
