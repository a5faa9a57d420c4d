"""DeleteGroups (key 42), versions 0-2: forget empty groups (KIP-229)."""

from dataclasses import dataclass

from broker.kafka.schema import Int16, Int32, String, array


@dataclass(slots=True, kw_only=True)
class DeleteGroupsRequest:
    groups_names: list[String] = array()


@dataclass(slots=True, kw_only=True)
class DeletableGroupResult:
    group_id: String = ""
    error_code: Int16 = 0


@dataclass(slots=True, kw_only=True)
class DeleteGroupsResponse:
    throttle_time_ms: Int32 = 0
    results: list[DeletableGroupResult] = array()
