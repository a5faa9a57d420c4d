"""FindCoordinator (key 10): who coordinates a group; nobody coordinates transactions yet.

Groups are not coordinated yet either, but a consumer that assigns its partitions itself looks for
the coordinator of its group.id before it reads a record. So a group has one: the broker asked,
which answers that nothing has been committed, and refuses to join; see `groups`.
"""

from broker.api.context import BrokerServices, RequestContext
from broker.api.refusals import BATCHED_KEYS_VERSION
from broker.api.transactions import TRANSACTIONS_REFUSAL, TRANSACTIONS_SENTENCE
from broker.kafka.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from klamm.errors import ErrorCode

GROUP, TRANSACTION = 0, 1


def handle(
    services: BrokerServices, context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    """Answer for each key."""
    if context.api_version >= BATCHED_KEYS_VERSION:
        return FindCoordinatorResponse(
            coordinators=[
                _coordinator(services, context, request.key_type, key)
                for key in request.coordinator_keys
            ]
        )
    one = _coordinator(services, context, request.key_type, request.key)
    return FindCoordinatorResponse(
        error_code=one.error_code,
        error_message=one.error_message,
        node_id=one.node_id,
        host=one.host,
        port=one.port,
    )


def _coordinator(
    services: BrokerServices, context: RequestContext, key_type: int, key: str
) -> Coordinator:
    match key_type:
        case _ if key_type == GROUP and key:
            return _of_group(services, context, key)
        case _ if key_type == GROUP:
            return _none(key, ErrorCode.INVALID_GROUP_ID, "a group's id is not empty")
        case _ if key_type == TRANSACTION:
            return _none(key, TRANSACTIONS_REFUSAL, TRANSACTIONS_SENTENCE)
    return _none(key, ErrorCode.INVALID_REQUEST, f"no coordinators of type {key_type}")


def _of_group(services: BrokerServices, context: RequestContext, group: str) -> Coordinator:
    broker = services.image.brokers.get(services.node_id)
    endpoint = None if broker is None else broker.endpoint(context.listener)
    if broker is None or endpoint is None or broker.fenced:
        return _none(group, ErrorCode.COORDINATOR_NOT_AVAILABLE, "this broker is not serving")
    return Coordinator(key=group, node_id=services.node_id, host=endpoint.host, port=endpoint.port)


def _none(key: str, code: ErrorCode, sentence: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, port=-1, error_code=code, error_message=sentence)
