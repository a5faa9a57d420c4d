"""Records are passed by reference, in and out; and tagged fields are as long as they say."""

from uuid import UUID

import pytest

from broker.kafka.api import ApiKey
from broker.kafka.codec import decode_request, decode_response, encode_request, encode_response
from broker.kafka.errors import MalformedFrameError
from broker.kafka.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
    ReplicaState,
)
from broker.kafka.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from broker.kafka.writer import RECORDS_COPIED_MAX

LARGE = bytes(range(256)) * 64
SMALL = b"r" * RECORDS_COPIED_MAX


def fetch_response(*records: memoryview | bytes | tuple[memoryview | bytes, ...]) -> FetchResponse:
    partitions = [
        PartitionData(partition_index=index, records=each) for index, each in enumerate(records)
    ]
    topic = FetchableTopicResponse(topic="t", topic_id=UUID(int=1), partitions=partitions)
    return FetchResponse(responses=[topic])


@pytest.mark.parametrize("version", [4, 11, 12, 17])
def test_large_records_are_written_by_reference(version: int) -> None:
    views = (memoryview(LARGE), LARGE + b"2")
    message = fetch_response(LARGE, SMALL, views, b"", None)  # type: ignore[arg-type]
    buffers = encode_response(ApiKey.FETCH, version, message)
    assert [each for each in buffers if not isinstance(each, bytearray)] == [LARGE, *views]
    assert any(each is LARGE for each in buffers)
    assert any(each is views[0] for each in buffers)

    (topic,) = decode_response(ApiKey.FETCH, version, memoryview(b"".join(buffers))).responses
    read = [partition.records for partition in topic.partitions]
    assert read == [LARGE, SMALL, LARGE + LARGE + b"2", b"", None]


@pytest.mark.parametrize("version", [3, 9, 11])
def test_records_are_read_without_a_copy(version: int) -> None:
    partition = PartitionProduceData(index=3, records=LARGE)
    topic = TopicProduceData(name="t", partition_data=[partition])
    message = ProduceRequest(acks=-1, timeout_ms=1, topic_data=[topic])
    frame = bytearray(b"".join(encode_request(ApiKey.PRODUCE, version, message)))
    read = decode_request(ApiKey.PRODUCE, version, memoryview(frame))
    records = read.topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    assert records == LARGE
    start = frame.index(LARGE)
    frame[start] = 0xEE
    assert records[0] == 0xEE, "the same memory"


def test_an_error_does_not_keep_the_frame_alive() -> None:
    """A receive buffer that is still viewed cannot be resized."""
    frame = bytearray(b"\0" * 40)
    view = memoryview(frame)
    try:
        decode_request(ApiKey.PRODUCE, 9, view)
    except MalformedFrameError:
        pass
    view.release()
    frame.extend(b"more")


def test_tags_of_fetch_are_written_only_when_they_are_there() -> None:
    plain = FetchRequest(max_wait_ms=1)
    follower = FetchRequest(
        max_wait_ms=1,
        cluster_id="c",
        replica_state=ReplicaState(replica_id=2, replica_epoch=9),
    )
    assert b"".join(encode_request(ApiKey.FETCH, 17, plain))[-1] == 0
    body = b"".join(encode_request(ApiKey.FETCH, 17, follower))
    assert body.endswith(bytes.fromhex("02 00 02 0263 01 0d 00000002 0000000000000009 00"))
    assert decode_request(ApiKey.FETCH, 17, memoryview(body)) == follower


def test_tags_of_fetch_responses_tell_where_to_go() -> None:
    response = fetch_response(b"")
    response.responses[0].topic = ""  # by id, from version 13
    response.responses[0].partitions[0].current_leader = LeaderIdAndEpoch(
        leader_id=2, leader_epoch=7
    )
    response.node_endpoints = [NodeEndpoint(node_id=2, host="h", port=9092)]
    body = memoryview(b"".join(encode_response(ApiKey.FETCH, 16, response)))
    assert decode_response(ApiKey.FETCH, 16, body) == response
    older = memoryview(b"".join(encode_response(ApiKey.FETCH, 15, response)))
    assert decode_response(ApiKey.FETCH, 15, older).node_endpoints == []


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        # cluster_id is tag 0: its length, the string's, the string.
        ("01 00 03 0263", "tag 0 is longer than what is left"),
        ("01 00 01 0263", "cluster_id: tag 0 is not as long as it says"),
        ("01 00 03 0263 00", "cluster_id: tag 0 is not as long as it says"),
        ("01 00 02 0463", "cluster_id: the length is 3, and 1 bytes are left"),
        # Known and unknown, out of order; the unknown too long.
        ("02 07 00 00 02 0263", "tag 0 follows tag 7"),
        ("01 07 05 aabb", "tag 7 is longer than what is left"),
        ("7f 07 00", "127 tagged fields in 2 bytes"),
    ],
)
def test_a_tagged_field_is_as_long_as_it_says(tags: str, says: str) -> None:
    body = b"".join(encode_request(ApiKey.FETCH, 12, FetchRequest()))[:-1] + bytes.fromhex(tags)
    with pytest.raises(MalformedFrameError, match=says):
        decode_request(ApiKey.FETCH, 12, memoryview(body))
