"""Java's `.properties` format, rule by rule; the expected values are java.util.Properties'."""

import pytest

from klamm.config.properties import Property, read_properties


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        # The three separators, and blanks around them.
        ("a=1", "a", "1"),
        ("a:1", "a", "1"),
        ("a 1", "a", "1"),
        ("  a  =  1", "a", "1"),
        ("a\t:\t1", "a", "1"),
        # Only the first separates.
        ("listeners=A://:9092", "listeners", "A://:9092"),
        ("a==1", "a", "=1"),
        ("a : =1", "a", "=1"),
        # Nothing to the right, or nothing but a key.
        ("a=", "a", ""),
        ("a", "a", ""),
        # Escapes, in keys too.
        (r"a\=b=c", "a=b", "c"),
        (r"a\ b=c", "a b", "c"),
        (r"a=\u00e9\t\\x\q", "a", "é\t\\xq"),
        # Lines joined; the blanks that begin the next one are dropped, those before kept.
        ("a=1,\\\n   2", "a", "1,2"),
        ("a=1 \\\r\n\t2", "a", "1 2"),
        # An even number of backslashes joins nothing.
        ("a=1\\\\", "a", "1\\"),
        ("a=1\\", "a", "1"),
    ],
)
def test_one_property(text: str, key: str, value: str) -> None:
    assert read_properties(text) == (Property(key, value, 1),)


def test_comments_blank_lines_and_line_numbers() -> None:
    text = "# first\n\n  ! second \\\nnode.id=1\n\nlisteners=A,\\\n  # not a comment\nx=2\n"
    assert read_properties(text) == (
        Property("node.id", "1", 4),
        Property("listeners", "A,# not a comment", 6),
        Property("x", "2", 8),
    )


def test_a_key_that_stands_twice_is_there_twice() -> None:
    assert [each.value for each in read_properties("a=1\na=2")] == ["1", "2"]
