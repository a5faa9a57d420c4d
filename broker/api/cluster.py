"""DescribeCluster (key 60): the brokers of this cluster (KIP-700, KIP-919)."""

from broker.api.context import BrokerServices, RequestContext
from broker.api.metadata_pieces import controller_of
from broker.kafka.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from klamm.errors import ErrorCode

BROKERS, CONTROLLERS = 1, 2
"""Kinds of endpoints that may be asked for."""


def handle(
    services: BrokerServices, context: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Answer from the image. Controllers are reached over gRPC, so none has an endpoint here."""
    if request.endpoint_type == CONTROLLERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            error_message="this is a broker; controllers do not speak Kafka's protocol here",
            endpoint_type=CONTROLLERS,
        )
    if request.endpoint_type != BROKERS:
        return DescribeClusterResponse(
            error_code=ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message=f"no endpoint type {request.endpoint_type}; 1 is brokers",
            endpoint_type=request.endpoint_type,
        )
    image = services.image
    rows = []
    for _, broker in sorted(image.brokers.items()):
        endpoint = broker.endpoint(context.listener)
        if endpoint is not None and (request.include_fenced_brokers or not broker.fenced):
            rows.append(
                DescribeClusterBroker(
                    broker_id=broker.broker_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=broker.rack,
                    is_fenced=broker.fenced,
                )
            )
    return DescribeClusterResponse(
        endpoint_type=BROKERS,
        cluster_id=services.cluster_id,
        controller_id=controller_of(image, services.node_id, context.listener),
        brokers=rows,
    )
