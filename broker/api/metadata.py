"""Metadata (key 3): the brokers that serve, and who leads which partition.

    topics  null: all    empty: none, in version 0 all    rows: by name, from 12 on also by id

Everything is from this broker's image, and of the listener that the client came in on. Topics that
are not there are made, where broker and client both want that; see `auto_create`.

Source: KIP-4, KIP-112 (offline replicas), KIP-516 (ids), kraft.md 3.7.
"""

import asyncio
from collections.abc import Awaitable

from broker.api.auto_create import AutoCreation
from broker.api.context import Answer, BrokerServices, Encoded, Handler, RequestContext
from broker.api.metadata_pieces import INTERNAL_TOPICS, PiecesByClient
from broker.api.topic_names import is_topic_name
from broker.kafka.errors import MalformedFrameError
from broker.kafka.messages.metadata import MetadataRequest, MetadataResponseTopic
from broker.kafka.schema import ZERO_UUID
from klamm.errors import ApiError, ErrorCode
from klamm.ids import Offset, TopicId
from klamm.metadata.image import MetadataImage, TopicImage

TOPICS_ASKED_MAX = 50_000
"""Of one request, by name or id. All topics may be more."""

EVIDENCE_MS = 5
"""So long after a leader's death has its every follower noticed, and a client may have asked."""

DECISION_LOOK_MS = 50
"""While an answer is held for a leader's fate: how often to look whether it still has to be."""

_BY_ID_VERSION = 12

Row = TopicImage | MetadataResponseTopic


def handler(creations: AutoCreation | None = None) -> Handler:
    """A handler with the cache and the creations of one broker."""
    return _Metadata(AutoCreation() if creations is None else creations).handle


class _Metadata:
    """What one broker keeps between requests, and the way of a request through it."""

    def __init__(self, creations: AutoCreation) -> None:
        self._creations = creations
        self._pieces = PiecesByClient()

    def handle(
        self, services: BrokerServices, context: RequestContext, request: MetadataRequest
    ) -> Answer | Awaitable[Answer]:
        """Answer; at once, unless topics have to be made or a leader's fate decided first.

        Raises:
            MalformedFrameError: More topics than anyone may ask for.
            ApiError: A row names no topic in a way that its version has.
        """
        if services.replicas.following and request.topics:
            return self._once_decided(services, context, request)
        return self._now(services, context, request)

    def _now(
        self, services: BrokerServices, context: RequestContext, request: MetadataRequest
    ) -> Answer | Awaitable[Answer]:
        rows = _rows(services.image, context.api_version, request)
        missing = _to_create(services, context, request, rows)
        if missing:
            return self._create_first(services, context, request, missing)
        return self._answer(services, context, rows)

    async def _once_decided(
        self, services: BrokerServices, context: RequestContext, request: MetadataRequest
    ) -> Answer:
        """Hold the answer while a leader's fate is undecided, rather than name a dead one.

        Clients ask the moment that a leader's connection breaks, a few milliseconds before its
        successor is known; answered at once, librdkafka would not ask again for a second.
        """
        await asyncio.sleep(EVIDENCE_MS / 1_000)
        while services.replicas.suspects():
            try:
                await services.metadata.wait_for(
                    Offset(services.image.provenance.offset + 1), DECISION_LOOK_MS
                )
            except TimeoutError:
                continue
        answer = self._now(services, context, request)
        return await answer if isinstance(answer, Awaitable) else answer

    async def _create_first(
        self,
        services: BrokerServices,
        context: RequestContext,
        request: MetadataRequest,
        missing: list[str],
    ) -> Encoded:
        told = await self._creations.create(services, missing)
        rows = _rows(services.image, context.api_version, request)
        for row in rows or ():
            if isinstance(row, MetadataResponseTopic) and row.name in told:
                row.error_code = told[row.name]
        return self._answer(services, context, rows)

    def _answer(
        self, services: BrokerServices, context: RequestContext, rows: list[Row] | None
    ) -> Encoded:
        pieces = self._pieces.of(
            context.api_version, context.listener, services.node_id, services.cluster_id
        )
        return Encoded(pieces.answer(services.image, rows, services.replicas.just_fenced()))


def _rows(image: MetadataImage, version: int, request: MetadataRequest) -> list[Row] | None:
    """What is known of each topic asked for, in that order and each once; None for all."""
    asked = request.topics
    if asked is None or (version == 0 and not asked):
        return None
    if len(asked) > TOPICS_ASKED_MAX:
        raise MalformedFrameError(f"{len(asked)} topics are over {TOPICS_ASKED_MAX}")
    rows: dict[object, Row] = {}
    for each in asked:
        by_id = each.topic_id != ZERO_UUID
        if version < _BY_ID_VERSION and (by_id or each.name is None):
            raise ApiError(ErrorCode.INVALID_REQUEST, f"version {version} asks by name only")
        if each.name is not None and not by_id:
            rows[each.name] = image.topics.named(each.name) or _unknown_name(each.name)
        else:
            found = image.topics.by_id.get(TopicId(each.topic_id))
            rows[each.topic_id] = found or MetadataResponseTopic(
                name=None, topic_id=each.topic_id, error_code=ErrorCode.UNKNOWN_TOPIC_ID
            )
    return list(rows.values())


def _unknown_name(name: str) -> MetadataResponseTopic:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if not is_topic_name(name):
        code = ErrorCode.INVALID_TOPIC_EXCEPTION
    return MetadataResponseTopic(name=name, error_code=code, is_internal=name in INTERNAL_TOPICS)


def _to_create(
    services: BrokerServices,
    context: RequestContext,
    request: MetadataRequest,
    rows: list[Row] | None,
) -> list[str]:
    """Names that are not there and shall be. Internal topics come with what they serve."""
    if not rows or not services.config.auto_create_topics_enable:
        return []
    if not request.allow_auto_topic_creation:
        return []
    return [
        row.name
        for row in rows
        if isinstance(row, MetadataResponseTopic)
        and row.name is not None
        and row.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        and not row.is_internal
    ]
