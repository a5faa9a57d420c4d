"""DeleteRecords (key 21), versions 0-2: move a partition's log start up (KIP-107)."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, Int64, String, array


@dataclass(slots=True, kw_only=True)
class DeleteRecordsPartition:
    partition_index: Int32 = 0
    offset: Int64 = 0


@dataclass(slots=True, kw_only=True)
class DeleteRecordsTopic:
    name: String = ""
    partitions: list[DeleteRecordsPartition] = array()


@dataclass(slots=True, kw_only=True)
class DeleteRecordsRequest:
    topics: list[DeleteRecordsTopic] = array()
    timeout_ms: Int32 = 0


@dataclass(slots=True, kw_only=True)
class DeleteRecordsPartitionResult:
    partition_index: Int32 = 0
    low_watermark: Int64 = 0
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class DeleteRecordsTopicResult:
    name: String = ""
    partitions: list[DeleteRecordsPartitionResult] = array()


@dataclass(slots=True, kw_only=True)
class DeleteRecordsResponse:
    throttle_time_ms: Int32 = 0
    topics: list[DeleteRecordsTopicResult] = array()
