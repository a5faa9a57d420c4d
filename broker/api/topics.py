"""CreateTopics (key 19), DeleteTopics (key 20): the active controller decides, this broker waits.

A request is split: rows that no controller would take are answered here (a name that stands twice,
no name at all), so that they do not spoil those beside them; the rest goes on in one call.
"""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from broker.api import topic_names
from broker.api.changes import change, request_id
from broker.api.configs import topic_entries
from broker.api.context import BrokerServices, RequestContext
from broker.kafka.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from broker.kafka.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from broker.kafka.schema import ZERO_UUID
from klamm.errors import ApiError, ErrorCode
from klamm.ids import TopicId
from klamm.v1 import admin_pb2 as pb

TOPICS_MAX = 1_000
"""Of one request: the controllers' own limit."""

DESCRIBED_VERSION = 5
"""CreateTopics answers what the topics got from here on (KIP-525)."""

BY_ID_VERSION = 6
"""DeleteTopics takes ids from here on (KIP-516)."""


async def create(
    services: BrokerServices, context: RequestContext, request: CreateTopicsRequest
) -> CreateTopicsResponse:
    """Answered once this broker's image has the topics."""
    results: dict[str, CreatableTopicResult] = {}
    times = Counter(each.name for each in request.topics)
    asked = []
    for each in request.topics:
        refusal = _create_refusal(each, times[each.name], len(request.topics))
        if refusal is None:
            asked.append(each)
            continue
        results[each.name] = CreatableTopicResult(
            name=each.name, error_code=refusal.code, error_message=refusal.message
        )
    if asked:
        results |= await _create(services, context, request, asked)
    return CreateTopicsResponse(topics=[results[name] for name in times])


def _create_refusal(topic: CreatableTopic, times: int, count: int) -> ApiError | None:
    if count > TOPICS_MAX:
        return ApiError(ErrorCode.INVALID_REQUEST, f"{count} topics are over {TOPICS_MAX}")
    if times > 1:
        return ApiError(ErrorCode.INVALID_REQUEST, f"{topic.name!r} stands {times} times")
    if (why := topic_names.refusal(topic.name)) is not None:
        return ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, why)
    if null := [each.name for each in topic.configs if each.value is None]:
        return ApiError(ErrorCode.INVALID_CONFIG, f"{null[0]} has no value")
    if topic.assignments and (topic.num_partitions != -1 or topic.replication_factor != -1):
        why = "partitions and replication factor must be -1 where replicas are assigned"
        return ApiError(ErrorCode.INVALID_REQUEST, why)
    if any(each.partition_index < 0 for each in topic.assignments):
        return ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "partitions count from 0")
    return None


async def _create(
    services: BrokerServices,
    context: RequestContext,
    request: CreateTopicsRequest,
    asked: Sequence[CreatableTopic],
) -> dict[str, CreatableTopicResult]:
    wire = pb.CreateTopicsRequest(
        topics=[_new_topic(each) for each in asked],
        validate_only=request.validate_only,
        principal=context.principal,
        request_id=request_id(context),
    )

    async def call(timeout_ms: int) -> pb.CreateTopicsResponse:
        wire.timeout_ms = timeout_ms
        return await services.controllers.create_topics(wire, timeout_ms)

    try:
        response = await change(services, request.timeout_ms, call)
    except ApiError as error:
        return {
            each.name: CreatableTopicResult(
                name=each.name, error_code=error.code, error_message=error.message
            )
            for each in asked
        }
    return {each.name: _created(services, context, each) for each in response.results}


def _new_topic(topic: CreatableTopic) -> pb.NewTopic:
    return pb.NewTopic(
        name=topic.name,
        num_partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        configs={each.name: each.value or "" for each in topic.configs},
        assignments=[
            pb.ReplicaAssignment(partition=each.partition_index, broker_ids=each.broker_ids)
            for each in topic.assignments
        ],
    )


def _created(
    services: BrokerServices, context: RequestContext, result: pb.CreateTopicResult
) -> CreatableTopicResult:
    if result.error_code != ErrorCode.NONE:
        return CreatableTopicResult(
            name=result.name, error_code=result.error_code, error_message=result.error_message
        )
    created = CreatableTopicResult(
        name=result.name,
        topic_id=_topic_id(result.topic_id),
        num_partitions=result.num_partitions,
        replication_factor=result.replication_factor,
    )
    if context.api_version >= DESCRIBED_VERSION:
        created.configs = [
            CreatableTopicConfigs(
                name=each.name,
                value=each.value,
                read_only=each.read_only,
                config_source=each.config_source,
                is_sensitive=each.is_sensitive,
            )
            for each in topic_entries(services, dict(result.configs))
        ]
    return created


async def delete(
    services: BrokerServices, context: RequestContext, request: DeleteTopicsRequest
) -> DeleteTopicsResponse:
    """Answered once this broker's image is without the topics."""
    asked = request.topics
    if context.api_version < BY_ID_VERSION:
        asked = [DeleteTopicState(name=each) for each in request.topic_names]
    if len(asked) > TOPICS_MAX:
        why = f"{len(asked)} topics are over {TOPICS_MAX}"
        raise ApiError(ErrorCode.INVALID_REQUEST, why)
    good = [each for each in asked if _delete_refusal(each) is None]
    results = iter(await _delete(services, context, request.timeout_ms, good) if good else ())
    responses = []
    for each in asked:
        refusal = _delete_refusal(each)
        responses.append(next(results) if refusal is None else _undeleted(each, refusal))
    return DeleteTopicsResponse(responses=responses)


def _delete_refusal(topic: DeleteTopicState) -> ApiError | None:
    if (topic.name is None) == (topic.topic_id == ZERO_UUID):
        return ApiError(ErrorCode.INVALID_REQUEST, "a topic is named by its name or by its id")
    if len(topic.name or "") > topic_names.NAME_CHARACTERS_MAX:
        return ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no topic has so long a name")
    return None


async def _delete(
    services: BrokerServices,
    context: RequestContext,
    timeout_ms: int,
    topics: Sequence[DeleteTopicState],
) -> list[DeletableTopicResult]:
    wire = pb.DeleteTopicsRequest(
        topics=[_reference(each) for each in topics],
        principal=context.principal,
        request_id=request_id(context),
    )

    async def call(left_ms: int) -> pb.DeleteTopicsResponse:
        wire.timeout_ms = left_ms
        return await services.controllers.delete_topics(wire, left_ms)

    try:
        response = await change(services, timeout_ms, call)
    except ApiError as error:
        return [_undeleted(each, error) for each in topics]
    return [
        DeletableTopicResult(
            name=each.name or asked.name,
            topic_id=_topic_id(each.topic_id) if each.topic_id else asked.topic_id,
            error_code=each.error_code,
            error_message=each.error_message or None,
        )
        for asked, each in zip(topics, response.results, strict=True)
    ]


def _reference(topic: DeleteTopicState) -> pb.TopicReference:
    if topic.name is not None:
        return pb.TopicReference(name=topic.name)
    return pb.TopicReference(topic_id=topic.topic_id.bytes)


def _undeleted(topic: DeleteTopicState, error: ApiError) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=topic.name,
        topic_id=topic.topic_id,
        error_code=error.code,
        error_message=error.message,
    )


def _topic_id(wire: bytes) -> TopicId:
    """Validated requests create nothing, and so have none."""
    return TopicId(UUID(bytes=wire) if wire else ZERO_UUID)
