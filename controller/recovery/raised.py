"""The state of a backup for the generation that begins with it: nothing is given out twice. Pure.

What the lost nodes decided after the backup is not known, but brokers act on it: they wrote under
leader epochs, and producers under ids, that the backup has not heard of. Under the same numbers
other records would be taken for those, and acknowledged ones be cut. So whatever is counted goes on
far above. Names, ids, configs, replicas, leaders and ISRs are as they were.
"""

from dataclasses import replace

from controller.recovery.compare import EPOCH_JUMP
from klamm.ids import LOG_START, NO_NODE, Epoch, Offset, OffsetAndEpoch
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import MetadataRecord, NewPartition, PartitionRecord, ProducerIdsRecord
from klamm.metadata.snapshot import records

OFFSET_JUMP = 10**12
"""Of the log: a broker's epoch is an offset; and who has followed the old log is behind the new one
and takes its snapshot. Thirty years of a thousand records a second, and legible in a name."""

PRODUCER_IDS_JUMP = 10**12

PARTITION_EPOCHS_JUMP = EPOCH_JUMP
"""Of leader epochs and partition epochs: so many changes of one partition are not known."""

_INT32_MAX = 2**31 - 1


def raised(image: MetadataImage) -> MetadataImage:
    """The same, in another place of another log.

    Raises:
        OverflowError: There is nothing left above one of its numbers.
    """
    end = image.provenance
    delta = MetadataDelta(EMPTY)
    for record in records(image):
        if not isinstance(record, ProducerIdsRecord):
            delta.replay(_raised(record), LOG_START)
    next_id = image.next_producer_id + PRODUCER_IDS_JUMP
    offset = Offset(end.offset + OFFSET_JUMP)
    if max(next_id, offset) >= 2**63:
        raise OverflowError(f"nothing is left above {max(next_id, offset) - OFFSET_JUMP}")
    delta.replay(
        ProducerIdsRecord(broker_id=NO_NODE, broker_epoch=Offset(-1), next_producer_id=next_id),
        LOG_START,
    )
    return delta.apply(OffsetAndEpoch(epoch=end.epoch, offset=offset))


def _raised(record: MetadataRecord) -> MetadataRecord:
    if not isinstance(record, PartitionRecord):
        return record
    return replace(record, partitions=tuple(map(_later, record.partitions)))


def _later(partition: NewPartition) -> NewPartition:
    leader_epoch = partition.leader_epoch + PARTITION_EPOCHS_JUMP
    partition_epoch = partition.partition_epoch + PARTITION_EPOCHS_JUMP
    if max(leader_epoch, partition_epoch) > _INT32_MAX:
        raise OverflowError(f"no epoch is left for partition {partition.partition} of a topic")
    return replace(partition, leader_epoch=Epoch(leader_epoch), partition_epoch=partition_epoch)
