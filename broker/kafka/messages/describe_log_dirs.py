"""DescribeLogDirs (key 35), versions 1-4: what lies in a broker's directories (KIP-113)."""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int16, Int32, Int64, String, array, wire


@dataclass(slots=True, kw_only=True)
class DescribableLogDirTopic:
    topic: String = ""
    partitions: list[Int32] = array()


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsRequest:
    topics: list[DescribableLogDirTopic] | None = None


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsPartition:
    partition_index: Int32 = 0
    partition_size: Int64 = 0
    offset_lag: Int64 = 0
    is_future_key: Bool = False


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsTopic:
    name: String = ""
    partitions: list[DescribeLogDirsPartition] = array()


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsResult:
    error_code: Int16 = 0
    log_dir: String = ""
    topics: list[DescribeLogDirsTopic] = array()
    total_bytes: Int64 = wire("4+", default=-1)
    usable_bytes: Int64 = wire("4+", default=-1)


@dataclass(slots=True, kw_only=True)
class DescribeLogDirsResponse:
    throttle_time_ms: Int32 = 0
    error_code: Int16 = wire("3+", default=0)
    results: list[DescribeLogDirsResult] = array()
