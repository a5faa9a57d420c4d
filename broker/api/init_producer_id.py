"""InitProducerId (key 22): an id for an idempotent producer, from any broker (KIP-98).

Ids come from blocks that the active controller gives out, the next block before the last is used
up; so this is answered in a moment and goes on while no controller can be reached.
"""

from broker.api.context import BrokerServices, RequestContext
from broker.api.transactions import TRANSACTIONS_REFUSAL
from broker.kafka.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from klamm.errors import ErrorCode, KlammError

WAIT_MS = 5_000
"""For a block. Below the request timeouts of clients, which begin at 30 s."""


async def handle(
    services: BrokerServices, context: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse:
    """A new id in epoch 0, whatever id the producer had before: without a transactional id nobody
    has a claim to one.
    """
    if request.transactional_id is not None:
        if request.transactional_id == "":
            return InitProducerIdResponse(error_code=ErrorCode.INVALID_REQUEST, producer_epoch=-1)
        return InitProducerIdResponse(error_code=TRANSACTIONS_REFUSAL, producer_epoch=-1)
    try:
        producer_id = await services.producer_ids.next_id(WAIT_MS)
    except KlammError:
        # Every client tries again after this one, for this request, in all of its versions.
        return InitProducerIdResponse(
            error_code=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, producer_epoch=-1
        )
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)
