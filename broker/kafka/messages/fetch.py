"""Fetch (key 1), versions 4-17: record batches from a leader to a consumer or a follower.

A follower says who it is in `replica_id`, and from version 15 in `replica_state` (KIP-903).
Versions: 7 fetch sessions (KIP-227); 9 leader epochs (KIP-320); 11 racks (KIP-392); 12 is flexible,
and tells where logs diverge (KIP-595); 13 topic ids in place of names (KIP-516); 16 node endpoints
(KIP-951); 17 directory ids (KIP-853).
"""

from dataclasses import dataclass

from broker.kafka.schema import (
    ZERO_UUID,
    Int8,
    Int16,
    Int32,
    Int64,
    RecordsOut,
    String,
    Uuid,
    array,
    wire,
)


@dataclass(slots=True, kw_only=True)
class ReplicaState:
    replica_id: Int32 = -1
    replica_epoch: Int64 = -1


@dataclass(slots=True, kw_only=True)
class FetchPartition:
    partition: Int32 = 0
    current_leader_epoch: Int32 = wire("9+", default=-1)
    fetch_offset: Int64 = 0
    last_fetched_epoch: Int32 = wire("12+", default=-1)
    log_start_offset: Int64 = wire("5+", default=-1)
    partition_max_bytes: Int32 = 0
    replica_directory_id: Uuid = wire("17+", default=ZERO_UUID, tag=0)


@dataclass(slots=True, kw_only=True)
class FetchTopic:
    topic: String = wire("0-12", default="")
    topic_id: Uuid = wire("13+", default=ZERO_UUID)
    partitions: list[FetchPartition] = array()


@dataclass(slots=True, kw_only=True)
class ForgottenTopic:
    topic: String = wire("7-12", default="")
    topic_id: Uuid = wire("13+", default=ZERO_UUID)
    partitions: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class FetchRequest:
    cluster_id: String | None = wire("12+", default=None, tag=0)
    replica_id: Int32 = wire("0-14", default=-1)
    replica_state: ReplicaState | None = wire("15+", default=None, tag=1)
    max_wait_ms: Int32 = 0
    min_bytes: Int32 = 0
    max_bytes: Int32 = 0x7FFFFFFF
    isolation_level: Int8 = 0
    session_id: Int32 = wire("7+", default=0)
    session_epoch: Int32 = wire("7+", default=-1)
    topics: list[FetchTopic] = array()
    forgotten_topics_data: list[ForgottenTopic] = array("7+")
    rack_id: String = wire("11+", default="")


@dataclass(slots=True, kw_only=True)
class EpochEndOffset:
    epoch: Int32 = -1
    end_offset: Int64 = -1


@dataclass(slots=True, kw_only=True)
class LeaderIdAndEpoch:
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


@dataclass(slots=True, kw_only=True)
class SnapshotId:
    end_offset: Int64 = -1
    epoch: Int32 = -1


@dataclass(slots=True, kw_only=True)
class AbortedTransaction:
    producer_id: Int64 = 0
    first_offset: Int64 = 0


@dataclass(slots=True, kw_only=True)
class PartitionData:
    partition_index: Int32 = 0
    error_code: Int16 = 0
    high_watermark: Int64 = 0
    last_stable_offset: Int64 = -1
    log_start_offset: Int64 = wire("5+", default=-1)
    diverging_epoch: EpochEndOffset | None = wire("12+", default=None, tag=0)
    current_leader: LeaderIdAndEpoch | None = wire("12+", default=None, tag=1)
    snapshot_id: SnapshotId | None = wire("12+", default=None, tag=2)
    aborted_transactions: list[AbortedTransaction] | None = None
    preferred_read_replica: Int32 = wire("11+", default=-1)
    records: RecordsOut | None = b""


@dataclass(slots=True, kw_only=True)
class FetchableTopicResponse:
    topic: String = wire("0-12", default="")
    topic_id: Uuid = wire("13+", default=ZERO_UUID)
    partitions: list[PartitionData] = array()


@dataclass(slots=True, kw_only=True)
class NodeEndpoint:
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: String | None = None


@dataclass(slots=True, kw_only=True)
class FetchResponse:
    throttle_time_ms: Int32 = 0
    error_code: Int16 = wire("7+", default=0)
    session_id: Int32 = wire("7+", default=0)
    responses: list[FetchableTopicResponse] = array()
    node_endpoints: list[NodeEndpoint] = array("16+", tag=0)
