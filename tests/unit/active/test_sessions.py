"""Who is alive, as far as the controller hears: a table of times (kraft.md 2.6; KAFKA-15019)."""

from controller.sessions import NEVER_MS, Sessions
from klamm.ids import NodeId, Offset

ONE, TWO = NodeId(1), NodeId(2)
TIMEOUT_MS, GRACE_MS = 9_000, 50


def sessions() -> Sessions:
    made = Sessions(TIMEOUT_MS, GRACE_MS)
    made.begin(ONE, Offset(3), 0)
    return made


def test_silence_ends_a_session_after_its_timeout() -> None:
    held = sessions()
    assert held.expired(TIMEOUT_MS - 1) == ()
    assert held.expired(TIMEOUT_MS) == (ONE,)
    assert held.expired(TIMEOUT_MS) == (), "told once"


def test_a_heartbeat_is_life() -> None:
    held = sessions()
    held.heard(ONE, Offset(5), 4_000)
    assert held.expired(TIMEOUT_MS) == ()
    assert held.next_deadline_ms() == 4_000 + TIMEOUT_MS


def test_a_broken_stream_leaves_a_short_grace() -> None:
    held = sessions()
    stream = held.opened(ONE, Offset(3), 100)
    held.broke(ONE, stream, 200)
    assert held.next_deadline_ms() == 250
    assert held.expired(249) == ()
    assert held.expired(250) == (ONE,)


def test_a_stream_reopened_within_the_grace_is_as_if_nothing_happened() -> None:
    held = sessions()
    held.broke(ONE, held.opened(ONE, Offset(3), 100), 200)
    held.opened(ONE, Offset(3), 240)
    assert held.expired(1_000) == ()


def test_an_old_stream_that_breaks_late_says_nothing() -> None:
    held = sessions()
    old = held.opened(ONE, Offset(3), 100)
    held.opened(ONE, Offset(3), 110)
    held.broke(ONE, old, 120)
    assert held.expired(1_000) == ()


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
    assert held.expired(5_249) == ()
    assert held.expired(5_250) == (ONE,)


def test_what_all_have_applied() -> None:
    held = sessions()
    held.begin(TWO, Offset(4), 0)
    held.heard(ONE, Offset(10), 1)
    held.heard(TWO, Offset(7), 1)
    held.heard(ONE, Offset(9), 2)
    assert held.lowest_applied((ONE, TWO)) == 7
    assert held.lowest_applied((ONE,)) == 10
    assert held.lowest_applied(()) == NEVER_MS
