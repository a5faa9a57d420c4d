"""UpdateFeatures (key 57), versions 0-2: which levels of features are in force (KIP-584, KIP-778).

Until version 1 each feature has a result of its own; what becomes of them is the same for all.
"""

from dataclasses import dataclass

from broker.kafka.schema import Bool, Int8, Int16, Int32, String, array, wire


@dataclass(slots=True, kw_only=True)
class FeatureUpdateKey:
    feature: String = ""
    max_version_level: Int16 = 0
    allow_downgrade: Bool = wire("0", default=False)
    upgrade_type: Int8 = wire("1+", default=1)


@dataclass(slots=True, kw_only=True)
class UpdateFeaturesRequest:
    timeout_ms: Int32 = 60_000
    feature_updates: list[FeatureUpdateKey] = array()
    validate_only: Bool = wire("1+", default=False)


@dataclass(slots=True, kw_only=True)
class UpdatableFeatureResult:
    feature: String = ""
    error_code: Int16 = 0
    error_message: String | None = None


@dataclass(slots=True, kw_only=True)
class UpdateFeaturesResponse:
    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: String | None = None
    results: list[UpdatableFeatureResult] = array("0-1")
