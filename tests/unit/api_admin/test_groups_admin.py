"""Coordinators, groups that are not there yet, producer ids, the cluster: clear answers to all."""

import pytest

from broker.api.refusals import refused
from broker.api.served import registry
from broker.kafka import codec
from broker.kafka.api import ApiKey
from broker.kafka.messages.delete_groups import DeleteGroupsRequest
from broker.kafka.messages.describe_cluster import DescribeClusterRequest
from broker.kafka.messages.describe_groups import DescribeGroupsRequest
from broker.kafka.messages.find_coordinator import FindCoordinatorRequest
from broker.kafka.messages.heartbeat import HeartbeatRequest
from broker.kafka.messages.init_producer_id import InitProducerIdRequest
from broker.kafka.messages.join_group import JoinGroupRequest
from broker.kafka.messages.leave_group import LeaveGroupRequest, MemberIdentity
from broker.kafka.messages.list_groups import ListGroupsRequest
from broker.kafka.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from broker.kafka.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from broker.kafka.messages.sync_group import SyncGroupRequest
from klamm.errors import ErrorCode, UnreachableError
from klamm.metadata.records import BrokerRegistrationChangeRecord
from tests.unit.api_admin.asking import ask, versions
from tests.unit.api_admin.one_broker import ME, OneBroker

FIND = ApiKey.FIND_COORDINATOR
GROUP, TRANSACTION, SHARE = 0, 1, 2


async def coordinator(
    one: OneBroker, key_type: int, key: str, version: int, listener: str = "PLAINTEXT"
) -> tuple[str, int, str, int]:
    request = FindCoordinatorRequest(key=key, key_type=key_type, coordinator_keys=[key])
    response = await ask(one, FIND, request, version, listener)
    row = response.coordinators[0] if version >= 4 else response
    return ErrorCode(row.error_code).name, row.node_id, row.host, row.port


@pytest.mark.parametrize("version", versions(FIND))
async def test_a_group_finds_this_broker(one: OneBroker, version: int) -> None:
    assert await coordinator(one, GROUP, "g", version) == ("NONE", ME, "127.0.0.1", 9092)


@pytest.mark.parametrize("version", [1, 6])
@pytest.mark.parametrize(
    ("key_type", "key", "code"),
    [
        (GROUP, "", "INVALID_GROUP_ID"),
        (TRANSACTION, "t", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
        (SHARE, "s", "INVALID_REQUEST"),
        (-3, "s", "INVALID_REQUEST"),
    ],
)
async def test_nobody_coordinates(
    one: OneBroker, version: int, key_type: int, key: str, code: str
) -> None:
    assert await coordinator(one, key_type, key, version) == (code, -1, "", -1)


async def test_a_broker_that_does_not_serve_sends_nobody_to_itself(one: OneBroker) -> None:
    assert (await coordinator(one, GROUP, "g", 6, "OTHER"))[0] == "COORDINATOR_NOT_AVAILABLE"
    epoch = one.metadata.image.brokers[ME].broker_epoch
    one.metadata.write(
        BrokerRegistrationChangeRecord(broker_id=ME, broker_epoch=epoch, fenced=True)
    )
    assert (await coordinator(one, GROUP, "g", 6))[0] == "COORDINATOR_NOT_AVAILABLE"


@pytest.mark.parametrize("version", versions(ApiKey.JOIN_GROUP))
async def test_joining_is_refused_for_good(one: OneBroker, version: int) -> None:
    response = await ask(one, ApiKey.JOIN_GROUP, JoinGroupRequest(group_id="g"), version)
    assert response.error_code == ErrorCode.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_FETCH))
async def test_nothing_is_committed(one: OneBroker, version: int) -> None:
    request = OffsetFetchRequest(
        group_id="g",
        topics=[OffsetFetchRequestTopic(name="t", partition_indexes=[0, 7])],
        groups=[
            OffsetFetchRequestGroup(
                group_id="g", topics=[OffsetFetchRequestTopics(name="t", partition_indexes=[0, 7])]
            ),
            OffsetFetchRequestGroup(group_id="all of it", topics=None),
        ],
    )
    response = await ask(one, ApiKey.OFFSET_FETCH, request, version)
    group = response.groups[0] if version >= 8 else response
    assert group.error_code == ErrorCode.NONE
    rows = group.topics[0].partitions
    assert [(each.partition_index, each.committed_offset, each.error_code) for each in rows] == [
        (0, -1, 0),
        (7, -1, 0),
    ]


@pytest.mark.parametrize("version", versions(ApiKey.OFFSET_COMMIT))
async def test_what_is_not_kept_does_not_seem_to_be(one: OneBroker, version: int) -> None:
    rows = [OffsetCommitRequestPartition(partition_index=3, committed_offset=5)]
    topics = [OffsetCommitRequestTopic(name="t", partitions=rows)]
    request = OffsetCommitRequest(group_id="g", topics=topics)
    (topic,) = (await ask(one, ApiKey.OFFSET_COMMIT, request, version)).topics
    (row,) = topic.partitions
    assert (row.partition_index, row.error_code) == (3, ErrorCode.UNSUPPORTED_VERSION)


