"""What a Metadata answer says of each topic and of the brokers, from the image; kept as bytes.

    (version, listener) ──▶ Pieces ── envelope: brokers, cluster id, controller id
                                   └─ topic id ─▶ bytes, good until the topic or a broker changes

A cached piece is good for as long as the image holds the very values that it was made from, so
nothing has to be told of changes: values of the image are immutable, and compared by identity.
"""

from collections.abc import Iterable

from immutables import Map

from broker.kafka.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from broker.kafka.metadata_response import MetadataEnvelope, encode_topic
from broker.kafka.schema import Buffer
from klamm.errors import ErrorCode
from klamm.ids import NO_NODE, NodeId, TopicId
from klamm.metadata.image import BrokerImage, MetadataImage, PartitionImage, TopicImage, TopicsImage

PIECES_MAX = 12
"""Pairs of version and listener that are kept: clients of a few kinds on two listeners."""

INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state"})

_NO_LISTENER_ERROR_VERSION = 6
"""Before it LISTENER_NOT_FOUND is told as LEADER_NOT_AVAILABLE."""


class Pieces:
    """For one version and one listener."""

    def __init__(self, version: int, listener: str, node_id: NodeId, cluster_id: str) -> None:
        self._version = version
        self._listener = listener
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._brokers: Map[NodeId, BrokerImage] | None = None
        """Those from which all pieces were made."""
        self._just_fenced: tuple[NodeId, ...] = ()
        self._envelope: MetadataEnvelope | None = None
        self._by_id: dict[TopicId, tuple[TopicImage, bytes]] = {}
        self._all: list[bytes] = []
        self._all_of: TopicsImage | None = None

    def answer(
        self,
        image: MetadataImage,
        topics: Iterable[TopicImage | MetadataResponseTopic] | None,
        just_fenced: tuple[NodeId, ...] = (),
    ) -> list[Buffer]:
        """The body of a response with these topics, or with all. Rows of errors come as they are.

        Args:
            just_fenced: Listed among the brokers although they serve no more. A client that hears
                in one answer that a leader has moved and that the former is no broker any more
                (librdkafka 2.16) ends the former's thread while the partition is being handed
                over, and may lose it until it looks again after a second.

        Raises:
            UnwritableMessageError: A row has what this version cannot carry.
        """
        if image.brokers is not self._brokers or just_fenced != self._just_fenced:
            self._begin(image, just_fenced)
        assert self._envelope is not None, "it is made with the brokers"
        if topics is None:
            return self._envelope.with_topics(self._all_topics(image))
        rows = [
            self._topic(image, each)
            if isinstance(each, TopicImage)
            else encode_topic(self._version, each)
            for each in topics
        ]
        return self._envelope.with_topics(rows)

    def _begin(self, image: MetadataImage, just_fenced: tuple[NodeId, ...]) -> None:
        """Brokers have changed: who is offline, and where leaders are, stands in every piece."""
        self._brokers = image.brokers
        self._just_fenced = just_fenced
        self._by_id = {}
        self._all_of = None
        response = MetadataResponse(
            brokers=brokers_of(image, self._listener, just_fenced),
            cluster_id=self._cluster_id,
            controller_id=controller_of(image, self._node_id, self._listener),
        )
        self._envelope = MetadataEnvelope(self._version, response)

    def _all_topics(self, image: MetadataImage) -> list[bytes]:
        if self._all_of is not image.topics:
            self._all = [self._topic(image, each) for each in image.topics]
            self._all_of = image.topics
            if len(self._by_id) > len(self._all):  # Topics that were deleted since.
                self._by_id = {id_: self._by_id[id_] for id_ in image.topics.by_id}
        return self._all

    def _topic(self, image: MetadataImage, topic: TopicImage) -> bytes:
        kept = self._by_id.get(topic.topic_id)
        if kept is not None and kept[0] is topic:
            return kept[1]
        row = topic_row(image, topic, self._version, self._listener)
        written = encode_topic(self._version, row)
        self._by_id[topic.topic_id] = (topic, written)
        return written


class PiecesByClient:
    """The pieces of one broker, for the kinds of clients that it has."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, NodeId, str], Pieces] = {}

    def of(self, version: int, listener: str, node_id: NodeId, cluster_id: str) -> Pieces:
        key = (version, listener, node_id, cluster_id)
        pieces = self._kept.get(key)
        if pieces is None:
            if len(self._kept) >= PIECES_MAX:
                del self._kept[next(iter(self._kept))]
            pieces = self._kept[key] = Pieces(version, listener, node_id, cluster_id)
        return pieces


def brokers_of(
    image: MetadataImage, listener: str, also: tuple[NodeId, ...] = ()
) -> list[MetadataResponseBroker]:
    """Those that serve, and those in `also`, as clients of `listener` reach them."""
    rows = []
    for _, broker in sorted(image.brokers.items()):
        endpoint = broker.endpoint(listener)
        serves = not broker.fenced or broker.broker_id in also
        if serves and endpoint is not None:
            rows.append(
                MetadataResponseBroker(
                    node_id=broker.broker_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=broker.rack,
                )
            )
    return rows


def controller_of(image: MetadataImage, node_id: NodeId, listener: str) -> NodeId:
    """Where clients shall send changes: any broker that lives, for each passes them on.

    This one if it can be, since the client is connected to it already.
    """
    serving = [NodeId(each.node_id) for each in brokers_of(image, listener)]
    if node_id in serving:
        return node_id
    return serving[0] if serving else NO_NODE


def topic_row(
    image: MetadataImage, topic: TopicImage, version: int, listener: str
) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[_partition_row(image, each, version, listener) for each in topic.partitions],
    )


def _partition_row(
    image: MetadataImage, partition: PartitionImage, version: int, listener: str
) -> MetadataResponsePartition:
    offline = [each for each in partition.replicas if not _is_reachable(image, each, listener)]
    row = MetadataResponsePartition(
        partition_index=partition.partition,
        leader_id=partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=list(partition.replicas),
        isr_nodes=list(partition.isr),
        offline_replicas=list(offline),
    )
    if partition.leader == NO_NODE or partition.leader in offline:
        row.error_code = _why_no_leader(image, partition.leader, version)
        row.leader_id = NO_NODE
    elif version == 0 and offline:
        # Version 0 has no offline replicas, and its clients expect to reach all that are named.
        row.error_code = ErrorCode.REPLICA_NOT_AVAILABLE
        row.replica_nodes = [each for each in partition.replicas if each not in offline]
        row.isr_nodes = [each for each in partition.isr if each not in offline]
    return row


def _why_no_leader(image: MetadataImage, leader: NodeId, version: int) -> ErrorCode:
    broker = image.brokers.get(leader)
    lives = broker is not None and not broker.fenced
    if lives and version >= _NO_LISTENER_ERROR_VERSION:
        return ErrorCode.LISTENER_NOT_FOUND
    return ErrorCode.LEADER_NOT_AVAILABLE


def _is_reachable(image: MetadataImage, broker_id: NodeId, listener: str) -> bool:
    broker = image.brokers.get(broker_id)
    return broker is not None and not broker.fenced and broker.endpoint(listener) is not None
