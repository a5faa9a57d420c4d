"""ApiVersions (key 18), versions 0-4: which APIs a node serves, in which versions.

The first request on most connections. The response header is version 0 always, since the client
does not know yet what the node can do; an unknown version is answered in version 0 (KIP-511).
Features (3, KIP-584) are tagged.
"""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int16, Int32, Int64, String, array, wire


@dataclass(slots=True, kw_only=True)
class ApiVersionsRequest:
    client_software_name: String = wire("3+", default="")
    client_software_version: String = wire("3+", default="")


@dataclass(slots=True, kw_only=True)
class ApiVersion:
    api_key: Int16 = 0
    min_version: Int16 = 0
    max_version: Int16 = 0


@dataclass(slots=True, kw_only=True)
class SupportedFeatureKey:
    name: String = ""
    min_version: Int16 = 0
    max_version: Int16 = 0


@dataclass(slots=True, kw_only=True)
class FinalizedFeatureKey:
    name: String = ""
    max_version_level: Int16 = 0
    min_version_level: Int16 = 0


@dataclass(slots=True, kw_only=True)
class ApiVersionsResponse:
    error_code: Int16 = 0
    api_keys: list[ApiVersion] = array()
    throttle_time_ms: Int32 = wire("1+", default=0)
    supported_features: list[SupportedFeatureKey] = array("3+", tag=0)
    finalized_features_epoch: Int64 = wire("3+", default=-1, tag=1)
    finalized_features: list[FinalizedFeatureKey] = array("3+", tag=2)
    zk_migration_ready: Bool = wire("3+", default=False, tag=3)
