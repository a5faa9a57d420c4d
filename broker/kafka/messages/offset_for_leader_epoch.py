"""OffsetForLeaderEpoch (key 23), versions 2-4: where a leader epoch ends (KIP-101, KIP-320)."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, Int64, String, array, wire


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderPartition:
    partition: Int32 = 0
    current_leader_epoch: Int32 = -1
    leader_epoch: Int32 = 0


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderTopic:
    topic: String = ""
    partitions: list[OffsetForLeaderPartition] = array()


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderEpochRequest:
    replica_id: Int32 = wire("3+", default=-2)
    topics: list[OffsetForLeaderTopic] = array()


@dataclass(slots=True, kw_only=True)
class EpochEndOffset:
    error_code: Int16 = 0
    partition: Int32 = 0
    leader_epoch: Int32 = -1
    end_offset: Int64 = -1


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderTopicResult:
    topic: String = ""
    partitions: list[EpochEndOffset] = array()


@dataclass(slots=True, kw_only=True)
class OffsetForLeaderEpochResponse:
    throttle_time_ms: Int32 = 0
    topics: list[OffsetForLeaderTopicResult] = array()
