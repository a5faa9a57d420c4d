"""UpdateFeatures (key 57): the active controller decides, this broker waits (KIP-584, KIP-778).

All or none: until version 1 each feature has a row, and all rows say the same.
"""

from broker.api.changes import change, request_id
from broker.api.context import BrokerServices, RequestContext
from broker.kafka.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from klamm.errors import ApiError, ErrorCode
from klamm.v1 import admin_pb2 as pb

TYPES_VERSION = 1
"""How a level may change has a type from here on; before, that it may fall was a yes or no."""

_TYPES = {
    1: pb.FEATURE_UPGRADE_TYPE_UPGRADE,
    2: pb.FEATURE_UPGRADE_TYPE_SAFE_DOWNGRADE,
    3: pb.FEATURE_UPGRADE_TYPE_UNSAFE_DOWNGRADE,
}
"""By Kafka's numbers."""


async def update(
    services: BrokerServices, context: RequestContext, request: UpdateFeaturesRequest
) -> UpdateFeaturesResponse:
    """Answered once this broker's image has the levels."""
    code, message = ErrorCode.NONE, None
    try:
        wire = pb.UpdateFeaturesRequest(
            updates=[_update(each, context.api_version) for each in request.feature_updates],
            validate_only=request.validate_only,
            principal=context.principal,
            request_id=request_id(context),
        )

        async def call(timeout_ms: int) -> pb.UpdateFeaturesResponse:
            wire.timeout_ms = timeout_ms
            return await services.controllers.update_features(wire, timeout_ms=timeout_ms)

        await change(services, request.timeout_ms, call)
    except ApiError as error:
        code, message = error.code, error.message
    return UpdateFeaturesResponse(
        error_code=code,
        error_message=message,
        results=[
            UpdatableFeatureResult(feature=each.feature, error_code=code, error_message=message)
            for each in request.feature_updates
        ],
    )


def _update(asked: FeatureUpdateKey, version: int) -> pb.FeatureUpdate:
    name, level, kind = asked.feature, asked.max_version_level, asked.upgrade_type
    if version < TYPES_VERSION:
        kind = 2 if asked.allow_downgrade else 1
    if kind not in _TYPES:
        raise ApiError(ErrorCode.INVALID_UPDATE_VERSION, f"{name}: no upgrade type {kind}")
    if level < 0:
        raise ApiError(ErrorCode.INVALID_UPDATE_VERSION, f"{name}: {level} is less than 0")
    return pb.FeatureUpdate(feature=name, level=level, upgrade_type=_TYPES[kind])
