"""Who is alive, as far as the controller hears: a table of times (kraft.md 2.6; KAFKA-15019)."""

from controller.sessions import CATCH_UP_MS, NEVER_MS, Sessions
from klamm.ids import NodeId, Offset

ONE, TWO = NodeId(1), NodeId(2)
EPOCH = {ONE: Offset(3), TWO: Offset(4)}
TIMEOUT_MS, GRACE_MS = 9_000, 50


def expired(held: Sessions, now_ms: int) -> tuple[NodeId, ...]:
    return tuple(each.broker_id for each in held.expired(now_ms))


def sessions() -> Sessions:
    made = Sessions(TIMEOUT_MS, GRACE_MS)
    made.begin(ONE, Offset(3), 0)
    return made


def test_silence_ends_a_session_after_its_timeout() -> None:
    held = sessions()
    assert expired(held, TIMEOUT_MS - 1) == ()
    assert expired(held, TIMEOUT_MS) == (ONE,)
    assert expired(held, TIMEOUT_MS) == (), "told once"


def test_a_heartbeat_is_life() -> None:
    held = sessions()
    held.heard(ONE, EPOCH[ONE], Offset(5), 4_000)
    assert expired(held, TIMEOUT_MS) == ()
    assert held.next_deadline_ms() == 4_000 + TIMEOUT_MS


def test_a_broken_stream_leaves_a_short_grace() -> None:
    held = sessions()
    stream = held.opened(ONE, Offset(3), 100)
    held.broke(ONE, stream, 200)
    assert held.next_deadline_ms() == 250
    assert expired(held, 249) == ()
    assert expired(held, 250) == (ONE,)


def test_a_stream_reopened_within_the_grace_is_as_if_nothing_happened() -> None:
    held = sessions()
    held.broke(ONE, held.opened(ONE, Offset(3), 100), 200)
    held.opened(ONE, Offset(3), 240)
    assert expired(held, 1_000) == ()


def test_an_old_stream_that_breaks_late_says_nothing() -> None:
    held = sessions()
    old = held.opened(ONE, Offset(3), 100)
    held.opened(ONE, Offset(3), 110)
    held.broke(ONE, old, 120)
    assert expired(held, 1_000) == ()


def test_who_is_alive() -> None:
    held = sessions()
    assert held.alive(ONE, 10)
    assert not held.alive(TWO, 10)
    assert not held.alive(ONE, TIMEOUT_MS)
    held.broke(ONE, held.opened(ONE, Offset(3), 20), 30)
    assert not held.alive(ONE, 31), "a broken stream: another incarnation may come at once"


def test_time_that_the_controller_slept_counts_for_nobody() -> None:
    held = sessions()
    held.broke(ONE, held.opened(ONE, Offset(3), 100), 200)
    held.forgive(5_000)
    assert expired(held, 5_249 + CATCH_UP_MS) == ()
    assert expired(held, 5_250 + CATCH_UP_MS) == (ONE,)


def test_what_all_have_applied() -> None:
    held = sessions()
    held.begin(TWO, Offset(4), 0)
    held.heard(ONE, EPOCH[ONE], Offset(10), 1)
    held.heard(TWO, EPOCH[TWO], Offset(7), 1)
    held.heard(ONE, EPOCH[ONE], Offset(9), 2)
    assert held.lowest_applied((ONE, TWO)) == 7
    assert held.lowest_applied((ONE,)) == 10
    assert held.lowest_applied(()) == NEVER_MS


def test_who_was_silent_and_goes_on_has_a_session_on_the_stream_that_it_has() -> None:
    """A paused process: fenced meanwhile, alive again, and killed then."""
    held = sessions()
    stream = held.opened(ONE, EPOCH[ONE], 0)
    assert expired(held, TIMEOUT_MS) == (ONE,)
    held.heard(ONE, EPOCH[ONE], Offset(9), 20_000)
    held.broke(ONE, stream, 20_100)
    assert expired(held, 20_100 + GRACE_MS) == (ONE,)


def test_streams_outlive_a_reign() -> None:
    held = sessions()
    stream = held.opened(ONE, EPOCH[ONE], 0)
    held.clear()
    held.begin(ONE, EPOCH[ONE], 100)
    held.broke(ONE, stream, 200)
    assert expired(held, 200 + GRACE_MS) == (ONE,)


def test_a_stream_of_a_former_uptime_is_not_taken_over() -> None:
    held = sessions()
    stream = held.opened(ONE, EPOCH[ONE], 0)
    held.begin(ONE, Offset(8), 10)
    held.broke(ONE, stream, 20)
    assert held.alive(ONE, 30)


def test_a_stream_that_ended_between_two_reigns_is_not_counted_on() -> None:
    held = sessions()
    stream = held.opened(ONE, EPOCH[ONE], 0)
    held.clear()
    held.broke(ONE, stream, 10)
    held.begin(ONE, EPOCH[ONE], 20)
    assert held.next_deadline_ms() == 20 + TIMEOUT_MS
