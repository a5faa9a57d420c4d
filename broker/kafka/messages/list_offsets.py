"""ListOffsets (key 2), versions 1-9: the offset at a time, or at either end of a log.

`timestamp` -1 asks for the latest offset, -2 for the earliest, -3 (version 7, KIP-734) for that of
the largest timestamp, -4 (8, KIP-405) for the earliest local and -5 (9, KIP-1005) for the latest
tiered one.
"""

from dataclasses import dataclass

from broker.kafka.schema import Int8, Int16, Int32, Int64, String, array, wire


@dataclass(slots=True, kw_only=True)
class ListOffsetsPartition:
    partition_index: Int32 = 0
    current_leader_epoch: Int32 = wire("4+", default=-1)
    timestamp: Int64 = 0


@dataclass(slots=True, kw_only=True)
class ListOffsetsTopic:
    name: String = ""
    partitions: list[ListOffsetsPartition] = array()


@dataclass(slots=True, kw_only=True)
class ListOffsetsRequest:
    replica_id: Int32 = 0
    isolation_level: Int8 = wire("2+", default=0)
    topics: list[ListOffsetsTopic] = array()


@dataclass(slots=True, kw_only=True)
class ListOffsetsPartitionResponse:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    timestamp: Int64 = -1
    offset: Int64 = -1
    leader_epoch: Int32 = wire("4+", default=-1)


@dataclass(slots=True, kw_only=True)
class ListOffsetsTopicResponse:
    name: String = ""
    partitions: list[ListOffsetsPartitionResponse] = array()


@dataclass(slots=True, kw_only=True)
class ListOffsetsResponse:
    throttle_time_ms: Int32 = wire("2+", default=0)
    topics: list[ListOffsetsTopicResponse] = array()
