"""Produce (key 0), versions 0-11: record batches from a producer to a leader.

No response is sent for `acks` 0. Versions: 3 is the first with record batches of magic 2, and those
before it are read only to be refused (see `PRODUCE_MIN_VERSION`); 9 is flexible; 10 tells the
current leader (KIP-951); 11 may answer TRANSACTION_ABORTABLE (KIP-890).
"""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, Int64, Records, String, array, wire


@dataclass(slots=True, kw_only=True)
class PartitionProduceData:
    index: Int32 = 0
    records: Records | None = b""


@dataclass(slots=True, kw_only=True)
class TopicProduceData:
    name: String = ""
    partition_data: list[PartitionProduceData] = array()


@dataclass(slots=True, kw_only=True)
class ProduceRequest:
    transactional_id: String | None = wire("3+", default=None)
    acks: Int16 = 0
    timeout_ms: Int32 = 0
    topic_data: list[TopicProduceData] = array()


@dataclass(slots=True, kw_only=True)
class BatchIndexAndErrorMessage:
    batch_index: Int32 = 0
    batch_index_error_message: String | None = None


@dataclass(slots=True, kw_only=True)
class LeaderIdAndEpoch:
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1


@dataclass(slots=True, kw_only=True)
class PartitionProduceResponse:
    index: Int32 = 0
    error_code: Int16 = 0
    base_offset: Int64 = 0
    log_append_time_ms: Int64 = wire("2+", default=-1)
    log_start_offset: Int64 = wire("5+", default=-1)
    record_errors: list[BatchIndexAndErrorMessage] = array("8+")
    error_message: String | None = wire("8+", default=None)
    current_leader: LeaderIdAndEpoch | None = wire("10+", default=None, tag=0)


@dataclass(slots=True, kw_only=True)
class TopicProduceResponse:
    name: String = ""
    partition_responses: list[PartitionProduceResponse] = array()


@dataclass(slots=True, kw_only=True)
class NodeEndpoint:
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: String | None = None


@dataclass(slots=True, kw_only=True)
class ProduceResponse:
    responses: list[TopicProduceResponse] = array()
    throttle_time_ms: Int32 = wire("1+", default=0)
    node_endpoints: list[NodeEndpoint] = array("10+", tag=0)
