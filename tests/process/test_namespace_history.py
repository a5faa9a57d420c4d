"""The judge of what clients saw in network namespaces: histories that it must take, and not."""

from dataclasses import replace

import pytest

from tests.process.namespaces.history import Entry, Kind, Outcome, Written, judge

LOG = (Written(10, "red", "a"), Written(12, "red", "b"), Written(13, "blue", "c"))


def entry(kind: Kind, value: str | None, called: float, returned: float, offset: int) -> Entry:
    return Entry(
        kind=kind,
        outcome=Outcome.OK,
        node=1,
        life=1,
        key="red",
        value=value,
        called=called,
        returned=returned,
        offset=offset,
    )


FIRST = entry(Kind.WRITE, "a", 1, 2, 11)
SECOND = entry(Kind.WRITE, "b", 3, 4, 13)
SEEN = entry(Kind.LINEARIZABLE, "b", 5, 6, 13)
UNKNOWN = replace(SECOND, outcome=Outcome.UNKNOWN, offset=-1)


@pytest.mark.parametrize(
    "history",
    [
        [FIRST, SECOND, SEEN],
        [FIRST, UNKNOWN, SEEN],
        [entry(Kind.LINEARIZABLE, None, 0, 1, 9), FIRST],
        [FIRST, replace(UNKNOWN, value="never"), entry(Kind.LINEARIZABLE, "a", 5, 6, 12)],
        [FIRST, replace(FIRST, value="refused", outcome=Outcome.FAILED)],
        [FIRST, SECOND, entry(Kind.LOCAL, "a", 5, 6, 11)],
        [FIRST, SECOND, replace(entry(Kind.BOUNDED, "a", 5, 6, 12), min_offset=11)],
    ],
)
def test_what_can_have_happened(history: list[Entry]) -> None:
    assert judge(history, LOG) == []


@pytest.mark.parametrize(
    ("history", "word"),
    [
        ([replace(FIRST, value="lost")], "its place in the log holds"),
        ([replace(FIRST, offset=12)], "its place in the log holds"),
        ([replace(FIRST, outcome=Outcome.FAILED)], "refused, and in the log"),
        ([replace(SEEN, value="a")], "at this offset the log says b"),
        ([replace(SEEN, offset=12)], "at this offset the log says a"),
        ([replace(entry(Kind.BOUNDED, "a", 5, 6, 12), min_offset=13)], "older than was asked"),
        ([SECOND, entry(Kind.LINEARIZABLE, "a", 5, 6, 12)], "not linearizable by position"),
        (
            [FIRST, SECOND, SEEN, entry(Kind.LINEARIZABLE, "a", 7, 8, 12)],
            "'red' are not linearizable",
        ),
        ([replace(UNKNOWN, called=7, returned=8), SEEN], "not linearizable by position"),
        (
            [entry(Kind.LOCAL, "b", 1, 2, 13), entry(Kind.LOCAL, "a", 3, 4, 12)],
            "controller 1 went back in its life 1",
        ),
    ],
)
def test_what_cannot_have_happened(history: list[Entry], word: str) -> None:
    assert any(word in each for each in judge(history, LOG)), judge(history, LOG)


def test_a_value_that_is_in_the_log_twice() -> None:
    assert "twice" in judge([], [*LOG, Written(14, "red", "a")])[0]


def test_a_process_that_began_again_may_be_behind() -> None:
    ahead, behind = entry(Kind.LOCAL, "b", 1, 2, 13), entry(Kind.LOCAL, "a", 3, 4, 12)
    assert judge([ahead, replace(behind, life=2)], LOG) == []
