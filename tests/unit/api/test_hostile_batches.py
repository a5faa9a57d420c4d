"""Batches that a client makes to hurt: refused, or stored and of no harm to the partition.

A leader does not look at the records of what is produced; see `broker/replica/admission.py`. So
some of these are stored, as in the log of any leader that believes checksums.
"""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from crc32c import crc32c

from broker.api import list_offsets, produce
from broker.kafka.api import ApiKey
from broker.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from broker.kafka.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from broker.replica.partition import Partition
from klamm.errors import ErrorCode
from klamm.log import found
from klamm.log.compression import Compression, compress
from klamm.log.record_batch import HEADER_BYTES
from tests.unit.api.worlds import ME, TOPIC, Replicas, batch, context, partition_image

ATTRIBUTES, LAST_DELTA, BASE_TIME, MAX_TIME, COUNT = 21, 23, 27, 35, 57
END_OF_TIME = 2**63 - 1
NOW_MS = 1_700_000_000_000


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    made = Replicas(tmp_path)
    made.publish(partition_image(replicas=(ME,)))
    return made


def altered(
    *fields: tuple[int, str, int], body: bytes | None = None, values: tuple[bytes, ...] = (b"x",)
) -> memoryview:
    """A sound batch with some of its header's fields (position, format, value) or its records
    replaced, and the checksum made right again."""
    data = bytearray(batch(*values))
    if body is not None:
        data[HEADER_BYTES:] = body
        struct.pack_into(">i", data, 8, len(data) - 12)
    for position, format_, value in fields:
        struct.pack_into(">" + format_, data, position, value)
    struct.pack_into(">I", data, 17, crc32c(bytes(data[ATTRIBUTES:])))
    return memoryview(data)


def sent(replicas: Replicas, records: memoryview) -> PartitionProduceResponse:
    data = [PartitionProduceData(index=0, records=records)]
    request = ProduceRequest(acks=1, topic_data=[TopicProduceData(name=TOPIC, partition_data=data)])
    response = produce.handle(replicas.services, context(ApiKey.PRODUCE, 11), request)
    ((row,),) = (topic.partition_responses for topic in response.responses)
    return row


def looked_up(replicas: Replicas, timestamp: int) -> ListOffsetsPartitionResponse:
    asked = ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=timestamp)
    request = ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsTopic(name=TOPIC, partitions=[asked])]
    )
    response = list_offsets.handle(replicas.services, context(ApiKey.LIST_OFFSETS, 9), request)
    ((row,),) = (each.partitions for each in response.topics)
    return row


def the_partition(replicas: Replicas) -> Partition:
    partition = replicas.manager.partition(TOPIC, 0)
    assert partition is not None
    return partition


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (altered((BASE_TIME, "q", END_OF_TIME)), ErrorCode.INVALID_TIMESTAMP),
        (altered((MAX_TIME, "q", END_OF_TIME)), ErrorCode.INVALID_TIMESTAMP),
        (altered((COUNT, "i", 3), (LAST_DELTA, "i", 2)), ErrorCode.INVALID_RECORD),
        (altered((COUNT, "i", 2**31 - 1), (LAST_DELTA, "i", 2**31 - 2)), ErrorCode.INVALID_RECORD),
    ],
    ids=["first time", "last time", "more records than bytes", "2**31 records in a few bytes"],
)
def test_what_the_header_shows_is_refused(
    replicas: Replicas, records: memoryview, code: ErrorCode
) -> None:
    """`message.timestamp.after.max.ms` is an hour by default."""
    answer = sent(replicas, records)
    assert (answer.error_code, answer.base_offset) == (code, -1)
    assert answer.error_message
    assert the_partition(replicas).log.end_offset == 0


def varint(value: int) -> bytes:
    zigzag, out = (value << 1) ^ (value >> 63), bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes((*out, zigzag))


def record(time_delta: int = 0, offset_delta: int = 0) -> bytes:
    body = b"\0" + varint(time_delta) + varint(offset_delta) + b"\1\1\0"
    return varint(len(body)) + body


def zipped(body: bytes) -> memoryview:
    data = compress(body, Compression.ZSTD)
    return altered((ATTRIBUTES, "h", Compression.ZSTD), body=data)


STORED: dict[str, Callable[[], memoryview]] = {
    "no records": lambda: altered(body=b"\xff" * 40),
    "nothing compressed": lambda: altered((ATTRIBUTES, "h", Compression.GZIP), body=b"\xff" * 40),
    "a time past all times": lambda: altered(body=record(time_delta=END_OF_TIME)),
    "a time past all times, compressed": lambda: zipped(record(time_delta=END_OF_TIME)),
    "an offset past all offsets": lambda: altered(body=record(offset_delta=END_OF_TIME)),
    "an offset of another batch": lambda: altered(body=record(offset_delta=7)),
    "an offset below": lambda: altered(body=record(offset_delta=-1)),
}


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("timestamp", [NOW_MS, list_offsets.MAX_TIMESTAMP])
def test_what_only_the_records_show_fails_the_lookup_and_not_the_partition(
    replicas: Replicas, name: str, timestamp: int
) -> None:
    """It took the partition offline, for everybody, until the broker was started again."""
    assert sent(replicas, STORED[name]()).error_code == 0
    assert looked_up(replicas, timestamp).error_code == ErrorCode.CORRUPT_MESSAGE
    partition = the_partition(replicas)
    assert partition.offline is None
    assert sent(replicas, batch(b"more")).base_offset == 1
    assert looked_up(replicas, list_offsets.LATEST).offset == 2


@pytest.mark.parametrize("name", STORED)
def test_a_topic_whose_keys_are_looked_at_refuses_them_all(replicas: Replicas, name: str) -> None:
    replicas.publish(
        partition_image(replicas=(ME,), partition_epoch=2), configs={"cleanup.policy": "compact"}
    )
    assert sent(replicas, STORED[name]()).error_code == ErrorCode.INVALID_RECORD


def test_bytes_that_changed_on_the_disk_still_end_the_partition(
    replicas: Replicas, tmp_path: Path
) -> None:
    """Their checksum tells the two apart."""
    sent(replicas, batch(b"x"))
    (segment,) = tmp_path.rglob("00000000000000000000.log")
    with segment.open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(b"\xff" * 4)
    assert looked_up(replicas, NOW_MS).error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert the_partition(replicas).offline is not None


def test_a_batch_that_swells_is_not_swallowed_by_a_lookup(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few bytes of zstd hold millions of records; all of them were made at once."""
    monkeypatch.setattr(found, "LOOKUP_RECORDS_MAX", 1_000)
    many = b"".join(record(offset_delta=at) for at in range(1_001))
    data = compress(many, Compression.ZSTD)
    fields = (ATTRIBUTES, "h", Compression.ZSTD), (COUNT, "i", 1_001), (LAST_DELTA, "i", 1_000)
    assert sent(replicas, altered(*fields, body=data)).error_code == 0
    assert looked_up(replicas, NOW_MS).error_code == ErrorCode.CORRUPT_MESSAGE
    monkeypatch.setattr(found, "LOOKUP_RECORDS_MAX", 1_001)
    assert looked_up(replicas, NOW_MS).offset == 0
    monkeypatch.setattr(found, "LOOKUP_BYTES_MAX", len(many) - 1)
    assert looked_up(replicas, NOW_MS).error_code == ErrorCode.CORRUPT_MESSAGE
    assert the_partition(replicas).offline is None
