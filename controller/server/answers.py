"""Images as messages of klamm.v1, and the counts that go with them.

Counts and sorted names cost O(partitions); they are made once per version of the topics, which is
an immutable value, and kept for the last one.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field

from klamm.ids import NO_NODE, NodeId
from klamm.metadata.codec import features_to_proto
from klamm.metadata.features import supported
from klamm.metadata.image import (
    BrokerImage,
    MetadataImage,
    PartitionImage,
    TopicImage,
    TopicsImage,
)
from klamm.metadata.records import Endpoint, ResourceType
from klamm.v1 import metadata_pb2 as pb
from klamm.v1 import records_pb2


@dataclass(slots=True)
class TopicCounts:
    """What is counted over all partitions of one version of the topics."""

    names: list[str] = field(default_factory=list)
    """Sorted."""
    partitions: int = 0
    offline: int = 0
    under_replicated: int = 0
    leaders: Counter[NodeId] = field(default_factory=Counter)
    replicas: Counter[NodeId] = field(default_factory=Counter)

    def page(self, after: str, size: int, prefix: str = "") -> tuple[list[str], str]:
        """Names after `after` that begin with `prefix`, and the token of the next page."""
        start = bisect_left(self.names, prefix)
        if after:
            start = max(start, bisect_right(self.names, after))
        found = [each for each in self.names[start : start + size + 1] if each.startswith(prefix)]
        if len(found) > size:
            return found[:size], found[size - 1]
        return found, ""


class Counts:
    """The counts of the last version asked for."""

    def __init__(self) -> None:
        self._of = TopicsImage()
        self._counts = TopicCounts()

    def of(self, topics: TopicsImage) -> TopicCounts:
        if topics is not self._of:
            self._counts = _count(topics)
            self._of = topics
        return self._counts


def _count(topics: TopicsImage) -> TopicCounts:
    counts = TopicCounts(names=sorted(topics.by_name))
    for topic in topics.by_id.values():
        counts.partitions += len(topic.partitions)
        for partition in topic.partitions:
            counts.replicas.update(partition.replicas)
            if partition.leader == NO_NODE:
                counts.offline += 1
            else:
                counts.leaders[partition.leader] += 1
            if len(partition.isr) < len(partition.replicas):
                counts.under_replicated += 1
    return counts


def broker(image: BrokerImage, counts: TopicCounts) -> pb.Broker:
    answer = pb.Broker(
        broker_id=image.broker_id,
        broker_epoch=image.broker_epoch,
        state=_state(image),
        endpoints=[endpoint(each) for each in image.endpoints],
        leader_count=counts.leaders[image.broker_id],
        replica_count=counts.replicas[image.broker_id],
        features=features_to_proto(image.features),
    )
    if image.rack is not None:
        answer.rack = image.rack
    return answer


def endpoint(image: Endpoint) -> records_pb2.Endpoint:
    return records_pb2.Endpoint(
        name=image.name,
        host=image.host,
        port=image.port,
        security_protocol=image.security_protocol,
    )


def topic_listing(image: TopicImage) -> pb.TopicListing:
    first = image.partitions[0].replicas if image.partitions else ()
    return pb.TopicListing(
        topic_id=image.topic_id.bytes,
        name=image.name,
        partition_count=len(image.partitions),
        replication_factor=len(first),
    )


def topic(image: MetadataImage, of: TopicImage) -> pb.Topic:
    return pb.Topic(
        topic_id=of.topic_id.bytes,
        name=of.name,
        partitions=[_partition(each) for each in of.partitions],
        configs=dict(image.config(ResourceType.TOPIC, of.name)),
    )


def _partition(image: PartitionImage) -> pb.Partition:
    return pb.Partition(
        partition=image.partition,
        leader_id=image.leader,
        leader_epoch=image.leader_epoch,
        partition_epoch=image.partition_epoch,
        replicas=image.replicas,
        isr=image.isr,
    )


def features(image: MetadataImage) -> list[pb.Feature]:
    """Those in force, and those that this version knows."""
    known = {each.name: each for each in supported()}
    rows = []
    for name in sorted({*known, *image.features}):
        row = pb.Feature(name=name, finalized_level=image.features.get(name, 0))
        if (own := known.get(name)) is not None:
            row.min_level, row.max_level = own.min_level, own.max_level
        rows.append(row)
    return rows


def _state(image: BrokerImage) -> pb.BrokerState.ValueType:
    if image.fenced:
        return pb.BROKER_STATE_FENCED
    if image.in_controlled_shutdown:
        return pb.BROKER_STATE_CONTROLLED_SHUTDOWN
    return pb.BROKER_STATE_ACTIVE
