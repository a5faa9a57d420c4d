"""How a call ends that was refused: with its reason, and where to go instead."""

from typing import TYPE_CHECKING, Any, NoReturn

from controller.server.port import QuorumView
from klamm.errors import KlammError, NotControllerError
from klamm.ids import NO_NODE
from klamm.rpc import status

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[Any, Any]


class Refusals:
    def __init__(self, quorum: QuorumView) -> None:
        self._quorum = quorum

    async def abort(self, context: "Context", error: KlammError) -> NoReturn:
        """End the call with `error`; NotControllerError also with the leader's address."""
        address = ""
        if isinstance(error, NotControllerError) and error.leader != NO_NODE:
            peers = self._quorum.peers
            address = next((each.address for each in peers if each.node_id == error.leader), "")
        await status.abort(context, error, address)
