"""What any controller answers over gRPC: reflection, health, queries, Watch; bad requests too."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from klamm.v1 import admin_pb2, admin_pb2_grpc, metadata_pb2, metadata_pb2_grpc, records_pb2
from tests.process.running import Running

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "klamm.v1.AdminService",
    "klamm.v1.ControllerService",
    "klamm.v1.MetadataService",
    "klamm.v1.QuorumService",
}
OURS = sorted(each for each in SERVICES if each.startswith("klamm"))
DEADLINE_S = 20.0
CONTROLLERS = ["controller-1", "controller-2", "controller-3"]


@pytest.fixture(params=CONTROLLERS)
def channel(cluster: Running, request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    """To each controller in turn."""
    with grpc.insecure_channel(cluster.address(request.param)) as channel:
        yield channel


@pytest.fixture
def active(cluster: Running) -> Iterator[grpc.Channel]:
    """To the active controller."""
    with grpc.insecure_channel(cluster.address(cluster.active_controller())) as channel:
        yield channel


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) >= set(OURS)
    file = database.FindFileContainingSymbol("klamm.v1.MetadataService")
    methods = [each.name for service in file.service for each in service.method]
    assert {"DescribeCluster", "ListTopics", "Watch"} <= set(methods)


def test_grpcurl(cluster: Running) -> None:
    """The tool that people have."""
    grpcurl = shutil.which("grpcurl") or shutil.which(Path.home() / "go/bin/grpcurl")
    if grpcurl is None:
        pytest.skip("grpcurl is not installed (go install github.com/fullstorydev/grpcurl)")
    host = cluster.address("controller-1")

    def type_grpcurl(*arguments: str) -> str:
        done = subprocess.run(
            [grpcurl, "-plaintext", "-emit-defaults", *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
        return done.stdout

    assert set(type_grpcurl(host, "list").split()) == SERVICES
    assert "rpc Watch" in type_grpcurl(host, "describe", "klamm.v1.MetadataService")
    answer = json.loads(type_grpcurl(host, "klamm.v1.MetadataService/DescribeCluster"))
    assert len(answer["brokers"]) == len(answer["controllers"]) == 3


@pytest.mark.parametrize("service", ["", *OURS])
def test_health_answers_for_each_service(channel: grpc.Channel, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_other_services(channel: grpc.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="klamm.v1.NoSuchService")
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_each_controller_answers_queries_as_of_an_offset(
    cluster: Running, channel: grpc.Channel
) -> None:
    stub = metadata_pb2_grpc.MetadataServiceStub(channel)
    leader = int(cluster.active_controller().removeprefix("controller-"))
    quorum = stub.DescribeQuorum(
        metadata_pb2.MetadataServiceDescribeQuorumRequest(), timeout=DEADLINE_S
    )
    assert quorum.quorum.leader_id == leader
    for level in (
        metadata_pb2.CONSISTENCY_LEVEL_UNSPECIFIED,
        metadata_pb2.CONSISTENCY_LEVEL_LINEARIZABLE,
        metadata_pb2.CONSISTENCY_LEVEL_LOCAL,
    ):
        consistency = metadata_pb2.Consistency(level=level)
        for answer in (
            stub.DescribeCluster(
                metadata_pb2.DescribeClusterRequest(consistency=consistency), timeout=DEADLINE_S
            ),
            stub.ListBrokers(
                metadata_pb2.ListBrokersRequest(consistency=consistency), timeout=DEADLINE_S
            ),
        ):
            assert len(answer.brokers) == 3
            assert answer.header.offset > 0
            assert answer.header.leader_id == leader
            assert answer.header.cluster_id == cluster.cluster.layout.cluster_id


def test_a_read_bounded_by_an_offset_sees_what_was_written(
    cluster: Running, channel: grpc.Channel, request: pytest.FixtureRequest
) -> None:
    """Written through the active controller, read from any."""
    name = f"bounded-{request.node.callspec.params['channel']}"
    topic = admin_pb2.NewTopic(name=name, num_partitions=1, replication_factor=1)
    with grpc.insecure_channel(cluster.address(cluster.active_controller())) as active:
        made = admin_pb2_grpc.AdminServiceStub(active).CreateTopics(
            admin_pb2.CreateTopicsRequest(topics=[topic]), timeout=DEADLINE_S
        )
    assert made.results[0].error_code == 0
    answer = metadata_pb2_grpc.MetadataServiceStub(channel).ListTopics(
        metadata_pb2.ListTopicsRequest(
            name_prefix=name,
            consistency=metadata_pb2.Consistency(
                level=metadata_pb2.CONSISTENCY_LEVEL_BOUNDED, min_offset=made.committed_offset
            ),
        ),
        timeout=DEADLINE_S,
    )
    assert [each.name for each in answer.topics] == [name]
    assert answer.header.offset >= made.committed_offset


def test_watch_delivers_every_record_from_the_first(
    cluster: Running, channel: grpc.Channel, request: pytest.FixtureRequest
) -> None:
    name = f"watched-{request.node.callspec.params['channel']}"
    cluster.create_topic(name, 2)
    stub = metadata_pb2_grpc.MetadataServiceStub(channel)
    events = []
    call = stub.Watch(metadata_pb2.WatchRequest(from_offset=0), timeout=DEADLINE_S)
    for answer in call:
        events.extend(answer.events)
        assert answer.header.offset == events[-1].offset + 1
        if any(each.record.topic.name == name for each in events):
            break
    call.cancel()
    assert [each.offset for each in events] == list(range(len(events)))
    assert events[0].leader_change.leader_id in (1, 2, 3)
    kinds = [each.record.WhichOneof("record") for each in events]
    assert kinds.count("register_broker") >= 3
    assert {"feature_level", "topic"} <= set(kinds)
    made = next(each for each in events if each.record.topic.name == name)
    assert (made.principal, made.request) == ("User:ANONYMOUS", "CreateTopics")
    assert made.timestamp_ms > 0


def test_a_standby_names_the_leader_when_asked_to_change_something(cluster: Running) -> None:
    leader = cluster.active_controller()
    standby = next(each for each in cluster.controllers if each != leader)
    with grpc.insecure_channel(cluster.address(standby)) as channel:
        create = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics
        with pytest.raises(grpc.RpcError) as caught:
            create(admin_pb2.CreateTopicsRequest(), timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    info, _ = details(caught.value)
    assert info.reason == "NOT_CONTROLLER"
    assert info.metadata["leader_address"] == cluster.address(leader)


_LEVEL = metadata_pb2.CONSISTENCY_LEVEL_BOUNDED
BAD_QUERIES = {
    "page_size": ("ListTopics", metadata_pb2.ListTopicsRequest(page_size=1_001)),
    "page_token": ("ListBrokers", metadata_pb2.ListBrokersRequest(page_token="x")),
    "names": ("DescribeTopics", metadata_pb2.DescribeTopicsRequest(names=["x"] * 1_001)),
    "max_wait_ms": ("FindController", metadata_pb2.FindControllerRequest(max_wait_ms=60_001)),
    "consistency.timeout_ms": (
        "DescribeCluster",
        metadata_pb2.DescribeClusterRequest(
            consistency=metadata_pb2.Consistency(timeout_ms=60_001)
        ),
    ),
    "consistency.min_offset": (
        "DescribeCluster",
        metadata_pb2.DescribeClusterRequest(
            consistency=metadata_pb2.Consistency(level=_LEVEL, min_offset=-1)
        ),
    ),
    "consistency.level": (
        "DescribeCluster",
        metadata_pb2.DescribeClusterRequest(consistency=metadata_pb2.Consistency(level=77)),
    ),
}


@pytest.mark.parametrize("field", BAD_QUERIES)
def test_a_bad_query_is_told_which_field(active: grpc.Channel, field: str) -> None:
    method, request = BAD_QUERIES[field]
    stub = metadata_pb2_grpc.MetadataServiceStub(active)
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request, timeout=DEADLINE_S)
    assert_violation(caught.value, field)


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("from_offset", metadata_pb2.WatchRequest(from_offset=-2)),
        ("progress_interval_ms", metadata_pb2.WatchRequest(progress_interval_ms=1)),
    ],
)
def test_a_bad_watch_is_told_which_field(
    active: grpc.Channel, field: str, request_: metadata_pb2.WatchRequest
) -> None:
    stub = metadata_pb2_grpc.MetadataServiceStub(active)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Watch(request_, timeout=DEADLINE_S))
    assert_violation(caught.value, field)


BAD_CHANGES = {
    "topics": ("CreateTopics", admin_pb2.CreateTopicsRequest(topics=[{}] * 1_001)),
    "timeout_ms": ("CreateTopics", admin_pb2.CreateTopicsRequest(timeout_ms=600_001)),
    "topics[0]": ("DeleteTopics", admin_pb2.DeleteTopicsRequest(topics=[{}])),
    "topics[0].topic_id": (
        "DeleteTopics",
        admin_pb2.DeleteTopicsRequest(topics=[{"topic_id": b"short"}]),
    ),
    "resources[0].resource_type": (
        "IncrementalAlterConfigs",
        admin_pb2.IncrementalAlterConfigsRequest(resources=[{"resource_type": 77}]),
    ),
    "resources[0].alterations[0].value": (
        "IncrementalAlterConfigs",
        admin_pb2.IncrementalAlterConfigsRequest(
            resources=[
                {
                    "resource_type": records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
                    "alterations": [
                        {"key": "retention.ms", "operation": admin_pb2.ALTER_CONFIG_OPERATION_SET}
                    ],
                }
            ]
        ),
    ),
}


@pytest.mark.parametrize("field", BAD_CHANGES)
def test_a_bad_change_is_told_which_field(active: grpc.Channel, field: str) -> None:
    method, request = BAD_CHANGES[field]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(admin_pb2_grpc.AdminServiceStub(active), method)(request, timeout=DEADLINE_S)
    assert_violation(caught.value, field)


def test_bytes_that_are_no_message(active: grpc.Channel) -> None:
    call = active.unary_unary("/klamm.v1.AdminService/CreateTopics")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff" * 100, timeout=DEADLINE_S)
    assert_violation(caught.value, "request")


def details(
    error: grpc.RpcError,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    """What google.rpc.Status carries."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert status is not None, error
    for each in status.details:
        each.Unpack(info)
        each.Unpack(bad)
    return info, bad


def assert_violation(error: grpc.RpcError, field: str) -> None:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, bad = details(error)
    assert info.reason == "BAD_REQUEST"
    assert field in [each.field for each in bad.field_violations]
    assert all(each.description for each in bad.field_violations)
