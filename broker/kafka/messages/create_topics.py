"""CreateTopics (key 19), versions 2-7: new topics; from 5 the answer describes them (KIP-525)."""

from dataclasses import dataclass

from broker.kafka.schema import ZERO_UUID, Bool, Int8, Int16, Int32, String, Uuid, array, wire


@dataclass(slots=True, kw_only=True)
class CreatableReplicaAssignment:
    partition_index: Int32 = 0
    broker_ids: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class CreatableTopicConfig:
    name: String = ""
    value: String | None = None


@dataclass(slots=True, kw_only=True)
class CreatableTopic:
    name: String = ""
    num_partitions: Int32 = 0
    replication_factor: Int16 = 0
    assignments: list[CreatableReplicaAssignment] = array()
    configs: list[CreatableTopicConfig] = array()


@dataclass(slots=True, kw_only=True)
class CreateTopicsRequest:
    topics: list[CreatableTopic] = array()
    timeout_ms: Int32 = 60000
    validate_only: Bool = False


@dataclass(slots=True, kw_only=True)
class CreatableTopicConfigs:
    name: String = ""
    value: String | None = None
    read_only: Bool = False
    config_source: Int8 = -1
    is_sensitive: Bool = False


@dataclass(slots=True, kw_only=True)
class CreatableTopicResult:
    name: String = ""
    topic_id: Uuid = wire("7+", default=ZERO_UUID)
    error_code: Int16 = 0
    error_message: String | None = None
    topic_config_error_code: Int16 = wire("5+", default=0, tag=0)
    num_partitions: Int32 = wire("5+", default=-1)
    replication_factor: Int16 = wire("5+", default=-1)
    configs: list[CreatableTopicConfigs] | None = wire("5+", default=None)


@dataclass(slots=True, kw_only=True)
class CreateTopicsResponse:
    throttle_time_ms: Int32 = 0
    topics: list[CreatableTopicResult] = array()
