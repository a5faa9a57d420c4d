"""A leader whose own disk has stopped gives up: it would vote late, and block when it is needed.

    append ──▶ flush_due = now + disk_timeout ──▶ some of it durable: later; all: never
    due, and the others have committed what we have not on our disk ──▶ resign

Only if the others do without us: where a majority waits for its disks as we do, or for ours, to
elect somebody else would help nobody, and again and again. Whoever has resigned so does not stand
while its disk still owes what it appended.
"""

from controller.raft.events import Moment
from controller.raft.state import NEVER_MS, Leader, RaftState, Resigned
from klamm.frozen import replace


def watch(before: RaftState, after: RaftState, moment: Moment) -> RaftState:
    """After each step: is the disk getting on?"""
    role = after.role
    if not isinstance(role, Leader):
        return after
    due_ms = role.flush_due_ms
    if after.flushed == after.log.end_offset or not after.others:
        due_ms = NEVER_MS
    elif due_ms == NEVER_MS or after.flushed != before.flushed or moment.now_ms >= due_ms:
        due_ms = moment.now_ms + after.config.disk_timeout_ms
    if due_ms == role.flush_due_ms:
        return after
    return replace(after, role=replace(role, flush_due_ms=due_ms))


def has_stopped(state: RaftState, role: Leader, moment: Moment) -> bool:
    """Should this leader give up?"""
    return moment.now_ms >= role.flush_due_ms and state.high_watermark > state.flushed


def owes(state: RaftState, role: Resigned) -> bool:
    """Did we lead, and is what we appended not on our disk yet?"""
    return role.ending is not None and state.flushed < state.log.end_offset
