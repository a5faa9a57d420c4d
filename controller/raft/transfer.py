"""Handing leadership over, on demand: nothing is lost, and nobody waits for a timeout.

    asked ──▶ is the target a voter, heard of, and close? ──▶ refused by name, nothing has changed
          └─▶ take no proposals until it has the whole log, and all of it is committed
                  ├─▶ EndQuorumEpoch(target first): it stands at once, without a pre-vote
                  └─▶ too slow, silent: refused by name, and proposals are taken again

(Raft, dissertation, 3.10.) Since all is committed when leadership is given up, no write is left
whose outcome is unknown. Without a target, whoever has everything first is the successor: a leader
that stops in order.
"""

from controller.raft import replication, resign
from controller.raft.effects import Effects, HandOver, RefuseTransfer, TransferRefusal
from controller.raft.events import Moment, TransferRequested
from controller.raft.state import Leader, Progress, RaftState, Transfer
from klamm.frozen import replace
from klamm.ids import NodeId

Step = tuple[RaftState, Effects]


def on_requested(state: RaftState, event: TransferRequested, moment: Moment) -> Step:
    """Begin, or refuse. `proceed` completes it, perhaps in the same step."""
    refusal = _refusal(state, event, moment)
    if refusal is not None:
        return state, (RefuseTransfer(event.call, refusal),)
    role = state.role
    assert isinstance(role, Leader)
    transfer = Transfer(
        call=event.call,
        target=event.target,
        deadline_ms=moment.now_ms + state.config.election_timeout_ms,
    )
    # Whoever it is to be needs all that there is: nobody rests meanwhile.
    return replication.release(replace(state, role=replace(role, transfer=transfer)), moment)


def _refusal(state: RaftState, event: TransferRequested, moment: Moment) -> TransferRefusal | None:
    role = state.role
    if not isinstance(role, Leader) or not role.claimed or event.epoch != state.epoch:
        return TransferRefusal.NOT_LEADER
    if role.transfer is not None:
        return TransferRefusal.UNDER_WAY
    candidates = _candidates(role, event.target)
    if not candidates:
        return TransferRefusal.NOT_A_VOTER
    heard_since_ms = moment.now_ms - state.config.fetch_timeout_ms
    heard = [each for each in candidates if each.has_fetched and each.fetched_ms >= heard_since_ms]
    if not heard:
        return TransferRefusal.SILENT
    if all(each.recovering for each in heard):
        return TransferRefusal.RECOVERING
    # A moment's lag it makes up for while nothing is added. Who was not close within an election
    # timeout would hold up all writes for as long, and in vain.
    close_since_ms = moment.now_ms - state.config.election_timeout_ms
    if not any(_is_close(state, each, close_since_ms) for each in heard):
        return TransferRefusal.LAGGING
    return None


def _is_close(state: RaftState, each: Progress, since_ms: int) -> bool:
    role = state.role
    assert isinstance(role, Leader)
    if each.caught_up_ms < 0:
        # It has been heard of once or twice: it lacks no more than this epoch wrote so far.
        return each.end_offset >= role.epoch_start
    return each.end_offset == state.log.end_offset or each.caught_up_ms >= since_ms


def _candidates(role: Leader, target: NodeId | None) -> tuple[Progress, ...]:
    """The other voters that it may be."""
    return tuple(each for each in role.progress if target in (None, each.node_id))


def proceed(state: RaftState, moment: Moment) -> Step:
    """Hand over, if the time has come: after any step, as any may have brought it."""
    role = state.role
    if not isinstance(role, Leader) or role.transfer is None:
        return state, ()
    end = state.log.end_offset
    if state.high_watermark < end:
        return state, ()
    ready = [
        each
        for each in _candidates(role, role.transfer.target)
        if each.end_offset == end and not each.recovering
    ]
    if not ready:
        return state, ()
    # Of several, the one that spoke last: it is there.
    successor = max(ready, key=lambda each: (each.fetched_ms, -each.node_id)).node_id
    over = HandOver(role.transfer.call, successor)
    role = replace(role, transfer=None)
    state, given_up = resign.give_up(replace(state, role=role), role, moment, successor)
    return state, (*given_up, over)


def on_time(state: RaftState, role: Leader, moment: Moment) -> Step:
    """Too slow: this leader goes on."""
    if role.transfer is None or moment.now_ms < role.transfer.deadline_ms:
        return state, ()
    return _fail(state, role, TransferRefusal.TIMED_OUT)


def on_follower_lost(state: RaftState, follower: NodeId) -> Step:
    """Its stream broke. If it was the target, it may be gone: nobody need wait for the deadline."""
    role = state.role
    if not isinstance(role, Leader) or role.transfer is None or role.transfer.target != follower:
        return state, ()
    return _fail(state, role, TransferRefusal.SILENT)


def _fail(state: RaftState, role: Leader, why: TransferRefusal) -> Step:
    assert role.transfer is not None
    call = role.transfer.call
    return replace(state, role=replace(role, transfer=None)), (RefuseTransfer(call, why),)