@pytest.mark.parametrize(
    ("key", "request_"),
    [
        (ApiKey.SYNC_GROUP, SyncGroupRequest(group_id="g")),
        (ApiKey.HEARTBEAT, HeartbeatRequest(group_id="g")),
    ],
)
async def test_nobody_is_a_member(one: OneBroker, key: ApiKey, request_: object) -> None:
    for version in versions(key):
        response = await ask(one, key, request_, version)
        assert response.error_code == ErrorCode.UNKNOWN_MEMBER_ID


async def test_leaving_never_holds_up_a_close(one: OneBroker) -> None:
    request = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id="m")])
    for version in versions(ApiKey.LEAVE_GROUP):
        response = await ask(one, ApiKey.LEAVE_GROUP, request, version)
        assert response.error_code == ErrorCode.NONE
        assert [each.member_id for each in response.members] == (["m"] if version >= 3 else [])


async def test_there_are_no_groups(one: OneBroker) -> None:
    assert (await ask(one, ApiKey.LIST_GROUPS, ListGroupsRequest())).groups == []
    described = await ask(one, ApiKey.DESCRIBE_GROUPS, DescribeGroupsRequest(groups=["g"]))
    assert [(each.group_id, each.group_state) for each in described.groups] == [("g", "Dead")]
    deleted = await ask(one, ApiKey.DELETE_GROUPS, DeleteGroupsRequest(groups_names=["g"]))
    assert [each.error_code for each in deleted.results] == [ErrorCode.GROUP_ID_NOT_FOUND]


INIT = ApiKey.INIT_PRODUCER_ID


@pytest.mark.parametrize("version", versions(INIT))
async def test_a_producer_gets_an_id_of_its_own(one: OneBroker, version: int) -> None:
    answers = [await ask(one, INIT, InitProducerIdRequest(), version) for _ in range(3)]
    assert [(each.error_code, each.producer_epoch) for each in answers] == [(0, 0)] * 3
    assert len({each.producer_id for each in answers}) == 3


@pytest.mark.parametrize(
    ("transactional_id", "code"),
    [
        ("", ErrorCode.INVALID_REQUEST),
        ("t", ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ],
)
async def test_transactions_are_refused_for_good(
    one: OneBroker, transactional_id: str, code: ErrorCode
) -> None:
    request = InitProducerIdRequest(transactional_id=transactional_id)
    answer = await ask(one, INIT, request)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)


async def test_without_ids_the_producer_shall_ask_again(one: OneBroker) -> None:
    one.controllers.failure = UnreachableError("none")
    answer = await ask(one, INIT, InitProducerIdRequest())
    assert answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS


CLUSTER = ApiKey.DESCRIBE_CLUSTER


@pytest.mark.parametrize("version", versions(CLUSTER))
async def test_the_cluster(one: OneBroker, version: int) -> None:
    answer = await ask(one, CLUSTER, DescribeClusterRequest(), version)
    assert (answer.error_code, answer.cluster_id, answer.controller_id) == (0, "test-cluster", ME)
    assert [(each.broker_id, each.host, each.port) for each in answer.brokers] == [
        (ME, "127.0.0.1", 9092)
    ]


async def test_fenced_brokers_of_the_cluster_on_demand(one: OneBroker) -> None:
    epoch = one.metadata.image.brokers[ME].broker_epoch
    one.metadata.write(
        BrokerRegistrationChangeRecord(broker_id=ME, broker_epoch=epoch, fenced=True)
    )
    for include, fenced in ((False, []), (True, [True])):
        request = DescribeClusterRequest(include_fenced_brokers=include)
        assert [each.is_fenced for each in (await ask(one, CLUSTER, request, 2)).brokers] == fenced


@pytest.mark.parametrize(
    ("kind", "code"),
    [(2, ErrorCode.MISMATCHED_ENDPOINT_TYPE), (9, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE)],
)
async def test_endpoints_that_are_not_here(one: OneBroker, kind: int, code: ErrorCode) -> None:
    answer = await ask(one, CLUSTER, DescribeClusterRequest(endpoint_type=kind))
    assert (answer.error_code, answer.endpoint_type) == (code, kind)


def test_every_api_that_is_served_can_say_that_it_failed() -> None:
    """In every version: the answer to a bug is an answer."""
    for served in registry().by_key.values():
        api = served.api
        cls = codec.message_class(api.key, codec.REQUEST)
        for version in range(api.min_version, api.max_version + 1):
            request = cls()
            if api.key is ApiKey.PRODUCE:
                request.acks = 1
            response = refused(api.key, version, request, ErrorCode.UNKNOWN_SERVER_ERROR)
            assert response is not None
            assert codec.encode_response(api.key, version, response)
