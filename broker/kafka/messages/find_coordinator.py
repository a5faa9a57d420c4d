"""FindCoordinator (key 10), versions 0-6: which broker coordinates a group or a transaction.

One key up to version 3, several in `coordinator_keys` and `coordinators` from 4 (KIP-699).
`key_type` is 0 for a group, 1 for a transactional id, 2 for a share group (6, KIP-932).
"""

from dataclasses import dataclass

from broker.kafka.schema import Int8, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class FindCoordinatorRequest:
    key: String = wire("0-3", default="")
    key_type: Int8 = wire("1+", default=0)
    coordinator_keys: list[String] = array("4+")


@dataclass(slots=True, kw_only=True)
class Coordinator:
    key: String = ""
    node_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    error_code: Int16 = 0
    error_message: String | None = None


@dataclass(slots=True, kw_only=True)
class FindCoordinatorResponse:
    throttle_time_ms: Int32 = wire("1+", default=0)
    error_code: Int16 = wire("0-3", default=0)
    error_message: String | None = wire("1-3", default=None)
    node_id: Int32 = wire("0-3", default=0)
    host: String = wire("0-3", default="")
    port: Int32 = wire("0-3", default=0)
    coordinators: list[Coordinator] = array("4+")
