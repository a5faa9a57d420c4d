"""Who follows without a vote, as `describe` lists them (row 85)."""

from types import SimpleNamespace
from typing import cast

import pytest

from controller.quorum import observers
from controller.quorum.observers import FORGOTTEN_AFTER_MS, Observers
from controller.quorum.port import Quorum
from controller.raft.voters import ReplicaKey
from klamm.ids import NO_NODE, NodeId, Offset
from tests.unit.active.quorums import FakeClock

QUORUM = cast("Quorum", SimpleNamespace(high_watermark=Offset(9)))


def key(node: int) -> ReplicaKey:
    return ReplicaKey(node_id=NodeId(node))


def test_row_85_times_are_of_the_last_fetch_and_minus_one_if_it_never_had_all() -> None:
    clock = FakeClock()
    seen = Observers(clock)
    seen.fetched(key(7), Offset(3), QUORUM)
    (behind,) = seen.list()
    assert (behind.end_offset, behind.caught_up_wall_ms) == (3, -1)
    assert behind.fetched_wall_ms == clock.wall_ms()
    clock.now_ms += 10
    seen.fetched(key(7), Offset(9), QUORUM)
    assert [each.caught_up_wall_ms for each in seen.list()] == [clock.wall_ms()]


@pytest.mark.parametrize("set_back_ms", [0, 3_600_000, -3_600_000])
def test_row_85_who_was_silent_for_long_is_left_out(
    set_back_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever somebody does to the wall clock meanwhile (scenario 59)."""
    clock = FakeClock()
    seen = Observers(clock)
    seen.fetched(key(7), Offset(9), QUORUM)
    monkeypatch.setattr(clock, "wall_ms", lambda: clock.now_ms - set_back_ms)
    clock.now_ms += FORGOTTEN_AFTER_MS
    assert [each.key for each in seen.list()] == [key(7)]
    clock.now_ms += 1
    assert seen.list() == ()


def test_no_more_than_the_limit_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "OBSERVERS_MAX", 3)
    seen = Observers(FakeClock())
    for node in (NO_NODE, 4, 5, 6, 7):
        seen.fetched(key(node), Offset(9), QUORUM)
    assert [each.key for each in seen.list()] == [key(4), key(5), key(6)]
