"""Hostile bytes into the Kafka codec: a message or MalformedFrameError, never anything else.

What is still read must be a message: writable, and the same when it is read again.

    input    which of EVERY_MESSAGE, two bytes │ the message
"""

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
from tests.fuzz.mutation import spoil
from tests.fuzz.target import Target
from tests.unit.kafka.random_messages import EVERY_MESSAGE, random_message


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


def grow(random: Random) -> bytes:
    which = random.randrange(len(EVERY_MESSAGE))
    api_key, version, direction = EVERY_MESSAGE[which]
    message = random_message(api_key, version, direction, random)
    return which.to_bytes(2) + encode(api_key, version, direction, message)


def check_input(data: bytes) -> bool:
    api_key, version, direction = EVERY_MESSAGE[int.from_bytes(data[:2]) % len(EVERY_MESSAGE)]
    body = data[2:]
    check_header(body)
    return check(api_key, version, direction, body)


TARGET = Target(name="kafka_codec", grow=grow, check=check_input, share=10)


def fuzz(inputs: int, seed: int) -> tuple[int, int]:
    """Try `inputs` inputs; returns how many were still messages, and how many were not."""
    random = Random(seed)
    read = 0
    for _ in range(inputs):
        data = grow(random)
        read += check_input(data[:2] + spoil(data[2:], random))
    return read, inputs - read
