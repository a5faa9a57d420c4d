"""IncrementalAlterConfigs (key 44), versions 0-1: set, delete, append, subtract (KIP-339)."""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int8, Int16, Int32, String, array


@dataclass(slots=True, kw_only=True)
class AlterableConfig:
    name: String = ""
    config_operation: Int8 = 0
    value: String | None = None


@dataclass(slots=True, kw_only=True)
class AlterConfigsResource:
    resource_type: Int8 = 0
    resource_name: String = ""
    configs: list[AlterableConfig] = array()


@dataclass(slots=True, kw_only=True)
class IncrementalAlterConfigsRequest:
    resources: list[AlterConfigsResource] = array()
    validate_only: Bool = False


@dataclass(slots=True, kw_only=True)
class AlterConfigsResourceResponse:
    error_code: Int16 = 0
    error_message: String | None = None
    resource_type: Int8 = 0
    resource_name: String = ""


@dataclass(slots=True, kw_only=True)
class IncrementalAlterConfigsResponse:
    throttle_time_ms: Int32 = 0
    responses: list[AlterConfigsResourceResponse] = array()
