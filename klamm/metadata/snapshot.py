"""An image as the records of a snapshot, and what one image changes in another. Pure.

    image ──records──▶ …  replayed over nothing ──▶ the same image, exactly
    image before, image after ──difference──▶ delta: what publishers are told of a snapshot

Both are generators, so that the shells can run them in slices between other work. The order is that
of names and ids: every node writes the same records of the same image.

Source: KIP-631, kraft.md 1.11 and 2.3 (snapshots tell all of a partition, never a change of it).
"""

import heapq
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from immutables import Map

from klamm.ids import NO_NODE, NodeId, Offset
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import (
    BrokerImage,
    ConfigResource,
    MetadataImage,
    PartitionImage,
    TopicImage,
)
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    FeatureLevelRecord,
    MetadataRecord,
    NewPartition,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    TopicRecord,
)

PARTITIONS_MAX = 100
"""Of one record: what it costs to write one is the longest that a loop is kept from its timers."""

_Key = TypeVar("_Key", NodeId, str, ConfigResource)


def records(image: MetadataImage) -> Iterator[MetadataRecord]:
    """All that `image` holds but its provenance. What is not told is not there."""
    for name in _ascending(image.features):
        yield FeatureLevelRecord(name=name, level=image.features[name])
    for broker_id in _ascending(image.brokers):
        yield from _broker_records(image.brokers[broker_id])
    for name in _ascending(image.topics.by_name):
        yield from _topic_records(image.topics.by_id[image.topics.by_name[name]])
    for resource in _ascending(image.configs):
        config = image.configs[resource]
        for key in sorted(config):
            yield ConfigRecord(
                resource_type=resource[0], resource_name=resource[1], key=key, value=config[key]
            )
    if image.next_producer_id:
        yield ProducerIdsRecord(
            broker_id=NO_NODE, broker_epoch=Offset(-1), next_producer_id=image.next_producer_id
        )


def difference(before: MetadataImage, after: MetadataImage) -> Generator[None, None, MetadataDelta]:
    """The delta that makes `before` into `after`. Rests after each topic; returns the delta."""
    delta = MetadataDelta(before)
    for broker_id in before.brokers:
        if broker_id not in after.brokers:
            delta.brokers_changed[broker_id] = None
    for broker_id, broker in after.brokers.items():
        if before.brokers.get(broker_id) != broker:
            delta.brokers_changed[broker_id] = broker
    for topic_id, topic in before.topics.by_id.items():
        if topic_id not in after.topics.by_id:
            delta.topics_removed[topic_id] = topic
        yield
    for topic_id, topic in after.topics.by_id.items():
        if before.topics.by_id.get(topic_id) != topic:
            delta.topics_changed[topic_id] = topic
        yield
    for resource in before.configs:
        if resource not in after.configs:
            delta.configs_changed[resource] = Map()
    for resource, config in after.configs.items():
        if before.configs.get(resource) != config:
            delta.configs_changed[resource] = config
    delta.replace_the_rest(after)
    return delta


def _ascending(keys: Iterable[_Key]) -> Iterator[_Key]:
    """Sorted, a little of the work at a time."""
    heap = list(keys)
    heapq.heapify(heap)
    while heap:
        yield heapq.heappop(heap)


def _broker_records(broker: BrokerImage) -> Iterator[MetadataRecord]:
    yield RegisterBrokerRecord(
        broker_id=broker.broker_id,
        incarnation_id=broker.incarnation_id,
        endpoints=broker.endpoints,
        rack=broker.rack,
        log_dirs=broker.log_dirs,
        broker_epoch=broker.broker_epoch,
        features=broker.features,
    )
    if not broker.fenced or broker.in_controlled_shutdown:
        yield BrokerRegistrationChangeRecord(
            broker_id=broker.broker_id,
            broker_epoch=broker.broker_epoch,
            fenced=broker.fenced,
            in_controlled_shutdown=broker.in_controlled_shutdown,
        )


def _topic_records(topic: TopicImage) -> Iterator[MetadataRecord]:
    yield TopicRecord(topic_id=topic.topic_id, name=topic.name)
    for first in range(0, len(topic.partitions), PARTITIONS_MAX):
        yield PartitionRecord(
            topic_id=topic.topic_id,
            partitions=tuple(map(_whole, topic.partitions[first : first + PARTITIONS_MAX])),
        )


def _whole(partition: PartitionImage) -> NewPartition:
    return NewPartition(
        partition=partition.partition,
        replicas=partition.replicas,
        isr=partition.isr,
        leader=partition.leader,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
    )
