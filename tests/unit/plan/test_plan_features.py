"""Levels of features: who must support one, and which way it may go (rows 182, 144; KIP-584)."""

import re
from collections.abc import Mapping

import pytest

from controller.plan import brokers, features
from controller.plan.brokers import Registration
from controller.plan.features import FeatureChange, FeatureUpdate, Support, UpgradeType
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId, Offset
from klamm.metadata.features import (
    METADATA_VERSION,
    RECORDS_SINCE,
    RELEASES,
    Supported,
    SupportedFeature,
    lacking,
    supported,
)
from klamm.metadata.records import FeatureLevelRecord, RegisterBrokerRecord
from tests.unit.plan.views import registered, replayed

OTHER = "other.version"
BOTH = (SupportedFeature(METADATA_VERSION, 22, 23), SupportedFeature(OTHER, 1, 2))
FORMER = (SupportedFeature(METADATA_VERSION, 22, 22), SupportedFeature(OTHER, 1, 2))
UNSAID: Supported = ()
ALL = Support(BOTH, {NodeId(2): BOTH, NodeId(3): BOTH})
UPGRADE, SAFE, UNSAFE = UpgradeType


def view_at(*levels: tuple[str, int], of: Mapping[int, Supported] | None = None) -> View:
    """Brokers that said what they support, in a cluster with these levels in force."""
    records: list[RegisterBrokerRecord] = []
    for broker, said in (of or {1: BOTH, 2: BOTH}).items():
        record = registered(broker)
        assert isinstance(record, RegisterBrokerRecord)
        records.append(
            RegisterBrokerRecord(
                broker_id=record.broker_id,
                incarnation_id=record.incarnation_id,
                endpoints=record.endpoints,
                log_dirs=record.log_dirs,
                features=said,
            )
        )
    put = [FeatureLevelRecord(name=name, level=level) for name, level in levels]
    return replayed(View(), [*records, *put])


AT_22 = view_at((METADATA_VERSION, 22))
TO_23 = FeatureUpdate(METADATA_VERSION, 23)


def refused(view: View, *asked: FeatureUpdate, support: Support = ALL) -> tuple[ErrorCode, str]:
    with pytest.raises(ApiError) as raised:
        features.update(view, asked, support)
    return raised.value.code, raised.value.message


def test_a_level_that_all_support_is_put_in_force() -> None:
    decision = features.update(AT_22, (TO_23, FeatureUpdate(OTHER, 1)), ALL)
    assert decision.results == (
        FeatureChange(METADATA_VERSION, 22, 23),
        FeatureChange(OTHER, 0, 1),
    )
    view = replayed(AT_22, decision.records)
    assert dict(view.image.features) == {METADATA_VERSION: 23, OTHER: 1}


def test_a_dry_run_writes_nothing_and_says_the_same() -> None:
    decision = features.update(AT_22, (TO_23,), ALL, validate_only=True)
    assert not decision.records
    assert decision.results == features.update(AT_22, (TO_23,), ALL).results
    with pytest.raises(ApiError):
        features.update(AT_22, (FeatureUpdate(METADATA_VERSION, 24),), ALL, validate_only=True)


@pytest.mark.parametrize("kind", UpgradeType)
def test_what_is_so_already_is_no_change_whoever_supports_it(kind: UpgradeType) -> None:
    nobody = Support((), {NodeId(2): None})
    decision = features.update(AT_22, (FeatureUpdate(METADATA_VERSION, 22, kind),), nobody)
    assert not decision.records
    assert decision.results == (FeatureChange(METADATA_VERSION, 22, 22),)


@pytest.mark.parametrize(
    ("view", "support", "code", "why"),
    [
        (AT_22, Support(FORMER, ALL.voters), "INVALID", "this controller only supports"),
        (AT_22, Support((), ALL.voters), "INVALID", "this controller does not support the feature"),
        (AT_22, Support(BOTH, {NodeId(3): FORMER}), "INVALID", "controller 3 only .* 22 to 22"),
        (AT_22, Support(BOTH, {NodeId(3): UNSAID}), "INVALID", "controller 3 is of a version that"),
        (AT_22, Support(BOTH, {NodeId(3): None}), "FAILED", "controller 3 votes, and does not say"),
        (
            view_at((METADATA_VERSION, 22), of={1: BOTH, 2: FORMER}),
            ALL,
            "INVALID",
            "broker 2 only supports metadata.version from 22 to 22",
        ),
        (
            view_at((METADATA_VERSION, 22), of={1: UNSAID, 2: BOTH}),
            ALL,
            "INVALID",
            "broker 1 is of a version that does not say",
        ),
    ],
)
def test_who_does_not_support_it_is_named(
    view: View, support: Support, code: str, why: str
) -> None:
    """testUnsupportedBy: a fenced broker too, since it is registered and may come back."""
    found, message = refused(view, TO_23, support=support)
    assert found is getattr(
        ErrorCode, {"INVALID": "INVALID_UPDATE_VERSION", "FAILED": "FEATURE_UPDATE_FAILED"}[code]
    )
    assert re.search(why, message)
    assert message.startswith("metadata.version 23")


