"""OffsetForLeaderEpoch (key 23): where a leader epoch ends, for consumers that look for
truncation. Source: KIP-101, KIP-320.
"""

from broker.api.context import BrokerServices, RequestContext
from broker.kafka.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)
from broker.replica.manager import ReplicaManager
from klamm.errors import ApiError
from klamm.ids import Epoch, TopicPartition


def handle(
    services: BrokerServices, context: RequestContext, request: OffsetForLeaderEpochRequest
) -> OffsetForLeaderEpochResponse:
    """Answer for the partitions that this broker leads."""
    topics = [
        OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=[_row(services.replicas, topic.topic, each) for each in topic.partitions],
        )
        for topic in request.topics
    ]
    return OffsetForLeaderEpochResponse(topics=topics)


def _row(replicas: ReplicaManager, topic: str, asked: OffsetForLeaderPartition) -> EpochEndOffset:
    try:
        partition = replicas.partition(topic, asked.partition)
        if partition is None:
            raise replicas.absence(TopicPartition(topic, asked.partition))
        partition.leading(Epoch(asked.current_leader_epoch))
    except ApiError as error:
        return EpochEndOffset(error_code=error.code, partition=asked.partition)
    end = partition.end_of_epoch(Epoch(asked.leader_epoch))
    if end is None:
        return EpochEndOffset(partition=asked.partition)
    return EpochEndOffset(partition=asked.partition, leader_epoch=end.epoch, end_offset=end.offset)
