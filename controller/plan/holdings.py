"""Which partitions each broker holds: the index that makes a broker's death cost what it held.

    NodeId → TopicId → partition numbers, ascending

Persistent, beside the image that it is an index of; kept by the same deltas.
"""

from immutables import Map

from klamm.ids import NodeId, TopicId
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import TopicImage

Holdings = Map[NodeId, Map[TopicId, tuple[int, ...]]]

NOTHING: Map[TopicId, tuple[int, ...]] = Map()


def updated(holdings: Holdings, delta: MetadataDelta) -> Holdings:
    """The index after `delta`. Costs the topics whose replicas changed, and no others."""
    for topic_id in delta.topics_removed:
        # One that came and went within the delta is in no index yet.
        before = delta.image.topics.by_id.get(topic_id)
        holdings = _replaced(holdings, topic_id, before, None)
    for topic_id, topic in delta.topics_changed.items():
        before = delta.image.topics.by_id.get(topic_id)
        if before is None or _replicas_differ(before, topic):
            holdings = _replaced(holdings, topic_id, before, topic)
    return holdings


def _replicas_differ(before: TopicImage, after: TopicImage) -> bool:
    if len(before.partitions) != len(after.partitions):
        return True
    pairs = zip(before.partitions, after.partitions, strict=True)
    return any(one.replicas is not two.replicas for one, two in pairs)


def _replaced(
    holdings: Holdings, topic_id: TopicId, before: TopicImage | None, after: TopicImage | None
) -> Holdings:
    held = {} if after is None else _by_broker(after)
    for broker in sorted(set({} if before is None else _by_broker(before)) - set(held)):
        holdings = holdings.set(broker, holdings[broker].delete(topic_id))
    for broker, partitions in held.items():
        holdings = holdings.set(broker, holdings.get(broker, NOTHING).set(topic_id, partitions))
    return holdings


def _by_broker(topic: TopicImage) -> dict[NodeId, tuple[int, ...]]:
    found: dict[NodeId, list[int]] = {}
    for partition in topic.partitions:
        for broker in partition.replicas:
            found.setdefault(broker, []).append(partition.partition)
    return {broker: tuple(partitions) for broker, partitions in found.items()}
