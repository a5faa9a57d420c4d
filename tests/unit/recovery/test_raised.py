"""A restored state is the backup's, and gives out nothing that may have been given out since."""

from dataclasses import replace
from random import Random

import pytest
from immutables import Map

from controller.recovery.raised import (
    OFFSET_JUMP,
    PARTITION_EPOCHS_JUMP,
    PRODUCER_IDS_JUMP,
    raised,
)
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.metadata.checksum import checksum_of
from klamm.metadata.image import EMPTY, MetadataImage, PartitionImage, TopicImage, TopicsImage
from tests.unit.metadata.histories import history


def lowered(image: MetadataImage) -> MetadataImage:
    """What `raised` made of it, undone."""
    by_id = {each.topic_id: _lowered(each) for each in image.topics.by_id.values()}
    return replace(
        image,
        topics=TopicsImage(Map(by_id), image.topics.by_name),
        next_producer_id=image.next_producer_id - PRODUCER_IDS_JUMP,
        provenance=replace(image.provenance, offset=Offset(image.provenance.offset - OFFSET_JUMP)),
    )


def _lowered(topic: TopicImage) -> TopicImage:
    return replace(topic, partitions=tuple(map(_earlier, topic.partitions)))


def _earlier(partition: PartitionImage) -> PartitionImage:
    return replace(
        partition,
        leader_epoch=Epoch(partition.leader_epoch - PARTITION_EPOCHS_JUMP),
        partition_epoch=partition.partition_epoch - PARTITION_EPOCHS_JUMP,
    )


@pytest.mark.parametrize("seed", range(20))
def test_all_but_what_is_counted_is_the_same(seed: int) -> None:
    _, image = history(Random(seed), 300)
    after = raised(image)
    assert lowered(after) == image
    assert after.checksum == checksum_of(after), "replicas can agree on it"


def test_what_has_not_begun_goes_on_above_too() -> None:
    """Producer ids and topics may have come after the backup."""
    assert raised(EMPTY).next_producer_id == PRODUCER_IDS_JUMP
    assert raised(EMPTY).provenance.offset == OFFSET_JUMP


def test_where_nothing_is_left_it_says_so() -> None:
    with pytest.raises(OverflowError):
        raised(replace(EMPTY, next_producer_id=2**63 - 1))
    with pytest.raises(OverflowError):
        raised(replace(EMPTY, provenance=OffsetAndEpoch(Epoch(1), Offset(2**63 - 1))))
    _, image = history(Random(3), 300)
    late = next(each for each in image.topics if each.partitions)
    last = replace(late.partitions[0], leader_epoch=Epoch(2**31 - 1))
    topic = replace(late, partitions=(last, *late.partitions[1:]))
    topics = TopicsImage(image.topics.by_id.set(topic.topic_id, topic), image.topics.by_name)
    with pytest.raises(OverflowError, match="no epoch is left"):
        raised(replace(image, topics=topics))
