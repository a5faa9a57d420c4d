"""One immutable view, two names: what is committed, and what this leader has proposed on top.

    committed ──claim──▶ pending ──propose──▶ pending' …       resign ──▶ pending = None

What Kafka's timeline package does with copy-on-write tables, a persistent map does by itself: to
lose leadership is to forget a name.
"""

from collections.abc import Iterator
from typing import NamedTuple

from immutables import Map

from controller.plan import holdings, names
from controller.plan.holdings import NOTHING, Holdings
from klamm.ids import NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage, PartitionImage
from klamm.metadata.records import MetadataRecord


class View(NamedTuple):
    """An image, and the indexes over it. What decisions are made on.

    A NamedTuple, not a dataclass, as the ledger: each commit makes two of either.
    """

    image: MetadataImage = EMPTY
    holdings: Holdings = Map()
    collisions: names.Collisions = Map()

    def held_by(self, broker: NodeId) -> Iterator[tuple[TopicId, tuple[PartitionImage, ...]]]:
        """The partitions with a replica on `broker`, by topic in order of the topics' ids."""
        held = self.holdings.get(broker, NOTHING)
        for topic_id in sorted(held):
            partitions = self.image.topics.by_id[topic_id].partitions
            yield topic_id, tuple(partitions[each] for each in held[topic_id])

    def leads(self, broker: NodeId) -> bool:
        return any(each.leader == broker for _, held in self.held_by(broker) for each in held)

    def after(self, delta: MetadataDelta, image: MetadataImage) -> "View":
        if not (delta.topics_changed or delta.topics_removed):
            return View(image, self.holdings, self.collisions)
        return View(
            image,
            holdings.updated(self.holdings, delta),
            names.updated(self.collisions, delta),
        )

    def replay(self, records: tuple[MetadataRecord, ...], end: OffsetAndEpoch) -> "View":
        """The view after `records`, the last of which stands just below `end`."""
        delta = MetadataDelta(self.image)
        for offset, record in enumerate(records, end.offset - len(records)):
            delta.replay(record, Offset(offset))
        return self.after(delta, delta.apply(end))


class Ledger(NamedTuple):
    committed: View = View()
    """What answers reads. The same on every node, in time."""
    pending: View | None = None
    """What the active controller decides on; None while this node does not lead."""

    def claim(self) -> "Ledger":
        """Begin to lead. Everything before this epoch has committed (see `active`)."""
        return Ledger(self.committed, self.committed)

    def propose(self, records: tuple[MetadataRecord, ...], end: OffsetAndEpoch) -> "Ledger":
        """Records that this leader appends, and that may yet be lost."""
        assert self.pending is not None, "only a leader proposes"
        return Ledger(self.committed, self.pending.replay(records, end))

    def commit(self, delta: MetadataDelta, image: MetadataImage) -> "Ledger":
        """What is now below the high watermark, whoever proposed it."""
        return Ledger(self.committed.after(delta, image), self.pending)

    def resign(self) -> "Ledger":
        """Forget what was not committed; the next leader may have forgotten it too."""
        return Ledger(self.committed, None)
