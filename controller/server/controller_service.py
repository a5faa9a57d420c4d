"""ControllerService: what brokers say to the active controller.

A session's stream is itself the sign of life: it is opened with the first heartbeat, and when it
breaks, for whatever reason, the grace of its broker begins. Statuses as in admin_service.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from controller.active import ActiveController
from controller.plan.isr import IsrResult
from controller.server import door, requests
from controller.server.port import QuorumView
from controller.server.refusals import Refusals
from klamm.errors import KlammError
from klamm.ids import NodeId, Offset
from klamm.v1 import controller_pb2 as pb
from klamm.v1.controller_pb2_grpc import ControllerServiceServicer

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]

NAME = "klamm.v1.ControllerService"

COMMIT_TIMEOUT_MS = 5_000
"""Of what brokers ask for; they ask again."""


class ControllerService(ControllerServiceServicer):
    def __init__(
        self, controller: ActiveController, quorum: QuorumView, refusals: Refusals
    ) -> None:
        self._controller = controller
        self._quorum = quorum
        self._refusals = refusals

    async def RegisterBroker(
        self, request: pb.RegisterBrokerRequest, context: "Context"
    ) -> pb.RegisterBrokerResponse:
        """Begin an uptime; answered once the registration has committed."""
        try:
            door.check(door.register_broker(request))
            broker_epoch = await self._controller.register_broker(
                request.cluster_id, requests.registration(request), COMMIT_TIMEOUT_MS
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.RegisterBrokerResponse(
            broker_epoch=broker_epoch, controller_epoch=self._quorum.epoch
        )

    async def Session(
        self, request_iterator: AsyncIterator[pb.SessionRequest], context: "Context"
    ) -> AsyncIterator[pb.SessionResponse]:
        """One heartbeat, one answer. Ends when either side goes, or this node leads no more."""
        broker_id, stream = NodeId(-1), 0
        try:
            async for request in request_iterator:
                door.check(door.session(request))
                if not stream:
                    broker_id = NodeId(request.broker_id)
                    stream = self._controller.open_session(broker_id, Offset(request.broker_epoch))
                yield await self._heartbeat(request)
        except KlammError as error:
            await self._refusals.abort(context, error)
        finally:
            if stream:
                self._controller.close_session(broker_id, stream)

    async def _heartbeat(self, request: pb.SessionRequest) -> pb.SessionResponse:
        standing = await self._controller.heartbeat(
            NodeId(request.broker_id),
            Offset(request.broker_epoch),
            Offset(request.applied_offset),
            want_fence=request.want_fence,
            want_shut_down=request.want_shut_down,
            timeout_ms=COMMIT_TIMEOUT_MS,
        )
        return pb.SessionResponse(
            is_caught_up=standing.is_caught_up,
            is_fenced=standing.is_fenced,
            should_shut_down=standing.should_shut_down,
            controller_epoch=self._quorum.epoch,
        )

    async def AlterPartition(
        self, request: pb.AlterPartitionRequest, context: "Context"
    ) -> pb.AlterPartitionResponse:
        """Other ISRs; rows are answered in the order asked."""
        try:
            door.check(door.alter_partition(request))
            results, end = await self._controller.alter_partition(
                NodeId(request.broker_id),
                Offset(request.broker_epoch),
                requests.isr_changes(request),
                COMMIT_TIMEOUT_MS,
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.AlterPartitionResponse(results=map(_altered, results), committed_offset=end)

    async def AllocateProducerIds(
        self, request: pb.AllocateProducerIdsRequest, context: "Context"
    ) -> pb.AllocateProducerIdsResponse:
        """A block that no other broker, and no other uptime of this one, gets."""
        try:
            door.check(door.allocate_producer_ids(request))
            block = await self._controller.allocate_producer_ids(
                NodeId(request.broker_id), Offset(request.broker_epoch), COMMIT_TIMEOUT_MS
            )
        except KlammError as error:
            await self._refusals.abort(context, error)
        return pb.AllocateProducerIdsResponse(
            first_producer_id=block.first_producer_id, count=block.count
        )


def _altered(result: IsrResult) -> pb.AlterPartitionResult:
    return pb.AlterPartitionResult(
        topic_id=result.topic_id.bytes,
        partition=result.partition,
        error_code=result.error,
        error_message=result.message,
        leader_id=result.leader,
        leader_epoch=result.leader_epoch,
        isr=result.isr,
        partition_epoch=result.partition_epoch,
    )
