"""What a leader asks of the controller about its ISR, and what comes back.

    leader core ──ProposeIsr──▶ partition ──submit──▶ AlterPartition port ──gRPC──▶ controller
         ▲                                                  │
         └────────────── on_isr_answered ◀── IsrAnswer ─────┘

Values and a port only. Source: Kafka's AlterPartition (KIP-497, KIP-841, KIP-903).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from klamm.errors import ErrorCode
from klamm.ids import Epoch, NodeId, TopicId

BROKER_EPOCH_UNKNOWN = -1
"""The controller does not check the uptime of a member given with it."""


@dataclass(frozen=True, slots=True)
class IsrMember:
    broker_id: NodeId
    broker_epoch: int
    """Its uptime as its last fetch told, or BROKER_EPOCH_UNKNOWN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrChange:
    """A leader's proposal: the ISR that it wants, and the state that it is a change to."""

    leader_epoch: Epoch
    partition_epoch: int
    members: tuple[IsrMember, ...]

    @property
    def isr(self) -> tuple[NodeId, ...]:
        return tuple(member.broker_id for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrAnswer:
    """What became of a proposal. The state fields count only where `error` is NONE."""

    error: ErrorCode
    leader_epoch: Epoch = Epoch(-1)  # noqa: RUF009 - an int
    partition_epoch: int = -1
    isr: tuple[NodeId, ...] = ()


class AlterPartition(Protocol):
    """The way to the active controller."""

    def submit(
        self,
        topic_id: TopicId,
        partition: int,
        change: IsrChange,
        answered: Callable[[IsrAnswer], None],
    ) -> None:
        """Ask for `change`; `answered` is called once, later, on the loop.

        The implementation batches what waits into one request, keeps one request in flight, and
        repeats it for as long as the controller cannot be reached: there is no deadline, since
        the leader can do nothing else. A second proposal for a partition whose first is still out
        is answered with OPERATION_NOT_ATTEMPTED.
        """
        ...
