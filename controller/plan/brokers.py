"""A broker's standing: registered, fenced, unfenced, on its way out (spec kraft 2.5, 2.6).

What becomes of its partitions comes before what becomes of the broker, in one atomic batch. A
broker may hold more topics than one batch has records; then it is several, and in this order a
decision that was cut short by an election is simply made again: the broker still stands as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from controller.plan import election
from controller.plan.decision import Decision
from controller.plan.features import refuse_unsupported
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import DirectoryId, NodeId, Offset
from klamm.metadata.features import Supported
from klamm.metadata.image import BrokerImage
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    Endpoint,
    MetadataRecord,
    RegisterBrokerRecord,
    UnregisterBrokerRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a broker says of itself when it begins an uptime."""

    broker_id: NodeId
    incarnation_id: UUID
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    log_dirs: tuple[DirectoryId, ...] = ()
    features: Supported = ()


def register(
    view: View, asked: Registration, end_offset: Offset, *, session_alive: bool
) -> Decision[Offset]:
    """Begin an uptime, fenced; the result is its broker epoch.

    An incarnation that is registered already keeps its epoch: a retry changes nothing. Another
    one replaces it, unless the former may still be running: then two processes claim one id, and
    the one that was there stays.

    Args:
        end_offset: Where the decision's first record will stand.
        session_alive: The former incarnation's session stream is open, or was heard within the
            session timeout.

    Raises:
        ApiError: DUPLICATE_BROKER_REGISTRATION, INVALID_REGISTRATION, UNSUPPORTED_VERSION.
    """
    before = view.image.brokers.get(asked.broker_id)
    if before is not None and before.incarnation_id == asked.incarnation_id:
        return Decision((), before.broker_epoch)
    if before is not None and session_alive and not _surely_gone(before, asked):
        raise ApiError(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION,
            f"another broker with node.id {asked.broker_id} is registered and alive; stop it, "
            "or give this one an id of its own",
        )
    _refuse_shared_directories(view, asked)
    refuse_unsupported(view, asked.broker_id, asked.features)
    moves = () if before is None else election.without(view, frozenset({asked.broker_id}))
    record = RegisterBrokerRecord(
        broker_id=asked.broker_id,
        incarnation_id=asked.incarnation_id,
        endpoints=asked.endpoints,
        rack=asked.rack,
        log_dirs=asked.log_dirs,
        features=asked.features,
    )
    return Decision((*moves, record), Offset(end_offset + len(moves)), divisible=True)


def _surely_gone(before: BrokerImage, asked: Registration) -> bool:
    """Whether the former incarnation cannot be running, whatever its session says.

    Fenced or on its way out: it serves nobody. The same log directories: they are locked by the
    process that uses them, and the one that asks holds the lock (KAFKA-19047 has only the first
    two, and a broker that crashed and is back waits out its own session).
    """
    if before.fenced or before.in_controlled_shutdown:
        return True
    return bool(asked.log_dirs) and set(before.log_dirs) == set(asked.log_dirs)


def _refuse_shared_directories(view: View, asked: Registration) -> None:
    if len(set(asked.log_dirs)) != len(asked.log_dirs):
        raise ApiError(ErrorCode.INVALID_REGISTRATION, "a log directory id stands twice")
    for broker_id, broker in sorted(view.image.brokers.items()):
        if broker_id != asked.broker_id and set(broker.log_dirs) & set(asked.log_dirs):
            raise ApiError(
                ErrorCode.INVALID_REGISTRATION,
                f"a log directory of broker {asked.broker_id} is registered for broker {broker_id}",
            )


def check_epoch(view: View, broker_id: NodeId, broker_epoch: Offset) -> BrokerImage:
    """The broker, if the request is of its present uptime.

    Raises:
        ApiError: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH.
    """
    broker = view.image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"no broker {broker_id} is registered")
    if broker.broker_epoch != broker_epoch:
        raise ApiError(
            ErrorCode.STALE_BROKER_EPOCH,
            f"broker {broker_id} is in epoch {broker.broker_epoch}, the request in {broker_epoch}",
        )
    return broker


def fence(view: View, broker_ids: Sequence[NodeId]) -> Decision[None]:
    """Take silent brokers out: new leaders, smaller ISRs, and fenced; one atomic batch."""
    brokers = [view.image.brokers[each] for each in sorted(broker_ids)]
    gone = [each for each in brokers if not each.fenced]
    if not gone:
        return Decision((), None)
    moves: tuple[MetadataRecord, ...] = election.without(
        view, frozenset(each.broker_id for each in gone)
    )
    fences = tuple(
        BrokerRegistrationChangeRecord(
            broker_id=each.broker_id, broker_epoch=each.broker_epoch, fenced=True
        )
        for each in gone
    )
    return Decision((*moves, *fences), None, divisible=True)


def unregister(view: View, broker_id: NodeId) -> Decision[None]:
    """Forget a broker. What it leads and where it is in sync goes to others, as when it is fenced;
    it stays a replica, and in an ISR of which it was the last.

    Raises:
        ApiError: BROKER_ID_NOT_REGISTERED.
    """
    broker = view.image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"no broker {broker_id} is registered")
    moves = election.without(view, frozenset({broker_id}))
    gone = UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker.broker_epoch)
    return Decision((*moves, gone), None, divisible=True)


def unfence(view: View, broker: BrokerImage) -> Decision[None]:
    """Let a broker that has caught up lead and be in sync, and lead at once where nobody does.

    Not one that is on its way out: whatever it said before it wanted to go may arrive late. It is
    back with its next registration.
    """
    if broker.in_controlled_shutdown:
        return Decision((), None)
    change = BrokerRegistrationChangeRecord(
        broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, fenced=False
    )
    leads = election.leaderless_with(view, broker.broker_id)
    return Decision((*leads, change), None, divisible=True)


def begin_shutdown(view: View, broker: BrokerImage) -> Decision[None]:
    """Move its leads away and take it out of the ISRs, while it still serves."""
    change = BrokerRegistrationChangeRecord(
        broker_id=broker.broker_id,
        broker_epoch=broker.broker_epoch,
        in_controlled_shutdown=True,
    )
    moves = election.without(view, frozenset({broker.broker_id}))
    return Decision((*moves, change), None, divisible=True)
