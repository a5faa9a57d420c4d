"""SyncGroup (key 14), versions 0-5: the group leader's assignment goes out to the members."""

from dataclasses import dataclass

from broker.kafka.schema import Bytes, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class SyncGroupRequestAssignment:
    member_id: String = ""
    assignment: Bytes = b""


@dataclass(slots=True, kw_only=True)
class SyncGroupRequest:
    group_id: String = ""
    generation_id: Int32 = 0
    member_id: String = ""
    group_instance_id: String | None = wire("3+", default=None)
    protocol_type: String | None = wire("5+", default=None)
    protocol_name: String | None = wire("5+", default=None)
    assignments: list[SyncGroupRequestAssignment] = array()


@dataclass(slots=True, kw_only=True)
class SyncGroupResponse:
    throttle_time_ms: Int32 = wire("1+", default=0)
    error_code: Int16 = 0
    protocol_type: String | None = wire("5+", default=None)
    protocol_name: String | None = wire("5+", default=None)
    assignment: Bytes = b""
