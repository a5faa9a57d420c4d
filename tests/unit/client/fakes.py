"""Controllers for tests: real gRPC on a loopback port, with a script behind the services.

FakeQuorum   who leads, and from which epoch on; shared by the controllers below
FakeController(quorum, id)   FindController held back as the real one does; CreateTopics,
                             AllocateProducerIds, DescribeCluster, Session by what `quorum` says
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from klamm.errors import ApiError, ErrorCode, KlammError, NotControllerError
from klamm.ids import NO_NODE, Epoch, NodeId
from klamm.rpc import status
from klamm.rpc.server import GrpcServer
from klamm.v1 import admin_pb2, controller_pb2, metadata_pb2
from klamm.v1.admin_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from klamm.v1.controller_pb2_grpc import (
    ControllerServiceServicer,
    add_ControllerServiceServicer_to_server,
)
from klamm.v1.metadata_pb2_grpc import (
    MetadataServiceServicer,
    add_MetadataServiceServicer_to_server,
)


class FakeQuorum:
    def __init__(self) -> None:
        self.leader = NO_NODE
        self.epoch = Epoch(0)
        self.controllers: dict[NodeId, FakeController] = {}
        self.broker_epochs: dict[int, int] = {}
        self.may_stop = False
        self._changed = asyncio.Event()

    def elect(self, leader: int) -> None:
        self.leader, self.epoch = NodeId(leader), Epoch(self.epoch + 1)
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_leader(self, after: int, wait_ms: int) -> None:
        try:
            async with asyncio.timeout(wait_ms / 1_000):
                while self.leader == NO_NODE or self.epoch <= after:
                    await self._changed.wait()
        except TimeoutError:
            pass

    def address(self, node: int) -> str:
        controller = self.controllers.get(NodeId(node))
        return "" if controller is None else controller.address


class FakeController(MetadataServiceServicer, AdminServiceServicer, ControllerServiceServicer):
    def __init__(self, quorum: FakeQuorum, node_id: int) -> None:
        self.quorum = quorum
        self.node_id = NodeId(node_id)
        self.server = GrpcServer("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.port}"
        self.calls: list[str] = []
        self.heartbeats: list[controller_pb2.SessionRequest] = []
        self.registrations: list[controller_pb2.RegisterBrokerRequest] = []
        self.failures: list[KlammError] = []
        """The next calls of the active controller fail with these, in order."""
        self.cut_short = False
        """A stream ends without its last chunk, as if all were well."""
        self.hang = asyncio.Event()
        """While cleared by `stuck`, changes are taken and not answered."""
        self.hang.set()
        add = {
            "klamm.v1.MetadataService": add_MetadataServiceServicer_to_server,
            "klamm.v1.AdminService": add_AdminServiceServicer_to_server,
            "klamm.v1.ControllerService": add_ControllerServiceServicer_to_server,
        }
        for name, register in add.items():
            self.server.add(name, lambda server, register=register: register(self, server))
        quorum.controllers[self.node_id] = self

    async def FindController(self, request: Any, context: Any) -> Any:
        self.calls.append("FindController")
        await self.quorum.wait_leader(request.after_epoch, request.max_wait_ms)
        return metadata_pb2.FindControllerResponse(
            header=self._header(),
            controllers=[
                metadata_pb2.Controller(node_id=each.node_id, grpc=each.address)
                for each in self.quorum.controllers.values()
            ],
        )

    async def CreateTopics(self, request: Any, context: Any) -> Any:
        await self._lead("CreateTopics", context)
        return admin_pb2.CreateTopicsResponse(committed_offset=7)

    async def AllocateProducerIds(self, request: Any, context: Any) -> Any:
        await self._lead("AllocateProducerIds", context)
        return controller_pb2.AllocateProducerIdsResponse(first_producer_id=1_000, count=1_000)

    async def RegisterBroker(self, request: Any, context: Any) -> Any:
        await self._lead("RegisterBroker", context)
        epoch = 10 * (1 + len(self.calls))
        self.quorum.broker_epochs[request.broker_id] = epoch
        self.registrations.append(request)
        return controller_pb2.RegisterBrokerResponse(broker_epoch=epoch)

    async def DescribeCluster(self, request: Any, context: Any) -> Any:
        self.calls.append("DescribeCluster")
        return metadata_pb2.DescribeClusterResponse(header=self._header())

    async def Session(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            await self._lead("Session", context)
            self.heartbeats.append(request)
            if self.quorum.broker_epochs.get(request.broker_id) != request.broker_epoch:
                stale = ApiError(ErrorCode.STALE_BROKER_EPOCH, "another uptime")
                await status.abort(context, stale)
            caught_up = request.applied_offset > request.broker_epoch
            yield controller_pb2.SessionResponse(
                is_caught_up=caught_up,
                is_fenced=request.want_fence or not caught_up,
                should_shut_down=request.want_shut_down and self.quorum.may_stop,
                controller_epoch=self.quorum.epoch,
            )

    async def Watch(self, request: Any, context: Any) -> Any:
        """Three answers, then the stream breaks."""
        self.calls.append(f"Watch {request.from_offset}")
        for offset in range(request.from_offset + 1, request.from_offset + 4):
            yield metadata_pb2.WatchResponse(header=metadata_pb2.ResponseHeader(offset=offset))
        await context.abort(*_UNAVAILABLE)

    async def Backup(self, request: Any, context: Any) -> Any:
        """Two chunks; a failure comes in the place of the second."""
        self.calls.append("Backup")
        yield metadata_pb2.BackupResponse(chunk=b"one")
        if self.failures:
            await status.abort(context, self.failures.pop(0))
        if not self.cut_short:
            yield metadata_pb2.BackupResponse(position=3, chunk=b"two", last=True)

    async def _lead(self, call: str, context: Any) -> None:
        self.calls.append(call)
        if self.quorum.leader != self.node_id:
            error = NotControllerError(self.quorum.leader, self.quorum.epoch)
            await status.abort(context, error, self.quorum.address(self.quorum.leader))
        if self.failures:
            await status.abort(context, self.failures.pop(0))
        await self.hang.wait()

    def _header(self) -> Any:
        return metadata_pb2.ResponseHeader(
            leader_id=self.quorum.leader, epoch=self.quorum.epoch, responder_id=self.node_id
        )


def _unavailable() -> tuple[Any, str]:
    import grpc

    return grpc.StatusCode.UNAVAILABLE, "going away"


_UNAVAILABLE = _unavailable()


@asynccontextmanager
async def three_controllers() -> AsyncIterator[tuple[FakeQuorum, dict[int, FakeController]]]:
    quorum = FakeQuorum()
    controllers = {node: FakeController(quorum, node) for node in (1, 2, 3)}
    for each in controllers.values():
        await each.server.start()
    try:
        yield quorum, controllers
    finally:
        for each in controllers.values():
            await each.server.stop(grace_ms=0)
