"""DeleteTopics (key 20), versions 1-6: topics by name; from 6 in `topics`, also by id (KIP-516)."""

from dataclasses import dataclass

from broker.kafka.schema import ZERO_UUID, Int16, Int32, String, Uuid, array, wire


@dataclass(slots=True, kw_only=True)
class DeleteTopicState:
    name: String | None = None
    topic_id: Uuid = ZERO_UUID


@dataclass(slots=True, kw_only=True)
class DeleteTopicsRequest:
    topics: list[DeleteTopicState] = array("6+")
    topic_names: list[String] = array("0-5")
    timeout_ms: Int32 = 0


@dataclass(slots=True, kw_only=True)
class DeletableTopicResult:
    name: String | None = wire("0+", default="", nullable="6+")
    topic_id: Uuid = wire("6+", default=ZERO_UUID)
    error_code: Int16 = 0
    error_message: String | None = wire("5+", default=None)


@dataclass(slots=True, kw_only=True)
class DeleteTopicsResponse:
    throttle_time_ms: Int32 = 0
    responses: list[DeletableTopicResult] = array()
