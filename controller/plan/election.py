"""Who leads a partition, and what changes when brokers go or come (spec kraft 2.7, ONLINE).

The leader stays if it may; else the first replica, in replica order, that is in sync and active;
else nobody. The ISR never becomes empty: the last of it stays, for it alone has what was
acknowledged, and leads again when it is back. An ISR that shrinks does not raise the leader epoch
(metadata.version 3.6-IV0 and later); a leader that changes does.
"""

from collections.abc import Callable, Iterable

from controller.plan.ledger import View
from klamm.ids import NO_NODE, NodeId, TopicId
from klamm.metadata.image import PartitionImage
from klamm.metadata.records import PartitionChange, PartitionChangeRecord

CHANGES_PER_RECORD_MAX = 10_000

MayLead = Callable[[NodeId], bool]


def active_brokers(view: View) -> frozenset[NodeId]:
    """Brokers that may lead and be in sync. For membership only."""
    return frozenset(each for each, broker in view.image.brokers.items() if broker.active)


def elect(partition: PartitionImage, isr: tuple[NodeId, ...], may_lead: MayLead) -> NodeId:
    """The leader that `partition` has with this ISR."""
    if partition.leader in isr and may_lead(partition.leader):
        return partition.leader
    for replica in partition.replicas:
        if replica in isr and may_lead(replica):
            return replica
    return NO_NODE


def change_to(
    partition: PartitionImage, isr: tuple[NodeId, ...], may_lead: MayLead
) -> PartitionChange | None:
    """What must be recorded for `partition` to have this ISR; None if nothing."""
    leader = elect(partition, isr, may_lead)
    if isr == partition.isr and leader == partition.leader:
        return None
    return PartitionChange(
        partition=partition.partition,
        isr=None if isr == partition.isr else isr,
        leader=None if leader == partition.leader else leader,
    )


def without(view: View, gone: frozenset[NodeId]) -> tuple[PartitionChangeRecord, ...]:
    """Take brokers out of every ISR and from every lead. Costs what they hold.

    Args:
        gone: Neither lead nor are in sync from here on.
    """
    active = active_brokers(view) - gone
    changes: dict[TopicId, dict[int, PartitionChange]] = {}
    for broker in sorted(gone):
        for topic_id, held in view.held_by(broker):
            for partition in held:
                if broker not in partition.isr and broker != partition.leader:
                    continue
                isr = tuple(each for each in partition.isr if each not in gone)
                change = change_to(partition, isr or _last_of(partition), active.__contains__)
                if change is not None:
                    changes.setdefault(topic_id, {})[partition.partition] = change
    return records(changes)


def _last_of(partition: PartitionImage) -> tuple[NodeId, ...]:
    """Who stays in an ISR that all must leave: the leader, which has everything."""
    return (partition.leader if partition.leader in partition.isr else partition.isr[0],)


def leaderless_with(view: View, broker: NodeId) -> tuple[PartitionChangeRecord, ...]:
    """Give a lead to a broker that is back, where nobody leads and it is in sync."""
    active = active_brokers(view) | {broker}
    changes: dict[TopicId, dict[int, PartitionChange]] = {}
    for topic_id, held in view.held_by(broker):
        for partition in held:
            if partition.leader != NO_NODE or broker not in partition.isr:
                continue
            change = change_to(partition, partition.isr, active.__contains__)
            if change is not None:
                changes.setdefault(topic_id, {})[partition.partition] = change
    return records(changes)


def records(
    changes: dict[TopicId, dict[int, PartitionChange]],
) -> tuple[PartitionChangeRecord, ...]:
    """Bulk records: one a topic, unless it is very large."""
    return tuple(
        PartitionChangeRecord(topic_id=topic_id, changes=tuple(part))
        for topic_id in sorted(changes)
        for part in _parts([changes[topic_id][number] for number in sorted(changes[topic_id])])
    )


def _parts(changes: list[PartitionChange]) -> Iterable[list[PartitionChange]]:
    for start in range(0, len(changes), CHANGES_PER_RECORD_MAX):
        yield changes[start : start + CHANGES_PER_RECORD_MAX]
