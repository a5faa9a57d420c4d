"""One controller as a client sees it: its address, a channel, and the stubs of its services."""

from typing import TYPE_CHECKING

from klamm.rpc.channel import open_channel
from klamm.v1.admin_pb2_grpc import AdminServiceStub
from klamm.v1.controller_pb2_grpc import ControllerServiceStub
from klamm.v1.metadata_pb2_grpc import MetadataServiceStub
from klamm.v1.quorum_pb2_grpc import QuorumServiceStub

if TYPE_CHECKING:
    from klamm.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from klamm.v1.controller_pb2_grpc import ControllerServiceAsyncStub
    from klamm.v1.metadata_pb2_grpc import MetadataServiceAsyncStub
    from klamm.v1.quorum_pb2_grpc import QuorumServiceAsyncStub


class Node:
    """Connects at the first call."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = open_channel(address)
        self.admin: AdminServiceAsyncStub = AdminServiceStub(self.channel)
        self.controller: ControllerServiceAsyncStub = ControllerServiceStub(self.channel)
        self.metadata: MetadataServiceAsyncStub = MetadataServiceStub(self.channel)
        self.quorum: QuorumServiceAsyncStub = QuorumServiceStub(self.channel)

    async def close(self) -> None:
        await self.channel.close()
