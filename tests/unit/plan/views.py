"""Small clusters to decide on."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from controller.plan.ledger import View
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.metadata.image import PartitionImage
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    Endpoint,
    MetadataRecord,
    NewPartition,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)

TOPIC = TopicId(UUID(int=7))


def nodes(*ids: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(each) for each in ids)


def replayed(view: View, records: Sequence[MetadataRecord]) -> View:
    """The view once `records` are in the log."""
    end = Offset(view.image.provenance.offset + len(records))
    return view.replay(tuple(records), OffsetAndEpoch(Epoch(1), end))


def registered(broker: int, rack: str | None = None, incarnation: int = 1) -> MetadataRecord:
    return RegisterBrokerRecord(
        broker_id=NodeId(broker),
        incarnation_id=UUID(int=1_000 * broker + incarnation),
        endpoints=(Endpoint(name="PLAINTEXT", host="h", port=9092),),
        rack=rack,
        log_dirs=(DirectoryId(UUID(int=90 + broker)),),
    )


def cluster(
    brokers: Iterable[int] = (1, 2, 3), fenced: Iterable[int] = (), rack: bool = False
) -> View:
    """Brokers, active but for `fenced`; broker n in rack r{n % 3} if `rack`."""
    view, fenced = View(), set(fenced)
    for broker in brokers:
        view = replayed(view, [registered(broker, f"r{broker % 3}" if rack else None)])
        if broker not in fenced:
            epoch = view.image.brokers[NodeId(broker)].broker_epoch
            change = BrokerRegistrationChangeRecord(
                broker_id=NodeId(broker), broker_epoch=epoch, fenced=False
            )
            view = replayed(view, [change])
    return view


def with_topic(
    view: View,
    *partitions: tuple[tuple[int, ...], tuple[int, ...], int],
    name: str = "orders",
    topic_id: TopicId = TOPIC,
) -> View:
    """A topic with partitions given as (replicas, isr, leader)."""
    new = tuple(
        NewPartition(
            partition=number, replicas=nodes(*replicas), isr=nodes(*isr), leader=NodeId(leader)
        )
        for number, (replicas, isr, leader) in enumerate(partitions)
    )
    records: list[MetadataRecord] = [TopicRecord(topic_id=topic_id, name=name)]
    if new:
        records.append(PartitionRecord(topic_id=topic_id, partitions=new))
    return replayed(view, records)


def partition(view: View, number: int = 0, topic_id: TopicId = TOPIC) -> PartitionImage:
    found = view.image.topics.partition(topic_id, number)
    assert found is not None
    return found


def standing(view: View, number: int = 0) -> tuple[tuple[int, ...], int]:
    """(isr, leader)."""
    found = partition(view, number)
    return found.isr, found.leader
