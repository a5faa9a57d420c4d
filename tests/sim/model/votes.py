"""Epochs, votes and elections (Raft 5.1, 5.2, 5.4.1; the thesis, 4.2.3 and 9.6; KIP-595, KIP-996).

an epoch is entered because somebody is in it, or to stand in the next one, with a vote for
    oneself; a replica that is no voter moves nobody who hears a leader
one vote an epoch, to a log as good as one's own, by who knows no leader of it; on the disk
    before it is said, as is the epoch before anything is said in it but a request for votes
a pre-vote changes neither epoch nor vote, and is refused by who hears a leader
who stands is a voter (or may still be one), has all that it acknowledged, and was granted
    pre-votes by a majority, or named successor by the leader that goes
who leads has the votes of a majority in its epoch for just the log that it has, its own too
an epoch is led once, and its leader is never another
"""

from tests.sim.model.heard import MESSAGES, Heard
from tests.sim.model.terms import (
    BEGIN,
    CANDIDATE,
    FOLLOWER,
    GOODBYE,
    LEADER,
    NOBODY,
    PRE_VOTE,
    PROSPECTIVE,
    RESIGNED,
    UNATTACHED,
    VOTE,
    Answered,
    Answers,
    Asked,
    Asks,
    Cause,
    Deed,
    Key,
    Replica,
    Saves,
)

WITHIN_AN_EPOCH = {
    UNATTACHED: {UNATTACHED, FOLLOWER, PROSPECTIVE},
    FOLLOWER: {UNATTACHED, FOLLOWER, PROSPECTIVE},
    PROSPECTIVE: {UNATTACHED, FOLLOWER, PROSPECTIVE},
    CANDIDATE: {UNATTACHED, FOLLOWER, PROSPECTIVE, CANDIDATE, LEADER},
    LEADER: {LEADER, RESIGNED},
    RESIGNED: {UNATTACHED, FOLLOWER, PROSPECTIVE, RESIGNED},
}


def seen(before: Replica, heard: Heard, cause: Cause) -> int:
    """The epoch that this replica is in once it has heard of the one in a message."""
    match cause:
        case Asked(what=what, who=who, epoch=epoch) if what in (VOTE, BEGIN, GOODBYE):
            stranger = not heard.admits(before.voters, who)
            hears = before.role == LEADER or (before.role == FOLLOWER and before.hears)
            exempt = who.id == before.me.id or (what == VOTE and stranger and hears)
            return before.epoch if exempt else max(before.epoch, epoch)
        case Answered(what=what, epoch=epoch, leader=leader):
            exempt = what == GOODBYE and leader == NOBODY
            return before.epoch if exempt else max(before.epoch, epoch)
    return before.epoch


def epochs(before: Replica, heard: Heard, cause: Cause, after: Replica) -> str | None:
    """Of epoch, vote, role and leader."""
    base = before.epoch
    if isinstance(cause, MESSAGES) and cause.epoch > base:
        base = seen(before, heard, cause)
    if after.epoch != base:
        stands = after.epoch == base + 1 and after.role in (CANDIDATE, LEADER)
        if not stands:
            return f"enters epoch {after.epoch}, and heard of {base}"
        return _stands(before, heard, cause, after)
    if after.epoch == before.epoch:
        if after.role not in WITHIN_AN_EPOCH[before.role]:
            return f"{before.role} becomes {after.role} within an epoch"
        if after.role == LEADER and before.role == CANDIDATE:
            return _wins(before, heard, after)
    elif after.role not in (UNATTACHED, FOLLOWER):
        return f"enters an epoch of others as {after.role}"
    if after.leader != NOBODY and after.leader != heard.leader:
        return f"takes {after.leader} for the leader, it is {heard.leader}"
    given = before.vote if after.epoch == before.epoch else None
    return None if after.vote == given else _votes(heard, cause, after, given)


def _votes(heard: Heard, cause: Cause, after: Replica, given: Key | None) -> str | None:
    if given is not None:
        return f"voted for {given}, and now for {after.vote}"
    if not isinstance(cause, Asked) or cause.what != VOTE or cause.who != after.vote:
        return f"votes for {after.vote}, who has not asked"
    if heard.leader != NOBODY:
        return f"votes in an epoch that {heard.leader} leads"
    return None


def _stands(before: Replica, heard: Heard, cause: Cause, after: Replica) -> str | None:
    me, voters = before.me, before.voters
    if after.vote != me:
        return "stands, and votes for another"
    if after.distrusted or before.distrusted:
        return "stands without all that it acknowledged"
    leaving = len(before.records) > 1 and before.records[-1][0] >= before.committed
    if not heard.admits(voters, me) and not (leaving and heard.admits(before.records[-2][1], me)):
        return "stands, and is no voter"
    if isinstance(cause, MESSAGES) and cause.successors[:1] == (me.id,):
        return None
    granted = heard.granted.get((PRE_VOTE, before.epoch, before.log.last), frozenset()) - {me.id}
    if not heard.majority(before, len(granted)):
        return f"stands with pre-votes of {sorted(granted)}"
    return None


def _wins(before: Replica, heard: Heard, after: Replica) -> str | None:
    granted = heard.granted.get((VOTE, before.epoch, before.log.last), frozenset())
    granted -= {before.me.id}
    if not heard.majority(before, len(granted)):
        return f"leads with votes of {sorted(granted)}"
    if heard.saved != Saves(after.epoch, before.me):
        return f"leads, and its own vote is not on its disk: {heard.saved}"
    return None


def words(
    before: Replica, heard: Heard, cause: Cause, after: Replica, deeds: list[Deed]
) -> str | None:
    """What is said of votes and epochs, in order."""
    saved = heard.saved
    for deed in deeds:
        if isinstance(deed, Saves):
            saved = deed
        elif isinstance(deed, Answers) and deed.granted:
            assert isinstance(cause, Asked)
            wrong = _grants(before, cause, after, saved)
            if wrong:
                return wrong
        elif saved.epoch < after.epoch and not (isinstance(deed, Asks) and deed.what == VOTE):
            return f"says {deed} in epoch {after.epoch}, which is not on its disk"
    return None


def _grants(before: Replica, cause: Asked, after: Replica, saved: Saves) -> str | None:
    if before.distrusted:
        return f"grants a {cause.what} without all that it acknowledged"
    assert cause.end is not None
    if cause.end < before.log.last:
        return f"grants a {cause.what} to {cause.end}, and has {before.log.last}"
    if cause.what == PRE_VOTE:
        hears = before.role == LEADER or (before.role == FOLLOWER and before.hears)
        return "grants a pre-vote, and hears a leader" if hears else None
    if (after.epoch, after.vote) != (cause.epoch, cause.who) or saved != Saves(*after[1:3]):
        return f"grants a vote, and has {saved} on its disk"
    return None
