"""The leader's core: what is committed, and who is in sync.

broker     1 (leader)   2            3            replicas [1, 2, 3]
uptime     11           12           13           `ACTIVE`
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.replica import leader
from broker.replica.isr import IsrAnswer, IsrChange
from broker.replica.leader import (
    AdvanceHighWatermark,
    Effect,
    FollowerFetch,
    LeaderState,
    ProposeIsr,
)
from klamm.errors import ErrorCode
from klamm.ids import Epoch, NodeId, Offset
from klamm.metadata.image import PartitionImage

ME, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
ACTIVE = {ME: 11, TWO: 12, THREE: 13}
LAG_MS = 30_000
NOW_MS = 1_000_000


def image(isr: tuple[int, ...], partition_epoch: int = 7, leader_epoch: int = 3) -> PartitionImage:
    return PartitionImage(
        partition=0,
        replicas=(ME, TWO, THREE),
        isr=tuple(map(NodeId, isr)),
        leader=ME,
        leader_epoch=Epoch(leader_epoch),
        partition_epoch=partition_epoch,
    )


def reign(
    isr: tuple[int, ...] = (1, 2, 3), end: int = 10, high_watermark: int = 10, min_insync: int = 2
) -> LeaderState:
    state, _ = leader.lead(
        image(isr),
        me=ME,
        end_offset=Offset(end),
        high_watermark=Offset(high_watermark),
        min_insync=min_insync,
        lag_time_max_ms=LAG_MS,
        now_ms=NOW_MS,
        active=ACTIVE,
    )
    return state


def append(state: LeaderState, end: int, now_ms: int = NOW_MS) -> LeaderState:
    return leader.on_appended(state, Offset(end), now_ms, ACTIVE)[0]


def fetch(
    state: LeaderState,
    broker: NodeId,
    offset: int,
    now_ms: int = NOW_MS,
    active: dict[NodeId, int] = ACTIVE,
    broker_epoch: int | None = None,
) -> tuple[LeaderState, tuple[Effect, ...]]:
    epoch = ACTIVE[broker] if broker_epoch is None else broker_epoch
    event = FollowerFetch(broker_id=broker, broker_epoch=epoch, fetch_offset=Offset(offset))
    return leader.on_follower_fetched(state, event, now_ms, active)


def answer(
    state: LeaderState, change: IsrChange, given: IsrAnswer
) -> tuple[LeaderState, tuple[Effect, ...]]:
    return leader.on_isr_answered(state, change, given, NOW_MS, ACTIVE)


def proposal(effects: tuple[Effect, ...]) -> IsrChange:
    (change,) = (each.change for each in effects if isinstance(each, ProposeIsr))
    return change


def proposing(state: LeaderState, broker: NodeId) -> tuple[LeaderState, IsrChange]:
    state, effects = fetch(state, broker, state.end_offset)
    return state, proposal(effects)


@pytest.mark.parametrize(
    ("isr", "min_insync", "two", "three", "expected"),
    [
        # The least end over the ISR.
        ((1, 2, 3), 2, 20, 20, 20),
        ((1, 2, 3), 2, 20, 15, 15),
        ((1, 2, 3), 2, 12, 15, 12),
        # Whoever has not fetched in this epoch counts as having nothing new.
        ((1, 2, 3), 2, 20, None, 10),
        ((1, 2, 3), 2, None, None, 10),
        # Who is not in the ISR, and far behind, does not count.
        ((1, 2), 2, 20, None, 20),
        # Fewer than min.insync.replicas: it stands still (KIP-966).
        ((1,), 2, None, None, 10),
        ((1,), 1, None, None, 20),
        # The minimum is never more than there are replicas.
        ((1, 2, 3), 9, 20, 20, 20),
    ],
)
def test_high_watermark(
    isr: tuple[int, ...], min_insync: int, two: int | None, three: int | None, expected: int
) -> None:
    state = append(reign(isr, min_insync=min_insync), 20)
    for broker, end in ((TWO, two), (THREE, three)):
        if end is not None:
            state, _ = fetch(state, broker, end)
    assert state.high_watermark == expected


def test_a_lone_leader_commits_as_it_appends() -> None:
    state = reign((1,), end=0, high_watermark=0, min_insync=1)
    state, effects = leader.on_appended(state, Offset(5), NOW_MS, ACTIVE)
    assert effects == (AdvanceHighWatermark(Offset(5)),)


def test_a_new_epoch_knows_nothing_of_the_followers() -> None:
    """Even of its own former followers: they may have cut their logs for another leader."""
    state = append(reign(), 20)
    state, _ = fetch(state, TWO, 20)
    state, _ = fetch(state, THREE, 20)
    state, effects = leader.lead(
        image((1, 2, 3), leader_epoch=5),
        me=ME,
        end_offset=Offset(25),
        high_watermark=state.high_watermark,
        min_insync=2,
        lag_time_max_ms=LAG_MS,
        now_ms=NOW_MS,
        active=ACTIVE,
    )
    assert effects == ()
    assert all(each.end_offset == leader.END_UNKNOWN for each in state.followers)
    assert not leader.knows_high_watermark(state)


class TestExpand:
    def test_when_it_has_what_is_committed(self) -> None:
        state = reign((1, 2))
        state, change = proposing(state, THREE)
        assert change.isr == (1, 2, 3)
        assert [member.broker_epoch for member in change.members] == [11, -1, 13]
        assert change.partition_epoch == 7

    @pytest.mark.parametrize(
        ("offset", "active", "broker_epoch", "reason"),
        [
            (9, ACTIVE, 13, "below the high watermark"),
            (12, {ME: 11, TWO: 12}, 13, "fenced"),
            (12, {ME: 11, TWO: 12, THREE: 99}, 13, "an earlier uptime"),
        ],
    )
    def test_not(
        self, offset: int, active: dict[NodeId, int], broker_epoch: int, reason: str
    ) -> None:
        state = append(reign((1, 2)), 12)
        state, effects = fetch(state, THREE, offset, active=active, broker_epoch=broker_epoch)
        assert effects == (), reason

    def test_not_before_the_start_of_the_epoch(self) -> None:
        """The high watermark of a new leader may be less than what is committed."""
        state = reign((1, 2), end=10, high_watermark=5)
        _, effects = fetch(state, THREE, 9)
        assert effects == ()
        _, effects = fetch(state, THREE, 10)
        assert proposal(effects).isr == (1, 2, 3)

    def test_while_pending_the_larger_isr_counts(self) -> None:
        state, _ = proposing(reign((1, 2)), THREE)
        state, _ = fetch(append(state, 20), TWO, 20)
        assert state.high_watermark == 10
        state, _ = fetch(state, THREE, 15)
        assert state.high_watermark == 15

    def test_one_proposal_at_a_time(self) -> None:
        state, _ = proposing(reign((1,), min_insync=1), TWO)
        _, effects = fetch(state, THREE, 10)
        assert effects == ()


class TestShrink:
    def test_who_has_not_caught_up_in_time(self) -> None:
        state = append(reign(), 20)
        state, _ = fetch(state, TWO, 20)
        later = NOW_MS + LAG_MS + 1
        state, _ = fetch(state, TWO, 20, now_ms=later)
        state, effects = leader.on_time_passed(state, later, ACTIVE)
        assert proposal(effects).isr == (1, 2)
        assert state.high_watermark == 10, "not before it has committed"

    def test_nobody_while_nothing_is_written(self) -> None:
        state, _ = fetch(reign(), TWO, 10)
        state, _ = fetch(state, THREE, 10)
        assert leader.on_time_passed(state, NOW_MS + 100 * LAG_MS, ACTIVE)[1] == ()

    def test_nobody_who_keeps_up_under_load(self) -> None:
        """Never at the end, but each time at where the end was a moment ago."""
        state, now_ms = reign(), NOW_MS
        for end in range(20, 100, 10):
            now_ms += LAG_MS // 2
            state = append(state, end, now_ms)
            for broker in (TWO, THREE):
                state, _ = fetch(state, broker, end - 10, now_ms)
            state, effects = leader.on_time_passed(state, now_ms, ACTIVE)
            assert not [each for each in effects if isinstance(each, ProposeIsr)]

    def test_its_commit_moves_the_high_watermark(self) -> None:
        state = append(reign(), 20)
        later = NOW_MS + LAG_MS + 1
        state, _ = fetch(state, TWO, 20, now_ms=later)
        state, effects = leader.on_time_passed(state, later, ACTIVE)
        committed = IsrAnswer(
            error=ErrorCode.NONE, leader_epoch=Epoch(3), partition_epoch=8, isr=(ME, TWO)
        )
        state, effects = leader.on_isr_answered(state, proposal(effects), committed, later, ACTIVE)
        assert effects == (AdvanceHighWatermark(Offset(20)),)
        assert state.reign.partition_epoch == 8


class TestAnswers:
    """What each error code does to a proposal of [1, 2, 3] over [1, 2]."""

    @pytest.mark.parametrize(
        ("error", "maximal", "still_proposed"),
        [
            # It did not happen.
            (ErrorCode.INELIGIBLE_REPLICA, {1, 2}, False),
            (ErrorCode.OPERATION_NOT_ATTEMPTED, {1, 2}, False),
            # The metadata will tell: the larger ISR until then.
            (ErrorCode.INVALID_UPDATE_VERSION, {1, 2, 3}, True),
            (ErrorCode.FENCED_LEADER_EPOCH, {1, 2, 3}, True),
            (ErrorCode.NEW_LEADER_ELECTED, {1, 2, 3}, True),
            (ErrorCode.UNKNOWN_TOPIC_ID, {1, 2, 3}, True),
            (ErrorCode.INVALID_REQUEST, {1, 2, 3}, True),
            # Nothing is known.
            (ErrorCode.UNKNOWN_SERVER_ERROR, {1, 2, 3}, True),
        ],
    )
    def test_refusals(self, error: ErrorCode, maximal: set[int], still_proposed: bool) -> None:
        state, change = proposing(reign((1, 2)), THREE)
        state, _ = answer(state, change, IsrAnswer(error=error))
        assert state.reign.maximal_isr == maximal
        assert (state.reign.proposal is not None) is still_proposed

    def test_an_unknown_outcome_is_proposed_again(self) -> None:
        state, change = proposing(reign((1, 2)), THREE)
        state, _ = answer(state, change, IsrAnswer(error=ErrorCode.UNKNOWN_SERVER_ERROR))
        state, effects = leader.on_time_passed(state, NOW_MS, ACTIVE)
        assert effects == (ProposeIsr(change),)
        assert leader.on_time_passed(state, NOW_MS, ACTIVE)[1] == ()

    def test_metadata_overtakes(self) -> None:
        state, change = proposing(reign((1, 2)), THREE)
        state, _ = leader.on_metadata(state, image((1, 2, 3), 8), 2, NOW_MS, ACTIVE)
        assert (state.reign.isr, state.reign.proposal) == ((1, 2, 3), None)
        late = IsrAnswer(error=ErrorCode.INELIGIBLE_REPLICA)
        assert answer(state, change, late) == (state, ())

    def test_older_metadata_is_passed_over(self) -> None:
        state, change = proposing(reign((1, 2)), THREE)
        committed = IsrAnswer(
            error=ErrorCode.NONE, leader_epoch=Epoch(3), partition_epoch=9, isr=(ME, TWO, THREE)
        )
        state, _ = answer(state, change, committed)
        state, _ = leader.on_metadata(state, image((1, 2), 8), 2, NOW_MS, ACTIVE)
        assert state.reign.isr == (1, 2, 3)


def test_a_fetch_of_an_earlier_uptime_acknowledges_nothing() -> None:
    """KIP-903: since it was sent the follower may have lost what it had."""
    state = append(reign(), 20)
    state, _ = fetch(state, TWO, 20)
    newer = ACTIVE | {THREE: 99}
    state, effects = fetch(state, THREE, 20, active=newer, broker_epoch=13)
    assert (state.high_watermark, effects) == (10, ())


def test_a_stranger_acknowledges_nothing() -> None:
    state = append(reign(), 20)
    event = FollowerFetch(broker_id=NodeId(9), broker_epoch=1, fetch_offset=Offset(20))
    assert leader.on_follower_fetched(state, event, NOW_MS, ACTIVE) == (state, ())


@given(st.lists(st.tuples(st.sampled_from("aft"), st.integers(0, 2), st.integers(0, 30))))
def test_high_watermark_never_falls_and_is_everywhere(
    steps: list[tuple[str, int, int]],
) -> None:
    state = reign()
    has = {TWO: 0, THREE: 0}
    for kind, who, amount in steps:
        before = state
        if kind == "a":
            state = append(state, state.end_offset + amount)
        elif kind == "f" and who:
            broker = (TWO, THREE)[who - 1]
            has[broker] = min(max(has[broker], 0) + amount, state.end_offset)
            state, _ = fetch(state, broker, has[broker])
        else:
            state, _ = leader.on_time_passed(state, NOW_MS + amount, ACTIVE)
        assert state.high_watermark >= before.high_watermark
        if state.high_watermark > 10:
            assert all(has[each] >= state.high_watermark for each in (TWO, THREE))


def test_states_are_values() -> None:
    state = reign()
    assert append(state, 20) == append(state, 20)
    assert state == replace(state)
