"""The metadata at one offset: immutable values, persistent maps.

    MetadataImage
      provenance   up to where the log is included
      brokers      NodeId → BrokerImage
      topics       by id → TopicImage → PartitionImage…; by name → id
      configs      (type, name) → {key: value}
      features     name → level
      next_producer_id

Reads cost about what a dict's do (immutables.Map); a change copies a few nodes of the tree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from immutables import Map

from klamm.ids import (
    LOG_START,
    DirectoryId,
    Epoch,
    NodeId,
    Offset,
    OffsetAndEpoch,
    TopicId,
)
from klamm.metadata.features import Supported
from klamm.metadata.records import Endpoint, ResourceType


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerImage:
    """One registered broker, in its present uptime."""

    broker_id: NodeId
    broker_epoch: Offset
    """The offset of its RegisterBrokerRecord; every request of this uptime carries it."""
    incarnation_id: UUID
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    log_dirs: tuple[DirectoryId, ...] = ()
    fenced: bool = True
    in_controlled_shutdown: bool = False
    features: Supported = ()
    """Not in the checksum: a snapshot that an earlier version wrote has lost them."""

    @property
    def active(self) -> bool:
        """May lead and be in an ISR."""
        return not self.fenced and not self.in_controlled_shutdown

    def endpoint(self, listener: str) -> Endpoint | None:
        return next((each for each in self.endpoints if each.name == listener), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionImage:
    partition: int
    replicas: tuple[NodeId, ...]
    """The first is the preferred leader."""
    isr: tuple[NodeId, ...]
    leader: NodeId
    """NO_NODE: nobody leads."""
    leader_epoch: Epoch
    partition_epoch: int
    """Grows with each change; AlterPartition compares it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicImage:
    topic_id: TopicId
    name: str
    partitions: tuple[PartitionImage, ...] = ()
    """Indexed by partition number."""
    partitions_checksum: int = field(default=0, compare=False, repr=False)
    """What the partitions add to the image's checksum; the delta keeps it."""


@dataclass(frozen=True, slots=True)
class TopicsImage:
    by_id: Map[TopicId, TopicImage] = field(default_factory=Map)
    by_name: Map[str, TopicId] = field(default_factory=Map)

    def named(self, name: str) -> TopicImage | None:
        topic_id = self.by_name.get(name)
        return None if topic_id is None else self.by_id[topic_id]

    def partition(self, topic_id: TopicId, partition: int) -> PartitionImage | None:
        topic = self.by_id.get(topic_id)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def __iter__(self) -> Iterator[TopicImage]:
        """By name, so that every node lists in the same order. O(n log n)."""
        return (self.by_id[self.by_name[name]] for name in sorted(self.by_name))


_NOTHING_READ = OffsetAndEpoch(Epoch(0), LOG_START)

ConfigResource = tuple[ResourceType, str]


@dataclass(frozen=True, kw_only=True)
class MetadataImage:
    """Without slots: the next one is a cheap copy (klamm/frozen.py), and a commit makes two."""

    provenance: OffsetAndEpoch = _NOTHING_READ
    """The end offset (exclusive) up to which the log is included, and the epoch there."""
    brokers: Map[NodeId, BrokerImage] = field(default_factory=Map)
    topics: TopicsImage = field(default_factory=TopicsImage)
    configs: Map[ConfigResource, Map[str, str]] = field(default_factory=Map)
    features: Map[str, int] = field(default_factory=Map)
    next_producer_id: int = 0
    checksum: int = field(default=0, compare=False)
    """Of all above but the provenance (klamm.metadata.checksum); the delta keeps it."""

    def config(self, resource_type: ResourceType, name: str) -> Map[str, str]:
        """What is set on the resource itself: no defaults."""
        return self.configs.get((resource_type, name), NOTHING_SET)


NOTHING_SET: Map[str, str] = Map()

EMPTY = MetadataImage()
