"""The groups' APIs until groups are there: a clear answer to each, and never a wait.

    JoinGroup                      refused for good: `subscribe` fails, and says so
    OffsetFetch                    nothing is committed: `assign` begins by auto.offset.reset
    OffsetCommit                   refused for good: what is not kept must not seem to be
    SyncGroup, Heartbeat           nobody is a member
    LeaveGroup                     as if it had left
    List, Describe, DeleteGroups   there are none

Why these codes, and what each client makes of them: docs/protocol.md.
"""

from broker.api.context import BrokerServices, RequestContext
from broker.api.refusals import BATCHED_GROUPS_VERSION, refused
from broker.kafka.api import ApiKey
from broker.kafka.messages.delete_groups import DeleteGroupsRequest
from broker.kafka.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from broker.kafka.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from broker.kafka.messages.join_group import JoinGroupRequest, JoinGroupResponse
from broker.kafka.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberResponse,
)
from broker.kafka.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from broker.kafka.messages.offset_commit import OffsetCommitRequest
from broker.kafka.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from broker.kafka.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from klamm.errors import ErrorCode

GROUPS_REFUSAL = ErrorCode.UNSUPPORTED_VERSION

NOTHING_COMMITTED = -1

DEAD = "Dead"
"""Kafka's state of a group that is not there."""


def join(
    services: BrokerServices, context: RequestContext, request: JoinGroupRequest
) -> JoinGroupResponse:
    code = GROUPS_REFUSAL if request.group_id else ErrorCode.INVALID_GROUP_ID
    # Nullable in some versions and not in others; the empty string stands in all.
    return JoinGroupResponse(
        error_code=code, protocol_type="", protocol_name="", member_id=request.member_id
    )


def sync(
    services: BrokerServices, context: RequestContext, request: SyncGroupRequest
) -> SyncGroupResponse:
    return SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID)


def heartbeat(
    services: BrokerServices, context: RequestContext, request: HeartbeatRequest
) -> HeartbeatResponse:
    return HeartbeatResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID)


def leave(
    services: BrokerServices, context: RequestContext, request: LeaveGroupRequest
) -> LeaveGroupResponse:
    """Without an error: a client that closes shall not be held up."""
    members = [
        MemberResponse(member_id=each.member_id, group_instance_id=each.group_instance_id)
        for each in request.members
    ]
    return LeaveGroupResponse(members=members)


def commit(
    services: BrokerServices, context: RequestContext, request: OffsetCommitRequest
) -> object | None:
    return refused(ApiKey.OFFSET_COMMIT, context.api_version, request, GROUPS_REFUSAL)


def fetch_offsets(
    services: BrokerServices, context: RequestContext, request: OffsetFetchRequest
) -> OffsetFetchResponse:
    if context.api_version >= BATCHED_GROUPS_VERSION:
        return OffsetFetchResponse(
            groups=[
                OffsetFetchResponseGroup(
                    group_id=group.group_id,
                    topics=[
                        OffsetFetchResponseTopics(
                            name=topic.name,
                            partitions=[
                                OffsetFetchResponsePartitions(
                                    partition_index=each,
                                    committed_offset=NOTHING_COMMITTED,
                                    metadata="",
                                )
                                for each in topic.partition_indexes
                            ],
                        )
                        for topic in group.topics or ()
                    ],
                )
                for group in request.groups
            ]
        )
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=each, committed_offset=NOTHING_COMMITTED, metadata=""
                    )
                    for each in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ]
    )


def list_all(
    services: BrokerServices, context: RequestContext, request: ListGroupsRequest
) -> ListGroupsResponse:
    return ListGroupsResponse()


def describe(
    services: BrokerServices, context: RequestContext, request: DescribeGroupsRequest
) -> DescribeGroupsResponse:
    return DescribeGroupsResponse(
        groups=[DescribedGroup(group_id=each, group_state=DEAD) for each in request.groups]
    )


def delete(
    services: BrokerServices, context: RequestContext, request: DeleteGroupsRequest
) -> object | None:
    return refused(ApiKey.DELETE_GROUPS, context.api_version, request, ErrorCode.GROUP_ID_NOT_FOUND)
