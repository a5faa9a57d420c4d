"""Records of the metadata log: one value alone, or a committed log into a node's image.

input    0 │ a MetadataRecord
         1 │ records, each behind its length in two bytes: one batch, loaded over a small cluster
"""

from random import Random
from uuid import UUID

from klamm.errors import UnknownRecordError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.log.record_batch import build_batch
from klamm.log.records import CorruptBatchError, NewRecord, Record
from klamm.metadata.codec import decode, encode, to_proto
from klamm.metadata.delta import replay
from klamm.metadata.image import EMPTY
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import (
    Cause,
    MetadataRecord,
    NewPartition,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)
from klamm.v1 import records_pb2 as pb
from tests.fuzz.growth import random_message
from tests.fuzz.target import Choice, Target

TOPIC = TopicId(UUID(bytes=bytes(16)))
CLUSTER: tuple[MetadataRecord, ...] = (
    *(
        RegisterBrokerRecord(
            broker_id=NodeId(each),
            incarnation_id=UUID(int=each),
            endpoints=(),
            rack=None,
            log_dirs=(),
        )
        for each in range(3)
    ),
    TopicRecord(topic_id=TOPIC, name="orders"),
    PartitionRecord(
        topic_id=TOPIC,
        partitions=(
            NewPartition(
                partition=0,
                replicas=(NodeId(0), NodeId(1)),
                isr=(NodeId(0),),
                leader=NodeId(0),
                leader_epoch=Epoch(0),
                partition_epoch=0,
            ),
        ),
    ),
)
IMAGE = replay(EMPTY, CLUSTER, OffsetAndEpoch(Epoch(1), Offset(len(CLUSTER))))
CAUSE = Cause(principal="User:fuzz", request="Fuzz", request_id="")


def grow(random: Random) -> bytes:
    if random.random() < 0.5:
        return b"\x00" + random_value(random)
    values = [random_value(random) for _ in range(random.randint(1, 4))]
    return b"\x01" + b"".join(len(each).to_bytes(2) + each for each in values)


def random_value(random: Random) -> bytes:
    """A record, of the small cluster's broker, topic and partition where it names one."""
    if random.random() < 0.3:
        return to_proto(random.choice(CLUSTER)).SerializeToString()
    message = pb.MetadataRecord()
    field = random.choice(message.DESCRIPTOR.fields)
    inner = getattr(message, field.name)
    inner.CopyFrom(random_message(type(inner), random))
    names = inner.DESCRIPTOR.fields_by_name
    if "topic_id" in names and random.random() < 0.8:
        inner.topic_id = TOPIC.bytes
    for name in ("broker_id", "broker_epoch"):
        if name in names and random.random() < 0.8:
            setattr(inner, name, 1)
    inner.SetInParent()
    return message.SerializeToString()


def check(data: bytes) -> bool:
    choice = Choice(data)
    return _load(choice.rest) if choice.one_of(2) else _decode(choice.rest)


def _decode(value: bytes) -> bool:
    try:
        record = decode(_record(value))
    except UnknownRecordError:
        return False
    (again,) = encode((record,), CAUSE)
    assert again.value is not None
    assert decode(_record(again.value)) == record, "what was read is not what is written"
    return True


def _record(value: bytes) -> Record:
    return Record(offset=Offset(0), timestamp_ms=0, key=None, value=value)


def _load(data: bytes) -> bool:
    values: list[bytes] = []
    at = 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2])
        values.append(data[at + 2 : end])
        at = end
    if not values:
        return False
    loader = MetadataLoader()
    loader.image = IMAGE
    base = IMAGE.provenance.offset
    batch = build_batch(
        [NewRecord(value=each) for each in values],
        base_offset=base,
        leader_epoch=Epoch(1),
        timestamp_ms=0,
    )
    try:
        loader.load(batch, Offset(base + len(values)))
    except (UnknownRecordError, CorruptBatchError):
        assert loader.image is IMAGE, "half of a batch is none"
        return False
    assert loader.end.offset == base + len(values)
    return True


TARGET = Target(name="metadata_records", grow=grow, check=check, share=20)
