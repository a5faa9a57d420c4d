"""ListGroups (key 16), versions 0-5: the groups that a broker coordinates."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class ListGroupsRequest:
    states_filter: list[String] = array("4+")
    types_filter: list[String] = array("5+")


@dataclass(slots=True, kw_only=True)
class ListedGroup:
    group_id: String = ""
    protocol_type: String = ""
    group_state: String = wire("4+", default="")
    group_type: String = wire("5+", default="")


@dataclass(slots=True, kw_only=True)
class ListGroupsResponse:
    throttle_time_ms: Int32 = wire("1+", default=0)
    error_code: Int16 = 0
    groups: list[ListedGroup] = array()
