"""Hostile bytes into the Kafka codec: a message or MalformedFrameError, never anything else.

    python -m tests.fuzz.kafka_codec --inputs 1000000 --seed 7

Each input is a valid message of a random API, version and direction, spoilt in one to four places.
What is still read must be a message: writable, and the same when it is read again. Exits with 1 and
prints the input, in hex, at the first that breaks this.
"""

import argparse
import time
from collections.abc import Callable
from random import Random
from typing import Any

from broker.kafka.codec import (
    REQUEST,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from broker.kafka.errors import MalformedFrameError
from broker.kafka.header import read_request_header
from tests.unit.kafka.random_messages import EVERY_MESSAGE, random_message

POISON = (
    b"\x7f\xff\xff\xff",  # the largest count or length
    b"\xff\xff\xff\xff",  # null, or the largest varint but for its end
    b"\x80\x00\x00\x00",  # the least
    b"\xff\xff\xff\xff\x0f",  # the largest varint
    b"\xff\xff\xff\xff\x7f",  # a varint of 35 bits
    b"\x80\x80\x80\x80\x80\x80",  # a varint that does not end
    b"\x80\x80\x80\x80\x00",  # zero, at length
    b"\xc3\x28",  # no UTF-8
    b"\xed\xa0\x80",  # a surrogate
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


def encode(api_key: int, version: int, direction: str, message: object) -> bytes:
    write = encode_request if direction == REQUEST else encode_response
    return b"".join(write(api_key, version, message))


def decode(api_key: int, version: int, direction: str, body: bytes) -> Any:
    read = decode_request if direction == REQUEST else decode_response
    return read(api_key, version, memoryview(body))


def check(api_key: int, version: int, direction: str, body: bytes) -> bool:
    """Read `body`; returns whether it is a message.

    Raises:
        AssertionError: It was read, and is none.
        Exception: Anything but MalformedFrameError, which is what the fuzzer looks for.
    """
    try:
        message = decode(api_key, version, direction, body)
    except MalformedFrameError:
        return False
    again = decode(api_key, version, direction, encode(api_key, version, direction, message))
    assert again == message, "what was read is not what is written"
    return True


def check_header(frame: bytes) -> None:
    try:
        read_request_header(memoryview(frame))
    except MalformedFrameError:
        return


def fuzz(inputs: int, seed: int) -> tuple[int, int]:
    """Try `inputs` inputs; returns how many were still messages, and how many were not.

    Raises:
        SystemExit: One of them broke the codec; it is printed.
    """
    random = Random(seed)
    read = 0
    for number in range(inputs):
        api_key, version, direction = random.choice(EVERY_MESSAGE)
        message = random_message(api_key, version, direction, random)
        body = spoil(encode(api_key, version, direction, message), random)
        try:
            read += check(api_key, version, direction, body)
            check_header(body)
        except Exception as error:
            where = f"input {number} of seed {seed}: {api_key.name}{direction} {version}"
            raise SystemExit(f"{where}: {error!r}\n{body.hex()}") from error
    return read, inputs - read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    read, refused = fuzz(arguments.inputs, arguments.seed)
    seconds = time.monotonic() - began
    print(f"{read} read, {refused} refused, {seconds:.1f} s, seed {arguments.seed}")


if __name__ == "__main__":
    main()
