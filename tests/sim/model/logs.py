"""The log (Raft 5.3; KIP-101, KIP-595, KIP-630).

a leader appends, in its own epoch, to what it has: its first record as it is elected, then what
    is proposed, once it has claimed, and while it does not hand over
a follower appends what its leader sends, in answer to a fetch from just its end
it cuts what its leader has not, back to where both logs agree, and nothing committed
a log begins at 0 or at the end of a snapshot that is held, of committed records
an install replaces all of it by a snapshot beyond what is committed here
what is durable is what an fsync has covered since the last cut; a fetch acknowledges no more
"""

from tests.sim.model.heard import Heard
from tests.sim.model.terms import (
    CHANGE,
    FETCH,
    FETCH_SNAPSHOT,
    LEADER,
    PROPOSED,
    TRIM,
    VERIFIED,
    WRITTEN,
    Answered,
    Answers,
    Asks,
    Cause,
    Deed,
    End,
    Flushed,
    Log,
    Named,
    Replica,
)


def log(before: Replica, heard: Heard, cause: Cause, after: Replica) -> str | None:
    """Of records, the log's start, and what of it is durable."""
    old, new = before.log, after.log
    if old is new or old == new:
        return _durable(before, cause, after, before.durable)
    if isinstance(cause, Named) and cause.what == VERIFIED:
        return _installed(before, cause, after)
    if isinstance(cause, Named) and cause.what == TRIM:
        end = cause.end
        assert end is not None
        if end not in before.snapshots or end.offset > before.committed or new != old.from_(end):
            return f"begins its log at {new.start}"
        return _durable(before, cause, after, before.durable)
    if after.role == LEADER:
        return _led(before, heard, cause, after) or _durable(before, cause, after, before.durable)
    if not isinstance(cause, Answered) or cause.what != FETCH:
        return f"its log changes from {old.last} to {new.last}"
    return _followed(before, heard, cause, after)


def _led(before: Replica, heard: Heard, cause: Cause, after: Replica) -> str | None:
    old, new = before.log, after.log
    if new.end <= old.end or new != old.plus(after.epoch, new.end - old.end):
        return f"a leader changes its log from {old} to {new}"
    if before.role == LEADER:
        asked = isinstance(cause, Named) and cause.what in (PROPOSED, CHANGE)
        if not asked and after.records is before.records:
            return f"a leader appends without being asked: {cause}"
        if before.committed < heard.term:
            return "a leader appends before its first record is committed"
        if heard.moving:
            return "a leader appends while it hands over"
    return None


def _followed(before: Replica, heard: Heard, told: Answered, after: Replica) -> str | None:
    old, new = before.log, after.log
    if told.who.id != heard.leader or told.epoch != after.epoch or told.asked != after.epoch:
        return f"takes {told.who}, of {told.epoch}, for the leader that it follows"
    if not told.good or told.end != old.last:
        return f"changes its log by what was asked at {told.end}"
    if told.diverging is not None:
        mine = old.end_of(told.diverging.epoch)
        parted = mine.epoch == told.diverging.epoch
        to = min(mine.offset, told.diverging.offset) if parted else mine.offset
        if new != old.cut(to) or to < before.committed:
            return f"cuts its log from {old.last} to {new.last}, and {told.diverging} was said"
        return _durable(before, told, after, min(before.durable, to))
    grown: Log = old
    for offset, epoch, count in told.batches:
        if offset != grown.end or not grown.last.epoch <= epoch <= after.epoch:
            return f"appends {offset} of {epoch} to a log that ends at {grown.last}"
        grown = grown.plus(epoch, count)
    if new != grown:
        return f"appends {told.batches} to {old.last}, and has {new.last}"
    return _durable(before, told, after, before.durable)


def _installed(before: Replica, cause: Named, after: Replica) -> str | None:
    end, new = cause.end, after.log
    assert end is not None
    if before.role == LEADER or end.offset <= before.committed:
        return f"installs {end}, and has committed {before.committed}"
    if new != Log(end, (), (), end.offset) or after.committed != end.offset:
        return f"installs {end}, and begins at {new.start}, {after.committed} committed"
    if after.snapshots != (end,) or after.voters != cause.voters:
        return f"installs {end} of {cause.voters}, and has {after.snapshots}, {after.voters}"
    return _durable(before, cause, after, end.offset)


def _durable(before: Replica, cause: Cause, after: Replica, was: int) -> str | None:
    if isinstance(cause, Flushed) and cause.valid:
        was = max(was, cause.end)
    return None if after.durable == was <= after.log.end else f"takes {after.durable} for durable"


def snapshots(before: Replica, cause: Cause, after: Replica) -> str | None:
    """Which are held."""
    start = after.log.start
    if start.offset > 0 and start not in after.snapshots:
        return f"begins at {start}, and has no such snapshot"
    if after.snapshots != before.snapshots and isinstance(cause, Named) and cause.what == WRITTEN:
        end = cause.end
        assert end is not None
        if end.offset > before.committed or not before.log.has(end):
            return f"holds a snapshot of {end}, which is not committed"
    return None


def _is_durable(replica: Replica, end: End) -> bool:
    return end.offset <= replica.durable and replica.log.has(end)


def words(before: Replica, heard: Heard, after: Replica, deeds: list[Deed]) -> str | None:
    """What is said of the log; before a step cuts something, it may still be acknowledged."""
    for deed in deeds:
        if isinstance(deed, Asks):
            if (
                deed.what == FETCH
                and deed.end is not None
                and not (_is_durable(after, deed.end) or _is_durable(before, deed.end))
            ):
                return f"acknowledges {deed.end}, {after.durable} is durable"
            if deed.what == FETCH_SNAPSHOT and deed.position > 0:
                assert deed.end is not None
                had = heard.chunks.get(deed.end, 0)
                if deed.position > had:
                    return f"goes on with {deed.end} at {deed.position}, and has {had}"
        elif isinstance(deed, Answers) and deed.fetched:
            wrong = _answers(after.log, heard, deed)
            if wrong:
                return wrong
    return None


def _answers(log: Log, heard: Heard, deed: Answers) -> str | None:
    """A leader's answer to a fetch."""
    waiting = heard.asks.get(deed.call)
    if not waiting:
        return "answers a fetch that nobody waits for"
    end = waiting[0]
    if deed.records_from is not None and (deed.records_from != end.offset or not log.has(end)):
        return f"sends records from {deed.records_from} to who has {end}"
    if deed.diverging is not None:
        mine = log.end_of(end.epoch)
        if log.has(end) or deed.diverging.offset != mine.offset:
            return f"says that {end} parts at {deed.diverging}"
    return None
