"""Headers of requests and responses, against kafka-python's, and those of versions unknown."""

import pytest
from kafka.protocol.api_header import RequestHeader as TheirRequestHeader
from kafka.protocol.api_header import ResponseHeader as TheirResponseHeader

from broker.kafka.api import APIS, ApiKey
from broker.kafka.errors import MalformedFrameError
from broker.kafka.header import (
    has_response_tags,
    read_request_header,
    read_response_header,
    request_frame,
    response_frame,
)
from broker.kafka.schema import Buffer
from broker.kafka.varint import TAGGED_FIELDS_MAX, write_uvarint

BODY = b"body"

MANY_TAGS = "".join(f"{write_uvarint(tag).hex()}00" for tag in range(TAGGED_FIELDS_MAX + 1))

VERSIONS = [
    (api.key, version)
    for api in APIS.values()
    for version in range(api.min_version, api.max_version + 1)
]


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(buffers)


@pytest.mark.parametrize(("api_key", "version"), VERSIONS)
def test_a_request_header_is_kafka_pythons(api_key: ApiKey, version: int) -> None:
    flexible = APIS[api_key].is_flexible(version)
    theirs = TheirRequestHeader(
        request_api_key=api_key, request_api_version=version, correlation_id=7, client_id="käfer"
    ).encode(flexible=flexible)
    frame = joined(request_frame(api_key, version, 7, "käfer", [BODY]))
    assert frame == len(theirs + BODY).to_bytes(4, "big") + theirs + BODY

    header = read_request_header(memoryview(frame)[4:])
    assert (header.api_key, header.api_version, header.correlation_id) == (api_key, version, 7)
    assert header.client_id == "käfer"
    assert header.body == BODY


@pytest.mark.parametrize(("api_key", "version"), VERSIONS)
def test_a_response_header_is_kafka_pythons(api_key: ApiKey, version: int) -> None:
    flexible = APIS[api_key].is_flexible(version) and api_key is not ApiKey.API_VERSIONS
    assert has_response_tags(api_key, version) is flexible
    theirs = TheirResponseHeader(correlation_id=-1).encode(flexible=flexible)
    frame = joined(response_frame(api_key, version, -1, [BODY]))
    assert frame == len(theirs + BODY).to_bytes(4, "big") + theirs + BODY
    correlation_id, body = read_response_header(api_key, version, memoryview(frame)[4:])
    assert (correlation_id, bytes(body)) == (-1, BODY)


@pytest.mark.parametrize(
    ("frame", "api_version", "client_id", "body"),
    [
        # A null client id, and an empty one.
        ("0003 0001 00000007 ffff", 1, None, ""),
        ("0003 0001 00000007 0000", 1, "", ""),
        # Unknown tags in the header are skipped: one of 2 bytes, one of none.
        ("0003 0009 00000007 0000 02 05 02 aabb 06 00 ff", 9, "", "ff"),
        # KIP-511: ApiVersions of a version to come is read up to the client id, and no further.
        ("0012 0063 00000007 0001 61 00 ff ff", 99, "a", "00 ff ff"),
        # An API that nobody knows, likewise.
        ("03e7 0000 00000007 0001 61 80", 0, "a", "80"),
    ],
)
def test_a_header_is_read_as_far_as_it_is_known(
    frame: str, api_version: int, client_id: str | None, body: str
) -> None:
    header = read_request_header(memoryview(bytes.fromhex(frame)))
    assert (header.api_version, header.correlation_id) == (api_version, 7)
    assert header.client_id == client_id
    assert header.body == bytes.fromhex(body)


@pytest.mark.parametrize(
    "frame",
    [
        # Too short, at each field.
        "",
        "0003",
        "0003 0009 000000",
        "0003 0009 00000007 00",
        "0003 0009 00000007 0004 616263",
        # The length of the client id is neither null nor a length.
        "0003 0009 00000007 fffe",
        # The client id is not UTF-8.
        "0003 0009 00000007 0002 c328 00",
        # No tags where the version has them; tags that are cut, out of order, too long.
        "0003 0009 00000007 0000",
        "0003 0009 00000007 0000 01",
        "0003 0009 00000007 0000 02 06 00 05 00",
        "0003 0009 00000007 0000 01 05 03 aabb",
        "0003 0009 00000007 0000 ffffffffff",
        "0003 0009 00000007 0000 ffffffff0f",
        "0003 0009 00000007 0000 e907"
        + "".join(f"{tag:02x}00" for tag in range(100))
        + "00" * 2000,
    ],
)
def test_what_is_no_header_is_refused(frame: str) -> None:
    with pytest.raises(MalformedFrameError, match="request header"):
        read_request_header(memoryview(bytes.fromhex(frame)))


@pytest.mark.parametrize("frame", ["", "000000", "00000007", "00000007 01", "00000007 01 00 01"])
def test_what_is_no_response_header_is_refused(frame: str) -> None:
    with pytest.raises(MalformedFrameError, match="response header"):
        read_response_header(ApiKey.FETCH, 12, memoryview(bytes.fromhex(frame)))
