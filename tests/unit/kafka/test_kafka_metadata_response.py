"""The Metadata answer from pieces is the one that the codec writes, in every version."""

from random import Random

import pytest

from broker.kafka.api import APIS, ApiKey
from broker.kafka.codec import encode_response
from broker.kafka.errors import UnwritableMessageError
from broker.kafka.messages.metadata import MetadataResponse, MetadataResponseTopic
from broker.kafka.metadata_response import MetadataEnvelope, encode_topic
from tests.unit.kafka.random_messages import random_message

VERSIONS = range(APIS[ApiKey.METADATA].min_version, APIS[ApiKey.METADATA].max_version + 1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", range(10))
def test_pieces_make_the_same_bytes(version: int, seed: int) -> None:
    response = random_message(ApiKey.METADATA, version, "Response", Random(seed))
    pieces = [encode_topic(version, topic) for topic in response.topics]
    assembled = MetadataEnvelope(version, response).with_topics(pieces)
    assert b"".join(assembled) == b"".join(encode_response(ApiKey.METADATA, version, response))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [0, 1, 126, 127, 128, 20_000])
def test_any_number_of_topics(version: int, count: int) -> None:
    topic = MetadataResponseTopic(name="t")
    response = MetadataResponse(topics=[topic] * count)
    assembled = MetadataEnvelope(version, response).with_topics(
        [encode_topic(version, topic)] * count
    )
    assert b"".join(assembled) == b"".join(encode_response(ApiKey.METADATA, version, response))


def test_a_topic_without_a_name_needs_version_12() -> None:
    topic = MetadataResponseTopic(name=None)
    assert encode_topic(12, topic)
    with pytest.raises(UnwritableMessageError, match="Metadata version 11 topic"):
        encode_topic(11, topic)
