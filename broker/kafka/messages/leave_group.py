"""LeaveGroup (key 13), versions 0-5: members leave; from version 3 several at once (KIP-345)."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class MemberIdentity:
    member_id: String = ""
    group_instance_id: String | None = None
    reason: String | None = wire("5+", default=None)


@dataclass(slots=True, kw_only=True)
class LeaveGroupRequest:
    group_id: String = ""
    member_id: String = wire("0-2", default="")
    members: list[MemberIdentity] = array("3+")


@dataclass(slots=True, kw_only=True)
class MemberResponse:
    member_id: String = ""
    group_instance_id: String | None = None
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class LeaveGroupResponse:
    throttle_time_ms: Int32 = wire("1+", default=0)
    error_code: Int16 = 0
    members: list[MemberResponse] = array("3+")
