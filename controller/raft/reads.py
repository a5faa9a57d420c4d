"""Linearizable reads by read index (Raft, section 8), many to one round.

    read ──▶ round r begins: index = high watermark; all parked fetches are answered with r
             a majority's next fetches bring r back: they followed us after r began ──▶ answered

A round's number travels in the messages, so an old fetch, however late, confirms nothing new. One
round is out at a time; reads that come meanwhile share the next. A deposed leader gets no majority
to bring its round back, so it never answers.
"""

from controller.raft import replication
from controller.raft.effects import AnswerRead, Effects, RefuseRead
from controller.raft.state import Leader, PendingRead, RaftState
from klamm.frozen import replace
from klamm.ids import Offset

READS_MAX = 4_096
"""Reads that wait at one leader."""

WAITING = 0
"""The round of a read that is in none yet."""

Step = tuple[RaftState, Effects]


def on_read(state: RaftState, call: int) -> Step:
    role = state.role
    if not isinstance(role, Leader) or len(role.reads) >= READS_MAX:
        return state, (RefuseRead(call),)
    read = PendingRead(call=call, index=Offset(0), round=WAITING)
    state = replace(state, role=replace(role, reads=(*role.reads, read)))
    return begin_round(state)


def begin_round(state: RaftState) -> Step:
    """Put the waiting reads into a round, unless one is out or the epoch is not claimed yet."""
    role = state.role
    assert isinstance(role, Leader)
    waiting = [each for each in role.reads if each.round == WAITING]
    if not waiting or not role.claimed or len(waiting) < len(role.reads):
        return state, ()
    number = role.read_round + 1
    begun = tuple(replace(each, index=state.high_watermark, round=number) for each in waiting)
    state = replace(state, role=replace(role, reads=begun, read_round=number))
    state, told = replication.answer_all(state)
    state, answered = confirm(state)
    return state, told + answered


def confirm(state: RaftState) -> Step:
    """Answer the reads whose round a majority has brought back; then begin the next round."""
    role = state.role
    if not isinstance(role, Leader) or not role.reads:
        return state, ()
    backed = sum(
        each.read_round >= role.read_round and state.has_weight(each.node_id)
        for each in role.progress
    )
    backed += 1 if state.is_voter else 0
    if backed < state.voters.majority:
        return state, ()
    done = [each for each in role.reads if each.round != WAITING]
    left = tuple(each for each in role.reads if each.round == WAITING)
    if not done:
        return state, ()
    state = replace(state, role=replace(role, reads=left))
    state, begun = begin_round(state)
    return state, (*(AnswerRead(each.call, each.index) for each in done), *begun)
