"""Valid bytes, spoilt in one to four places."""

from collections.abc import Callable
from random import Random

POISON = (
    b"\x7f\xff\xff\xff",  # the largest count or length
    b"\xff\xff\xff\xff",  # null, or the largest varint but for its end
    b"\x80\x00\x00\x00",  # the least
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",  # the largest offset
    b"\xff\xff\xff\xff\x0f",  # the largest varint
    b"\xff\xff\xff\xff\x7f",  # a varint of 35 bits
    b"\x80\x80\x80\x80\x80\x80",  # a varint that does not end
    b"\x80\x80\x80\x80\x00",  # zero, at length
    b"\xc3\x28",  # no UTF-8
    b"\xed\xa0\x80",  # a surrogate
    b"9" * 5_000,  # more digits than int() takes
    b"\x00",
    b"\xff",
)

MUTATIONS_MAX = 4


def flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def truncate(data: bytearray, random: Random) -> None:
    del data[random.randint(0, len(data)) :]


def delete(data: bytearray, random: Random) -> None:
    start = random.randint(0, len(data))
    del data[start : start + random.randint(1, 8)]


def insert(data: bytearray, random: Random) -> None:
    start = random.randint(0, len(data))
    data[start:start] = random.randbytes(random.randint(1, 8))


def repeat(data: bytearray, random: Random) -> None:
    start = random.randint(0, len(data))
    piece = data[start : start + random.randint(1, 32)]
    data[start:start] = piece


def poison(data: bytearray, random: Random) -> None:
    start = random.randint(0, len(data))
    bad = random.choice(POISON)
    data[start : start + len(bad)] = bad


Mutation = Callable[[bytearray, Random], None]
MUTATIONS: tuple[Mutation, ...] = (flip, flip, truncate, delete, insert, repeat, poison, poison)


def spoil(body: bytes, random: Random) -> bytes:
    data = bytearray(body)
    for _ in range(random.randint(1, MUTATIONS_MAX)):
        random.choice(MUTATIONS)(data, random)
    return bytes(data)
