"""ListOffsets (key 2): the offset at either end of a log, or at a time.

    timestamp  -1 latest   -2 earliest   -3 of the largest timestamp   -4 earliest local
               -5 latest tiered (there is no tier)   >= 0 first record of that time or later

Source: KIP-79, KIP-207, KIP-734, KIP-405, KIP-1005.
"""

from broker.api.context import BrokerServices, RequestContext
from broker.kafka.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from broker.replica.leader import knows_high_watermark
from broker.replica.manager import ReplicaManager
from broker.replica.partition import Partition
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NO_EPOCH, Epoch, Offset, TopicPartition

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -1, -2, -3, -4, -5

NO_OFFSET = Offset(-1)
NO_TIMESTAMP = -1

_OFFSET_NOT_AVAILABLE_VERSION = 5
_FIRST_VERSION = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}

Found = tuple[Offset, int, Epoch]
"""Offset, timestamp, leader epoch."""

_NOTHING: Found = (NO_OFFSET, NO_TIMESTAMP, NO_EPOCH)


def handle(
    services: BrokerServices, context: RequestContext, request: ListOffsetsRequest
) -> ListOffsetsResponse:
    """Answer from the logs that this broker leads."""
    is_follower = request.replica_id >= 0
    topics = [
        ListOffsetsTopicResponse(
            name=topic.name,
            partitions=[
                _row(services.replicas, context.api_version, topic.name, each, is_follower)
                for each in topic.partitions
            ],
        )
        for topic in request.topics
    ]
    return ListOffsetsResponse(topics=topics)


def _row(
    replicas: ReplicaManager,
    version: int,
    topic: str,
    asked: ListOffsetsPartition,
    is_follower: bool,
) -> ListOffsetsPartitionResponse:
    try:
        partition = replicas.partition(topic, asked.partition_index)
        if partition is None:
            raise replicas.absence(TopicPartition(topic, asked.partition_index))
        offset, timestamp, epoch = _find(partition, version, asked, is_follower)
    except ApiError as error:
        return ListOffsetsPartitionResponse(
            partition_index=asked.partition_index, error_code=error.code
        )
    return ListOffsetsPartitionResponse(
        partition_index=asked.partition_index,
        timestamp=timestamp,
        offset=offset,
        leader_epoch=epoch,
    )


def _find(
    partition: Partition, version: int, asked: ListOffsetsPartition, is_follower: bool
) -> Found:
    state = partition.leading(Epoch(asked.current_leader_epoch))
    wanted = asked.timestamp
    if wanted < LATEST_TIERED or version < _FIRST_VERSION.get(wanted, 0):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"timestamp {wanted} in version {version}")
    bound = partition.log.end_offset if is_follower else partition.high_watermark
    if wanted in (EARLIEST, EARLIEST_LOCAL):
        start = partition.log_start_offset
        return start, NO_TIMESTAMP, _epoch_at(partition, start)
    if wanted == LATEST_TIERED:
        return _NOTHING
    if not is_follower and not knows_high_watermark(state):
        # What a former leader has shown as committed may lie above; never go back (KIP-207).
        known = version >= _OFFSET_NOT_AVAILABLE_VERSION
        raise ApiError(
            ErrorCode.OFFSET_NOT_AVAILABLE if known else ErrorCode.LEADER_NOT_AVAILABLE,
            "the high watermark is not known yet",
        )
    if wanted == LATEST:
        return bound, NO_TIMESTAMP, partition.leader_epoch
    record = partition.youngest_record() if wanted == MAX_TIMESTAMP else partition.since(wanted)
    if record is None or record.offset >= bound:
        # What is not committed is not told of, though it may be the only answer.
        return _NOTHING
    return record.offset, record.timestamp_ms, record.leader_epoch


def _epoch_at(partition: Partition, offset: Offset) -> Epoch:
    """The epoch of the record there, or at the end that of the leader."""
    chain = partition.log.epochs
    if chain.start_offset <= offset < chain.end_offset:
        return chain.epoch_at(offset)
    return partition.leader_epoch
