"""Bytes that are no message: MalformedFrameError that names the place, and no memory taken."""

import tracemalloc
from random import Random

import pytest

from broker.kafka.api import APIS, ApiKey
from broker.kafka.codec import (
    CONTROL_BYTES_MAX,
    REQUEST,
    RESPONSE,
    decode_request,
    encode_request,
    encode_response,
    message_class,
    message_layout,
)
from broker.kafka.errors import (
    MalformedFrameError,
    UnsupportedVersionError,
    UnwritableMessageError,
)
from broker.kafka.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from broker.kafka.messages.create_topics import CreatableTopic, CreateTopicsRequest
from broker.kafka.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)
from broker.kafka.reader import ELEMENTS_MAX
from broker.kafka.varint import write_uvarint
from tests.fuzz.kafka_codec import check, decode, encode, fuzz
from tests.unit.kafka.random_messages import EVERY_MESSAGE, random_message

messages = pytest.mark.parametrize(("api_key", "version", "direction"), EVERY_MESSAGE)

TRUNCATIONS_MAX = 400
FUZZED_INPUTS = 4_000
MEMORY_BYTES_MAX = 100_000


def one(api_key: int, version: int, direction: str, bytes_max: int = 5_000) -> bytes:
    """A random message that is neither empty nor large."""
    random = Random(f"{api_key} {version} {direction}")
    bodies = (
        encode(api_key, version, direction, random_message(api_key, version, direction, random))
        for _ in range(50)
    )
    return max((body for body in bodies if len(body) <= bytes_max), key=len)


@messages
def test_a_part_of_a_message_is_none(api_key: ApiKey, version: int, direction: str) -> None:
    body = one(api_key, version, direction, TRUNCATIONS_MAX)
    for end in range(len(body)):
        with pytest.raises(MalformedFrameError):
            decode(api_key, version, direction, body[:end])


@messages
def test_a_message_and_more_is_none(api_key: ApiKey, version: int, direction: str) -> None:
    body = one(api_key, version, direction)
    for more in (b"\0", b"\0\0\0\0", b"\xff" * 9):
        with pytest.raises(MalformedFrameError, match=r"the end: \d bytes follow"):
            decode(api_key, version, direction, body + more)


def test_spoilt_messages_are_read_or_refused() -> None:
    read, refused = fuzz(FUZZED_INPUTS, seed=1)
    assert read > FUZZED_INPUTS // 20, "mutations are so wild that nothing is tried"
    assert refused > FUZZED_INPUTS // 5, "mutations are so tame that nothing is tried"


@messages
def test_no_count_or_length_takes_memory(api_key: ApiKey, version: int, direction: str) -> None:
    """The largest count or length at each place: memory stays in proportion to the bytes."""
    body = one(api_key, version, direction, 200)
    flexible = APIS[api_key].is_flexible(version)
    huge = b"\xff\xff\xff\xff\x0f" if flexible else b"\x7f\xff\xff\xff"
    spoilt = [body[:at] + huge + body[at + 4 :] for at in range(len(body))]
    for each in spoilt:  # compiled readers and cached ids are not the message's
        check(api_key, version, direction, each)
    tracemalloc.start()
    try:
        for each in spoilt:
            check(api_key, version, direction, each)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX


@messages
def test_tags_that_nobody_knows_are_skipped(api_key: ApiKey, version: int, direction: str) -> None:
    if not APIS[api_key].is_flexible(version):
        return
    message = message_class(api_key, direction)()
    body = encode(api_key, version, direction, message)
    assert body[-1] == 0, "no tags yet"
    unknown = b"\x02\x64\x03abc\xe4\x80\x01\x00"
    assert decode(api_key, version, direction, body[:-1] + unknown) == message
    many = write_uvarint(200) + b"".join(write_uvarint(100 + tag) + b"\0" for tag in range(200))
    assert decode(api_key, version, direction, body[:-1] + many) == message
    for bad in (
        b"\x02\x64\x00\x64\x00",  # one tag twice
        b"\x02\x65\x00\x64\x00",  # out of order
        b"\x01\x64\x04abc",  # longer than what is left
        b"\x05\x64\x00",  # more than there are
        b"\xff\xff\xff\xff\x1f",  # more than 32 bits can say
        write_uvarint(ELEMENTS_MAX + 1) + bytes(2 * ELEMENTS_MAX + 2),  # too many
    ):
        with pytest.raises(MalformedFrameError):
            decode(api_key, version, direction, body[:-1] + bad)


def metadata(body: str) -> None:
    decode_request(ApiKey.METADATA, 12, memoryview(bytes.fromhex(body)))


TOPIC_ID = "00" * 16


