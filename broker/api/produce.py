"""Produce (key 0): batches from a producer into the partitions that this broker leads.

    acks  0  append, and answer nothing; after an error the connection is closed
          1  answer once they are in this broker's log
         -1  answer once every in-sync replica has them, or with what is known at `timeout_ms`

The batch is appended straight from the request's frame, in which its offsets are written. Answered
at once where nothing is to be waited for, without a task.
"""

import asyncio
from collections.abc import Awaitable

from broker.api.context import BrokerServices, RequestContext
from broker.api.leaders import LeaderHints
from broker.kafka.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from broker.replica.exchange import Appended
from broker.replica.manager import ReplicaManager
from broker.replica.partition import Partition
from broker.replica.purgatory import OffsetWait, ParkedProduce
from klamm.errors import ApiError, ErrorCode, KlammError
from klamm.ids import TopicPartition

ACKS_NONE, ACKS_LEADER, ACKS_ALL = 0, 1, -1

TIMEOUT_MS_MAX = 3_600_000

NO_OFFSET = -1

_HINT_VERSION = 10
"""From here on NOT_LEADER_OR_FOLLOWER says who does lead (KIP-951)."""


class UnacknowledgedProduceError(KlammError):
    """A produce with acks=0 failed. Closing its connection is all that can be told of it."""


Wait = tuple[PartitionProduceResponse, Partition, Appended]


def handle(
    services: BrokerServices, context: RequestContext, request: ProduceRequest
) -> ProduceResponse | Awaitable[ProduceResponse] | None:
    """Append, and answer or park.

    Raises:
        UnacknowledgedProduceError: Only with acks=0; some partitions may have been appended to.
    """
    append = _Append(services.replicas, context, request)
    response = append.response()
    if request.acks == ACKS_NONE:
        if append.failures:
            raise UnacknowledgedProduceError("; ".join(append.failures))
        return None
    if request.acks != ACKS_ALL:
        return response
    waits = [wait for wait in append.appended if wait[1].high_watermark < wait[2].end_offset]
    if not waits:
        return response
    return _park(services.replicas, request.timeout_ms, response, waits)


class _Append:
    """One request's way through its partitions."""

    def __init__(
        self, replicas: ReplicaManager, context: RequestContext, request: ProduceRequest
    ) -> None:
        self.appended: list[Wait] = []
        self.failures: list[str] = []
        self._replicas = replicas
        self._request = request
        self._refusal = _refusal(request)
        self._hints = (
            LeaderHints(replicas.image, context.listener)
            if context.api_version >= _HINT_VERSION
            else None
        )

    def response(self) -> ProduceResponse:
        topics = [
            TopicProduceResponse(
                name=topic.name,
                partition_responses=[
                    self._row(topic.name, each.index, each.records) for each in topic.partition_data
                ],
            )
            for topic in self._request.topic_data
        ]
        response = ProduceResponse(responses=topics)
        if self._hints is not None and self._hints.named:
            response.node_endpoints = [
                NodeEndpoint(node_id=each.id, host=each.host, port=each.port, rack=each.rack)
                for each in self._hints.endpoints()
            ]
        return response

    def _row(
        self, topic: str, index: int, records: memoryview | bytes | None
    ) -> PartitionProduceResponse:
        try:
            if self._refusal is not None:
                raise self._refusal
            partition = _partition(self._replicas, topic, index)
            if not isinstance(records, memoryview) or not len(records):
                raise ApiError(ErrorCode.INVALID_RECORD, "no records")
            appended = partition.append_as_leader(records, self._request.acks == ACKS_ALL)
        except ApiError as error:
            return self._refused(topic, index, error)
        row = PartitionProduceResponse(
            index=index,
            base_offset=appended.base_offset,
            log_append_time_ms=appended.append_time_ms,
            log_start_offset=partition.log_start_offset,
        )
        self.appended.append((row, partition, appended))
        return row

    def _refused(self, topic: str, index: int, error: ApiError) -> PartitionProduceResponse:
        self.failures.append(f"{topic}-{index}: {error}")
        row = PartitionProduceResponse(
            index=index, error_code=error.code, base_offset=NO_OFFSET, error_message=error.message
        )
        if error.code is ErrorCode.INVALID_RECORD:
            row.record_errors = [
                BatchIndexAndErrorMessage(batch_index=0, batch_index_error_message=error.message)
            ]
        if error.code is ErrorCode.NOT_LEADER_OR_FOLLOWER and self._hints is not None:
            leader, epoch = self._hints.of(topic, index)
            row.current_leader = LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
        return row


def _refusal(request: ProduceRequest) -> ApiError | None:
    """Why nothing of the request can be taken, or None."""
    if request.acks not in (ACKS_NONE, ACKS_LEADER, ACKS_ALL):
        return ApiError(
            ErrorCode.INVALID_REQUIRED_ACKS, f"acks must be 0, 1 or -1, is {request.acks}"
        )
    return None


def _partition(replicas: ReplicaManager, topic: str, index: int) -> Partition:
    partition = replicas.partition(topic, index)
    if partition is not None:
        return partition
    raise replicas.absence(TopicPartition(topic, index))


def _park(
    replicas: ReplicaManager, timeout_ms: int, response: ProduceResponse, waits: list[Wait]
) -> ProduceResponse | Awaitable[ProduceResponse]:
    settled: list[tuple[PartitionProduceResponse, OffsetWait]] = []

    def answer() -> ProduceResponse:
        for row, wait in settled:
            if wait.error is not ErrorCode.NONE:
                row.error_code = wait.error
                row.base_offset = NO_OFFSET
        return response

    purgatory = replicas.purgatory
    if not purgatory.has_room_for_produce():
        for row, _, _ in waits:
            # It is in the log and may yet be committed: not known, rather than refused.
            row.error_code, row.base_offset = ErrorCode.REQUEST_TIMED_OUT, NO_OFFSET
        return response
    timeout_ms = max(0, min(timeout_ms, TIMEOUT_MS_MAX))
    parked = ParkedProduce(purgatory, asyncio.get_running_loop(), timeout_ms, answer)
    for row, partition, appended in waits:
        settled.append((row, parked.wait_for(appended.end_offset, partition.waits)))
    return parked.future
