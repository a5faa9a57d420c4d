"""Nonsense at a real broker's port: the connection is closed or the request refused, no more.

After each, the same broker takes a produce with acks=all, on the connections that it had and on
a new one, and its log says in one line what it met.
"""

import struct
from collections.abc import Iterator

import pytest

from broker.kafka.api import ApiKey
from broker.kafka.messages.api_versions import ApiVersionsRequest
from broker.kafka.messages.create_topics import CreatableTopic, CreateTopicsRequest
from broker.kafka.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from broker.kafka.messages.metadata import MetadataRequest, MetadataRequestTopic
from klamm.errors import ErrorCode
from tests.process.raw_broker import (
    PRODUCE_VERSION,
    RawBroker,
    bare_frame,
    batch_of,
    frame,
    produce_request,
)
from tests.process.running import Running

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

TOPIC = "unharmed"
CREATE_TOPICS_VERSION = 7
OVERSIZE = 100 * 1024 * 1024 + 1
"""One more than Kafka's default of socket.request.max.bytes."""


@pytest.fixture(scope="module")
def leader(cluster: Running) -> str:
    """host:port of the broker that leads the topic's partition."""
    cluster.create_topic(TOPIC, 1)
    cluster.wait_in_sync()
    return cluster.address(f"broker-{cluster.topics(TOPIC)[0].partitions[0].leader_id}")


@pytest.fixture(autouse=True)
def unharmed(leader: str) -> Iterator[None]:
    """The broker, and a connection that it had before."""
    with RawBroker(leader) as before:
        assert before.produce(TOPIC, batch_of(b"before")) == 0
        yield
        assert before.produce(TOPIC, batch_of(b"after")) == 0
    with RawBroker(leader) as after:
        assert after.produce(TOPIC, batch_of(b"after")) == 0


def sound_produce() -> bytes:
    return frame(ApiKey.PRODUCE, PRODUCE_VERSION, produce_request(TOPIC, batch_of(b"sound")))


CLOSED = {
    "a negative size": struct.pack(">i", -1),
    "a frame over the limit": struct.pack(">i", OVERSIZE),
    "the largest size there is": b"\x7f\xff\xff\xff",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + bytes(512),
    "an empty frame": struct.pack(">i", 0),
    "half a header": struct.pack(">i", 3) + b"\0\0\0",
    "an unknown API": bare_frame(9_999, 0),
    "a negative API": bare_frame(-1, 0),
    "an unknown version": bare_frame(ApiKey.METADATA, 99),
    "a client id that is not text": bare_frame(ApiKey.METADATA, 0, b"\0\0\0\0", b"\xff\xfe"),
    "a client id longer than the frame": struct.pack(">ihhih", 10, 3, 0, 7, 1_000),
    "a body cut short": bare_frame(ApiKey.METADATA, 1, b"\0\0"),
    "more bytes than the request has": bare_frame(ApiKey.METADATA, 0, bytes(40)),
    "an array of two thousand million": bare_frame(ApiKey.METADATA, 1, b"\x7f\xff\xff\xff"),
    "a controller's request": bare_frame(52, 0, bytes(8)),
    "zeros for a produce": bare_frame(ApiKey.PRODUCE, 9, bytes(64)),
    "noise for a fetch": bare_frame(ApiKey.FETCH, 12, bytes(range(256))),
}


@pytest.mark.parametrize("sent", CLOSED.values(), ids=CLOSED)
def test_what_makes_no_sense_closes_the_connection(leader: str, sent: bytes) -> None:
    with RawBroker(leader) as raw:
        raw.send(sent)
        assert raw.is_closed()


def test_what_came_before_the_nonsense_is_answered(leader: str) -> None:
    with RawBroker(leader) as raw:
        raw.send(sound_produce() + bare_frame(9_999, 0))
        assert raw.receive()
        assert raw.is_closed()


def test_half_a_frame_and_gone(leader: str) -> None:
    whole = sound_produce()
    for length in (1, 4, 5, 20, len(whole) - 1):
        with RawBroker(leader) as raw:
            raw.send(whole[:length])


def test_an_unknown_version_of_api_versions_is_told_what_there_is(leader: str) -> None:
    with RawBroker(leader) as raw:
        raw.send(bare_frame(ApiKey.API_VERSIONS, 77))
        answer = raw.receive()
        assert struct.unpack_from(">ih", answer) == (7, ErrorCode.UNSUPPORTED_VERSION)
        assert raw.ask(ApiKey.API_VERSIONS, 0, ApiVersionsRequest()).error_code == 0


def broken(position: int, value: int) -> bytes:
    """A batch with one byte changed."""
    batch = bytearray(batch_of(b"broken"))
    batch[position] ^= value
    return bytes(batch)


