"""Fetch (key 1): records for consumers, up to the high watermark, and for followers, up to the end.

    read all rows in the order asked ──▶ enough bytes, an error, a divergence, no time? ──▶ answer
                                                    │ no
                                          parked: woken by appends, the high watermark,
                                          leaders that change, the deadline; reads anew

No sessions: every answer says session id 0, which declines them (KIP-227), and holds every
partition asked for. A follower's fetch acknowledges what it has, and so may complete produces.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from broker.api.context import BrokerServices, RequestContext
from broker.api.leaders import LeaderHints
from broker.kafka.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)
from broker.replica.exchange import FetchRow
from broker.replica.manager import ReplicaManager
from broker.replica.partition import Partition
from broker.replica.purgatory import ParkedFetch
from klamm.errors import ApiError, ErrorCode
from klamm.ids import Epoch, NodeId, Offset, TopicId, TopicPartition
from klamm.metadata.image import TopicImage

NO_OFFSET = -1

TOPIC_IDS_VERSION = 13
_LEADER_HINT_VERSION = 12
_NODE_ENDPOINTS_VERSION = 16
_STORAGE_ERROR_VERSION = 6
"""Before it clients do not know KAFKA_STORAGE_ERROR."""

WAIT_MS_MAX = 60_000
RESPONSE_BYTES_MAX = 57_671_680
"""Kafka's fetch.max.bytes, whatever is asked for."""


def handle(
    services: BrokerServices, context: RequestContext, request: FetchRequest
) -> FetchResponse | Awaitable[FetchResponse]:
    """Read, and answer or park."""
    if request.session_id != 0:
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    fetch = _Fetch(services.replicas, context, request)
    response = fetch.read()
    if fetch.at_once or fetch.size_bytes >= request.min_bytes:
        return response
    wait_ms = min(request.max_wait_ms, WAIT_MS_MAX)
    purgatory = services.replicas.purgatory
    if wait_ms <= 0 or not fetch.partitions or not purgatory.has_room_for_fetch():
        return response
    return fetch.park(wait_ms)


@dataclass(frozen=True, slots=True)
class _Asker:
    """Who fetches: a follower, if `replica_id` is not negative."""

    replica_id: NodeId
    replica_epoch: int


