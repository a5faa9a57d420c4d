"""Who leads instead: what NOT_LEADER_OR_FOLLOWER answers carry, so that clients need not ask.

Source: KIP-951.
"""

from dataclasses import dataclass

from klamm.ids import NO_EPOCH, NO_NODE, Epoch, NodeId
from klamm.metadata.image import MetadataImage, TopicImage


@dataclass(frozen=True, slots=True)
class LeaderEndpoint:
    id: NodeId
    host: str
    port: int
    rack: str | None


class LeaderHints:
    """The leaders that one response names, and where clients of its listener find them."""

    def __init__(self, image: MetadataImage, listener: str) -> None:
        self._image = image
        self._listener = listener
        self.named: dict[NodeId, None] = {}
        """In the order in which they were named."""

    def of(self, topic: str, partition: int) -> tuple[NodeId, Epoch]:
        return self.of_topic(self._image.topics.named(topic), partition)

    def of_topic(self, topic: TopicImage | None, partition: int) -> tuple[NodeId, Epoch]:
        """The leader and its epoch by this broker's image; -1, -1 if it knows of none."""
        if topic is None or not 0 <= partition < len(topic.partitions):
            return NO_NODE, NO_EPOCH
        image = topic.partitions[partition]
        if image.leader != NO_NODE:
            self.named[image.leader] = None
        return image.leader, image.leader_epoch

    def endpoints(self) -> list[LeaderEndpoint]:
        found = []
        for id_ in self.named:
            broker = self._image.brokers.get(id_)
            endpoint = broker and broker.endpoint(self._listener)
            if broker and endpoint:
                found.append(LeaderEndpoint(id_, endpoint.host, endpoint.port, broker.rack))
        return found
