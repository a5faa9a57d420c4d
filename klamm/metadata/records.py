"""The records of the metadata log, under the names of Kafka's schemas.

Each is a plain value. What it means is told in one place only, `klamm.metadata.delta`; how it is
written in one place only, `klamm.metadata.codec`. Partition records are bulk: one record a topic
with many partitions in it, so that a decision costs what it changes and not its framing.

Source: Kafka's metadata schemas (RegisterBrokerRecord.json and neighbours), KIP-631.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from klamm.ids import DirectoryId, Epoch, NodeId, Offset, TopicId
from klamm.metadata.features import Supported


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a broker listens, as clients of that listener are told."""

    name: str
    """The listener's name, e.g. `PLAINTEXT`, `PLAINTEXT_HOST`."""
    host: str
    port: int
    security_protocol: str = "PLAINTEXT"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBrokerRecord:
    """A broker begins one uptime, fenced. Its broker epoch is this record's offset."""

    broker_id: NodeId
    incarnation_id: UUID
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    log_dirs: tuple[DirectoryId, ...] = ()
    broker_epoch: Offset | None = None
    """In a snapshot, where offsets are its own. None in the log."""
    features: Supported = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBrokerRecord:
    broker_id: NodeId
    broker_epoch: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerRegistrationChangeRecord:
    """Fence, unfence, or begin the controlled shutdown of one uptime. None: unchanged."""

    broker_id: NodeId
    broker_epoch: Offset
    fenced: bool | None = None
    in_controlled_shutdown: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRecord:
    topic_id: TopicId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPartition:
    """One partition as it is created. Its leader is the first of the isr, or NO_NODE."""

    partition: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    leader: NodeId
    leader_epoch: Epoch = Epoch(0)  # noqa: RUF009 - an int
    partition_epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRecord:
    """New partitions of one topic, in order of their number. Snapshots also use it."""

    topic_id: TopicId
    partitions: tuple[NewPartition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionChange:
    """What changes in one partition. None: unchanged.

    Any change raises the partition epoch by one. `leader` present, even if the same, raises
    the leader epoch by one; NO_NODE is "no leader".
    """

    partition: int
    isr: tuple[NodeId, ...] | None = None
    leader: NodeId | None = None
    replicas: tuple[NodeId, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionChangeRecord:
    topic_id: TopicId
    changes: tuple[PartitionChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTopicRecord:
    """Also removes the topic's configs."""

    topic_id: TopicId


class ResourceType(IntEnum):
    """Kafka's config resource types."""

    TOPIC = 2
    BROKER = 4

    __hash__ = int.__hash__
    """Enum's own is a call of Python: a config is looked up by its type."""


class ConfigRecord(NamedTuple):
    """One key of one resource. The resource name "" of type BROKER is the cluster default.

    A NamedTuple, not a dataclass: a call can change thousands, at half the price.
    """

    resource_type: ResourceType
    resource_name: str
    key: str
    value: str | None
    """None removes the key."""


class ConfigsRecord(NamedTuple):
    """One key of each of many resources: as many ConfigRecords (see config_records), in columns.

    It is read, replayed and written by the column, at a tenth of what its rows would cost.
    """

    resource_type: ResourceType
    key: str
    resource_names: tuple[str, ...]
    """One at least, each once."""
    values: tuple[str, ...]
    """As many, in the order of the names; or a single one, for all; or none: removes the key."""


class ProducerIdsRecord(NamedTuple):
    """A block of producer ids, [previous next, next_producer_id), now belongs to a broker."""

    broker_id: NodeId
    broker_epoch: Offset
    next_producer_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLevelRecord:
    name: str
    level: int
    """0 removes the feature."""


@dataclass(frozen=True, slots=True)
class NoOpRecord:
    """Moves the high watermark when nothing else does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChecksumRecord:
    """What the state below `offset` hashes to, as its writer holds it. Changes nothing."""

    offset: Offset
    """End (exclusive) of what is included. In the log: where this record stands."""
    checksum: int
    """See klamm.metadata.checksum; below 2^128."""
    format: int
    """Of the checksum; one of another format than the reader's is not compared."""


MetadataRecord = (
    RegisterBrokerRecord
    | UnregisterBrokerRecord
    | BrokerRegistrationChangeRecord
    | TopicRecord
    | PartitionRecord
    | PartitionChangeRecord
    | RemoveTopicRecord
    | ConfigRecord
    | ConfigsRecord
    | ProducerIdsRecord
    | FeatureLevelRecord
    | NoOpRecord
    | StateChecksumRecord
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who did it: stored as headers of a decision's first record; the log is the audit trail."""

    principal: str
    """`User:ANONYMOUS`, `Broker:2`, `Controller:1`."""
    request: str
    """The request's name: `CreateTopics`, `AlterPartition`, `FenceBroker`…"""
    request_id: str = ""
    """As given by the caller; empty if it gave none."""
