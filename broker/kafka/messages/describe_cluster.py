"""DescribeCluster (key 60), versions 0-2: the nodes of a cluster (KIP-700)."""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int8, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class DescribeClusterRequest:
    include_cluster_authorized_operations: Bool = False
    endpoint_type: Int8 = wire("1+", default=1)
    include_fenced_brokers: Bool = wire("2+", default=False)


@dataclass(slots=True, kw_only=True)
class DescribeClusterBroker:
    broker_id: Int32 = 0
    host: String = ""
    port: Int32 = 0
    rack: String | None = None
    is_fenced: Bool = wire("2+", default=False)


@dataclass(slots=True, kw_only=True)
class DescribeClusterResponse:
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: String | None = None
    endpoint_type: Int8 = wire("1+", default=1)
    cluster_id: String = ""
    controller_id: Int32 = -1
    brokers: list[DescribeClusterBroker] = array()
    cluster_authorized_operations: Int32 = -2147483648
