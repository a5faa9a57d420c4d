"""What a fuzz target is: a decoder, what it takes, and what it may say.

    grow(random)   a valid input                              the seeds of both engines
    check(data)    read any bytes; True if they were taken    raises: a finding

`check` swallows the decoder's named errors and nothing else; what it takes must hold together (read
again it is the same). The first bytes of an input choose what it is taken for, so that one engine
can turn one message into another; see `Choice`.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

MEMORY_BYTES = 2 * 1024 * 1024
"""An input may cost so much, however small it is …"""
MEMORY_PER_BYTE = 512
"""… and so much for each of its bytes: a record of seven bytes is an object of some hundreds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    name: str
    grow: Callable[[Random], bytes]
    check: Callable[[bytes], bool]
    share: int
    """Of all inputs, beside the others' shares; the slower the decoder, the smaller."""


class Choice:
    """The first bytes of an input, which say what the rest is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def one_of(self, count: int) -> int:
        """The next byte, as one of `count` things; 0 where there is none."""
        value = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return value % count

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]


def memory_of(target: Target, data: bytes) -> int:
    """The most bytes that were held at once while `data` was read."""
    tracemalloc.start()
    try:
        target.check(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory_max(data: bytes) -> int:
    return MEMORY_BYTES + MEMORY_PER_BYTE * len(data)
