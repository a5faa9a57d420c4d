"""Heartbeat (key 12), versions 0-4: a group's member is alive."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, String, wire


@dataclass(slots=True, kw_only=True)
class HeartbeatRequest:
    group_id: String = ""
    generation_id: Int32 = 0
    member_id: String = ""
    group_instance_id: String | None = wire("3+", default=None)


@dataclass(slots=True, kw_only=True)
class HeartbeatResponse:
    throttle_time_ms: Int32 = wire("1+", default=0)
    error_code: Int16 = 0
