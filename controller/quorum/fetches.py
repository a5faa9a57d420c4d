"""One stream of fetches as the servicer has it: a request, its answer, the next request.

    a voter's or a learner's ─▶ driver.ask ─▶ answered in the core's turn, at once or when there is
                                              something to say
    an observer's            ─▶ a task, which waits for what is committed

A commit takes two of these requests, so neither they nor their answers wait for a turn of the loop.
An observer that follows closely is told at once when the quorum was idle, and each OBSERVER_REST_MS
when it is busy: to tell it of each of a thousand commits a second costs as much as a third voter.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

from controller.quorum.messages import response_to_wire
from controller.raft.events import StreamLost
from controller.raft.messages import Response
from klamm.errors import OverloadedError
from klamm.ids import NO_NODE, NodeId
from klamm.telemetry import logs
from klamm.v1 import quorum_pb2 as pb

_log = logs.logger("controller.quorum")

OBSERVER_REST_MS = 4
"""Between two answers to an observer that has all."""

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
        self._told_s = 0.0
        """When an observer was answered last; of the loop's clock."""

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
        loop = asyncio.get_running_loop()
        rest_s = self._told_s + OBSERVER_REST_MS / 1_000 - loop.time()
        if rest_s > 0 and self._service.follows_closely(request):
            await asyncio.sleep(rest_s)
        try:
            answer = await self._service.observe(request)
        except MemoryError as error:
            loop.call_exception_handler({"exception": error})  # It ends the node: see klamm/node.
            raise
        except Exception as error:  # Of a broken disk, or a bug: said, and to be tried again.
            _log.error("an observer's fetch failed", exc_info=error)
            answer = self._service.refused(pb.QUORUM_ERROR_OVERLOADED)
        self._told_s = loop.time()
        self._caller.answer(answer)
