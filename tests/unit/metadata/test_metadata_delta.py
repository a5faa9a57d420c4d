"""What records mean (kraft.md 2.3), how they are written, and the loader that feeds on them."""

import asyncio
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.errors import UnknownRecordError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.log.record_batch import build_batch
from klamm.log.records import CorruptBatchError, NewRecord, Record
from klamm.metadata.codec import cause_of, decode, encode
from klamm.metadata.delta import MetadataDelta, replay
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    Cause,
    ConfigRecord,
    Endpoint,
    FeatureLevelRecord,
    MetadataRecord,
    NewPartition,
    NoOpRecord,
    PartitionChange,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    ResourceType,
    TopicRecord,
    UnregisterBrokerRecord,
)

TOPIC = TopicId(UUID(int=5))
CAUSE = Cause(principal="User:a", request="CreateTopics", request_id="7")

ids = st.integers(0, 2**31 - 1).map(NodeId)
id_lists = st.lists(ids, max_size=5).map(tuple)
offsets = st.integers(0, 2**62).map(Offset)
uuids = st.uuids()
topic_ids = uuids.map(TopicId)
texts = st.text(max_size=20)
epochs = st.integers(0, 2**31 - 1).map(Epoch)
leaders = st.integers(-1, 2**31 - 1).map(NodeId)
RECORDS = st.one_of(
    st.builds(
        RegisterBrokerRecord,
        broker_id=ids,
        incarnation_id=uuids,
        endpoints=st.lists(
            st.builds(Endpoint, name=texts, host=texts, port=st.integers(0, 65_535)), max_size=3
        ).map(tuple),
        rack=st.none() | texts,
        log_dirs=st.lists(uuids.map(DirectoryId), max_size=2).map(tuple),
    ),
    st.builds(UnregisterBrokerRecord, broker_id=ids, broker_epoch=offsets),
    st.builds(
        BrokerRegistrationChangeRecord,
        broker_id=ids,
        broker_epoch=offsets,
        fenced=st.none() | st.booleans(),
        in_controlled_shutdown=st.none() | st.booleans(),
    ),
    st.builds(TopicRecord, topic_id=topic_ids, name=texts),
    st.builds(
        PartitionRecord,
        topic_id=topic_ids,
        partitions=st.lists(
            st.builds(
                NewPartition,
                partition=st.integers(0, 9_999),
                replicas=id_lists,
                isr=id_lists,
                leader=leaders,
                leader_epoch=epochs,
                partition_epoch=st.integers(0, 2**31 - 1),
            ),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(
        PartitionChangeRecord,
        topic_id=topic_ids,
        changes=st.lists(
            st.builds(
                PartitionChange,
                partition=st.integers(0, 9_999),
                isr=st.none() | id_lists,
                leader=st.none() | leaders,
                replicas=st.none() | id_lists,
            ),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(RemoveTopicRecord, topic_id=topic_ids),
    st.builds(
        ConfigRecord,
        resource_type=st.sampled_from(ResourceType),
        resource_name=texts,
        key=texts,
        value=st.none() | texts,
    ),
    st.builds(
        ProducerIdsRecord, broker_id=ids, broker_epoch=offsets, next_producer_id=st.integers(0, 9)
    ),
    st.builds(FeatureLevelRecord, name=texts, level=st.integers(0, 99)),
    st.just(NoOpRecord()),
)


def placed(record: NewRecord, offset: int) -> Record:
    return Record(
        offset=Offset(offset),
        timestamp_ms=0,
        key=None,
        value=record.value,
        headers=record.headers,
    )


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_every_record_comes_back_as_it_was_written(records: list[MetadataRecord]) -> None:
    written = [placed(each, index) for index, each in enumerate(encode(tuple(records), CAUSE))]
    assert [decode(each) for each in written] == records
    assert [cause_of(each) for each in written] == [CAUSE] + [None] * (len(records) - 1)


@pytest.mark.parametrize("value", [b"", b"\xff\xff", b"\x9a\x06\x00", None])
def test_what_cannot_be_read_names_its_offset(value: bytes | None) -> None:
    with pytest.raises(UnknownRecordError, match="offset 42"):
        decode(placed(NewRecord(value=value), 42))


def after(*records: MetadataRecord, image: MetadataImage = EMPTY) -> MetadataImage:
    end = Offset(image.provenance.offset + len(records))
    return replay(image, records, OffsetAndEpoch(Epoch(1), end))


NEW_TOPIC = (
    TopicRecord(topic_id=TOPIC, name="a"),
    PartitionRecord(
        topic_id=TOPIC,
        partitions=(
            NewPartition(
                partition=0,
                replicas=(NodeId(1), NodeId(2)),
                isr=(NodeId(1), NodeId(2)),
                leader=NodeId(1),
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    ("change", "isr", "leader", "leader_epoch"),
    [
        (PartitionChange(partition=0, isr=(NodeId(1),)), (1,), 1, 0),
        (PartitionChange(partition=0, leader=NodeId(2)), (1, 2), 2, 1),
        # Named, even if the same, the leader begins another epoch.
        (PartitionChange(partition=0, leader=NodeId(1)), (1, 2), 1, 1),
        (PartitionChange(partition=0, leader=NodeId(-1)), (1, 2), -1, 1),
    ],
)
def test_the_merge_rule(
    change: PartitionChange, isr: tuple[int, ...], leader: int, leader_epoch: int
) -> None:
    image = after(PartitionChangeRecord(topic_id=TOPIC, changes=(change,)), image=after(*NEW_TOPIC))
    partition = image.topics.by_id[TOPIC].partitions[0]
    assert (partition.isr, partition.leader) == (isr, leader)
    assert (partition.leader_epoch, partition.partition_epoch) == (leader_epoch, 1)


def test_a_removed_topic_takes_its_configs_along_and_its_name_is_free() -> None:
    config = ConfigRecord(
        resource_type=ResourceType.TOPIC, resource_name="a", key="retention.ms", value="1"
    )
    image = after(*NEW_TOPIC, config)
    assert image.config(ResourceType.TOPIC, "a")
    other = TopicId(UUID(int=6))
    image = after(
        RemoveTopicRecord(topic_id=TOPIC), TopicRecord(topic_id=other, name="a"), image=image
    )
    assert image.topics.by_name["a"] == other
    assert TOPIC not in image.topics.by_id
    assert not image.config(ResourceType.TOPIC, "a")


def test_in_one_run_or_in_many_the_image_is_the_same() -> None:
    records = (*NEW_TOPIC, FeatureLevelRecord(name="f", level=2), NoOpRecord())
    at_once = after(*records)
    one_by_one = EMPTY
    for record in records:
        one_by_one = after(record, image=one_by_one)
    assert at_once == one_by_one


@pytest.mark.parametrize(
    "records",
    [
        (TopicRecord(topic_id=TOPIC, name="a"), TopicRecord(topic_id=TOPIC, name="a")),
        (UnregisterBrokerRecord(broker_id=NodeId(1), broker_epoch=Offset(0)),),
        (RemoveTopicRecord(topic_id=TOPIC),),
        (ProducerIdsRecord(broker_id=NodeId(1), broker_epoch=Offset(0), next_producer_id=0),),
    ],
)
def test_a_record_that_makes_no_sense_stops_the_replay(records: tuple[MetadataRecord, ...]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        after(*records)


# ── the loader ───────────────────────────────────────────────────────────────────────────────


class Heard:
    def __init__(self, *, fails: bool = False) -> None:
        self.images: list[MetadataImage] = []
        self.changed: list[list[TopicId]] = []
        self._fails = fails

    def publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        if self._fails:
            raise RuntimeError("a publisher's own bug")
        self.images.append(image)
        self.changed.append(list(delta.topics_changed))


def batch(base: int, *records: MetadataRecord, epoch: int = 1) -> bytes:
    return build_batch(
        encode(records, CAUSE), base_offset=Offset(base), leader_epoch=Epoch(epoch), timestamp_ms=1
    )


def control(base: int) -> bytes:
    return build_batch(
        [NewRecord(key=b"\0\0\0\2", value=b"")],
        base_offset=Offset(base),
        leader_epoch=Epoch(1),
        timestamp_ms=1,
        control=True,
    )


def test_committed_batches_are_published_once_and_a_failing_publisher_stops_nobody() -> None:
    bad, good = Heard(fails=True), Heard()
    loader = MetadataLoader((bad, good))
    loader.load(control(0) + batch(1, *NEW_TOPIC), Offset(3))
    assert loader.end == OffsetAndEpoch(Epoch(1), Offset(3))
    assert good.changed == [[TOPIC]]
    assert good.images[-1] is loader.image
    assert loader.apply_errors == 1


def test_what_is_not_committed_waits_and_what_was_seen_is_not_seen_again() -> None:
    heard = Heard()
    loader = MetadataLoader((heard,))
    data = batch(0, NoOpRecord()) + batch(1, *NEW_TOPIC)
    loader.load(data, Offset(1))
    assert loader.end.offset == 1
    loader.load(data, Offset(3))
    assert loader.end.offset == 3
    loader.load(data, Offset(3))
    assert len(heard.images) == 2


def test_a_gap_is_refused() -> None:
    with pytest.raises(CorruptBatchError, match="0 comes next"):
        MetadataLoader().load(batch(1, NoOpRecord()), Offset(9))


def test_a_damaged_batch_is_refused() -> None:
    data = bytearray(batch(0, NoOpRecord()))
    data[-1] ^= 1
    with pytest.raises(CorruptBatchError, match="checksum"):
        MetadataLoader().load(bytes(data), Offset(9))


def test_a_record_that_does_not_fit_is_named_and_nothing_is_taken() -> None:
    loader = MetadataLoader()
    gone = UnregisterBrokerRecord(broker_id=NodeId(7), broker_epoch=Offset(0))
    with pytest.raises(UnknownRecordError, match="offset 0 does not fit what is before it"):
        loader.load(batch(0, gone), Offset(9))
    assert loader.image is EMPTY


async def test_waiting_for_an_offset() -> None:
    loader = MetadataLoader()
    await loader.wait_for(Offset(0), 1)
    with pytest.raises(TimeoutError):
        await loader.wait_for(Offset(1), 1)
    loader.load(batch(0, NoOpRecord()), Offset(1))
    await loader.wait_for(Offset(1), 1)


async def test_those_who_gave_up_are_not_kept() -> None:
    """A reader may ask for an offset that never comes, again and again."""
    loader = MetadataLoader()
    for _ in range(50):
        with pytest.raises(TimeoutError):
            await loader.wait_for(Offset(99), 0)
    assert len(loader._waiting) <= 1
    patient = asyncio.ensure_future(loader.wait_for(Offset(1), 1_000))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await loader.wait_for(Offset(99), 0)
    loader.load(batch(0, NoOpRecord()), Offset(1))
    await patient
