"""JoinGroup (key 11), versions 0-9: a member enters the next generation of its group.

Version 4 wants a second try with the member id that was given (KIP-394); 5 has static members
(KIP-345); 9 lets the leader skip its assignment (KIP-814).
"""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Bytes, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class JoinGroupRequestProtocol:
    name: String = ""
    metadata: Bytes = b""


@dataclass(slots=True, kw_only=True)
class JoinGroupRequest:
    group_id: String = ""
    session_timeout_ms: Int32 = 0
    rebalance_timeout_ms: Int32 = wire("1+", default=-1)
    member_id: String = ""
    group_instance_id: String | None = wire("5+", default=None)
    protocol_type: String = ""
    protocols: list[JoinGroupRequestProtocol] = array()
    reason: String | None = wire("8+", default=None)


@dataclass(slots=True, kw_only=True)
class JoinGroupResponseMember:
    member_id: String = ""
    group_instance_id: String | None = wire("5+", default=None)
    metadata: Bytes = b""


@dataclass(slots=True, kw_only=True)
class JoinGroupResponse:
    throttle_time_ms: Int32 = wire("2+", default=0)
    error_code: Int16 = 0
    generation_id: Int32 = -1
    protocol_type: String | None = wire("7+", default=None)
    protocol_name: String | None = wire("0+", default="", nullable="7+")
    leader: String = ""
    skip_assignment: Bool = wire("9+", default=False)
    member_id: String = ""
    members: list[JoinGroupResponseMember] = array()
