"""DescribeTopicPartitions (key 75), version 0: topics, page by page (KIP-966)."""

from dataclasses import dataclass

from broker.kafka.schema import ZERO_UUID, Bool, Int16, Int32, String, Uuid, array


@dataclass(slots=True, kw_only=True)
class TopicRequest:
    name: String = ""


@dataclass(slots=True, kw_only=True)
class Cursor:
    topic_name: String = ""
    partition_index: Int32 = 0


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsRequest:
    topics: list[TopicRequest] = array()
    response_partition_limit: Int32 = 2000
    cursor: Cursor | None = None


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsResponsePartition:
    error_code: Int16 = 0
    partition_index: Int32 = 0
    leader_id: Int32 = 0
    leader_epoch: Int32 = -1
    replica_nodes: list[Int32] = array()
    isr_nodes: list[Int32] = array()
    eligible_leader_replicas: list[Int32] | None = None
    last_known_elr: list[Int32] | None = None
    offline_replicas: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsResponseTopic:
    error_code: Int16 = 0
    name: String | None = None
    topic_id: Uuid = ZERO_UUID
    is_internal: Bool = False
    partitions: list[DescribeTopicPartitionsResponsePartition] = array()
    topic_authorized_operations: Int32 = -2147483648


@dataclass(slots=True, kw_only=True)
class DescribeTopicPartitionsResponse:
    throttle_time_ms: Int32 = 0
    topics: list[DescribeTopicPartitionsResponseTopic] = array()
    next_cursor: Cursor | None = None
