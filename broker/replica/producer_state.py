"""What each producer has appended to one partition last, so that a retry appends nothing. Pure.

    sequences   … [s0 s1 s2] [s3] [s4 s5] ▸ next must be s6
                  └──── the last five batches: exactly one of these again is a duplicate,
                        answered with the offset that it got the first time

The table is an immutable value, made from batches alone: leader, follower and restart replay the
same log into the same table, so that a retry after a change of leader is still recognised.
Source: KIP-98, KIP-360; `max.in.flight.requests.per.connection` up to 5 for idempotent producers.
"""

from dataclasses import dataclass

from immutables import Map

from klamm.errors import ErrorCode
from klamm.ids import Offset

NO_PRODUCER_ID = -1
"""The batch's producer is not idempotent."""

NO_SEQUENCE = -1

SEQUENCE_MAX = (1 << 31) - 1
"""After it comes 0."""

REMEMBERED_BATCHES_MAX = 5

PRODUCERS_MAX = 100_000
"""Per partition. Those silent the longest are forgotten beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducedBatch:
    """One batch as its producer sent it, and where it went. All four are inclusive."""

    first_sequence: int
    last_sequence: int
    base_offset: Offset
    last_offset: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Producer:
    """One producer id, in its latest epoch."""

    epoch: int
    batches: tuple[ProducedBatch, ...]
    """The oldest first; never empty, except after a control batch."""
    seen_ms: int
    """The broker's own clock when it last appended, for expiry only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """What a batch's header says of its producer."""

    producer_id: int
    epoch: int
    first_sequence: int
    last_offset_delta: int

    @property
    def last_sequence(self) -> int:
        return (self.first_sequence + self.last_offset_delta) % (SEQUENCE_MAX + 1)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Already there: answer as when it was appended."""

    base_offset: Offset
    last_offset: Offset


Producers = Map[int, Producer]

NO_PRODUCERS: Producers = Map()


def check(producers: Producers, batch: Incoming) -> Duplicate | ErrorCode:
    """May this batch be appended? NONE: yes.

    Returns:
        OUT_OF_ORDER_SEQUENCE_NUMBER: something before it is missing, or it is older than the
        last five. INVALID_PRODUCER_EPOCH: a newer producer has taken over.
    """
    known = producers.get(batch.producer_id)
    if known is None:
        # Its state may have expired, or it begins here: any sequence will do.
        return ErrorCode.NONE
    if batch.epoch < known.epoch:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    if batch.epoch > known.epoch:
        fresh = batch.first_sequence == 0
        return ErrorCode.NONE if fresh else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    if not known.batches:
        return ErrorCode.NONE
    for each in known.batches:
        if (
            each.first_sequence == batch.first_sequence
            and each.last_sequence == batch.last_sequence
        ):
            return Duplicate(each.base_offset, each.last_offset)
    expected = (known.batches[-1].last_sequence + 1) % (SEQUENCE_MAX + 1)
    if batch.first_sequence != expected:
        return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    return ErrorCode.NONE


def appended(producers: Producers, batch: Incoming, base_offset: Offset, now_ms: int) -> Producers:
    """The table after the batch has been appended at `base_offset`.

    Does not check: a follower takes what the leader has taken.
    """
    entry = ProducedBatch(
        first_sequence=batch.first_sequence,
        last_sequence=batch.last_sequence,
        base_offset=base_offset,
        last_offset=Offset(base_offset + batch.last_offset_delta),
    )
    known = producers.get(batch.producer_id)
    if known is None or known.epoch != batch.epoch:
        batches: tuple[ProducedBatch, ...] = (entry,)
    else:
        batches = (*known.batches[1 - REMEMBERED_BATCHES_MAX :], entry)
    return producers.set(
        batch.producer_id, Producer(epoch=batch.epoch, batches=batches, seen_ms=now_ms)
    )


def expired(producers: Producers, now_ms: int, expiration_ms: int) -> Producers:
    """The table without those who have been silent too long, or are too many. O(producers)."""
    gone = [id_ for id_, each in producers.items() if now_ms - each.seen_ms >= expiration_ms]
    surplus = len(producers) - len(gone) - PRODUCERS_MAX
    if surplus > 0:
        silent = sorted((each.seen_ms, id_) for id_, each in producers.items())
        gone = [id_ for _, id_ in silent[: len(gone) + surplus]]
    if not gone:
        return producers
    rest = producers.mutate()
    for id_ in gone:
        del rest[id_]
    return rest.finish()
