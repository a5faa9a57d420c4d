"""Who answers at an endpoint? Asked before the log says that a voter is reached there.

The others, and this leader itself, look for the voter where the log says that it is: a slip of the
pen there cuts a voter off, and costs an election if it is the leader.
"""

import grpc.aio

from controller.quorum.peers import Connect
from klamm.config.listeners import format_address
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId
from klamm.metadata.records import Endpoint
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc

PROBE_MS = 5_000
"""Who has not answered by then is not there."""


async def check_endpoint(
    connect: Connect, *, cluster_id: str, voter: NodeId, endpoint: Endpoint, timeout_ms: int
) -> None:
    """Returns if `voter` of this cluster answers at `endpoint`.

    Raises:
        ApiError: REQUEST_TIMED_OUT: nobody does, or who does is no controller;
            INCONSISTENT_CLUSTER_ID, INVALID_REQUEST: another one does. Each says who.
    """
    address = format_address(endpoint.host, endpoint.port)
    timeout_ms = max(1, min(PROBE_MS, timeout_ms))
    channel = connect(address)
    try:
        stub: pb_grpc.QuorumServiceAsyncStub = pb_grpc.QuorumServiceStub(channel)
        request = pb.DescribeQuorumRequest()
        answer = await stub.DescribeQuorum(request, timeout=timeout_ms / 1_000)
    except grpc.aio.AioRpcError as error:
        raise ApiError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"no controller answers at {address} ({error.code().name}, within {timeout_ms} ms)",
        ) from error
    finally:
        await channel.close()
    if answer.cluster_id != cluster_id:
        raise ApiError(
            ErrorCode.INCONSISTENT_CLUSTER_ID,
            f"at {address} answers a controller of another cluster, {answer.cluster_id!r}",
        )
    if answer.responder_id != voter:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"at {address} answers controller {answer.responder_id}, and not {voter}",
        )
