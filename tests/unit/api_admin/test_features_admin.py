"""UpdateFeatures, and the features that ApiVersions tells (KIP-584; row 182)."""

from typing import Any

import pytest

from broker.api import api_versions
from broker.api.context import RequestContext
from broker.kafka import codec
from broker.kafka.api import ApiKey, served
from broker.kafka.messages.api_versions import ApiVersionsRequest
from broker.kafka.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from klamm.errors import ApiError, ErrorCode, UnreachableError
from klamm.metadata.features import METADATA_VERSION, supported
from klamm.metadata.records import FeatureLevelRecord
from tests.unit.api_admin.asking import ask, versions
from tests.unit.api_admin.one_broker import OneBroker

UPDATE, TOLD = ApiKey.UPDATE_FEATURES, ApiKey.API_VERSIONS


def told(one: OneBroker, version: int) -> Any:
    context = RequestContext(
        api_key=TOLD,
        api_version=version,
        client_id="test",
        principal="User:ANONYMOUS",
        listener="PLAINTEXT",
        client_host="127.0.0.1",
    )
    handle = api_versions.handler(served([TOLD]).values())
    named = ApiVersionsRequest(client_software_name="a", client_software_version="1")
    answer = handle(one.services, context, named)
    written = b"".join(codec.encode_response(TOLD, version, answer))
    return codec.decode_response(TOLD, version, memoryview(written))


def update(level: int, *, upgrade_type: int = 1, down: bool = False) -> FeatureUpdateKey:
    return FeatureUpdateKey(
        feature=METADATA_VERSION,
        max_version_level=level,
        upgrade_type=upgrade_type,
        allow_downgrade=down,
    )


@pytest.mark.parametrize("version", versions(TOLD))
async def test_what_is_supported_and_in_force_is_told(one: OneBroker, version: int) -> None:
    one.metadata.write(FeatureLevelRecord(name=METADATA_VERSION, level=22))
    answer = told(one, version)
    if version < 3:
        assert answer.supported_features == answer.finalized_features == []
        return
    rows = [(each.name, each.min_version, each.max_version) for each in answer.supported_features]
    assert rows == list(supported())
    assert all(low > 0 for _, low, _ in rows), "version 3 must not list others"
    (row,) = answer.finalized_features
    assert (row.name, row.min_version_level, row.max_version_level) == (METADATA_VERSION, 22, 22)
    assert answer.finalized_features_epoch == one.metadata.image.provenance.offset


async def test_without_any_in_force_there_is_no_epoch(one: OneBroker) -> None:
    answer = told(one, 4)
    assert answer.finalized_features_epoch == -1
    assert not answer.finalized_features
    assert answer.supported_features


@pytest.mark.parametrize("version", versions(UPDATE))
async def test_levels_are_put_in_force(one: OneBroker, version: int) -> None:
    request = UpdateFeaturesRequest(timeout_ms=5_000, feature_updates=[update(23)])
    answer = await ask(one, UPDATE, request, version)
    assert (answer.error_code, answer.error_message) == (0, None)
    rows = [(each.feature, each.error_code) for each in answer.results]
    assert rows == ([(METADATA_VERSION, 0)] if version < 2 else [])
    assert one.metadata.image.features[METADATA_VERSION] == 23
    assert one.metadata.waited, "this broker's image has it"
    (asked,) = one.controllers.asked
    assert asked.principal == "User:ANONYMOUS"
    assert asked.request_id == "test at 127.0.0.1"
    assert asked.updates[0].upgrade_type == 1
    assert not asked.validate_only


async def test_a_dry_run_is_one(one: OneBroker) -> None:
    request = UpdateFeaturesRequest(feature_updates=[update(23)], validate_only=True)
    assert (await ask(one, UPDATE, request)).error_code == 0
    assert METADATA_VERSION not in one.metadata.image.features


@pytest.mark.parametrize(
    ("version", "asked", "kind"),
    [
        (0, update(22), 1),
        (0, update(22, down=True), 2),
        (1, update(22, upgrade_type=2), 2),
        (2, update(22, upgrade_type=3), 3),
    ],
)
async def test_how_a_level_may_change(
    one: OneBroker, version: int, asked: FeatureUpdateKey, kind: int
) -> None:
    await ask(one, UPDATE, UpdateFeaturesRequest(feature_updates=[asked]), version)
    assert one.controllers.asked[0].updates[0].upgrade_type == kind


@pytest.mark.parametrize(
    ("asked", "failure", "code"),
    [
        (update(23, upgrade_type=0), None, ErrorCode.INVALID_UPDATE_VERSION),
        (update(-1), None, ErrorCode.INVALID_UPDATE_VERSION),
        (
            update(23),
            ApiError(ErrorCode.INVALID_UPDATE_VERSION, "broker 2 does not"),
            ErrorCode.INVALID_UPDATE_VERSION,
        ),
        (update(23), UnreachableError("none"), ErrorCode.REQUEST_TIMED_OUT),
    ],
)
async def test_a_refusal_is_of_all(
    one: OneBroker, asked: FeatureUpdateKey, failure: Any, code: ErrorCode
) -> None:
    """At the top, and until version 1 in every row: clients look at one or the other."""
    one.controllers.failure = failure
    other = FeatureUpdateKey(feature="other.version", max_version_level=1)
    request = UpdateFeaturesRequest(feature_updates=[other, asked])
    for version in (1, 2):
        answer = await ask(one, UPDATE, request, version)
        assert answer.error_code == code
        assert answer.error_message
        rows = {(each.feature, each.error_code) for each in answer.results}
        expected = {("other.version", code), (METADATA_VERSION, code)}
        assert rows == (expected if version < 2 else set())
    assert not one.metadata.image.features