REFUSED_BATCHES = {
    "a wrong checksum": (broken(17, 0xFF), {ErrorCode.CORRUPT_MESSAGE}),
    "a bit flipped in a record": (broken(-2, 0x01), {ErrorCode.CORRUPT_MESSAGE}),
    "a magic of 1": (broken(16, 0x03), {ErrorCode.INVALID_RECORD}),
    "a magic of 9": (broken(16, 0x0B), {ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD}),
    "a length past the end": (broken(9, 0x01), {ErrorCode.CORRUPT_MESSAGE}),
    "half a batch": (batch_of(b"half" * 9)[:40], {ErrorCode.CORRUPT_MESSAGE}),
    "noise": (bytes(range(200)), {ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD}),
    "nothing": (b"", {ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD}),
    "over message.max.bytes": (batch_of(bytes(1_100_000)), {ErrorCode.MESSAGE_TOO_LARGE}),
}


@pytest.mark.parametrize(("batch", "codes"), REFUSED_BATCHES.values(), ids=REFUSED_BATCHES)
def test_a_batch_that_is_not_right_is_refused(
    leader: str, batch: bytes, codes: set[ErrorCode]
) -> None:
    with RawBroker(leader) as raw:
        assert ErrorCode(raw.produce(TOPIC, batch)) in codes
        assert raw.produce(TOPIC, batch_of(b"next")) == 0


def test_produce_to_what_is_not_there(leader: str) -> None:
    with RawBroker(leader) as raw:
        unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert raw.produce("nowhere", batch_of(b"x")) == unknown
        assert raw.produce(TOPIC, batch_of(b"x"), partition=77) == unknown
        assert raw.produce(TOPIC, batch_of(b"x"), partition=-1) == unknown
        assert raw.produce(TOPIC, batch_of(b"x"), acks=5) == ErrorCode.INVALID_REQUIRED_ACKS


BAD_TOPICS = {
    "empty": ("", 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "a dot": (".", 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "two dots": ("..", 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "a way out": ("../../etc", 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "spaces": ("a b", 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "umlauts": ("straße", 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "too long": ("a" * 250, 1, 1, ErrorCode.INVALID_TOPIC_EXCEPTION),
    "no partitions": ("none", 0, 1, ErrorCode.INVALID_PARTITIONS),
    "fewer than none": ("minus", -7, 1, ErrorCode.INVALID_PARTITIONS),
    "more replicas than brokers": ("wide", 1, 4, ErrorCode.INVALID_REPLICATION_FACTOR),
    "no replicas": ("thin", 1, 0, ErrorCode.INVALID_REPLICATION_FACTOR),
}


@pytest.mark.parametrize(
    ("name", "partitions", "replicas", "code"), BAD_TOPICS.values(), ids=BAD_TOPICS
)
def test_a_topic_that_cannot_be_is_refused(
    leader: str, name: str, partitions: int, replicas: int, code: ErrorCode
) -> None:
    row = create(leader, name, partitions, replicas)
    assert ErrorCode(row.error_code) is code, row
    assert row.error_message


@pytest.mark.parametrize("partitions", [10_001, 1_000_000, 2**31 - 1])
def test_too_many_partitions_are_refused_with_the_limit(leader: str, partitions: int) -> None:
    row = create(leader, "crowd", partitions, 1)
    assert row.error_code in (ErrorCode.INVALID_PARTITIONS, ErrorCode.POLICY_VIOLATION), row
    assert any(digit.isdigit() for digit in row.error_message), row


def create(leader: str, name: str, partitions: int, replicas: int) -> object:
    """The one row of the answer."""
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas)
    with RawBroker(leader) as raw:
        answer = raw.ask(
            ApiKey.CREATE_TOPICS,
            CREATE_TOPICS_VERSION,
            CreateTopicsRequest(topics=[topic], timeout_ms=10_000),
        )
    return answer.topics[0]


def test_a_value_as_long_as_a_string_can_be_is_refused_in_its_row(leader: str) -> None:
    """And its neighbour is altered, as is said."""
    create(leader, "long", 1, 1)
    rows = [
        AlterConfigsResource(
            resource_type=2,
            resource_name=name,
            configs=[AlterableConfig(name="retention.ms", value=value)],
        )
        for name, value in (("long", "5"), ("unknown", "x" * 32_767), ("x" * 32_767, "5"))
    ]
    long = AlterConfigsResource(
        resource_type=2,
        resource_name="long",
        configs=[AlterableConfig(name="retention.ms", value="x" * 32_767)],
    )
    with RawBroker(leader) as raw:
        answers = [
            raw.ask(
                ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, IncrementalAlterConfigsRequest(resources=each)
            )
            for each in (rows, [long])
        ]
    codes = [ErrorCode(row.error_code) for answer in answers for row in answer.responses]
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert codes == [ErrorCode.NONE, unknown, unknown, ErrorCode.INVALID_CONFIG]


def test_metadata_of_bad_names(leader: str) -> None:
    """Asked for, they are refused and not made."""
    names = ["", "..", "a b", "x" * 300]
    topics = [MetadataRequestTopic(name=each) for each in names]
    with RawBroker(leader) as raw:
        request = MetadataRequest(topics=topics, allow_auto_topic_creation=True)
        answer = raw.ask(ApiKey.METADATA, 9, request)
    assert {ErrorCode(each.error_code) for each in answer.topics} == {
        ErrorCode.INVALID_TOPIC_EXCEPTION
    }
