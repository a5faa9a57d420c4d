"""Random messages of every API, version and direction: ours against ours, kafka-python and kio.

An oracle reads our bytes and writes them again; the bytes must be the same. That the fields have
the right names is for `test_kafka_tables`.
"""

import importlib
from functools import cache
from io import BytesIO
from random import Random
from typing import Any

import kio.index
import pytest
from kio.serial import entity_reader, entity_writer

from broker.kafka.api import APIS, ApiKey
from broker.kafka.codec import (
    REQUEST,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from tests.unit.kafka.random_messages import EVERY_MESSAGE, random_message

MESSAGES = 12

KAFKA_PYTHON = [
    importlib.import_module(f"kafka.protocol.{name}")
    for name in ("admin", "consumer", "metadata", "producer", "sasl")
]

OF_KAFKA_4 = [
    (api_key, version, direction)
    for api_key, version, direction in EVERY_MESSAGE
    if not (api_key is ApiKey.PRODUCE and version < 3)
]
"""What the oracles know: they have the definitions of Kafka 4, which has no Produce 0-2."""

REWRITTEN_BY_KAFKA_PYTHON = [
    (api_key, version, direction)
    for api_key, version, direction in OF_KAFKA_4
    if not (api_key is ApiKey.DELETE_TOPICS and direction == REQUEST)
]
"""kafka-python cannot write a DeleteTopics request once it has read it."""

messages = pytest.mark.parametrize(("api_key", "version", "direction"), EVERY_MESSAGE)
known_to_kio = pytest.mark.parametrize(("api_key", "version", "direction"), OF_KAFKA_4)
known_to_kafka_python = pytest.mark.parametrize(
    ("api_key", "version", "direction"), REWRITTEN_BY_KAFKA_PYTHON
)


def encode(api_key: int, version: int, direction: str, message: object) -> bytes:
    write = encode_request if direction == REQUEST else encode_response
    return b"".join(write(api_key, version, message))


def decode(api_key: int, version: int, direction: str, body: bytes) -> Any:
    read = decode_request if direction == REQUEST else decode_response
    return read(api_key, version, memoryview(body))


def samples(api_key: int, version: int, direction: str) -> list[Any]:
    random = Random(f"{api_key} {version} {direction}")
    return [random_message(api_key, version, direction, random) for _ in range(MESSAGES)]


@messages
def test_what_is_written_is_read_again(api_key: ApiKey, version: int, direction: str) -> None:
    for message in samples(api_key, version, direction):
        body = encode(api_key, version, direction, message)
        again = decode(api_key, version, direction, body)
        assert again == message
        assert encode(api_key, version, direction, again) == body


@known_to_kafka_python
def test_kafka_python_writes_the_same_bytes(api_key: ApiKey, version: int, direction: str) -> None:
    theirs = kafka_python_class(APIS[api_key].name + direction)
    for message in samples(api_key, version, direction):
        if api_key is ApiKey.API_VERSIONS and direction != REQUEST:
            message.error_code = 0  # kafka-python reads any other as version 0
        body = encode(api_key, version, direction, message)
        assert theirs.decode(body, version=version).encode() == body


@known_to_kio
def test_kio_writes_the_same_bytes(api_key: ApiKey, version: int, direction: str) -> None:
    request = direction == REQUEST
    load = kio.index.load_request_schema if request else kio.index.load_response_schema
    theirs: Any = load(api_key, version)
    for message in samples(api_key, version, direction):
        body = encode(api_key, version, direction, message)
        value, length = entity_reader(theirs)(body, 0)
        assert length == len(body)
        again = BytesIO()
        entity_writer(theirs)(again, value)
        assert again.getvalue() == body


@cache
def kafka_python_class(name: str) -> Any:
    (found,) = {getattr(module, name) for module in KAFKA_PYTHON if hasattr(module, name)}
    return found


# Written down from the protocol guide: no library at hand knows these versions any more.
PRODUCE_0_REQUEST = bytes.fromhex(
    "0001"  # acks
    "000003e8"  # timeout_ms
    "00000001000174"  # one topic, t
    "0000000100000002"  # one partition, 2
    "00000003aabbcc"  # records
)
PRODUCE_2_RESPONSE = bytes.fromhex(
    "00000001000174"
    "00000001000000020023"  # one partition, 2; UNSUPPORTED_VERSION
    "ffffffffffffffffffffffffffffffff"  # base_offset, log_append_time_ms
    "00000000"  # throttle_time_ms
)


def test_produce_of_old_is_read_and_can_be_refused() -> None:
    request = decode_request(ApiKey.PRODUCE, 0, memoryview(PRODUCE_0_REQUEST))
    assert (request.acks, request.timeout_ms, request.transactional_id) == (1, 1_000, None)
    (topic,) = request.topic_data
    assert (topic.name, topic.partition_data[0].index) == ("t", 2)
    response = decode_response(ApiKey.PRODUCE, 2, memoryview(PRODUCE_2_RESPONSE))
    assert response.responses[0].partition_responses[0].error_code == 35
    assert encode(ApiKey.PRODUCE, 2, "Response", response) == PRODUCE_2_RESPONSE
