"""A controller that is always right and never fails: what the brokers' protocol stands on.

Each change is one entry of `history`; brokers see the entries late, and may see several as one.
"""

from dataclasses import dataclass, replace

from broker.replica.isr import IsrAnswer, IsrChange
from klamm.errors import ErrorCode
from klamm.ids import NO_NODE, Epoch, NodeId
from klamm.metadata.image import PartitionImage


@dataclass(frozen=True, slots=True)
class Metadata:
    image: PartitionImage
    active: dict[NodeId, int]
    """Brokers that are not fenced, each with its uptime."""
    registered: dict[NodeId, int]


class ModelController:
    def __init__(self, brokers: tuple[NodeId, ...]) -> None:
        self._next_uptime = 100
        image = PartitionImage(
            partition=0,
            replicas=brokers,
            isr=brokers,
            leader=brokers[0],
            leader_epoch=Epoch(0),
            partition_epoch=0,
        )
        uptimes = {each: self._uptime() for each in brokers}
        self.history = [Metadata(image, dict(uptimes), dict(uptimes))]

    @property
    def now(self) -> Metadata:
        return self.history[-1]

    @property
    def image(self) -> PartitionImage:
        return self.now.image

    def register(self, broker: NodeId) -> int:
        """A new uptime, fenced: out of the ISR unless it is the last of it."""
        uptime = self._uptime()
        self.fence(broker)
        self._add(registered=self.now.registered | {broker: uptime})
        return uptime

    def fence(self, broker: NodeId) -> None:
        active = {each: epoch for each, epoch in self.now.active.items() if each != broker}
        isr = tuple(each for each in self.image.isr if each != broker) or self.image.isr
        leader = self._leader(isr, active) if self.image.leader == broker else None
        if broker in self.now.active or isr != self.image.isr or leader is not None:
            self._add(active=active, isr=isr, leader=leader)

    def unfence(self, broker: NodeId) -> None:
        active = self.now.active | {broker: self.now.registered[broker]}
        leader = None
        if self.image.leader == NO_NODE:
            leader = self._leader(self.image.isr, active)
            leader = None if leader == NO_NODE else leader
        self._add(active=active, leader=leader)

    def move_leader(self, to: NodeId) -> None:
        """A clean election that somebody asked for."""
        if to in self.image.isr and to in self.now.active and to != self.image.leader:
            self._add(leader=to)

    def alter_partition(self, sender: NodeId, uptime: int, change: IsrChange) -> IsrAnswer:
        """The checks of kraft.md 2.8, in their order."""
        image = self.image
        if self.now.registered[sender] != uptime:
            return IsrAnswer(error=ErrorCode.FENCED_LEADER_EPOCH)
        if change.leader_epoch < image.leader_epoch:
            return IsrAnswer(error=ErrorCode.FENCED_LEADER_EPOCH)
        if sender != image.leader:
            return IsrAnswer(error=ErrorCode.INVALID_REQUEST)
        if change.partition_epoch < image.partition_epoch:
            return IsrAnswer(error=ErrorCode.INVALID_UPDATE_VERSION)
        for member in change.members:
            epoch = self.now.active.get(member.broker_id)
            if epoch is None or member.broker_epoch not in (-1, epoch):
                return IsrAnswer(error=ErrorCode.INELIGIBLE_REPLICA)
        self._add(isr=change.isr)
        return IsrAnswer(
            error=ErrorCode.NONE,
            leader_epoch=self.image.leader_epoch,
            partition_epoch=self.image.partition_epoch,
            isr=self.image.isr,
        )

    def _leader(self, isr: tuple[NodeId, ...], active: dict[NodeId, int]) -> NodeId:
        return next(
            (each for each in self.image.replicas if each in isr and each in active), NO_NODE
        )

    def _add(
        self,
        *,
        active: dict[NodeId, int] | None = None,
        registered: dict[NodeId, int] | None = None,
        isr: tuple[NodeId, ...] | None = None,
        leader: NodeId | None = None,
    ) -> None:
        image = self.image
        isr_now = image.isr if isr is None else isr
        if isr_now != image.isr or leader is not None:
            image = replace(
                image,
                isr=isr_now,
                leader=image.leader if leader is None else leader,
                leader_epoch=Epoch(image.leader_epoch + (leader is not None)),
                partition_epoch=image.partition_epoch + 1,
            )
        self.history.append(
            Metadata(
                image,
                self.now.active if active is None else active,
                self.now.registered if registered is None else registered,
            )
        )

    def _uptime(self) -> int:
        self._next_uptime += 1
        return self._next_uptime