class _Fetch:
    """One request, read as often as it is woken."""

    def __init__(
        self, replicas: ReplicaManager, context: RequestContext, request: FetchRequest
    ) -> None:
        self.at_once = False
        """An error or a divergence must be told without delay."""
        self.size_bytes = 0
        self.partitions: list[Partition] = []
        self._replicas = replicas
        self._request = request
        self._version = context.api_version
        self._listener = context.listener
        self._asker = _asker(request)
        self._hints = LeaderHints(replicas.image, context.listener)
        self._bytes_left = 0
        self._bytes_at_first = 0
        self._bytes_missing = 0
        self._acknowledges = True
        """The first reading only: later ones come when the follower has said nothing new."""

    def read(self) -> FetchResponse:
        self.at_once = False
        self.size_bytes = 0
        self.partitions = []
        self._hints = LeaderHints(self._replicas.image, self._listener)
        self._bytes_left = max(0, min(self._request.max_bytes, RESPONSE_BYTES_MAX))
        response = FetchResponse(responses=[self._topic(each) for each in self._request.topics])
        if self._hints.named and self._version >= _NODE_ENDPOINTS_VERSION:
            response.node_endpoints = [
                NodeEndpoint(node_id=each.id, host=each.host, port=each.port, rack=each.rack)
                for each in self._hints.endpoints()
            ]
        return response

    def again(self, is_deadline: bool) -> FetchResponse | None:
        """Something happened. None: still not enough.

        Reads only when so many bytes have been appended as were missing, or a leader changed.
        """
        if not is_deadline and self._bytes_missing > 1:
            come = self._bytes_visible() - self._bytes_at_first
            if come < self._bytes_missing:
                return None
        self._acknowledges = False
        response = self.read()
        if is_deadline or self.at_once or self.size_bytes >= self._request.min_bytes:
            return response
        return None

    def park(self, wait_ms: int) -> Awaitable[FetchResponse]:
        """Wait for what is missing."""
        self._bytes_missing = self._request.min_bytes - self.size_bytes
        self._bytes_at_first = self._bytes_visible()
        watched = [each.watchers for each in self.partitions]
        loop = asyncio.get_running_loop()
        return ParkedFetch(self._replicas.purgatory, loop, wait_ms, watched, self.again).future

    def _bytes_visible(self) -> int:
        if self._asker.replica_id >= 0:
            return sum(each.bytes_appended for each in self.partitions)
        return sum(each.bytes_committed for each in self.partitions)

    def _topic(self, topic: FetchTopic) -> FetchableTopicResponse:
        by_id = self._version >= TOPIC_IDS_VERSION
        image = self._replicas.image.topics.by_id.get(TopicId(topic.topic_id)) if by_id else None
        rows = []
        for each in topic.partitions:
            try:
                if by_id:
                    partition = self._partition_by_id(image, each.partition)
                else:
                    partition = self._partition(topic.topic, each.partition)
                rows.append(self._row(partition, each))
            except ApiError as error:
                name = topic.topic if image is None else image.name
                rows.append(self._refused(name, each.partition, error))
        return FetchableTopicResponse(topic=topic.topic, topic_id=topic.topic_id, partitions=rows)

    def _partition(self, topic: str, index: int) -> Partition:
        partition = self._replicas.partition(topic, index)
        if partition is None:
            raise self._replicas.absence(TopicPartition(topic, index))
        return partition

    def _partition_by_id(self, image: TopicImage | None, index: int) -> Partition:
        if image is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id")
        partition = self._partition(image.name, index)
        if partition.topic_id != image.topic_id:
            raise ApiError(ErrorCode.INCONSISTENT_TOPIC_ID, "the log is of another topic id")
        return partition

    def _row(self, partition: Partition, asked: FetchPartition) -> PartitionData:
        row = FetchRow(
            fetch_offset=Offset(asked.fetch_offset),
            max_bytes=min(asked.partition_max_bytes, self._bytes_left),
            current_leader_epoch=Epoch(asked.current_leader_epoch),
            last_fetched_epoch=Epoch(asked.last_fetched_epoch),
            replica_id=self._asker.replica_id,
            replica_epoch=self._asker.replica_epoch,
            acknowledges=self._acknowledges,
        )
        fetched = partition.read_as_leader(row, at_least_one_batch=self.size_bytes == 0)
        self.partitions.append(partition)
        size_bytes = len(fetched.records)
        self.size_bytes += size_bytes
        self._bytes_left = max(0, self._bytes_left - size_bytes)
        data = PartitionData(
            partition_index=asked.partition,
            high_watermark=fetched.high_watermark,
            last_stable_offset=fetched.high_watermark,
            log_start_offset=fetched.log_start_offset,
            records=fetched.records,
        )
        if fetched.diverging is not None:
            self.at_once = True
            data.diverging_epoch = EpochEndOffset(
                epoch=fetched.diverging.epoch, end_offset=fetched.diverging.offset
            )
        return data

    def _refused(self, topic: str, index: int, error: ApiError) -> PartitionData:
        self.at_once = True
        code = error.code
        if code is ErrorCode.KAFKA_STORAGE_ERROR and self._version < _STORAGE_ERROR_VERSION:
            code = ErrorCode.NOT_LEADER_OR_FOLLOWER
        data = PartitionData(
            partition_index=index,
            error_code=code,
            high_watermark=NO_OFFSET,
            last_stable_offset=NO_OFFSET,
            log_start_offset=self._log_start(topic, index, code),
        )
        moved = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)
        if code in moved and self._version >= _LEADER_HINT_VERSION:
            leader, epoch = self._hints.of(topic, index)
            data.current_leader = LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
        return data

    def _log_start(self, topic: str, index: int, code: ErrorCode) -> int:
        """A follower that is out of range is told where to begin anew."""
        if code is not ErrorCode.OFFSET_OUT_OF_RANGE or self._asker.replica_id < 0:
            return NO_OFFSET
        partition = self._replicas.partition(topic, index)
        return NO_OFFSET if partition is None else partition.log_start_offset


def _asker(request: FetchRequest) -> _Asker:
    state = request.replica_state
    if state is not None:
        return _Asker(NodeId(state.replica_id), state.replica_epoch)
    return _Asker(NodeId(request.replica_id), -1)
