"""The follower's core: what each answer of the leader does to the log.

epoch      0 0 0 2 2 | end 5          `LOG`, the follower's own
offset     0 1 2 3 4
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.replica import follower
from broker.replica.follower import (
    AppendRecords,
    BackOff,
    Effect,
    FetchAnswer,
    FetchPosition,
    FollowerState,
    StartAt,
    TruncateTo,
)
from klamm.errors import ErrorCode
from klamm.ids import NO_EPOCH, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain

LOG = EpochChain().append(Epoch(0), 3).append(Epoch(2), 2)
STATE = FollowerState(
    leader=NodeId(1), leader_epoch=Epoch(5), partition_epoch=9, high_watermark=Offset(3)
)
POSITION = FetchPosition(
    fetch_offset=Offset(5), last_fetched_epoch=Epoch(2), current_leader_epoch=Epoch(5)
)


def at(epoch: int, offset: int) -> OffsetAndEpoch:
    return OffsetAndEpoch(epoch=Epoch(epoch), offset=Offset(offset))


def test_position() -> None:
    assert follower.position_of(STATE, LOG) == POSITION
    empty = follower.position_of(STATE, EpochChain())
    assert (empty.fetch_offset, empty.last_fetched_epoch) == (0, NO_EPOCH)


@pytest.mark.parametrize(
    ("answer", "effects", "high_watermark"),
    [
        # Records: the high watermark follows once they are appended.
        (FetchAnswer(position=POSITION, has_records=True), (AppendRecords(),), 3),
        # None: the leader's high watermark, as far as our log goes; never back.
        (FetchAnswer(position=POSITION, high_watermark=Offset(4)), (), 4),
        (FetchAnswer(position=POSITION, high_watermark=Offset(9)), (), 5),
        (FetchAnswer(position=POSITION, high_watermark=Offset(1)), (), 3),
        # The leader's epoch 2 ends earlier; its largest is one that we have not; it has neither.
        (FetchAnswer(position=POSITION, diverging=at(2, 4)), (TruncateTo(Offset(4)),), 3),
        (FetchAnswer(position=POSITION, diverging=at(1, 4)), (TruncateTo(Offset(3)),), 3),
        (FetchAnswer(position=POSITION, diverging=at(0, 2)), (TruncateTo(Offset(2)),), 2),
        # Out of range: begin where the leader's log begins.
        (
            FetchAnswer(
                position=POSITION,
                error=ErrorCode.OFFSET_OUT_OF_RANGE,
                log_start_offset=Offset(70),
            ),
            (StartAt(Offset(70)),),
            70,
        ),
        # Refused: later.
        (
            FetchAnswer(position=POSITION, error=ErrorCode.NOT_LEADER_OR_FOLLOWER),
            (BackOff(ErrorCode.NOT_LEADER_OR_FOLLOWER),),
            3,
        ),
    ],
)
def test_answers(answer: FetchAnswer, effects: tuple[Effect, ...], high_watermark: int) -> None:
    state, done = follower.on_fetch_answered(STATE, answer, LOG)
    assert done == effects
    assert state.high_watermark == high_watermark


@pytest.mark.parametrize(
    "position",
    [
        FetchPosition(
            fetch_offset=Offset(4), last_fetched_epoch=Epoch(2), current_leader_epoch=Epoch(5)
        ),
        FetchPosition(
            fetch_offset=Offset(5), last_fetched_epoch=Epoch(2), current_leader_epoch=Epoch(4)
        ),
    ],
)
def test_an_answer_to_another_question_is_stale(position: FetchPosition) -> None:
    answer = FetchAnswer(position=position, has_records=True)
    assert follower.on_fetch_answered(STATE, answer, LOG) == (STATE, ())


chains = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), max_size=5).map(
    lambda runs: sorted(runs, key=lambda run: run[0])
)


def chain_of(runs: list[tuple[int, int]]) -> EpochChain:
    chain = EpochChain()
    for epoch, count in runs:
        chain = chain.append(Epoch(epoch), count)
    return chain


@given(chains, chains, chains)
def test_truncation_ends_with_a_prefix_of_the_leaders_log(
    shared: list[tuple[int, int]], mine: list[tuple[int, int]], theirs: list[tuple[int, int]]
) -> None:
    """From whatever two logs that share a beginning; odd epochs are the follower's, even ones
    the leader's, so that no epoch has two histories."""
    low = [(epoch, count) for epoch, count in shared]
    top = max((epoch for epoch, _ in low), default=0) + 1
    own = chain_of(low + [(top + 2 * epoch + 1, count) for epoch, count in mine])
    leaders = chain_of(low + [(top + 2 * epoch, count) for epoch, count in theirs])
    common = chain_of(low).end_offset
    for _ in range(20):
        end = leaders.end_of(own.end.epoch)
        if own.end.epoch < 0 or (end.epoch == own.end.epoch and end.offset >= own.end_offset):
            break
        own = own.truncate(follower.truncation_offset(own, end))
    else:
        pytest.fail("never agreed")
    assert own.end_offset == common
