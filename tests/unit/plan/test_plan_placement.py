"""Placement: kraft.md 2.10, row 175 (StripedReplicaPlacerTest), and what must always hold."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.plan.placement import UsableBroker, place
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId


def brokers(count: int, racks: int = 1, fenced: frozenset[int] = frozenset()) -> list[UsableBroker]:
    return [
        UsableBroker(broker_id=NodeId(each), rack=f"r{each % racks}", fenced=each in fenced)
        for each in range(count)
    ]


def placed(
    usable: list[UsableBroker], partitions: int, factor: int, seed: int = 0
) -> list[tuple[NodeId, ...]]:
    return place(usable, partitions, factor, random.Random(seed).randrange)


def test_175_even_distribution_over_nine_brokers_in_three_racks() -> None:
    usable = brokers(9, racks=3)
    replicas = placed(usable, 999, 3)
    leads = Counter(each[0] for each in replicas)
    holds = Counter(broker for each in replicas for broker in each)
    assert max(leads.values()) - min(leads.values()) <= 1
    assert max(holds.values()) - min(holds.values()) <= 3
    assert all(len({broker % 3 for broker in each}) == 3 for each in replicas)


def test_175_followers_of_one_leader_differ() -> None:
    patterns = {each for each in placed(brokers(6), 600, 3) if each[0] == 0}
    assert len(patterns) > 10


def test_175_fenced_brokers_are_used_last_and_never_lead() -> None:
    replicas = placed(brokers(4, fenced=frozenset({0})), 100, 3)
    assert not any(0 in each for each in replicas)
    replicas = placed(brokers(4, fenced=frozenset({0, 1})), 100, 3)
    assert not any(each[0] in (0, 1) for each in replicas)
    assert all({2, 3} <= set(each) for each in replicas)


def test_175_a_rack_of_fenced_brokers_still_holds_copies() -> None:
    """Racks come first: a copy in another rack, even on a fenced broker, survives the rack."""
    replicas = placed(brokers(4, racks=2, fenced=frozenset({1, 3})), 50, 2)
    assert all(each[0] in (0, 2) and each[1] in (1, 3) for each in replicas)


@pytest.mark.parametrize(
    ("usable", "factor"),
    [
        (brokers(3), 0),
        (brokers(3), -1),
        (brokers(3), 4),
        (brokers(3, fenced=frozenset({0, 1, 2})), 1),
        ([], 1),
    ],
)
def test_175_refusals(usable: list[UsableBroker], factor: int) -> None:
    with pytest.raises(ApiError) as raised:
        placed(usable, 1, factor)
    assert raised.value.code is ErrorCode.INVALID_REPLICATION_FACTOR


def test_175_many_partitions_on_a_single_unfenced_broker_end() -> None:
    assert set(placed(brokers(3, fenced=frozenset({1, 2})), 50, 1)) == {(0,)}


@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.sets(st.integers(0, 8)),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(0, 1_000),
)
def test_what_always_holds(
    count: int, racks: int, fenced: set[int], partitions: int, factor: int, seed: int
) -> None:
    usable = brokers(count, racks, frozenset(fenced))
    unfenced = {each.broker_id for each in usable if not each.fenced}
    if factor > count or not unfenced:
        return
    there = len({each.rack for each in usable})
    for replicas in placed(usable, partitions, factor, seed):
        assert len(set(replicas)) == factor
        assert replicas[0] in unfenced
        assert len({broker % racks for broker in replicas}) == min(there, factor)
