"""ApiVersions (key 18): what this broker serves, as the registry has it.

The first request of most connections, so the rows are made once. From version 3 on it tells which
levels of features this broker supports, and which are in force as of which offset. Versions before
4 must not list features whose minimum is 0, and there is none.

Source: KIP-511, KIP-584.
"""

import re
from collections.abc import Iterable

from broker.api.context import BrokerServices, Handler, RequestContext
from broker.kafka.api import Api
from broker.kafka.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from klamm.errors import ErrorCode
from klamm.metadata.features import supported
from klamm.metadata.image import MetadataImage

SOFTWARE_VERSION = 3
"""The first version in which the client says what it is."""

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handler(advertised: Iterable[Api]) -> Handler:
    """A handler that answers with these APIs."""
    rows = _rows(advertised)
    refusal = ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)

    def handle(
        services: BrokerServices, context: RequestContext, request: ApiVersionsRequest
    ) -> ApiVersionsResponse:
        """Answer, unless the client's name for itself is none (KIP-511)."""
        if context.api_version >= SOFTWARE_VERSION and not _is_named(request):
            return refusal
        return _response(rows, services.image)

    return handle


def _response(rows: list[ApiVersion], image: MetadataImage) -> ApiVersionsResponse:
    response = ApiVersionsResponse(
        api_keys=rows,
        supported_features=[
            SupportedFeatureKey(name=name, min_version=low, max_version=high)
            for name, low, high in supported()
        ],
    )
    if image.features:
        response.finalized_features_epoch = image.provenance.offset
        response.finalized_features = [
            FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
            for name, level in sorted(image.features.items())
        ]
    return response


def unsupported_version_response(advertised: Iterable[Api]) -> ApiVersionsResponse:
    """For a version that is not served here, in version 0: all that is served (KIP-511)."""
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=_rows(advertised))


def _rows(advertised: Iterable[Api]) -> list[ApiVersion]:
    return [
        ApiVersion(api_key=each.key, min_version=each.min_version, max_version=each.max_version)
        for each in advertised
    ]


def _is_named(request: ApiVersionsRequest) -> bool:
    return bool(
        _SOFTWARE.fullmatch(request.client_software_name)
        and _SOFTWARE.fullmatch(request.client_software_version)
    )
