"""What librdkafka writes wrong is read as it is meant, and nothing else is touched."""

import pytest

from broker.kafka.api import APIS, ApiKey
from broker.kafka.codec import decode_request, encode_request
from broker.kafka.messages.metadata import MetadataRequest, MetadataRequestTopic
from broker.kafka.quirks import as_meant

KEY = ApiKey.METADATA

# librdkafka 2.16.1, Metadata 13, all topics: as it was sent.
CAPTURED = bytes.fromhex("00000000010000")


@pytest.mark.parametrize("version", [11, 12, 13])
def test_a_null_array_of_four_bytes(version: int) -> None:
    read = decode_request(KEY, version, as_meant(KEY, version, memoryview(CAPTURED)))
    assert read == MetadataRequest(topics=None, allow_auto_topic_creation=True)


@pytest.mark.parametrize("version", range(APIS[KEY].max_version + 1))
@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    "topics", [None, [], [MetadataRequestTopic(name="")], [MetadataRequestTopic(name="abc")]]
)
def test_what_is_right_stays_as_it_is(
    version: int, create: bool, topics: list[MetadataRequestTopic] | None
) -> None:
    if version == 0 and topics is None:
        return
    request = MetadataRequest(topics=topics, allow_auto_topic_creation=create)
    body = memoryview(b"".join(encode_request(KEY, version, request)))
    assert as_meant(KEY, version, body) is body


def test_other_apis_are_not_looked_at() -> None:
    body = memoryview(CAPTURED)
    assert as_meant(ApiKey.API_VERSIONS, 13, body) is body
