"""What is committed, who knows it, and what follows from it (Raft 5.4.2, 8; the thesis, 3.10, 6.4).

a leader commits what a majority of the voters in its log has durably, itself by its own fsync,
    by counting only up to a record of its own epoch; once the log names disks, only those of
        named ones count, and of one in doubt not before the record that names it is committed
a follower commits what its leader calls so, as far as its log agrees with the leader's
a claim comes when the epoch's first record is committed
a read sees all that was committed when it was asked for, and the epoch's first record; it is
    answered when a majority has followed this leader since then
leadership is handed over with everything committed, to who has all of it
"""

from tests.sim.model.heard import Heard
from tests.sim.model.terms import (
    FETCH,
    LEADER,
    VERIFIED,
    Answered,
    Cause,
    Claims,
    Deed,
    HandsOver,
    Key,
    Named,
    Reads,
    Replica,
)


def committed(before: Replica, heard: Heard, cause: Cause, after: Replica) -> str | None:
    """Of the high watermark."""
    new = after.committed
    if new == before.committed:
        return None
    if not before.committed < new <= after.log.end:
        return f"commits {new} after {before.committed}, and has {after.log.end}"
    if after.role == LEADER or before.role == LEADER:
        epoch = before.epoch if before.role == LEADER else after.epoch
        return _counted(before, heard, after, epoch)
    if isinstance(cause, Named) and cause.what == VERIFIED:
        return None  # As `logs` has it.
    told = isinstance(cause, Answered) and cause.what == FETCH and cause.good
    if not told or not isinstance(cause, Answered) or cause.diverging or cause.snapshot:
        return f"commits {new} because of {cause}"
    current = cause.who.id == heard.leader and cause.epoch == before.epoch == after.epoch
    if not current or cause.end != before.log.last or new > cause.committed:
        return f"commits {new}, and was told {cause.committed}"
    return None


def _counted(before: Replica, heard: Heard, after: Replica, epoch: int) -> str | None:
    """By a leader."""
    new = after.committed
    if after.log.epoch_before(new) != epoch:
        return f"commits {new} by counting, which is of epoch {after.log.epoch_before(new)}"
    known = before.committed
    ends = heard.acknowledged.items()
    holders = [who for who, end in ends if end >= new and heard.holds(after, who, known)]
    if not _majority(heard, after, holders, itself=after.durable >= new):
        return f"commits {new}, which {holders} have, and {after.durable} is durable here"
    return None


def _majority(heard: Heard, replica: Replica, whom: list[Key], *, itself: bool) -> bool:
    others = sum(heard.weighs(replica, who) for who in whom if who.id != replica.me.id)
    itself = itself and heard.admits(replica.voters, replica.me)
    return 2 * (others + itself) > len(replica.voters)


def words(before: Replica, heard: Heard, after: Replica, deeds: list[Deed]) -> str | None:
    """What is said to the state machine, and to those that wait."""
    wrong: str | None = None
    for deed in deeds:
        if isinstance(deed, Claims):
            if after.committed < heard.term or deed.epoch != after.epoch:
                wrong = f"claims epoch {deed.epoch} at {after.committed} of {heard.term}"
        elif isinstance(deed, Reads):
            wrong = wrong or _read(before, heard, after, deed)
        elif isinstance(deed, HandsOver):
            end = before.log.end
            ends = {who.id: at for who, at in heard.acknowledged.items()}
            if after.committed < end or ends.get(deed.to, -1) < end:
                wrong = f"hands over to {deed.to} at {ends}, {after.committed} of {end}"
    return wrong


def _read(before: Replica, heard: Heard, after: Replica, answer: Reads) -> str | None:
    since, named = heard.reads[answer.call]
    index = answer.up_to
    if before.role != LEADER or before.epoch != after.epoch:
        return "answers a read without leading"
    if index < max(since, heard.term) or index > after.committed:
        return f"answers a read by {index}, {since} was committed, its epoch began to {heard.term}"
    confirmed = [who for who, brought in heard.rounds.items() if brought > named]
    if not _majority(heard, after, confirmed, itself=True):
        return f"answers a read, and {confirmed} have followed since"
    return None