@pytest.mark.parametrize(
    ("body", "says"),
    [
        # The count of topics.
        ("", "topics: index out of range"),
        ("ffffffff0f" + "00" * 40, "topics: 4294967294 elements, and 40 bytes are left"),
        ("ffffffff7f" + "00" * 40, "topics: a varint is longer than 32 bits"),
        ("ffffffffff01", "topics: a varint is longer than 32 bits"),
        # A topic: id, name, tags.
        ("02" + "00" * 8, r"topics: 1 elements, and 8 bytes are left"),
        ("02" + TOPIC_ID + "09" + "61" * 4, r"topics\[\].name: the length is 8, and 4 bytes"),
        ("02" + TOPIC_ID + "03c328" + "00", r"topics\[\].name: 'utf-8' codec can't decode"),
        ("02" + TOPIC_ID + "04eda080" + "00", r"topics\[\].name: 'utf-8' codec can't decode"),
        ("02" + TOPIC_ID + "81800200" + "00" * 32768, r"name: 32768 bytes are over 32767"),
        ("02" + TOPIC_ID + "00" + "01", r"topics\[\] tags: 1 tagged fields in 0 bytes"),
        # After the topics.
        ("01" + "00", "include_topic_authorized_operations: index out of range|unpack"),
        ("01" + "0000" + "00" + "00", "the end: 1 bytes follow the message"),
    ],
)
def test_the_error_names_the_field_and_what_is_wrong(body: str, says: str) -> None:
    with pytest.raises(MalformedFrameError, match=says) as raised:
        metadata(body)
    assert str(raised.value).startswith("MetadataRequest version 12: ")


def test_null_is_refused_where_a_version_has_none() -> None:
    null = memoryview(b"\xff\xff\xff\xff")
    assert decode_request(ApiKey.METADATA, 1, null).topics is None
    with pytest.raises(MalformedFrameError, match="null is not allowed"):
        decode_request(ApiKey.METADATA, 0, null)
    with pytest.raises(MalformedFrameError, match="the length is -2"):
        decode_request(ApiKey.METADATA, 1, memoryview(b"\xff\xff\xff\xfe"))


def test_a_control_message_has_a_limit() -> None:
    with pytest.raises(MalformedFrameError, match=f"over {CONTROL_BYTES_MAX}"):
        decode_request(ApiKey.METADATA, 12, memoryview(bytes(CONTROL_BYTES_MAX + 1)))


def test_elements_have_a_limit_of_all_arrays_together() -> None:
    """Two topics: each within the limit, and over it together."""
    topic = CreatePartitionsTopic(assignments=[CreatePartitionsAssignment()] * (ELEMENTS_MAX // 2))
    for topics, is_allowed in (([topic], True), ([topic, topic], False)):
        message = CreatePartitionsRequest(topics=topics)
        body = memoryview(b"".join(encode_request(ApiKey.CREATE_PARTITIONS, 2, message)))
        if is_allowed:
            decode_request(ApiKey.CREATE_PARTITIONS, 2, body)
            continue
        with pytest.raises(MalformedFrameError, match=r"assignments: over \d+ elements"):
            decode_request(ApiKey.CREATE_PARTITIONS, 2, body)


@pytest.mark.parametrize(
    ("api_key", "version"), [(ApiKey.FETCH, 3), (ApiKey.FETCH, 18), (4, 0), (-1, 0), (99, 0)]
)
def test_versions_that_nobody_knows_are_refused(api_key: int, version: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"{int(api_key)} in version {version}"):
        decode_request(api_key, version, memoryview(b""))


@pytest.mark.parametrize(
    "topics",
    [
        [MetadataRequestTopic(name="x" * 40_000)],
        [MetadataRequestTopic(name=None)],
        [MetadataRequestTopic(name="\ud800")],
        [None],
        7,
    ],
)
@pytest.mark.parametrize("version", [5, 9])
def test_what_a_version_cannot_carry_is_not_written(topics: object, version: int) -> None:
    message = MetadataRequest(topics=topics)  # type: ignore[arg-type]
    with pytest.raises(UnwritableMessageError, match=f"MetadataRequest version {version}"):
        encode_request(ApiKey.METADATA, version, message)


def test_numbers_out_of_range_are_not_written() -> None:
    topic = CreatableTopic(name="t", num_partitions=1 << 31)
    with pytest.raises(UnwritableMessageError):
        encode_request(ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest(topics=[topic]))
    response = MetadataResponse(topics=[MetadataResponseTopic(name="t", error_code=1 << 15)])
    with pytest.raises(UnwritableMessageError):
        encode_response(ApiKey.METADATA, 12, response)


@pytest.mark.parametrize("api_key", list(APIS))
def test_a_count_has_a_bound_in_every_message(api_key: ApiKey) -> None:
    """No element takes 0 bytes, or a count would be bounded by nothing."""
    for direction in (REQUEST, RESPONSE):
        for version in range(APIS[api_key].min_version, APIS[api_key].max_version + 1):
            pending = [message_layout(api_key, version, direction)]
            while pending:
                layout = pending.pop()
                for field in (*layout.fields, *layout.tagged):
                    element = field.element if field.is_array else field
                    assert element.min_bytes(layout.is_flexible) >= 1
                    if field.struct is not None:
                        pending.append(field.struct)
