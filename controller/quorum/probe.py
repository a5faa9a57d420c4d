"""Who answers at an endpoint, and what does it support? Asked before the log says so.

The others, and this leader itself, look for the voter where the log says that it is: a slip of the
pen there cuts a voter off, and costs an election if it is the leader.
"""

import grpc.aio

from controller.quorum.peers import Connect
from controller.quorum.port import Peer
from klamm.config.listeners import format_address
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId
from klamm.metadata.codec import features_from_proto
from klamm.metadata.features import Supported
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
    answer = await _ask(connect, address, timeout_ms)
    _check_answer(answer, cluster_id, voter, address)


async def supported_by(
    connect: Connect, *, cluster_id: str, peer: Peer, timeout_ms: int
) -> Supported:
    """What a voter says that it can work with; empty if its version does not say so.

    Raises:
        ApiError: As `check_endpoint`.
    """
    answer = await _ask(connect, peer.address, timeout_ms)
    _check_answer(answer, cluster_id, peer.node_id, peer.address)
    return features_from_proto(answer.responder_features)


async def _ask(connect: Connect, address: str, timeout_ms: int) -> pb.DescribeQuorumResponse:
    timeout_ms = max(1, min(PROBE_MS, timeout_ms))
    channel = connect(address)
    try:
        stub: pb_grpc.QuorumServiceAsyncStub = pb_grpc.QuorumServiceStub(channel)
        request = pb.DescribeQuorumRequest()
        return await stub.DescribeQuorum(request, timeout=timeout_ms / 1_000)
    except grpc.aio.AioRpcError as error:
        raise ApiError(
            ErrorCode.REQUEST_TIMED_OUT,
            f"no controller answers at {address} ({error.code().name}, within {timeout_ms} ms)",
        ) from error
    finally:
        await channel.close()


def _check_answer(
    answer: pb.DescribeQuorumResponse, cluster_id: str, voter: NodeId, address: str
) -> None:
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
