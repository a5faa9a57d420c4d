"""Where replicas go: striped over brokers, spread over racks (spec kraft 2.10).

    racks A: 0 1   B: 2 3   C: 4           partition 0:  0 2 4
                                           partition 1:  2 4 1   …a rack that has led moves on

Partition i begins at rack (start + i) and goes round the racks, one broker from each, before any
rack gives a second. Within a rack unfenced brokers come before fenced ones. The first replica
leads, so it must be unfenced; a rack that has given a leader begins with its next broker from then
on. (Kafka's racks move on with every partition: with as many racks as brokers in each, the same few
lead until the next shuffle.) After as many partitions as there are unfenced brokers each rack is
shuffled again, so that the followers of one leader differ. Source: Kafka's StripedReplicaPlacer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from controller.plan.decision import Draw
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableBroker:
    """Registered, and not shutting down."""

    broker_id: NodeId
    rack: str | None
    fenced: bool


def place(
    brokers: Sequence[UsableBroker], partitions: int, replication_factor: int, draw: Draw
) -> list[tuple[NodeId, ...]]:
    """Replicas of each new partition; the first is to lead.

    Raises:
        ApiError: INVALID_REPLICATION_FACTOR.
    """
    unfenced = sum(not broker.fenced for broker in brokers)
    _check(len(brokers), unfenced, replication_factor)
    racks = _Racks(brokers, draw)
    placed: list[tuple[NodeId, ...]] = []
    for number in range(partitions):
        if number and unfenced > 1 and number % unfenced == 0:
            racks.shuffle()
        placed.append(racks.next_partition(replication_factor))
    return placed


def _check(usable: int, unfenced: int, replication_factor: int) -> None:
    if replication_factor <= 0:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"the replication factor must be 1 or more, is {replication_factor}",
        )
    if replication_factor > usable:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"a replication factor of {replication_factor}, where {usable} brokers are registered",
        )
    if unfenced == 0:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR, "no broker is unfenced; none could lead"
        )


class _Rack:
    """Brokers of one rack in a rotating order, unfenced ones first."""

    def __init__(self, unfenced: list[NodeId], fenced: list[NodeId], draw: Draw) -> None:
        self.unfenced = unfenced
        self.fenced = fenced
        self._draw = draw
        self.start = draw(len(unfenced)) if unfenced else 0
        self.fenced_start = draw(len(fenced)) if fenced else 0

    def order(self) -> list[NodeId]:
        return _rotated(self.unfenced, self.start) + _rotated(self.fenced, self.fenced_start)

    def advance(self) -> None:
        self.start += 1
        self.fenced_start += 1

    def shuffle(self) -> None:
        _shuffle(self.unfenced, self._draw)
        _shuffle(self.fenced, self._draw)


class _Racks:
    def __init__(self, brokers: Sequence[UsableBroker], draw: Draw) -> None:
        names = sorted({broker.rack or "" for broker in brokers})
        by_id = sorted(brokers, key=lambda broker: broker.broker_id)
        self.racks = [
            _Rack(
                [each.broker_id for each in by_id if (each.rack or "") == name and not each.fenced],
                [each.broker_id for each in by_id if (each.rack or "") == name and each.fenced],
                draw,
            )
            for name in names
        ]
        self.start = draw(len(self.racks))

    def shuffle(self) -> None:
        for rack in self.racks:
            rack.shuffle()

    def next_partition(self, replication_factor: int) -> tuple[NodeId, ...]:
        racks = _rotated(self.racks, self.start)
        orders = [rack.order() for rack in racks]
        self.start += 1
        leading = next(at for at, order in enumerate(orders) if self._unfenced(order[0]))
        racks[leading].advance()
        replicas = [orders[leading].pop(0)]
        # The leader's rack has given; the round goes on behind it.
        at = leading + 1
        while len(replicas) < replication_factor:
            order = orders[at % len(orders)]
            at += 1
            if order:
                replicas.append(order.pop(0))
        return tuple(replicas)

    def _unfenced(self, broker_id: NodeId) -> bool:
        return any(broker_id in rack.unfenced for rack in self.racks)


def _rotated(items: list[T], start: int) -> list[T]:
    at = start % len(items) if items else 0
    return items[at:] + items[:at]


def _shuffle(items: list[NodeId], draw: Draw) -> None:
    """Fisher and Yates, with the given chance."""
    for at in range(len(items) - 1, 0, -1):
        other = draw(at + 1)
        items[at], items[other] = items[other], items[at]
