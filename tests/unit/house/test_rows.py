"""What docs/testing.md says of Kafka's rows is so: the files are there, no row of the quorum's is
forgotten, and those of log, snapshots and membership are named by a test.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "testing.md").read_text()
SECTION = PAGE[PAGE.index("## The quorum, row by row") :]

QUORUM = set(range(1, 121))
BY_NAME = set(range(94, 121))
NAMED = re.compile(r"[Rr]ows?[ _](\d{1,3}(?:(?:,? and |, |_and_|_)\d{1,3}(?!\d))*)")
"""One by one: a whole range in a heading names nothing."""


def numbers(text: str) -> set[int]:
    """`1, 4\N{EN DASH}6, 9` is 1, 4, 5, 6, 9."""
    found: set[int] = set()
    for first, last in re.findall("(\\d+)(?:\N{EN DASH}(\\d+))?", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_every_file_that_is_named_is_there() -> None:
    there = {path.name for path in (ROOT / "tests").rglob("*.py")}
    named = set(re.findall(r"`(?:[\w/]+/)?(test_\w+\.py)`", PAGE))
    assert named - there == set()
    paths = set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE))
    assert not [each for each in paths if not (ROOT / each).exists()]


def test_every_row_of_the_quorum_is_held_or_does_not_apply() -> None:
    first_column = re.findall("^\\| ([\\d, \N{EN DASH}]+) \\|", SECTION, re.MULTILINE)
    held = set.union(*map(numbers, first_column))
    differs = SECTION[SECTION.index("Different on purpose") :]
    told = set.union(*map(numbers, re.findall(r"\(([\d, ]+)\)", differs)))
    assert QUORUM - held - told == set()
    assert told - held <= {45, 52, 54, 68, 82, 88}


def test_rows_of_log_snapshots_and_membership_are_named_by_a_test() -> None:
    named: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for each in NAMED.findall(path.read_text()):
            named |= set(map(int, re.findall(r"\d+", each)))
    assert BY_NAME - named == set()
