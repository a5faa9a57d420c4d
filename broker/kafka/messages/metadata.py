"""Metadata (key 3), versions 0-13: brokers, topics, and who leads which partition.

`topics` null asks for all topics; empty asks for none, but in version 0 for all. Versions: 9 is
flexible; 10 topic ids (KIP-516), by which 12 may ask; 13 a top-level error code (KIP-1102).
"""

from dataclasses import dataclass

from broker.kafka.schema import ZERO_UUID, Bool, Int16, Int32, String, Uuid, array, wire


@dataclass(slots=True, kw_only=True)
class MetadataRequestTopic:
    topic_id: Uuid = wire("10+", default=ZERO_UUID)
    name: String | None = wire("0+", default="", nullable="10+")


@dataclass(slots=True, kw_only=True)
class MetadataRequest:
    topics: list[MetadataRequestTopic] | None = array("0+", nullable="1+")
    allow_auto_topic_creation: Bool = wire("4+", default=True)
    include_cluster_authorized_operations: Bool = wire("8-10", default=False)
    include_topic_authorized_operations: Bool = wire("8+", default=False)


@dataclass(slots=True, kw_only=True)
class MetadataResponseBroker:
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: String | None = wire("1+", default=None)


@dataclass(slots=True, kw_only=True)
class MetadataResponsePartition:
    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = wire("7+", default=-1)
    replica_nodes: list[Int32] = array()
    isr_nodes: list[Int32] = array()
    offline_replicas: list[Int32] = array("5+")


@dataclass(slots=True, kw_only=True)
class MetadataResponseTopic:
    error_code: Int16 = 0
    name: String | None = wire("0+", default="", nullable="12+")
    topic_id: Uuid = wire("10+", default=ZERO_UUID)
    is_internal: Bool = wire("1+", default=False)
    partitions: list[MetadataResponsePartition] = array()
    topic_authorized_operations: Int32 = wire("8+", default=-2147483648)


@dataclass(slots=True, kw_only=True)
class MetadataResponse:
    throttle_time_ms: Int32 = wire("3+", default=0)
    brokers: list[MetadataResponseBroker] = array()
    cluster_id: String | None = wire("2+", default=None)
    controller_id: Int32 = wire("1+", default=-1)
    topics: list[MetadataResponseTopic] = array()
    cluster_authorized_operations: Int32 = wire("8-10", default=-2147483648)
    error_code: Int16 = wire("13+", default=0)
