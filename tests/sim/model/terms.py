"""What the model speaks of: a replica as it stands, what befalls it, and what it says and does."""

from bisect import bisect_right
from typing import NamedTuple

NOBODY = -1
"""No leader is known."""

UNATTACHED, FOLLOWER, PROSPECTIVE = "Unattached", "Follower", "Prospective"
CANDIDATE, LEADER, RESIGNED = "Candidate", "Leader", "Resigned"

Disk = object
"""Names a data directory. None: not known."""


class Key(NamedTuple):
    """A replica: the same node with another disk is another one (KIP-853)."""

    id: int
    disk: Disk | None


Voters = tuple[Key, ...]
"""A voter whose disk is None is the replica of its id, whichever it shows first."""


class End(NamedTuple):
    """Where a log ends. Compared as Raft compares logs (5.4.1): the last epoch, then the length."""

    epoch: int
    offset: int


class Log(NamedTuple):
    """The epochs of its records, each run of the same one told once."""

    start: End
    """The first record's offset, and the epoch of the one before it."""
    epochs: tuple[int, ...]
    firsts: tuple[int, ...]
    """Offset of the first record of each of `epochs`."""
    end: int
    """Exclusive."""

    @property
    def last(self) -> End:
        return End(self.epochs[-1] if self.epochs else self.start.epoch, self.end)

    def epoch_before(self, end: int) -> int:
        """Of the record before `end`."""
        if end <= self.start.offset:
            return self.start.epoch
        return self.epochs[bisect_right(self.firsts, end - 1) - 1]

    def has(self, end: End) -> bool:
        """Is a log that ends there a prefix of this one (Raft 5.3)? Below the start: not known."""
        if not self.start.offset <= end.offset <= self.end:
            return False
        return self.epoch_before(end.offset) == end.epoch

    def end_of(self, epoch: int) -> End:
        """Of the largest epoch up to this one that is here (KIP-101's endOffsetForEpoch)."""
        later = bisect_right(self.epochs, epoch)
        end = self.firsts[later] if later < len(self.firsts) else self.end
        return End(self.epochs[later - 1] if later else self.start.epoch, end)

    def cut(self, to: int) -> "Log":
        """Without the records from `to` on."""
        left = bisect_right(self.firsts, to - 1)
        return Log(self.start, self.epochs[:left], self.firsts[:left], to)

    def plus(self, epoch: int, count: int) -> "Log":
        """With so many records more."""
        end = self.end + count
        if self.epochs and self.epochs[-1] == epoch:
            return Log(self.start, self.epochs, self.firsts, end)
        return Log(self.start, (*self.epochs, epoch), (*self.firsts, self.end), end)

    def from_(self, start: End) -> "Log":
        """Without the records below `start`."""
        first = bisect_right(self.firsts, start.offset) - 1
        if start.offset == self.end:
            return Log(start, (), (), self.end)
        return Log(start, self.epochs[first:], (start.offset, *self.firsts[first + 1 :]), self.end)


VotersRecord = tuple[int, Voters]
"""Its offset, and what it says. Configured voters stand at -1."""


class Replica(NamedTuple):
    """One replica between two steps: what it has on its disk, and what it takes itself for."""

    me: Key
    epoch: int
    vote: Key | None
    role: str
    leader: int
    """Whom a follower follows, and who was lost by one that asks for pre-votes."""
    hears: bool
    """A follower whose leader was not lost."""
    log: Log
    durable: int
    """The log is on the disk below."""
    committed: int
    """The high watermark."""
    records: tuple[VotersRecord, ...]
    """Voters records in the log and in what came before it."""
    snapshots: tuple[End, ...]
    distrusted: bool
    """Its disk has lost what it acknowledged, or may have."""

    @property
    def voters(self) -> Voters:
        """In force from the append on (KIP-853)."""
        return self.records[-1][1]


# ── what befalls it ──────────────────────────────────────────────────────────────────────────────

VOTE, PRE_VOTE, BEGIN, GOODBYE = "Vote", "PreVote", "BeginQuorumEpoch", "EndQuorumEpoch"
FETCH, FETCH_SNAPSHOT = "Fetch", "FetchSnapshot"


class Asked(NamedTuple):
    """A request has come."""

    what: str
    who: Key
    epoch: int
    call: int
    end: End | None = None
    """Of the asker's log."""
    successors: tuple[int, ...] = ()
    round: int = 0
    """Of reads, as the leader named it last."""
    doubted: bool = False
    """The fetcher's disk may have lost what it acknowledged."""


class Answered(NamedTuple):
    """An answer has come."""

    what: str
    who: Key
    """The disk as it is said, if it is."""
    asked: int
    """The epoch in which it was asked."""
    end: End | None
    """The asker's log ended there."""
    epoch: int
    leader: int
    granted: bool = False
    empty: bool = False
    """Its log holds nothing."""
    good: bool = True
    """Not refused."""
    successors: tuple[int, ...] = ()
    batches: tuple[tuple[int, int, int], ...] = ()
    """Offset, epoch and records of each."""
    records: tuple[VotersRecord, ...] = ()
    diverging: End | None = None
    committed: int = 0
    log_end: int = -1
    snapshot: End | None = None
    position: int = 0
    length: int = 0
    """Of a chunk of the snapshot, in bytes."""


class Flushed(NamedTuple):
    """An fsync has finished that covers the log up to there."""

    end: int
    valid: bool
    """Nothing was cut since it began."""


class Named(NamedTuple):
    """Something else: time passes, a call of the state machine above, a stream that breaks."""

    what: str
    call: int = 0
    end: End | None = None
    voters: Voters = ()


PROPOSED, CHANGE, READ, TRANSFER = "propose", "change voters", "read", "transfer"
WRITTEN, TRIM, VERIFIED, OTHER = "snapshot written", "trim", "snapshot verified", "other"
NO_ROOM = "no room"

Cause = Asked | Answered | Flushed | Named


# ── what it says and does, in order ──────────────────────────────────────────────────────────────


class Saves(NamedTuple):
    """Durably, before what follows."""

    epoch: int
    vote: Key | None


class Asks(NamedTuple):
    what: str
    end: End | None
    epoch: int
    position: int = 0


class Answers(NamedTuple):
    call: int
    granted: bool = False
    fetched: bool = False
    """The answer to a fetch, which was not refused."""
    records_from: int | None = None
    diverging: End | None = None
    round: int = 0


class Claims(NamedTuple):
    epoch: int


class Reads(NamedTuple):
    """A linearizable read may be answered by the state up to there."""

    call: int
    up_to: int


class HandsOver(NamedTuple):
    to: int


class Keeps(NamedTuple):
    """Leadership is not handed over."""


Deed = Saves | Asks | Answers | Claims | Reads | HandsOver | Keeps
