"""One error as the answer to a whole request, of any API: every row that was asked for gets it.

For what is refused before its handler looked at the rows (a version that is advertised and not
served), and for what failed beneath a handler.
"""

from collections.abc import Callable, Mapping
from typing import Any

from broker.kafka.api import ApiKey
from broker.kafka.messages import (
    api_versions,
    create_topics,
    delete_groups,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    fetch,
    find_coordinator,
    heartbeat,
    incremental_alter_configs,
    init_producer_id,
    join_group,
    leave_group,
    list_groups,
    list_offsets,
    metadata,
    offset_commit,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    sync_group,
    update_features,
)
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    ErrorCode,
    NotControllerError,
    OverloadedError,
    StorageError,
    UnreachableError,
)

BATCHED_KEYS_VERSION = 4
"""FindCoordinator asks for several keys from here on (KIP-699)."""

BATCHED_GROUPS_VERSION = 8
"""OffsetFetch asks for several groups from here on (KIP-709)."""

DELETE_BY_ID_VERSION = 6
"""DeleteTopics has its topics in other fields from here on (KIP-516)."""


def code_of(error: BaseException) -> ErrorCode:
    """What a client is told of an error that was raised on purpose; all else is a bug of ours."""
    match error:
        case ApiError():
            return error.code
        case NotControllerError():
            return ErrorCode.NOT_CONTROLLER
        case UnreachableError() | OverloadedError() | CommitUnknownError():
            return ErrorCode.REQUEST_TIMED_OUT
        case StorageError():
            return ErrorCode.KAFKA_STORAGE_ERROR
    return ErrorCode.UNKNOWN_SERVER_ERROR


def refused(api_key: int, version: int, request: Any, code: ErrorCode) -> object | None:
    """The response that answers all of `request` with `code`.

    None where there can be none: a produce with acks=0, an API without a place for errors.
    """
    make = _BY_KEY.get(api_key)
    return None if make is None else make(version, request, code)


