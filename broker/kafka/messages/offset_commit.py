"""OffsetCommit (key 8), versions 2-9: a consumer group's positions, to its coordinator."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, Int64, String, array, wire


@dataclass(slots=True, kw_only=True)
class OffsetCommitRequestPartition:
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Int32 = wire("6+", default=-1)
    committed_metadata: String | None = None


@dataclass(slots=True, kw_only=True)
class OffsetCommitRequestTopic:
    name: String = ""
    partitions: list[OffsetCommitRequestPartition] = array()


@dataclass(slots=True, kw_only=True)
class OffsetCommitRequest:
    group_id: String = ""
    generation_id_or_member_epoch: Int32 = -1
    member_id: String = ""
    group_instance_id: String | None = wire("7+", default=None)
    retention_time_ms: Int64 = wire("2-4", default=-1)
    topics: list[OffsetCommitRequestTopic] = array()


@dataclass(slots=True, kw_only=True)
class OffsetCommitResponsePartition:
    partition_index: Int32 = 0
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class OffsetCommitResponseTopic:
    name: String = ""
    partitions: list[OffsetCommitResponsePartition] = array()


@dataclass(slots=True, kw_only=True)
class OffsetCommitResponse:
    throttle_time_ms: Int32 = wire("3+", default=0)
    topics: list[OffsetCommitResponseTopic] = array()
