"""The checkers of histories: held against known ones, all orders, and each other."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.linearizability import (
    OPEN,
    Operation,
    agree_with_positions,
    linearizable,
    linearizable_by_key,
)


def write(value: int, called: float, returned: float) -> Operation:
    return Operation(is_write=True, value=value, called=called, returned=returned)


def read(value: int | None, called: float, returned: float) -> Operation:
    return Operation(is_write=False, value=value, called=called, returned=returned)


GOOD = {
    "nothing": [],
    "a read of nothing": [read(None, 0, 1)],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read beside a write may see either": [write(1, 0, 9), read(None, 1, 2), read(1, 3, 4)],
    "two writes at once": [write(1, 0, 9), write(2, 0, 9), read(1, 10, 11), read(1, 12, 13)],
    "a write that nobody heard of was done": [write(1, 0, OPEN), read(1, 5, 6)],
    "a write that nobody heard of was not done": [write(1, 0, OPEN), read(None, 5, 6)],
    "it was done late": [write(1, 0, OPEN), read(None, 5, 6), read(1, 7, 8)],
    "a read that never came back": [write(1, 0, 1), read(7, 2, OPEN)],
}

BAD = {
    "a value from nowhere": [read(7, 0, 1)],
    "a lost write": [write(1, 0, 1), read(None, 2, 3)],
    "a stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "back in time": [write(1, 0, 9), read(1, 1, 2), read(None, 3, 4)],
    "read before it was written": [read(1, 0, 1), write(1, 2, 3)],
    "two readers disagree on the order": [
        write(1, 0, 9),
        write(2, 0, 9),
        read(1, 10, 11),
        read(2, 12, 13),
    ],
    "a write that nobody heard of was done and undone": [
        write(1, 0, OPEN),
        read(1, 5, 6),
        read(None, 7, 8),
    ],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD.keys())
def test_known_good_histories(history: list[Operation]) -> None:
    assert linearizable(history)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD.keys())
def test_known_bad_histories(history: list[Operation]) -> None:
    assert not linearizable(history)
    assert linearizable_by_key([*history, write(1, 20, 21)]) is not None


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Anything at all, right or wrong, with few values, so that both are common."""
    made = []
    for number in range(draw(st.integers(0, 6))):
        called = draw(st.integers(0, 8))
        took = draw(st.integers(1, 6))
        returned = draw(st.sampled_from((called + took, called + took, OPEN)))
        is_write = draw(st.booleans())
        value = number if is_write else draw(st.sampled_from((None, *range(6))))
        made.append(
            Operation(is_write=is_write, value=value, called=called, returned=float(returned))
        )
    return made


def explained_by_some_order(operations: list[Operation]) -> bool:
    """Every order of every choice of those that may not have happened."""
    closed = [each for each in operations if each.returned != OPEN]
    maybe = [each for each in operations if each.returned == OPEN]
    return any(
        explains(order)
        for count in range(len(maybe) + 1)
        for some in itertools.combinations(maybe, count)
        for order in itertools.permutations([*closed, *some])
    )


def explains(order: tuple[Operation, ...]) -> bool:
    value = None
    for place, each in enumerate(order):
        if any(later.returned < each.called for later in order[place + 1 :]):
            return False
        if each.is_write:
            value = each.value
        elif each.value != value:
            return False
    return True


@given(histories())
def test_the_search_finds_what_trying_every_order_finds(history: list[Operation]) -> None:
    assert linearizable(history) == explained_by_some_order(history)


def of_a_real_register(seed: int, count: int, clients: int = 4) -> list[Operation]:
    """Each operation happens at a moment between its call and its return."""
    rng = random.Random(seed)
    free_at = [0.0] * clients
    planned = []
    for _ in range(count):
        client = rng.randrange(clients)
        called = free_at[client] + rng.uniform(0, 3)
        returned = called + rng.uniform(0.1, 5)
        planned.append((rng.uniform(called, returned), called, returned, rng.random() < 0.5))
        free_at[client] = returned
    value, offset, made = None, 0, []
    for at, called, returned, is_write in sorted(planned):
        value = at if is_write else value
        made.append(
            Operation(
                is_write=is_write, value=value, called=called, returned=returned, position=offset
            )
        )
        offset += is_write
    return made


@given(st.integers(0, 1 << 32), st.integers(0, 60))
def test_a_real_registers_history_is_accepted(seed: int, count: int) -> None:
    history = of_a_real_register(seed, count)
    assert linearizable(history)
    assert agree_with_positions(history) is None


@given(st.integers(0, 1 << 32))
def test_a_spoilt_history_is_refused(seed: int) -> None:
    """One read, asked again when all is over, sees what was overwritten before it was asked."""
    history = of_a_real_register(seed, 40)
    end = max(each.returned for each in history)
    last = Operation(is_write=True, value="last", called=end + 1, returned=end + 2, position=90)
    stale = replace(
        random.Random(seed).choice(history), is_write=False, called=end + 3, returned=end + 4
    )
    spoilt = [*history, last, stale]
    assert not linearizable(spoilt)
    assert agree_with_positions(spoilt) is not None


@given(st.integers(0, 1 << 32))
def test_what_agrees_with_its_positions_is_linearizable(seed: int) -> None:
    """Of two checkers that know different things, the one never contradicts the other."""
    rng = random.Random(seed)
    history = of_a_real_register(seed, 12)
    writes = {each.position: each.value for each in history if each.is_write}
    moved = []
    for each in history:
        if not each.is_write and rng.random() < 0.2:
            position = min(max(0, each.position + rng.choice((-1, 1))), len(writes))
            each = replace(each, position=position, value=writes.get(position - 1))
        moved.append(each)
    if agree_with_positions(moved) is None:
        assert linearizable(moved)


def test_keys_are_registers_of_their_own() -> None:
    one = [replace(each, key="one") for each in GOOD["one after the other"]]
    two = [replace(each, key="two") for each in GOOD["two writes at once"]]
    assert linearizable_by_key(one + two) is None
    lost = replace(BAD["a lost write"][1], key="two", called=14, returned=15)
    assert "two" in (linearizable_by_key([*one, *two, lost]) or "")


def test_a_long_history_takes_no_time() -> None:
    """Ten thousand operations of five clients, and a million steps were not needed."""
    history = of_a_real_register(1, 10_000, clients=5)
    assert agree_with_positions(history) is None
    assert linearizable(history)
