"""ElectLeaders (key 43), versions 0-2: elect preferred, or unclean, leaders (KIP-183, KIP-460)."""

from dataclasses import dataclass

from broker.kafka.schema import Int8, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class TopicPartitions:
    topic: String = ""
    partitions: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class ElectLeadersRequest:
    election_type: Int8 = wire("1+", default=0)
    topic_partitions: list[TopicPartitions] | None = None
    timeout_ms: Int32 = 60000


@dataclass(slots=True, kw_only=True)
class PartitionResult:
    partition_id: Int32 = 0
    error_code: Int16 = 0
    error_message: String | None = None


@dataclass(slots=True, kw_only=True)
class ReplicaElectionResult:
    topic: String = ""
    partition_result: list[PartitionResult] = array()


@dataclass(slots=True, kw_only=True)
class ElectLeadersResponse:
    throttle_time_ms: Int32 = 0
    error_code: Int16 = wire("1+", default=0)
    replica_election_results: list[ReplicaElectionResult] = array()
