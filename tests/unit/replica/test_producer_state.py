"""Idempotence: what a batch is, given what its producer sent before (broker.md 5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.replica.producer_state import (
    NO_PRODUCERS,
    PRODUCERS_MAX,
    SEQUENCE_MAX,
    Duplicate,
    Incoming,
    Producers,
    appended,
    check,
    expired,
)
from klamm.errors import ErrorCode
from klamm.ids import Offset

PID = 77


def batch(first: int, count: int = 1, epoch: int = 0) -> Incoming:
    return Incoming(producer_id=PID, epoch=epoch, first_sequence=first, last_offset_delta=count - 1)


def after(*batches: Incoming) -> Producers:
    """Each appended behind the one before, offsets from 100."""
    producers, offset = NO_PRODUCERS, 100
    for each in batches:
        producers = appended(producers, each, Offset(offset), now_ms=0)
        offset += each.last_offset_delta + 1
    return producers


SIX_BATCHES = [batch(each) for each in range(6)]


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        # Unknown: its state may have expired, so any sequence will do.
        ([], batch(0), ErrorCode.NONE),
        ([], batch(5), ErrorCode.NONE),
        # The next one, and no other.
        ([batch(0, 3)], batch(3), ErrorCode.NONE),
        ([batch(0, 3)], batch(4), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        ([batch(0, 3)], batch(2), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        # A retry gets the offset of the first time, also four batches later.
        ([batch(0, 3)], batch(0, 3), Duplicate(Offset(100), Offset(102))),
        (SIX_BATCHES, batch(5), Duplicate(Offset(105), Offset(105))),
        (SIX_BATCHES, batch(1), Duplicate(Offset(101), Offset(101))),
        # Too old to be remembered; and one that only looks alike.
        (SIX_BATCHES, batch(0), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        ([batch(0, 3)], batch(0, 2), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        # Epochs.
        ([batch(0, epoch=4)], batch(1, epoch=3), ErrorCode.INVALID_PRODUCER_EPOCH),
        ([batch(0, epoch=4)], batch(0, epoch=5), ErrorCode.NONE),
        ([batch(0, epoch=4)], batch(1, epoch=5), ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        # After 2^31 - 1 comes 0, between batches and within one.
        ([batch(SEQUENCE_MAX)], batch(0), ErrorCode.NONE),
        ([batch(SEQUENCE_MAX - 1, 4)], batch(2), ErrorCode.NONE),
        (
            [batch(SEQUENCE_MAX - 1, 4)],
            batch(SEQUENCE_MAX - 1, 4),
            Duplicate(Offset(100), Offset(103)),
        ),
    ],
)
def test_verdicts(before: list[Incoming], now: Incoming, verdict: Duplicate | ErrorCode) -> None:
    assert check(after(*before), now) == verdict


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, SEQUENCE_MAX))
def test_every_batch_is_taken_once(counts: list[int], first: int) -> None:
    producers, sequence, offset = NO_PRODUCERS, first, 0
    for count in counts:
        sent = batch(sequence, count)
        assert check(producers, sent) is ErrorCode.NONE
        producers = appended(producers, sent, Offset(offset), now_ms=0)
        assert check(producers, sent) == Duplicate(Offset(offset), Offset(offset + count - 1))
        sequence = (sequence + count) % (SEQUENCE_MAX + 1)
        offset += count


def test_silent_producers_expire() -> None:
    producers = appended(NO_PRODUCERS, batch(0), Offset(0), now_ms=1_000)
    assert PID in expired(producers, now_ms=1_999, expiration_ms=1_000)
    assert PID not in expired(producers, now_ms=2_000, expiration_ms=1_000)


def test_the_most_silent_are_forgotten_when_there_are_too_many() -> None:
    some = appended(NO_PRODUCERS, batch(0), Offset(0), now_ms=1)
    entry = some[PID]
    many = NO_PRODUCERS.update(dict.fromkeys(range(PRODUCERS_MAX), entry))
    newest = Incoming(producer_id=-5, epoch=0, first_sequence=0, last_offset_delta=0)
    left = expired(appended(many, newest, Offset(1), now_ms=2), now_ms=3, expiration_ms=99)
    assert len(left) == PRODUCERS_MAX
    assert -5 in left
