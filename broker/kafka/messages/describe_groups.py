"""DescribeGroups (key 15), versions 0-5: states and members of groups."""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Bytes, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class DescribeGroupsRequest:
    groups: list[String] = array()
    include_authorized_operations: Bool = wire("3+", default=False)


@dataclass(slots=True, kw_only=True)
class DescribedGroupMember:
    member_id: String = ""
    group_instance_id: String | None = wire("4+", default=None)
    client_id: String = ""
    client_host: String = ""
    member_metadata: Bytes = b""
    member_assignment: Bytes = b""


@dataclass(slots=True, kw_only=True)
class DescribedGroup:
    error_code: Int16 = 0
    group_id: String = ""
    group_state: String = ""
    protocol_type: String = ""
    protocol_data: String = ""
    members: list[DescribedGroupMember] = array()
    authorized_operations: Int32 = wire("3+", default=-2147483648)


@dataclass(slots=True, kw_only=True)
class DescribeGroupsResponse:
    throttle_time_ms: Int32 = wire("1+", default=0)
    groups: list[DescribedGroup] = array()
