"""Reads Java `.properties` text, as Kafka's configuration files are written. Pure.

    # a comment          ! another
    node.id=1            key, then = or : or blanks, then the value
    listeners : A://:1,\\
                B://:2   a backslash at the end joins lines; blanks that begin the next are dropped
    name=caf\\u00e9       escapes: \\t \\n \\r \\f \\uXXXX, and \\x for any other x

Source: java.util.Properties.load.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SIMPLE_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_KEY = re.compile(r"(?:\\.|[^\\=:\s])*")
_SEPARATOR = re.compile(r"\s*[=:]?\s*")


@dataclass(frozen=True, slots=True)
class Property:
    key: str
    value: str
    line: int
    """Where it begins, from 1."""


def read_properties(text: str) -> tuple[Property, ...]:
    """The properties in the order written; a key that stands twice is there twice."""
    return tuple(_split(line, number) for number, line in _logical_lines(text))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined where a backslash says so, without blanks and comments; with their number."""
    begins, parts = 0, list[str]()
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = raw.lstrip(" \t\f")
        if not parts:
            if not line or line[0] in "#!":
                continue
            begins = number
        goes_on = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        parts.append(line[:-1] if goes_on else line)
        if not goes_on:
            yield begins, "".join(parts)
            parts = []
    if parts:
        yield begins, "".join(parts)


def _split(line: str, number: int) -> Property:
    key = _KEY.match(line)
    assert key is not None, "the pattern matches the empty string"
    separator = _SEPARATOR.match(line, key.end())
    assert separator is not None, "the pattern matches the empty string"
    return Property(_unescape(key.group()), _unescape(line[separator.end() :]), number)


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) == 5:
            return chr(int(escape[1:], 16))
        return _SIMPLE_ESCAPES.get(escape, escape)

    return _ESCAPE.sub(replace, text)
