"""Calls as a client has them: one link for each connection, one ClientCall for each stream.

    ClientCall ── waits for the channel to be connected ─▶ attach(link) ─▶ request, deadline
               ◀── messages, status ── ClientLink

However a call ends, it ends once, with a status; who waits for it is told by AioRpcError. One that
never reached a server says so in its details (`NEVER_SENT`): it certainly has not happened.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import grpc
import grpc.aio

from klamm.http2.events import DataReceived, Event, GoneAway, HeadersReceived, StreamReset
from klamm.http2.frames import Code, ProtocolError
from klamm.http2.headers import Headers
from klamm.http2.limits import STREAM_WINDOW_BYTES
from klamm.rpc import framing
from klamm.rpc.admission import MESSAGE_BYTES_MAX
from klamm.rpc.framing import FramingError, MessageReader, Metadata
from klamm.rpc.link import Link
from klamm.rpc.status import ANSWER_UNREAD, NEVER_SENT

_BLOCKS_MAX = 256
"""Header blocks of a link that are kept for the next call like it."""

_OK = grpc.StatusCode.OK

_CODES = {int(each): each for each in Code}

_RESET_CODES: dict[int, grpc.StatusCode] = {
    Code.CANCEL: grpc.StatusCode.CANCELLED,
    Code.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    Code.NO_ERROR: grpc.StatusCode.UNAVAILABLE,
}
"""Others are INTERNAL (PROTOCOL-HTTP2.md, "Errors")."""


class ClientLink(Link):
    """A client's end of a connection."""

    def __init__(
        self,
        authority: str,
        on_ready: "Callable[[ClientLink], None]",
        on_end: "Callable[[ClientLink, str], None]",
        on_free: Callable[[], None],
    ) -> None:
        """
        Args:
            authority: Of whom calls are asked: `host:port`.
            on_ready: Told once the server has spoken: one that is paused accepts connections too.
            on_end: Told that no new calls are taken, and why; and when the last one is over.
            on_free: Told whenever a call is over, and another one may have its place.
        """
        super().__init__(client=True)
        self._authority = authority
        self._on_ready = on_ready
        self._on_end = on_end
        self._on_free = on_free
        self._calls: dict[int, ClientCall] = {}
        self._blocks: dict[tuple[str, float | None, Metadata], bytes] = {}
        self._ready = False
        self._ended = False

    def open(self, call: "ClientCall") -> int:
        """Begin the call's stream.

        Raises:
            ProtocolError: REFUSED_STREAM: nothing was sent.
        """
        key = (call.path, call.timeout_s, call.metadata)
        block = self._blocks.get(key)
        if block is None:
            if len(self._blocks) >= _BLOCKS_MAX:
                self._blocks.clear()
            block = self._blocks[key] = framing.request_block(self._authority, *key)
        stream_id = self.connection.open_stream(block)
        self._calls[stream_id] = call
        if self.connection.used_up:
            self._end("its streams are used up")
        return stream_id

    def forget(self, stream_id: int) -> None:
        self._calls.pop(stream_id, None)
        if self._ended and not self._calls:
            self.close("the server goes away")
        elif not self._ended:
            self._on_free()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._ready and self.connection.settled and not self.closed:
            self._ready = True
            self._on_ready(self)

    def on_event(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            stream_id, data, ended = event
            call = self._calls.get(stream_id)
            if call is None:
                self.connection.consumed(stream_id, len(data))
            else:
                call.received(data, ended=ended)
        elif isinstance(event, HeadersReceived):
            call = self._calls.get(event.stream_id)
            if call is not None:
                call.answered(event.headers, ended=event.ended, trailing=event.trailing)
        elif isinstance(event, StreamReset):
            call = self._calls.get(event.stream_id)
            if call is not None:
                call.was_reset(event.code, unprocessed=event.unprocessed)
        elif isinstance(event, GoneAway):
            self._end("the server goes away")
            if not self._calls:
                self.close("the server goes away")

    def on_closed(self, why: str) -> None:
        self._ended = True
        self._on_end(self, why)  # Also if it was told before: now it is over for good.
        for call in list(self._calls.values()):
            call.end(grpc.StatusCode.UNAVAILABLE, f"the connection was lost: {why}")

    def _end(self, why: str) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self, why)


