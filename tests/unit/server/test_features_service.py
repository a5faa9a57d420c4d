"""Features over real gRPC: refused at the door, asked in the domain's words, told (row 182)."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest
from immutables import Map

from controller.plan.features import FeatureChange, FeatureUpdate, UpgradeType
from controller.server import door, requests
from controller.server.admin_service import NAME, AdminService
from controller.server.metadata_service import NAME as METADATA
from controller.server.metadata_service import MetadataService
from controller.server.refusals import Refusals
from klamm.clock import SystemClock
from klamm.errors import ApiError, ErrorCode, KlammError
from klamm.ids import NodeId, Offset
from klamm.metadata.features import METADATA_VERSION, SupportedFeature
from klamm.rpc.status import BadRequestError, from_call
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import controller_pb2 as control
from klamm.v1 import metadata_pb2 as pb
from klamm.v1 import records_pb2
from klamm.v1.admin_pb2_grpc import AdminServiceStub, add_AdminServiceServicer_to_server
from klamm.v1.metadata_pb2_grpc import MetadataServiceStub, add_MetadataServiceServicer_to_server
from tests.unit.server.fakes import FakeMetadata, FakeQuorum, an_image, serving

LOCAL = pb.Consistency(level=pb.CONSISTENCY_LEVEL_LOCAL)
ID = b"0123456789abcdef"
ENDPOINT = records_pb2.Endpoint(name="PLAINTEXT", host="b1", port=9092)


class FakeFeatures:
    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.failure: KlammError | None = None

    async def update(self, *given: Any, validate_only: bool) -> Any:
        self.asked.append((*given, validate_only))
        if self.failure is not None:
            raise self.failure
        return (FeatureChange(METADATA_VERSION, 22, 23),), Offset(9)


@pytest.fixture
def features() -> FakeFeatures:
    return FakeFeatures()


@pytest.fixture
async def stub(features: FakeFeatures) -> AsyncIterator[AdminServiceStub]:
    quorum = FakeQuorum()
    service = AdminService(None, quorum, None, features, Refusals(quorum))  # type: ignore[arg-type]
    async with serving(
        NAME, lambda server: add_AdminServiceServicer_to_server(service, server)
    ) as channel:
        yield AdminServiceStub(channel)


def update(*updates: admin.FeatureUpdate) -> admin.UpdateFeaturesRequest:
    return admin.UpdateFeaturesRequest(updates=updates)


ONE = admin.FeatureUpdate(feature="a", level=1)


async def test_asked_and_answered(stub: AdminServiceStub, features: FakeFeatures) -> None:
    request = update(
        ONE,
        admin.FeatureUpdate(feature="b", upgrade_type=admin.FEATURE_UPGRADE_TYPE_UNSAFE_DOWNGRADE),
    )
    request.principal, request.validate_only = "User:eve", True
    answer = await stub.UpdateFeatures(request)
    assert answer.committed_offset == 9
    (row,) = answer.features
    assert (row.feature, row.level_before, row.level) == (METADATA_VERSION, 22, 23)
    ((asked, cause, timeout_ms, validate_only),) = features.asked
    assert asked == (
        FeatureUpdate("a", 1, UpgradeType.UPGRADE),
        FeatureUpdate("b", 0, UpgradeType.UNSAFE_DOWNGRADE),
    )
    assert (cause.principal, cause.request) == ("User:eve", "UpdateFeatures")
    assert (timeout_ms, validate_only) == (30_000, True)


async def test_refused(stub: AdminServiceStub, features: FakeFeatures) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.UpdateFeatures(update())
    found = from_call(caught.value)
    assert isinstance(found, BadRequestError)
    assert list(found.violations) == ["updates"]
    assert not features.asked
    features.failure = ApiError(ErrorCode.INVALID_UPDATE_VERSION, "broker 2 does not")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.UpdateFeatures(update(ONE))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert str(from_call(caught.value)) == str(features.failure)


@pytest.mark.parametrize(
    ("found", "fields"),
    [
        (door.update_features(update(ONE)), []),
        (door.update_features(update(ONE, ONE)), ["updates[1].feature"]),
        (door.update_features(update(admin.FeatureUpdate())), ["updates[0].feature"]),
        (
            door.update_features(update(admin.FeatureUpdate(feature="a" * 250, level=32_768))),
            ["updates[0].feature", "updates[0].level"],
        ),
        (
            door.update_features(update(admin.FeatureUpdate(feature="a", upgrade_type=4))),  # type: ignore[arg-type]
            ["updates[0].upgrade_type"],
        ),
        (
            door.update_features(
                update(*(admin.FeatureUpdate(feature=f"{n}") for n in range(101)))
            ),
            ["updates"],
        ),
        (
            door.register_broker(
                control.RegisterBrokerRequest(
                    incarnation_id=ID,
                    endpoints=[ENDPOINT],
                    features=[
                        records_pb2.SupportedFeature(name="a", min_level=1, max_level=1),
                        records_pb2.SupportedFeature(name="a", min_level=2, max_level=1),
                        records_pb2.SupportedFeature(max_level=32_768),
                    ],
                )
            ),
            [
                "features[1].max_level",
                "features[1].name",
                "features[2].max_level",
                "features[2].name",
            ],
        ),
    ],
)
def test_violations(found: Mapping[str, str], fields: list[str]) -> None:
    """CCM: each feature that is advertised must be well-formed (144)."""
    assert sorted(found) == fields


def test_a_registration_brings_what_the_broker_supports() -> None:
    said = records_pb2.SupportedFeature(name="a", min_level=1, max_level=2)
    request = control.RegisterBrokerRequest(incarnation_id=ID, features=[said])
    assert requests.registration(request).features == (SupportedFeature("a", 1, 2),)


async def test_described_with_those_in_force_and_those_that_are_known() -> None:
    data = FakeMetadata()
    image = an_image(17, brokers=1)
    broker = replace(image.brokers[NodeId(1)], features=(SupportedFeature("a", 1, 2),))
    levels = Map({METADATA_VERSION: 22, "later.version": 3})
    data.publish(replace(image, features=levels, brokers=Map({NodeId(1): broker})))
    service = MetadataService(FakeQuorum(), data, SystemClock())
    async with serving(
        METADATA, lambda server: add_MetadataServiceServicer_to_server(service, server)
    ) as channel:
        stub = MetadataServiceStub(channel)
        answer = await stub.DescribeFeatures(pb.DescribeFeaturesRequest(consistency=LOCAL))
        cluster = await stub.DescribeCluster(pb.DescribeClusterRequest(consistency=LOCAL))
    assert answer.header.offset == 17
    rows = [
        (each.name, each.finalized_level, each.min_level, each.max_level)
        for each in answer.features
    ]
    assert rows == [("later.version", 3, 0, 0), (METADATA_VERSION, 22, 22, 23)]
    (said,) = cluster.brokers[0].features
    assert (said.name, said.min_level, said.max_level) == ("a", 1, 2)
