"""Which levels of features are in force (KIP-584, KIP-778; spec kraft 2.13, row 182).

    asked, image, what all nodes support ──update──▶ a FeatureLevelRecord a change, or why not

All or none. A level is put in force only if everybody who follows this log can work with it: who
cannot would stop. One whose node does not say what it supports is of an earlier version.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from controller.plan.decision import Decision
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId
from klamm.metadata.features import (
    AT_MOST_IF_UNSAID,
    METADATA_VERSION,
    RECORDS_SINCE,
    Supported,
    lacking,
)
from klamm.metadata.records import FeatureLevelRecord


class UpgradeType(IntEnum):
    """Kafka's numbers."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(NamedTuple):
    feature: str
    level: int
    """0 removes the feature."""
    upgrade_type: UpgradeType = UpgradeType.UPGRADE


class FeatureChange(NamedTuple):
    feature: str
    level_before: int
    level: int


class Support(NamedTuple):
    """What the nodes can work with, but brokers, whose registrations the image has."""

    own: Supported
    voters: Mapping[NodeId, Supported | None]
    """Of the others; None: it did not say in time."""


def update(
    view: View, asked: Sequence[FeatureUpdate], support: Support, *, validate_only: bool = False
) -> Decision[tuple[FeatureChange, ...]]:
    """Put levels in force. One that is in force already writes nothing.

    Raises:
        ApiError: INVALID_UPDATE_VERSION: somebody does not support a level, or it may not fall;
            FEATURE_UPDATE_FAILED: it is not known whether all support it.
    """
    changes = []
    for each in asked:
        before = view.image.features.get(each.feature, 0)
        changes.append(FeatureChange(each.feature, before, each.level))
        if each.level != before:
            _check_direction(each, before)
            _check_supported(view, each, support)
    records = tuple(
        FeatureLevelRecord(name=each.feature, level=each.level)
        for each in changes
        if each.level != each.level_before
    )
    return Decision(() if validate_only else records, tuple(changes))


def refuse_unsupported(view: View, broker_id: NodeId, features: Supported) -> None:
    """May a broker that supports these register?

    One that says nothing may support what is in force, if versions that did not say so could; if it
    does not, it stops by itself when it has read the log.

    Raises:
        ApiError: UNSUPPORTED_VERSION.
    """
    for name, level in sorted(view.image.features.items()):
        if why := lacking(features or AT_MOST_IF_UNSAID, name, level):
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"{name} {level} is in force, and broker {broker_id} {why}; start a version that "
                "does",
            )


def _check_direction(asked: FeatureUpdate, before: int) -> None:
    name, level, kind = asked
    if level > before:
        if kind is not UpgradeType.UPGRADE:
            raise _invalid(f"{name} is at {before}: {level} would be no downgrade")
        return
    if kind is UpgradeType.UPGRADE:
        raise _invalid(
            f"{name} is at {before}: {level} would be a downgrade, and is not asked as one"
        )
    if name == METADATA_VERSION:
        _check_metadata_downgrade(level, before, kind)


def _check_metadata_downgrade(level: int, before: int, kind: UpgradeType) -> None:
    """Safe is what no record stands against: who supports `level` may not read those above it."""
    if kind is UpgradeType.UNSAFE_DOWNGRADE:
        raise _invalid(f"an unsafe downgrade of {METADATA_VERSION} is not supported")
    lost = [record for since, record in sorted(RECORDS_SINCE.items()) if level < since <= before]
    if lost:
        raise _invalid(
            f"{METADATA_VERSION} stays at {before}: the log may hold what a node of level {level} "
            f"cannot read ({', '.join(lost)})"
        )


def _check_supported(view: View, asked: FeatureUpdate, support: Support) -> None:
    name, level, _ = asked
    if level == 0 and name != METADATA_VERSION:
        return  # Nothing of it is needed.
    if why := lacking(support.own, name, level):
        raise _invalid(f"{name} {level}: this controller {why}")
    for voter, features in sorted(support.voters.items()):
        if features is None:
            raise ApiError(
                ErrorCode.FEATURE_UPDATE_FAILED,
                f"{name} {level}: controller {voter} votes, and does not say what it supports: it "
                "must be up",
            )
        _check_node(f"controller {voter}", features, name, level)
    for broker_id, broker in sorted(view.image.brokers.items()):
        _check_node(f"broker {broker_id}", broker.features, name, level)


def _check_node(who: str, features: Supported, name: str, level: int) -> None:
    if not features:
        raise _invalid(
            f"{name} {level}: {who} is of a version that does not say what it supports; start it "
            "with a later one first"
        )
    if why := lacking(features, name, level):
        raise _invalid(f"{name} {level}: {who} {why}")


def _invalid(why: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_UPDATE_VERSION, why)
