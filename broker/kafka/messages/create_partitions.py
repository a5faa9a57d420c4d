"""CreatePartitions (key 37), versions 0-3: more partitions for topics that exist (KIP-195)."""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int16, Int32, String, array


@dataclass(slots=True, kw_only=True)
class CreatePartitionsAssignment:
    broker_ids: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class CreatePartitionsTopic:
    name: String = ""
    count: Int32 = 0
    assignments: list[CreatePartitionsAssignment] | None = None


@dataclass(slots=True, kw_only=True)
class CreatePartitionsRequest:
    topics: list[CreatePartitionsTopic] = array()
    timeout_ms: Int32 = 0
    validate_only: Bool = False


@dataclass(slots=True, kw_only=True)
class CreatePartitionsTopicResult:
    name: String = ""
    error_code: Int16 = 0
    error_message: String | None = None


@dataclass(slots=True, kw_only=True)
class CreatePartitionsResponse:
    throttle_time_ms: Int32 = 0
    results: list[CreatePartitionsTopicResult] = array()
