"""InitProducerId (key 22), versions 0-5: a producer's id and epoch (KIP-98, KIP-360)."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, Int64, String, wire


@dataclass(slots=True, kw_only=True)
class InitProducerIdRequest:
    transactional_id: String | None = None
    transaction_timeout_ms: Int32 = 0
    producer_id: Int64 = wire("3+", default=-1)
    producer_epoch: Int16 = wire("3+", default=-1)


@dataclass(slots=True, kw_only=True)
class InitProducerIdResponse:
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    producer_id: Int64 = -1
    producer_epoch: Int16 = 0
