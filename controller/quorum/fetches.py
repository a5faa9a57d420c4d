"""One stream of fetches as the servicer has it: a request, its answer, the next request.

    a voter's or a learner's ─▶ driver.ask ─▶ answered in the core's turn, at once or when there is
                                              something to say
    an observer's            ─▶ a task, which waits for what is committed

A commit takes two of these requests, so neither they nor their answers wait for a turn of the loop.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

from controller.quorum.messages import response_to_wire
from controller.raft.events import StreamLost
from controller.raft.messages import Response
from klamm.errors import OverloadedError
from klamm.ids import NO_NODE, NodeId
from klamm.v1 import quorum_pb2 as pb

if TYPE_CHECKING:
    from controller.quorum.driver import QuorumDriver
    from controller.quorum.service import QuorumService


class Caller(Protocol):
    """At the other end of the stream."""

    def answer(self, message: pb.FetchResponse) -> None: ...


class Fetches:
    """Of one stream; one request at a time."""

    def __init__(self, service: "QuorumService", driver: "QuorumDriver", caller: Caller) -> None:
        self.voter: NodeId | None = None
        """Whose it is; NO_NODE if it is no voter's, None while nothing was asked."""
        self._service = service
        self._driver = driver
        self._caller = caller
        self._call = 0
        """The last that the core was asked."""
        self._observing: asyncio.Task[None] | None = None

    def take(self, request: pb.FetchRequest) -> None:
        """The next request."""
        if self.voter in (None, NO_NODE) and not request.observer:
            first = self.voter is None
            self.voter = self._service.enter(request.caller, self, first=first)
        self._service.limit(request)
        if request.observer:
            self._observing = asyncio.get_running_loop().create_task(self._observe(request))
            return
        asked = self._service.understand(request)
        if isinstance(asked, int):
            self._caller.answer(self._service.refused(asked))
            return
        try:
            self._call = self._driver.ask(*asked, self._answered)
        except OverloadedError:
            self._caller.answer(self._service.refused(pb.QUORUM_ERROR_OVERLOADED))

    def close(self) -> None:
        """The caller is gone."""
        self._driver.drop(self._call)
        if self._observing is not None:
            self._observing.cancel()
        if self.voter is not None and self._service.leave(self.voter, self):
            self._driver.post(StreamLost(self.voter))

    def _answered(self, answer: Response | Exception) -> None:
        if isinstance(answer, Exception):
            self._caller.answer(self._service.refused(pb.QUORUM_ERROR_OVERLOADED))
            return
        wire = response_to_wire(answer)
        assert isinstance(wire, pb.FetchResponse), f"{answer} answers a fetch"
        if wire.error:
            self._service.show_leader(wire)
        self._caller.answer(wire)

    async def _observe(self, request: pb.FetchRequest) -> None:
        self._caller.answer(await self._service.observe(request))
