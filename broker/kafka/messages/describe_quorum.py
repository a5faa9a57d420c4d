"""DescribeQuorum (key 55), versions 0-2: the voters and observers of the quorum (KIP-595)."""

from dataclasses import dataclass

from broker.kafka.schema import ZERO_UUID, Int16, Int32, Int64, String, UInt16, Uuid, array, wire


@dataclass(slots=True, kw_only=True)
class RequestPartitionData:
    partition_index: Int32 = 0


@dataclass(slots=True, kw_only=True)
class RequestTopicData:
    topic_name: String = ""
    partitions: list[RequestPartitionData] = array()


@dataclass(slots=True, kw_only=True)
class DescribeQuorumRequest:
    topics: list[RequestTopicData] = array()


@dataclass(slots=True, kw_only=True)
class ReplicaState:
    replica_id: Int32 = 0
    replica_directory_id: Uuid = wire("2+", default=ZERO_UUID)
    log_end_offset: Int64 = 0
    last_fetch_timestamp: Int64 = wire("1+", default=-1)
    last_caught_up_timestamp: Int64 = wire("1+", default=-1)


@dataclass(slots=True, kw_only=True)
class PartitionData:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    error_message: String | None = wire("2+", default=None)
    leader_id: Int32 = 0
    leader_epoch: Int32 = 0
    high_watermark: Int64 = 0
    current_voters: list[ReplicaState] = array()
    observers: list[ReplicaState] = array()


@dataclass(slots=True, kw_only=True)
class TopicData:
    topic_name: String = ""
    partitions: list[PartitionData] = array()


@dataclass(slots=True, kw_only=True)
class Listener:
    name: String = ""
    host: String = ""
    port: UInt16 = 0


@dataclass(slots=True, kw_only=True)
class Node:
    node_id: Int32 = 0
    listeners: list[Listener] = array()


@dataclass(slots=True, kw_only=True)
class DescribeQuorumResponse:
    error_code: Int16 = 0
    error_message: String | None = wire("2+", default=None)
    topics: list[TopicData] = array()
    nodes: list[Node] = array("2+")