def test_all_or_none() -> None:
    assert refused(AT_22, TO_23, FeatureUpdate("nobody.knows", 1))[0] is (
        ErrorCode.INVALID_UPDATE_VERSION
    )
    assert refused(AT_22, FeatureUpdate(OTHER, 3), TO_23)[0] is ErrorCode.INVALID_UPDATE_VERSION


AT_23 = view_at((METADATA_VERSION, 23), (OTHER, 2))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (FeatureUpdate(METADATA_VERSION, 22), "would be a downgrade, and is not asked as one"),
        (FeatureUpdate(METADATA_VERSION, 22, SAFE), "stays at 23: .*22 cannot read .ConfigsRecord"),
        (FeatureUpdate(METADATA_VERSION, 22, UNSAFE), "an unsafe downgrade .* is not supported"),
        (FeatureUpdate(METADATA_VERSION, 0, SAFE), "stays at 23"),
        (FeatureUpdate(METADATA_VERSION, 24, SAFE), "24 would be no downgrade"),
        (FeatureUpdate(OTHER, 1), "would be a downgrade, and is not asked as one"),
    ],
)
def test_which_way_it_may_go(asked: FeatureUpdate, why: str) -> None:
    """testUpgrade, testSafeDowngrade, testUnsafeDowngrade."""
    code, message = refused(AT_23, asked)
    assert code is ErrorCode.INVALID_UPDATE_VERSION
    assert re.search(why, message)


@pytest.mark.parametrize("level", [0, 1])
def test_a_feature_with_nothing_in_the_log_may_fall(level: int) -> None:
    decision = features.update(AT_23, (FeatureUpdate(OTHER, level, SAFE),), ALL)
    image = replayed(AT_23, decision.records).image
    assert image.features.get(OTHER, 0) == level


def test_below_the_first_level_is_refused() -> None:
    """testCreateFeatureLevelRecords, below the lowest: also where no record stands against it."""
    code, message = refused(AT_22, FeatureUpdate(METADATA_VERSION, 21, SAFE))
    assert code is ErrorCode.INVALID_UPDATE_VERSION
    assert "only supports metadata.version from 22 to 23" in message
    assert refused(AT_22, FeatureUpdate(METADATA_VERSION, 0, SAFE))[0] is code


def test_what_this_version_says_of_itself() -> None:
    """Every level has the name that Kafka's tools use; those above the first may add records."""
    (own,) = (each for each in supported() if each.name == METADATA_VERSION)
    levels = range(own.min_level, own.max_level + 1)
    assert set(RELEASES) == set(levels)
    assert RECORDS_SINCE == {23: "ConfigsRecord"}, "what was written once is so for ever"
    assert set(RECORDS_SINCE) <= set(levels[1:])
    assert lacking(supported(), METADATA_VERSION, own.max_level) is None
    assert lacking(supported(), METADATA_VERSION, own.max_level + 1) is not None
    assert lacking(supported(), METADATA_VERSION, own.min_level - 1) is not None


def asks(said: Supported, broker: int = 9) -> Registration:
    record = registered(broker)
    assert isinstance(record, RegisterBrokerRecord)
    return Registration(
        broker_id=NodeId(broker),
        incarnation_id=record.incarnation_id,
        endpoints=record.endpoints,
        log_dirs=record.log_dirs,
        features=said,
    )


@pytest.mark.parametrize("said", [FORMER, BOTH[:1], UNSAID])
def test_a_broker_that_does_not_support_what_is_in_force_is_not_registered(said: Supported) -> None:
    """CCM#testRegistrationWithUnsupportedFeature, …MetadataVersion (144)."""
    with pytest.raises(ApiError, match="is in force, and broker 9") as raised:
        brokers.register(AT_23, asks(said), Offset(50), session_alive=False)
    assert raised.value.code is ErrorCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("said", [BOTH, UNSAID])
@pytest.mark.parametrize("level", [22, 23])
def test_what_a_broker_supports_is_in_its_registration(said: Supported, level: int) -> None:
    """Versions that did not say it yet knew metadata.version up to 23, and no other feature."""
    view = view_at((METADATA_VERSION, level))
    (record,) = brokers.register(view, asks(said), Offset(50), session_alive=False).records
    image = replayed(view, [record]).image
    assert image.brokers[NodeId(9)].features == said