class ClientCall:
    """What grpc.aio's calls are, of all four shapes. Used on one loop."""

    def __init__(
        self,
        path: str,
        serialize: Callable[[Any], bytes] | None,
        parse: Callable[[bytes], Any] | None,
        *,
        timeout_s: float | None,
        metadata: Metadata,
        channel: object = None,
    ) -> None:
        """Args: `channel` is kept until the call is over."""
        self.path = path
        self.timeout_s = timeout_s
        self.metadata = metadata
        self._serialize = serialize
        self._parse = parse
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._link: ClientLink | None = None
        self._stream_id = 0
        self._early: list[bytes] = []
        """Messages from before the connection stood."""
        self._done_writing = False
        self._reader = MessageReader(MESSAGE_BYTES_MAX)
        self._inbox: deque[bytes] = deque()
        self._held_bytes = 0
        self._kept_back = 0
        self._waiter: asyncio.Future[None] | None = None
        self._attached: asyncio.Future[None] | None = None
        self._answered = False
        self._initial: Metadata = ()
        self._code: grpc.StatusCode | None = None
        """None while the call is not over."""
        self._details = ""
        self._trailing: Metadata = ()
        self._callbacks: list[Callable[[Any], None]] = []
        self.on_message: Callable[[Any], None] | None = None
        """Given each message in the moment it comes; nobody calls `read` then. A hop of the loop
        and a task less, where a commit waits for it."""
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_s: float | None = None
        if timeout_s is not None:
            self._deadline_s = self._loop.time() + timeout_s
            self._timer = self._loop.call_at(self._deadline_s, self._out_of_time)

    # ── what channel and link tell ───────────────────────────────────────────────────────────

    def attach(self, link: ClientLink) -> None:
        """The connection stands: send what there is."""
        if self._code is not None:
            return
        try:
            self._stream_id = link.open(self)
        except ProtocolError as error:
            self.end(grpc.StatusCode.UNAVAILABLE, f"{NEVER_SENT}: {error}")
            return
        self._link = link
        for message in self._early:
            link.connection.send_data(self._stream_id, message)
        self._early.clear()
        if self._done_writing:
            link.connection.end(self._stream_id)
        link.flush()
        if self._attached is not None and not self._attached.done():
            self._attached.set_result(None)

    def answered(self, headers: Headers, *, ended: bool, trailing: bool) -> None:
        if ended:
            code, details, metadata = framing.status(headers)
            self._trailing = metadata
            if code is _OK and self._reader.rest_bytes:
                code, details = grpc.StatusCode.INTERNAL, "an answer is cut short"
            self.end(code, details)
            return
        said = dict(headers)
        if said[":status"] != "200" or not said.get("content-type", "").startswith(
            framing.CONTENT_TYPE
        ):
            code, details, _ = framing.status(headers)
            self._give_up(grpc.StatusCode.UNKNOWN if code is _OK else code, details)
            return
        self._answered = True
        self._initial = framing.metadata(headers)
        self._wake()
        self._reader = MessageReader(MESSAGE_BYTES_MAX, said.get("grpc-encoding", "identity"))

    def received(self, data: bytes, *, ended: bool) -> None:
        try:
            messages = self._reader.read(data)
        except FramingError as error:
            self._give_up(error.code, f"{ANSWER_UNREAD}: {error}")
            return
        self._inbox.extend(messages)
        self._held_bytes += framing.held_bytes(messages)
        self._kept_back += len(data)
        self._give_back()
        if self.on_message is not None:
            self._push(self.on_message)
        if ended:
            self.end(grpc.StatusCode.INTERNAL, "an answer without its status")
        elif messages:
            self._wake()

    def was_reset(self, code: int, *, unprocessed: bool) -> None:
        known = _CODES.get(code)
        name = known.name if known is not None else f"code {code}"
        if unprocessed:
            self.end(grpc.StatusCode.UNAVAILABLE, f"{NEVER_SENT}: the server took no more: {name}")
            return
        status = _RESET_CODES.get(code, grpc.StatusCode.INTERNAL)
        self.end(status, f"the server reset the call: {name}")

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """The call is over. Idempotent."""
        if self._code is not None:
            return
        self._code, self._details = code, details
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link.forget(self._stream_id)
            self._link.wake_writers(self._stream_id)
        if self._attached is not None and not self._attached.done():
            self._attached.set_result(None)
        self._wake()
        for callback in self._callbacks:
            self._loop.call_soon(callback, self)
        self._channel = None

    # ── what its caller does ─────────────────────────────────────────────────────────────────

    def send(self, message: Any) -> None:
        """Hand a message over, without waiting for it to go out."""
        data = framing.prefixed(message if self._serialize is None else self._serialize(message))
        if self._link is None:
            self._early.append(data)
            return
        self._link.connection.send_data(self._stream_id, data)
        self._link.flush()

    async def write(self, request: Any) -> None:
        """Returns once it has gone to the socket.

        Raises:
            grpc.aio.AioRpcError: The call is over.
        """
        self._check_open()
        self.send(request)
        if self._link is None:
            await self.wait_for_connection()
        if self._link is not None:
            await self._link.drained(self._stream_id)
        self._check_open()

    async def done_writing(self) -> None:
        self.end_writing()

    def end_writing(self) -> None:
        if self._done_writing or self._code is not None:
            return
        self._done_writing = True
        if self._link is not None:
            self._link.connection.end(self._stream_id)
            self._link.flush()

    async def read(self) -> Any:
        """The next message; `grpc.aio.EOF` when the call is over and was well.

        Raises:
            grpc.aio.AioRpcError: It was not.
        """
        while not self._inbox:
            if self._code is not None:
                if self._code is _OK:
                    return grpc.aio.EOF
                raise self._failure()
            await self._next()
        return self._take()

    def __await__(self) -> Generator[Any, None, Any]:
        """The only answer of a call that has one."""
        return self._single().__await__()

    async def _single(self) -> Any:
        try:
            while self._code is None:
                await self._next()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self._code is not _OK:
            raise self._failure()
        if len(self._inbox) != 1:
            self._code = grpc.StatusCode.INTERNAL
            self._details = f"{len(self._inbox)} answers to a call that has one"
            raise self._failure()
        return self._parsed(self._inbox[0])

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while (message := await self.read()) is not grpc.aio.EOF:
                yield message
        finally:
            self.cancel()

    def cancel(self) -> bool:
        """Give it up; the server hears of it."""
        if self._code is not None:
            return False
        self._give_up(grpc.StatusCode.CANCELLED, "the caller gave it up")
        return True

    def cancelled(self) -> bool:
        return self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._code is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._code is not None:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def time_remaining(self) -> float | None:
        if self._deadline_s is None:
            return None
        return max(self._deadline_s - self._loop.time(), 0.0)

    async def initial_metadata(self) -> Any:
        while not self._answered and self._code is None and not self._inbox:
            await self._next()
        return grpc.aio.Metadata(*self._initial)

    async def trailing_metadata(self) -> Any:
        await self._until_over()
        return grpc.aio.Metadata(*self._trailing)

    async def code(self) -> grpc.StatusCode:
        await self._until_over()
        assert self._code is not None
        return self._code

    async def details(self) -> str:
        await self._until_over()
        return self._details

    async def wait_for_connection(self) -> None:
        """
        Raises:
            grpc.aio.AioRpcError: There is none.
        """
        if self._link is None and self._code is None:
            self._attached = self._attached or self._loop.create_future()
            await asyncio.shield(self._attached)
        self._check_open()

    # ── how ──────────────────────────────────────────────────────────────────────────────────

    def _take(self) -> Any:
        data = self._inbox.popleft()
        self._held_bytes -= len(data) + framing.MESSAGE_COST_BYTES
        if self._kept_back and self._link is not None:
            self._give_back()
            self._link.flush()
        return self._parsed(data)

    def _push(self, on_message: Callable[[Any], None]) -> None:
        while self._inbox and self._code is None:
            try:
                message = self._take()
            except grpc.aio.AioRpcError:
                return  # It is no message; the call is over, and its callbacks tell.
            on_message(message)

    def _parsed(self, data: bytes) -> Any:
        if self._parse is None:
            return data
        try:
            return self._parse(data)
        except Exception as error:
            self._give_up(grpc.StatusCode.INTERNAL, f"the answer is no message: {error}")
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.INTERNAL, details=f"the answer is no message: {error}"
            ) from error

    def _give_back(self) -> None:
        if self._link is not None and self._held_bytes < STREAM_WINDOW_BYTES:
            self._link.connection.consumed(self._stream_id, self._kept_back)
            self._kept_back = 0

    def _give_up(self, code: grpc.StatusCode, details: str) -> None:
        if self._code is None and self._link is not None:
            self._link.connection.reset(self._stream_id, Code.CANCEL)
            self._link.flush()
        self.end(code, details)

    def _out_of_time(self) -> None:
        never = (
            "" if self._link is not None else f"{NEVER_SENT}: no connection, or no stream free; "
        )
        self._give_up(grpc.StatusCode.DEADLINE_EXCEEDED, f"{never}{self.timeout_s} s are over")

    def _failure(self) -> grpc.aio.AioRpcError:
        assert self._code is not None
        return grpc.aio.AioRpcError(
            self._code,
            grpc.aio.Metadata(*self._initial),
            grpc.aio.Metadata(*self._trailing),
            details=self._details,
        )

    def _check_open(self) -> None:
        if self._code is not None:
            raise self._failure()

    async def _until_over(self) -> None:
        while self._code is None:
            await self._next()

    async def _next(self) -> None:
        """Until something has come, or the call is over."""
        if self._waiter is None or self._waiter.done():
            self._waiter = self._loop.create_future()
        await asyncio.shield(self._waiter)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
