"""DescribeConfigs (key 32), versions 1-4: configs, and where they come from."""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int8, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResource:
    resource_type: Int8 = 0
    resource_name: String = ""
    configuration_keys: list[String] | None = None


@dataclass(slots=True, kw_only=True)
class DescribeConfigsRequest:
    resources: list[DescribeConfigsResource] = array()
    include_synonyms: Bool = False
    include_documentation: Bool = wire("3+", default=False)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsSynonym:
    name: String = ""
    value: String | None = None
    source: Int8 = 0


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResourceResult:
    name: String = ""
    value: String | None = None
    read_only: Bool = False
    config_source: Int8 = -1
    is_sensitive: Bool = False
    synonyms: list[DescribeConfigsSynonym] = array()
    config_type: Int8 = wire("3+", default=0)
    documentation: String | None = wire("3+", default=None)


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResult:
    error_code: Int16 = 0
    error_message: String | None = None
    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[DescribeConfigsResourceResult] = array()


@dataclass(slots=True, kw_only=True)
class DescribeConfigsResponse:
    throttle_time_ms: Int32 = 0
    results: list[DescribeConfigsResult] = array()