def _produce(_: int, request: produce.ProduceRequest, code: int) -> object | None:
    if request.acks == 0:
        return None
    return produce.ProduceResponse(
        responses=[
            produce.TopicProduceResponse(
                name=topic.name,
                partition_responses=[
                    produce.PartitionProduceResponse(
                        index=each.index, error_code=code, base_offset=-1
                    )
                    for each in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )


def _fetch(_: int, request: fetch.FetchRequest, code: int) -> object:
    return fetch.FetchResponse(
        error_code=code,
        responses=[
            fetch.FetchableTopicResponse(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[
                    fetch.PartitionData(
                        partition_index=each.partition,
                        error_code=code,
                        high_watermark=-1,
                        last_stable_offset=-1,
                        log_start_offset=-1,
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )


def _list_offsets(_: int, request: list_offsets.ListOffsetsRequest, code: int) -> object:
    return list_offsets.ListOffsetsResponse(
        topics=[
            list_offsets.ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    list_offsets.ListOffsetsPartitionResponse(
                        partition_index=each.partition_index, error_code=code
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _offset_for_leader_epoch(
    _: int, request: offset_for_leader_epoch.OffsetForLeaderEpochRequest, code: int
) -> object:
    return offset_for_leader_epoch.OffsetForLeaderEpochResponse(
        topics=[
            offset_for_leader_epoch.OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    offset_for_leader_epoch.EpochEndOffset(
                        partition=each.partition, error_code=code
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _metadata(_: int, request: metadata.MetadataRequest, code: int) -> object:
    return metadata.MetadataResponse(
        error_code=code,
        topics=[
            metadata.MetadataResponseTopic(
                name=each.name or "", topic_id=each.topic_id, error_code=code
            )
            for each in request.topics or ()
        ],
    )


def _create_topics(_: int, request: create_topics.CreateTopicsRequest, code: int) -> object:
    return create_topics.CreateTopicsResponse(
        topics=[
            create_topics.CreatableTopicResult(name=each.name, error_code=code)
            for each in request.topics
        ]
    )


def _delete_topics(version: int, request: delete_topics.DeleteTopicsRequest, code: int) -> object:
    asked = (
        request.topics
        if version >= DELETE_BY_ID_VERSION
        else [delete_topics.DeleteTopicState(name=each) for each in request.topic_names]
    )
    return delete_topics.DeleteTopicsResponse(
        responses=[
            delete_topics.DeletableTopicResult(
                name=each.name, topic_id=each.topic_id, error_code=code
            )
            for each in asked
        ]
    )


def _describe_configs(
    _: int, request: describe_configs.DescribeConfigsRequest, code: int
) -> object:
    return describe_configs.DescribeConfigsResponse(
        results=[
            describe_configs.DescribeConfigsResult(
                resource_type=each.resource_type,
                resource_name=each.resource_name,
                error_code=code,
            )
            for each in request.resources
        ]
    )


def _incremental_alter_configs(
    _: int, request: incremental_alter_configs.IncrementalAlterConfigsRequest, code: int
) -> object:
    return incremental_alter_configs.IncrementalAlterConfigsResponse(
        responses=[
            incremental_alter_configs.AlterConfigsResourceResponse(
                resource_type=each.resource_type,
                resource_name=each.resource_name,
                error_code=code,
            )
            for each in request.resources
        ]
    )


def _find_coordinator(
    version: int, request: find_coordinator.FindCoordinatorRequest, code: int
) -> object:
    if version < BATCHED_KEYS_VERSION:
        return find_coordinator.FindCoordinatorResponse(error_code=code, node_id=-1, port=-1)
    return find_coordinator.FindCoordinatorResponse(
        coordinators=[
            find_coordinator.Coordinator(key=key, error_code=code, node_id=-1, port=-1)
            for key in request.coordinator_keys
        ]
    )


def _offset_commit(_: int, request: offset_commit.OffsetCommitRequest, code: int) -> object:
    return offset_commit.OffsetCommitResponse(
        topics=[
            offset_commit.OffsetCommitResponseTopic(
                name=topic.name,
                partitions=[
                    offset_commit.OffsetCommitResponsePartition(
                        partition_index=each.partition_index, error_code=code
                    )
                    for each in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _offset_fetch(version: int, request: offset_fetch.OffsetFetchRequest, code: int) -> object:
    if version < BATCHED_GROUPS_VERSION:
        return offset_fetch.OffsetFetchResponse(error_code=code)
    return offset_fetch.OffsetFetchResponse(
        groups=[
            offset_fetch.OffsetFetchResponseGroup(group_id=each.group_id, error_code=code)
            for each in request.groups
        ]
    )


def _describe_groups(_: int, request: describe_groups.DescribeGroupsRequest, code: int) -> object:
    return describe_groups.DescribeGroupsResponse(
        groups=[
            describe_groups.DescribedGroup(group_id=each, error_code=code)
            for each in request.groups
        ]
    )


def _delete_groups(_: int, request: delete_groups.DeleteGroupsRequest, code: int) -> object:
    return delete_groups.DeleteGroupsResponse(
        results=[
            delete_groups.DeletableGroupResult(group_id=each, error_code=code)
            for each in request.groups_names
        ]
    )


def _update_features(_: int, request: update_features.UpdateFeaturesRequest, code: int) -> object:
    return update_features.UpdateFeaturesResponse(
        error_code=code,
        results=[
            update_features.UpdatableFeatureResult(feature=each.feature, error_code=code)
            for each in request.feature_updates
        ],
    )


Make = Callable[[int, Any, int], object | None]


def _top_level(response: Callable[..., object]) -> Make:
    """For responses whose one place for errors is at the top."""
    return lambda _version, _request, code: response(error_code=code)


_BY_KEY: Mapping[int, Make] = {
    ApiKey.PRODUCE: _produce,
    ApiKey.FETCH: _fetch,
    ApiKey.LIST_OFFSETS: _list_offsets,
    ApiKey.METADATA: _metadata,
    ApiKey.OFFSET_COMMIT: _offset_commit,
    ApiKey.OFFSET_FETCH: _offset_fetch,
    ApiKey.FIND_COORDINATOR: _find_coordinator,
    ApiKey.JOIN_GROUP: _top_level(join_group.JoinGroupResponse),
    ApiKey.HEARTBEAT: _top_level(heartbeat.HeartbeatResponse),
    ApiKey.LEAVE_GROUP: _top_level(leave_group.LeaveGroupResponse),
    ApiKey.SYNC_GROUP: _top_level(sync_group.SyncGroupResponse),
    ApiKey.DESCRIBE_GROUPS: _describe_groups,
    ApiKey.LIST_GROUPS: _top_level(list_groups.ListGroupsResponse),
    ApiKey.API_VERSIONS: _top_level(api_versions.ApiVersionsResponse),
    ApiKey.CREATE_TOPICS: _create_topics,
    ApiKey.DELETE_TOPICS: _delete_topics,
    ApiKey.INIT_PRODUCER_ID: _top_level(init_producer_id.InitProducerIdResponse),
    ApiKey.OFFSET_FOR_LEADER_EPOCH: _offset_for_leader_epoch,
    ApiKey.DESCRIBE_CONFIGS: _describe_configs,
    ApiKey.DELETE_GROUPS: _delete_groups,
    ApiKey.INCREMENTAL_ALTER_CONFIGS: _incremental_alter_configs,
    ApiKey.UPDATE_FEATURES: _update_features,
    ApiKey.DESCRIBE_CLUSTER: _top_level(describe_cluster.DescribeClusterResponse),
}
