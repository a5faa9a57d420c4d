"""Who votes (KIP-853; the thesis, chapter 4, and its correction of 2015).

what the log says last, committed or not; a cut undoes it
a leader changes one voter at a time: its own epoch has something committed, and so is the last
    change; as it is elected it may write down disks that were not known, and changes nobody,
        and so it may when a voter fetches whose disk no record names, and which is not in doubt
who is no voter any more leads on, uncounted, until that is committed
"""

from tests.sim.model.heard import Heard
from tests.sim.model.terms import (
    CHANGE,
    LEADER,
    TRIM,
    VERIFIED,
    Answered,
    Asked,
    Cause,
    Key,
    Named,
    Replica,
    Voters,
    VotersRecord,
)


def members(before: Replica, heard: Heard, cause: Cause, after: Replica) -> str | None:
    """Of the voters in the log."""
    if after.role == LEADER and len(after.records) > 1:
        done = after.records[-1][0] < after.committed
        if done and not any(each.id == after.me.id for each in after.voters):
            return "leads, and is no voter any more"
    old, new = before.records, after.records
    if new is old and after.log.end >= before.log.end:
        return None
    if isinstance(cause, Named) and cause.what in (VERIFIED, TRIM):
        return None if new[-1] == old[-1] or cause.what == VERIFIED else "a trim changes voters"
    kept: tuple[VotersRecord, ...] = tuple(each for each in old if each[0] < after.log.end)
    if isinstance(cause, Answered):
        kept += () if after.role == LEADER else cause.records
    if new == kept:
        return None
    if after.role != LEADER or new[:-1] != kept or not before.log.end <= new[-1][0] < after.log.end:
        return f"takes {new} for the voters, and was told {kept}"
    changed = _differ(kept[-1][1], new[-1][1])
    if before.role != LEADER:
        return f"is elected, and changes {sorted(changed)}" if changed else None
    asked = isinstance(cause, Named) and cause.what == CHANGE
    named = isinstance(cause, Asked) and not cause.doubted and cause.who in new[-1][1]
    if len(changed) > 1 or not (asked or (named and not changed)):
        return f"changes {changed} at once, because of {cause}"
    if before.committed < heard.term or before.records[-1][0] >= before.committed:
        return f"changes {changed}, {before.committed} is committed, not {before.records[-1][0]}"
    return None


def _differ(one: Voters, other: Voters) -> set[int]:
    """Whom only one of them has; a disk that is not known is the one that is learned later."""
    found: set[int] = set()
    for each in one + other:
        here, there = _find(one, each.id), _find(other, each.id)
        if here is None or there is None or (here.disk != there.disk and here.disk is not None):
            found.add(each.id)
    return found


def _find(voters: Voters, node_id: int) -> Key | None:
    return next((each for each in voters if each.id == node_id), None)
