"""Producer ids, in blocks of a thousand (spec kraft 2.13)."""

from dataclasses import dataclass

from controller.plan.brokers import check_epoch
from controller.plan.decision import Decision
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId, Offset
from klamm.metadata.records import ProducerIdsRecord

BLOCK_IDS = 1_000
PRODUCER_ID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Block:
    first_producer_id: int
    count: int = BLOCK_IDS


def allocate(view: View, broker_id: NodeId, broker_epoch: Offset) -> Decision[Block]:
    """A block that nobody else gets.

    Raises:
        ApiError: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH, UNKNOWN_SERVER_ERROR when the ids
            are used up.
    """
    check_epoch(view, broker_id, broker_epoch)
    first = view.image.next_producer_id
    if first > PRODUCER_ID_MAX - BLOCK_IDS:
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, "all producer ids are used up")
    record = ProducerIdsRecord(broker_id, broker_epoch, first + BLOCK_IDS)
    return Decision((record,), Block(first))
