"""Ends and beginnings (Raft, figure 2: what must be on the disk; docs/architecture.md, 5).

a replica comes back in the epoch and with the vote that were on its disk, or, if its vote is
    lost, in a later epoch without one; it neither leads nor stands
it has what was durable, or knows that it has not; who has lost something does not forget that
it is believed again when all up to where a leader's log ended is durable here, and a record of
    that leader's epoch committed; or when all other voters say that they have nothing at all
"""

from tests.sim.model.heard import Heard
from tests.sim.model.terms import (
    FOLLOWER,
    RESIGNED,
    UNATTACHED,
    Replica,
    Saves,
)


def reborn(before: Replica, last: Replica, saved: tuple[Saves, Saves], now: Replica) -> str | None:
    """A start, after a life that may have ended within its last step.

    Args:
        before: As it was before that step.
        last: As it was to be after it.
        saved: Epoch and vote on the disk before that step and after it.
        now: As it has come back.
    """
    if now.role not in (UNATTACHED, FOLLOWER, RESIGNED) or (
        now.vote is not None and now.vote.id == now.me.id and now.role != RESIGNED
    ):
        return f"comes back as {now.role}, having voted for {now.vote}"
    came = Saves(now.epoch, now.vote)
    if came not in saved and (now.vote is not None or now.epoch <= saved[0].epoch):
        return f"comes back with {came}, and had {saved[1]}"
    if now.committed > max(last.committed, before.committed):
        return f"comes back with {now.committed} committed, it was {last.committed}"
    if now.distrusted:
        return None
    if before.distrusted and last.distrusted:
        return "has forgotten that it is not whole"
    durable = min(before.durable, last.durable)
    if now.log.end < durable:
        return f"comes back with {now.log.end}, {durable} was durable"
    if now.log.start.offset <= durable and last.log.start.offset <= durable:
        known, found = last.log.cut(durable), now.log.cut(durable)
        if known.start.offset < found.start.offset:
            known = known.from_(found.start)
        elif found.start.offset < known.start.offset:
            found = found.from_(known.start)
        if known != found:
            return f"comes back with {found}, {known} was durable"
    return None


def trust(before: Replica, heard: Heard, after: Replica) -> str | None:
    """Who has lost something is believed again, or not yet; nobody else is ever doubted."""
    if before.distrusted == after.distrusted:
        return None
    if after.distrusted:
        return "is doubted without having been away"
    others = {each.id for each in before.voters} - {before.me.id}
    if before.log.end == 0 and others and others <= heard.empty:
        return None
    log, first = after.log, _first_of(after)
    done = log.start.epoch == after.epoch or (first is not None and after.committed > first)
    if after.role != FOLLOWER or heard.target is None or after.durable < heard.target or not done:
        return f"is whole at {after.durable}, {heard.target} was the leader's end"
    return None


def _first_of(after: Replica) -> int | None:
    """Where this epoch's records begin."""
    for epoch, first in zip(after.log.epochs, after.log.firsts, strict=True):
        if epoch == after.epoch:
            return first
    return None
