"""When a snapshot is due, and which go (rows 101, 186)."""

import pytest

from controller.plan.retention import Kept, Trigger, log_begins_at, log_begins_at_for_room
from klamm.ids import Epoch, Offset, OffsetAndEpoch

MB = 1024 * 1024


@pytest.mark.parametrize(
    ("since_bytes", "since_ms", "due"),
    [
        (0, 10**9, False),
        (1, 999, False),
        (1, 1_000, True),
        (99, 0, False),
        (100, 0, True),
    ],
)
def test_due_by_bytes_or_by_time_and_only_if_there_is_something(
    since_bytes: int, since_ms: int, due: bool
) -> None:
    """Row 186."""
    assert Trigger(bytes_max=100, interval_ms=1_000).due(since_bytes, since_ms) is due


def test_an_interval_of_zero_is_never() -> None:
    assert not Trigger(bytes_max=100, interval_ms=0).due(99, 10**12)


def test_nodes_do_not_begin_at_once() -> None:
    late = Trigger(bytes_max=100, interval_ms=1_000, spread=0.999)
    assert not late.due(120, 1_200)
    assert late.due(125, 0)
    assert late.due(1, 1_250)


@pytest.mark.parametrize(
    ("ages_ms", "log_bytes", "begins"),
    [
        ([], 10**9, None),
        # The newest stays, however large and old all is.
        ([10**9], 10**9, None),
        ([10**9, 10**9], 0, 20),
        ([500, 400, 300], 0, None),
        ([1_001, 400, 300], 0, 20),
        ([1_001, 1_001, 300], 0, 30),
        # Three of 10 bytes: one has to go for 75 of the log, and two for 85.
        ([3, 2, 1], 70, None),
        ([3, 2, 1], 75, 20),
        ([3, 2, 1], 85, 30),
        ([3, 2, 1], 10**9, 30),
    ],
)
def test_the_oldest_go_while_they_are_too_large_or_too_old(
    ages_ms: list[int], log_bytes: int, begins: int | None
) -> None:
    """Row 101."""
    kept = [
        Kept(
            snapshot_id=OffsetAndEpoch(Epoch(1), Offset(10 * number)),
            size_bytes=10,
            last_timestamp_ms=10**10 - age_ms,
        )
        for number, age_ms in enumerate(ages_ms, 1)
    ]
    begin = log_begins_at(kept, log_bytes, now_ms=10**10, retention_bytes=100, retention_ms=1_000)
    assert (None if begin is None else begin.offset) == begins
    assert log_begins_at(kept, 10**9, now_ms=10**10, retention_bytes=-1, retention_ms=-1) is None


def held(kept: str) -> list[Kept]:
    """A snapshot for each letter: s is sound, d is damaged."""
    return [
        Kept(
            snapshot_id=OffsetAndEpoch(Epoch(1), Offset(10 * number)),
            size_bytes=10,
            last_timestamp_ms=10**10,
            damaged=letter == "d",
        )
        for number, letter in enumerate(kept, 1)
    ]


@pytest.mark.parametrize(
    ("kept", "log_bytes", "begins"),
    [
        ("s", 0, None),
        ("d", 0, None),
        ("dd", 10**9, None),
        ("ds", 0, 20),
        ("sd", 0, None),
        ("sd", 10**9, None),
        ("sds", 0, 30),
        ("dsds", 0, 20),
        ("dsds", 10**9, 40),
        ("ssd", 10**9, 20),
        ("dss", 0, 20),
    ],
)
def test_the_log_never_comes_to_begin_at_a_damaged_one(
    kept: str, log_bytes: int, begins: int | None
) -> None:
    """And one that is damaged goes as soon as a later one is sound."""
    found = held(kept)
    begin = log_begins_at(found, log_bytes, now_ms=10**10, retention_bytes=100, retention_ms=-1)
    assert (None if begin is None else begin.offset) == begins


@pytest.mark.parametrize(
    ("kept", "begins"), [("", None), ("d", None), ("s", 10), ("ss", 20), ("ssd", 20), ("dsd", 20)]
)
def test_on_a_full_disk_the_log_begins_at_the_latest_that_is_sound(
    kept: str, begins: int | None
) -> None:
    """Scenario 41: whatever might be kept."""
    found = held(kept)
    begin = log_begins_at_for_room(found)
    assert (None if begin is None else begin.offset) == begins
