"""What clients in wide use write wrong, and Apache Kafka does not notice; undone before it is read.

librdkafka (seen in 2.16, Metadata 13) asks for all topics with a null array of four bytes, where a
compact one has one byte (KIP-482):

    written  00 00 00 00 │ allow_auto_topic_creation │ include_topic_authorized_operations │ 00
    meant    00          │ allow_auto_topic_creation │ include_topic_authorized_operations │ 00

Kafka takes the second to fourth byte for the rest of the message, and does not look at what is
left over. We look, so it is put right here; the flags then also mean what the client meant.
"""

from broker.kafka.api import ApiKey

_NULL_OF_FOUR_BYTES = b"\0\0\0\0"
_TWO_FLAGS_VERSION = 11
_ALL_TOPICS_BYTES = 7
"""As written with two flags, that is from version 11 on."""


def as_meant(api_key: int, api_version: int, body: memoryview) -> memoryview:
    """`body`, or what its sender meant by it."""
    if (
        api_key == ApiKey.METADATA
        and api_version >= _TWO_FLAGS_VERSION
        and len(body) == _ALL_TOPICS_BYTES
        and body[:4] == _NULL_OF_FOUR_BYTES
    ):
        return memoryview(bytes(body[:1]) + bytes(body[4:]))
    return body
