"""What a replica has heard and said in its epoch: what its next deed can be justified with.

Kept from messages alone, beside whatever the replica itself remembers of them.
"""

from copy import copy

from tests.sim.model.terms import (
    BEGIN,
    FETCH,
    FETCH_SNAPSHOT,
    LEADER,
    NOBODY,
    PRE_VOTE,
    READ,
    TRANSFER,
    VOTE,
    Answered,
    Answers,
    Asked,
    Cause,
    Deed,
    End,
    HandsOver,
    Keeps,
    Key,
    Named,
    Reads,
    Replica,
    Saves,
    Voters,
)

MESSAGES = (Asked, Answered)

Vote = tuple[str, int, End]
"""Vote or pre-vote, the epoch in which it was asked for, and the log of who asked."""

GRANTED_MAX = 64
"""Votes of so many campaigns are kept."""


class Heard:
    """Of one incarnation; `saved` alone outlives it."""

    __slots__ = (
        "acknowledged", "asks", "chunks", "doubted", "empty", "granted", "leader", "met", "moving",
        "reads", "round", "rounds", "saved", "target", "term",
    )  # fmt: skip

    def __init__(self, saved: Saves) -> None:
        self.saved = saved
        """What is on the disk of epoch and vote."""
        self.met: dict[int, Key] = {}
        """The disk that a voter showed first, of those whose disk the log does not name."""
        self.empty: frozenset[int] = frozenset()
        """Voters that said that their log holds nothing."""
        self.granted: dict[Vote, frozenset[int]] = {}
        """By whom."""
        self.asks: dict[int, tuple[End, ...]] = {}
        """Fetches that wait for their answer, by call: where the fetcher's log ended."""
        self.begin()

    def begin(self, leader: int = NOBODY) -> None:
        """Another epoch."""
        self.leader = leader
        """Who leads it, once that is known: nobody else does."""
        self.term = -1
        """If this replica leads it: where the first of its records ended."""
        self.acknowledged: dict[Key, int] = {}
        """Up to where this replica has our log durably, by its fetches of this epoch."""
        self.doubted: frozenset[Key] = frozenset()
        """Who said with its last fetch that its disk may have lost something."""
        self.rounds: dict[Key, int] = {}
        self.round = 0
        """The last round of reads that was named to a follower; and the last that each brought."""
        self.reads: dict[int, tuple[int, int]] = {}
        """What was committed, and the round named last, when the read was asked for."""
        self.moving = False
        """Leadership is being handed over."""
        self.target: int | None = None
        """Where the leader's log ended when it answered this incarnation, at the least."""
        self.chunks: dict[End, int] = {}
        """Up to where a snapshot's bytes have come from this epoch's leader."""

    def copy(self) -> "Heard":
        """As it is now."""
        other = copy(self)
        for name in ("met", "asks", "chunks", "granted", "acknowledged", "rounds", "reads"):
            setattr(other, name, dict(getattr(self, name)))
        return other

    def admits(self, voters: Voters, who: Key) -> bool:
        """Is it the voter of its id?"""
        for voter in voters:
            if voter.id == who.id:
                return voter.disk == who.disk or (
                    voter.disk is None and self.met.get(who.id, who) == who
                )
        return False

    def weighs(self, replica: Replica, who: Key) -> bool:
        """Does its word count? Once the log names disks, only those of named ones do."""
        voters = replica.voters
        unnamed = len(replica.records) > 1 and Key(who.id, None) in voters
        return not unnamed and self.admits(voters, who)

    def holds(self, replica: Replica, who: Key, committed: int) -> bool:
        """Does what it acknowledges count? Of one that is in doubt: if its name is committed."""
        if who in self.doubted and len(replica.records) > 1:
            at, _ = replica.records[-1]
            named = who in replica.records[-2][1] or at < committed
            return named and self.weighs(replica, who)
        return self.weighs(replica, who)

    def majority(self, replica: Replica, counted: int) -> bool:
        """Are so many others, and the replica itself if it votes, most of the voters?"""
        voters = replica.voters
        return 2 * (counted + self.weighs(replica, replica.me)) > len(voters)

    # ── before a transition is judged ────────────────────────────────────────────────────────

    def hear(self, before: Replica, cause: Cause, after: Replica) -> None:
        """Take in what has come."""
        if isinstance(cause, MESSAGES):
            self._meet(before.voters, cause.who)
        if isinstance(cause, Answered) and cause.granted and cause.end is not None:
            self._granted(before, cause, cause.end)
        if after.epoch > before.epoch:
            self.begin()
        if isinstance(cause, Asked):
            if cause.what == FETCH:
                self._fetched(before, cause)
            elif cause.what == BEGIN and cause.epoch == after.epoch:
                self._led_by(cause.who.id)
        elif isinstance(cause, Answered):
            self._answered(before, cause, after)
        elif isinstance(cause, Named) and cause.what == READ and before.role == LEADER:
            self.reads[cause.call] = (before.committed, self.round)
        if after.role == LEADER and self.term < 0:
            self.term = after.log.end
            self.leader = after.me.id

    def _meet(self, voters: Voters, who: Key) -> None:
        if who.disk is not None and Key(who.id, None) in voters:
            self.met.setdefault(who.id, who)

    def _granted(self, before: Replica, told: Answered, end: End) -> None:
        if self.weighs(before, told.who):
            vote = (told.what, told.asked, end)
            self.granted[vote] = self.granted.get(vote, frozenset()) | {told.who.id}
            if len(self.granted) > GRANTED_MAX:
                del self.granted[next(iter(self.granted))]

    def _led_by(self, leader: int) -> None:
        if self.leader == NOBODY:
            self.leader = leader

    def _fetched(self, before: Replica, asked: Asked) -> None:
        if before.role != LEADER or asked.epoch != before.epoch or asked.end is None:
            return
        # In a small world the same request, asked again, is the same call.
        self.asks[asked.call] = (*self.asks.get(asked.call, ()), asked.end)
        if before.log.has(asked.end):
            self.acknowledged[asked.who] = asked.end.offset
        if asked.doubted or asked.who in self.doubted:
            others = self.doubted - {asked.who}
            self.doubted = others | {asked.who} if asked.doubted else others
        self.rounds[asked.who] = max(self.rounds.get(asked.who, 0), asked.round)

    def _answered(self, before: Replica, told: Answered, after: Replica) -> None:
        if told.epoch == after.epoch and told.leader not in (NOBODY, after.me.id):
            self._led_by(told.leader)
        if told.what in (VOTE, PRE_VOTE) and told.end is not None:
            known = self.admits(before.voters, told.who)
            self.empty = (
                self.empty | {told.who.id} if known and told.empty else (self.empty - {told.who.id})
            )
        elif told.who.id == self.leader and told.epoch == before.epoch == after.epoch:
            if told.what == FETCH and told.good and told.log_end >= 0:
                known_end = told.log_end if self.target is None else self.target
                self.target = min(known_end, told.log_end)
            if told.what == FETCH_SNAPSHOT and told.good and told.snapshot is not None:
                self._chunk(told.snapshot, told.position, told.position + told.length)

    def _chunk(self, snapshot: End, start: int, end: int) -> None:
        if start <= self.chunks.get(snapshot, 0) < end:
            self.chunks[snapshot] = end

    # ── after it was judged ──────────────────────────────────────────────────────────────────

    def _told(self, call: int) -> None:
        waiting = self.asks.pop(call, ())[1:]
        if waiting:
            self.asks[call] = waiting

    def say(self, cause: Cause, deeds: list[Deed]) -> None:
        """Remember what was said and done."""
        if isinstance(cause, Named) and cause.what == TRANSFER:
            self.moving = True
        for deed in deeds:
            if isinstance(deed, Answers):
                self._told(deed.call)
                self.round = max(self.round, deed.round)
            elif isinstance(deed, Saves):
                self.saved = deed
            elif isinstance(deed, Reads):
                self.reads.pop(deed.call, None)
            elif isinstance(deed, Keeps | HandsOver):
                self.moving = False
