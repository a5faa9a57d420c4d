"""OffsetFetch (key 9), versions 1-9: a consumer group's positions, from its coordinator.

One group in the fields of the request up to version 7, several in `groups` from 8 (KIP-709).
"""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int16, Int32, Int64, String, array, wire


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequestTopic:
    name: String = ""
    partition_indexes: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequestTopics:
    name: String = ""
    partition_indexes: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequestGroup:
    group_id: String = ""
    member_id: String | None = wire("9+", default=None)
    member_epoch: Int32 = wire("9+", default=-1)
    topics: list[OffsetFetchRequestTopics] | None = None


@dataclass(slots=True, kw_only=True)
class OffsetFetchRequest:
    group_id: String = wire("0-7", default="")
    topics: list[OffsetFetchRequestTopic] | None = array("0-7", nullable="2-7")
    groups: list[OffsetFetchRequestGroup] = array("8+")
    require_stable: Bool = wire("7+", default=False)


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponsePartition:
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Int32 = wire("5+", default=-1)
    metadata: String | None = None
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponseTopic:
    name: String = ""
    partitions: list[OffsetFetchResponsePartition] = array()


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponsePartitions:
    partition_index: Int32 = 0
    committed_offset: Int64 = 0
    committed_leader_epoch: Int32 = -1
    metadata: String | None = None
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponseTopics:
    name: String = ""
    partitions: list[OffsetFetchResponsePartitions] = array()


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponseGroup:
    group_id: String = ""
    topics: list[OffsetFetchResponseTopics] = array()
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class OffsetFetchResponse:
    throttle_time_ms: Int32 = wire("3+", default=0)
    topics: list[OffsetFetchResponseTopic] = array("0-7")
    error_code: Int16 = wire("2-7", default=0)
    groups: list[OffsetFetchResponseGroup] = array("8+")
