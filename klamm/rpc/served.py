"""Calls as a server has them: one link for each connection, one ServedCall for each stream.

    HeadersReceived ─▶ Method? ─▶ ServedCall ── unary: once the request is whole ─▶ handler's task
                                             └─ streams: at once; it reads and writes as it goes

A caller that leaves cancels its handler; a deadline that passes ends the call DEADLINE_EXCEEDED.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Never, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from klamm import descriptors
from klamm.at_once import at_once
from klamm.http2.events import DataReceived, Event, HeadersReceived, StreamReset
from klamm.http2.frames import Code
from klamm.http2.headers import Headers
from klamm.http2.limits import STREAM_WINDOW_BYTES
from klamm.rpc import framing
from klamm.rpc.admission import (
    CALLS_MAX,
    CONNECTIONS_MAX,
    MESSAGE_BYTES_MAX,
    REQUEST_LOOKS_MAX,
    UNREAD_BYTES_MAX,
    Calls,
    Handler,
    may_wait,
)
from klamm.rpc.context import Context, OneByOne, no_message
from klamm.rpc.framing import FramingError, MessageReader
from klamm.rpc.link import Link
from klamm.telemetry import logs

_log = logs.logger("klamm.rpc")

_EMPTY: deque[bytes] = deque(maxlen=0)
"""The inbox of most calls, whose requests come as a whole."""


class ServerLink(Link):
    """A server's end of a connection."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(client=False)
        self.calls = calls
        self._served: dict[int, ServedCall] = {}
        self._headers: Headers = ()
        self._said: Mapping[str, str] = {}
        """By the headers of the last call: the same object, where the same was said again."""
        self._foreign: set[int] = set()
        """Streams whose requests are no gRPC: answered in HTTP's own way when they are whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.calls.links) >= CONNECTIONS_MAX or self.calls.stopping:
            self.close(f"{CONNECTIONS_MAX} connections, or the server stops")
            return
        if descriptors.are_scarce(transport):
            self.close("no more open files")
            return
        self.calls.links[self] = None

    def on_event(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            stream_id, data, ended = event
            if (call := self._served.get(stream_id)) is not None:
                call.received(data, ended=ended)
            else:
                self.connection.consumed(stream_id, len(data))
                self._answer_foreign(stream_id, ended=ended)
        elif isinstance(event, HeadersReceived):
            stream_id, headers, ended, trailing = event
            if not trailing:
                self._begin(stream_id, headers, ended=ended)
            elif (call := self._served.get(stream_id)) is not None:
                call.received(b"", ended=ended)
            else:
                self._answer_foreign(stream_id, ended=ended)
        elif isinstance(event, StreamReset):
            self._foreign.discard(event.stream_id)
            self.wake_writers(event.stream_id)
            if (call := self._served.get(event.stream_id)) is not None:
                call.left()

    def on_closed(self, why: str) -> None:
        self.calls.links.pop(self, None)
        self.calls.unsent_bytes -= self.unsent_bytes
        self.unsent_bytes = 0
        for call in list(self._served.values()):
            call.left()

    def on_unsent(self, more_bytes: int) -> None:
        self.calls.unsent_bytes += more_bytes

    def may_send(self, size_bytes: int) -> bool:
        """Whether an answer may wait for its caller, if it must."""
        own_bytes = self.connection.waiting_bytes
        if own_bytes == 0:
            return True
        others_bytes = self.calls.unsent_bytes - self.unsent_bytes
        return may_wait(own_bytes + size_bytes, others_bytes)

    def on_look(self) -> None:
        for call in list(self._served.values()):
            call.look()

    def forget(self, stream_id: int) -> None:
        if self._served.pop(stream_id, None) is not None:
            self.calls.ended()

    def _begin(self, stream_id: int, headers: Headers, *, ended: bool) -> None:
        if headers is not self._headers:
            self._headers, self._said = headers, dict(headers)
        said = self._said
        if said[":method"] != "POST" or not said.get("content-type", "").startswith(
            framing.CONTENT_TYPE
        ):
            self._foreign.add(stream_id)
            self._answer_foreign(stream_id, ended=ended)
            return
        handler = self.calls.methods.get(said[":path"])
        if handler is None:
            self._refuse(stream_id, grpc.StatusCode.UNIMPLEMENTED, "no such method")
        elif self.calls.count >= CALLS_MAX:
            why = f"{CALLS_MAX} calls are in progress"
            self._refuse(stream_id, grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        else:
            try:
                call = ServedCall(self, stream_id, handler, headers, said)
            except FramingError as error:
                self._refuse(stream_id, error.code, str(error))
                return
            self._served[stream_id] = call
            self.calls.began()
            call.begin(ended=ended)

    def _answer_foreign(self, stream_id: int, *, ended: bool) -> None:
        if ended and stream_id in self._foreign:
            self._foreign.discard(stream_id)
            self.connection.send_headers(stream_id, framing.NOT_GRPC)
            self.connection.send_data(stream_id, framing.NOT_GRPC_BODY)
            self.connection.send_trailers(stream_id, framing.NO_TRAILERS)

    def _refuse(self, stream_id: int, code: grpc.StatusCode, why: str) -> None:
        block = framing.trailers(code, why, alone=True)
        self.connection.send_trailers(stream_id, block)


class ServedCall(Context):
    """One call, and what its handler is given as `context`."""

    _inbox: deque[bytes] = _EMPTY
    _held_bytes = 0
    """In the inbox."""
    _kept_back = 0
    """Bytes that the peer's window is not given back while the inbox is full."""
    _counted_bytes = 0
    _ended = False
    """The caller sends no more."""
    _waiter: asyncio.Future[None] | None = None
    _one_by_one: OneByOne | None = None
    _task: asyncio.Task[None] | None = None
    _answering = False
    """Response headers went out."""
    _over = False
    _callbacks: tuple[Callable[[Any], None], ...] = ()
    _looks = 0
    """Before the request was whole."""
    _timer: asyncio.TimerHandle | None = None
    _deadline_s: float | None = None

    def __init__(
        self,
        link: ServerLink,
        stream_id: int,
        handler: Handler,
        headers: Headers,
        said: Mapping[str, str],
    ) -> None:
        """
        Raises:
            FramingError: The headers are no gRPC call's.
        """
        self._link = link
        self._stream_id = stream_id
        self._handler = handler
        self._headers = headers
        self._reader = MessageReader(MESSAGE_BYTES_MAX, said.get("grpc-encoding", "identity"))
        timeout = said.get("grpc-timeout")
        if timeout is not None:
            loop = asyncio.get_running_loop()
            self._deadline_s = loop.time() + framing.timeout_s(timeout)
            self._timer = loop.call_at(self._deadline_s, self._out_of_time)

    # ── what the link tells ──────────────────────────────────────────────────────────────────

    def begin(self, *, ended: bool) -> None:
        self._ended = ended
        if self._handler.request_streaming:
            self._start(None)
        elif ended:
            self._finish(grpc.StatusCode.INTERNAL, "a call without its request")

    def received(self, data: bytes, *, ended: bool) -> None:
        try:
            messages = self._reader.read(data)
        except FramingError as error:
            self._end(error.code, str(error))
            return
        streaming, held = self._handler.request_streaming, self._counted_bytes
        if ended and len(messages) == 1 and not (streaming or held or self._reader.rest_bytes):
            self._ended = True  # All of it has come at once, as it mostly does: nothing is held.
            self._start(messages[0])
            return
        if self._inbox is _EMPTY:
            self._inbox = deque()
        self._inbox.extend(messages)
        self._held_bytes += framing.held_bytes(messages)
        self._count(self._reader.rest_bytes + self._held_bytes)
        if self._over:
            return
        self._kept_back += len(data)
        self._give_back()
        self._ended = ended
        if ended and self._reader.rest_bytes:
            self._end(grpc.StatusCode.INTERNAL, "a message is cut short")
        elif self._handler.request_streaming:
            self._wake()
        elif len(self._inbox) > 1:
            self._end(grpc.StatusCode.INTERNAL, "several requests in a call of one")
        elif ended:
            if len(self._inbox) != 1:
                self._end(grpc.StatusCode.INTERNAL, "a call without its request")
            else:
                self._start(self._take())

    def look(self) -> None:
        """Some time has passed."""
        if self._task is None:
            self._looks += 1
            if self._looks > REQUEST_LOOKS_MAX:
                self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "a request that does not end")

    def left(self) -> None:
        """The caller is gone, or does not want it any more."""
        if self._over:
            return
        self._close()
        self._link.calls.cancel(self._task)

    # ── grpc.aio.ServicerContext ─────────────────────────────────────────────────────────────

    async def read(self) -> Any:
        """The caller's next message; `grpc.aio.EOF` once there are no more."""
        while not self._inbox:
            if self._ended or self._over:
                return grpc.aio.EOF
            assert self._waiter is None, "two read at once"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return await self._parsed(self._take())

    async def each(self, take: Callable[[Any], None]) -> None:
        """Instead of `read`: each message goes to `take` in the moment in which it is whole.

        One at a time: the next one comes when `answer` was called. Neither costs a turn of the
        loop, as `read` and `write` do. Returns once the caller sends no more.
        """
        each = self._one_by_one = OneByOne(self._next, take)
        each.feed()
        while not self._over and not (self._ended and each.idle):
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def answer(self, message: Any) -> None:
        """To the message that `take` was given last."""
        assert self._one_by_one is not None, "nothing was asked"
        self._send(message)
        self._link.flush()
        self._one_by_one.answered()
        if self._ended:
            self._wake()

    async def write(self, message: Any) -> None:
        """Send a message; returns once it has gone to the socket."""
        if self._over:
            return
        self._send(message)
        self._link.flush()
        await self._link.drained(self._stream_id)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()
    ) -> Never:
        self._trailing = tuple(trailing_metadata) or self._trailing
        self._finish(code, details)
        raise grpc.aio.AbortError(details)

    async def abort_with_status(self, status: grpc.Status) -> Never:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        if not self._answering and not self._over:
            self._answering = True
            block = framing.RESPONSE + framing.metadata_block(tuple(initial_metadata))
            self._link.connection.send_headers(self._stream_id, block)
            self._link.flush()

    def invocation_metadata(self) -> Any:
        return framing.metadata(self._headers)

    def peer(self) -> str:
        return self._link.peer()

    def time_remaining(self) -> float:
        if self._deadline_s is None:
            return float("inf")
        return max(self._deadline_s - asyncio.get_running_loop().time(), 0.0)

    def cancelled(self) -> bool:
        return self._over and not self._answering

    def done(self) -> bool:
        return self._over

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks = (*self._callbacks, callback)

    # ── the handler ──────────────────────────────────────────────────────────────────────────

    def _start(self, request: bytes | None) -> None:
        begin = partial(asyncio.get_running_loop().create_task, self._run(request))
        self._task = begin() if request is None else at_once(begin)
        if not self._task.done():
            self._link.calls.running[self._task] = None
            if self._over:  # In its first turn, when it had no name to be cancelled by.
                self._link.calls.cancel(self._task)

    async def _run(self, request: bytes | None) -> None:
        handler = self._handler
        try:
            asked = self._requests() if request is None else await self._parsed(request)
            if handler.response_streaming:
                run = handler.stream_stream if request is None else handler.unary_stream
                await self._stream(run, asked)
            else:
                answer = handler.stream_unary if request is None else handler.unary_unary
                assert answer is not None
                # The stubs know handlers of the synchronous API only.
                self._send(await cast("Any", answer)(asked, self))
            self._finish(self._code, self._details)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self._finish(grpc.StatusCode.UNAVAILABLE, "the server stops")
            raise
        except MemoryError as error:
            # What it has left undone nobody knows: whoever runs the loop ends the process.
            asyncio.get_running_loop().call_exception_handler({"exception": error})
            raise
        except Exception as error:
            _log.error("a call failed, which is a bug", exc_info=error)
            self._finish(grpc.StatusCode.UNKNOWN, f"unexpected {type(error).__name__}")
        finally:
            # A task's own callback would cost another turn of the loop.
            self._link.calls.finished(self._task)

    async def _stream(self, run: Any, asked: Any) -> None:
        """Handlers either yield their answers, or are coroutines that write them."""
        answers = run(asked, self)
        if not hasattr(answers, "__aiter__"):
            await answers
            return
        async with aclosing(answers):
            async for answer in answers:
                await self.write(answer)

    async def _requests(self) -> Any:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    async def _parsed(self, data: bytes) -> Any:
        try:
            return self._parse(data)
        except DecodeError as error:
            return await self.abort_with_status(no_message(error))

    def _parse(self, data: bytes) -> Any:
        parse = self._handler.request_deserializer
        return data if parse is None else parse(data)

    def _next(self) -> Any:
        if self._over or not self._inbox:
            return None
        try:
            return self._parse(self._take())
        except DecodeError as error:
            wire = no_message(error)
            self._trailing = tuple(wire.trailing_metadata or ())
            self._end(wire.code, wire.details)
            return None

    # ── how ──────────────────────────────────────────────────────────────────────────────────

    def _send(self, message: Any) -> None:
        if self._over:
            return
        serialize = self._handler.response_serializer
        data = message if serialize is None else serialize(message)
        connection = self._link.connection
        if not self._link.may_send(len(data)):
            connection.reset(self._stream_id, Code.ENHANCE_YOUR_CALM)
            self.left()
            self._link.flush()
            return
        if not self._answering:
            self._answering = True
            connection.send_headers(self._stream_id, framing.RESPONSE)
        connection.send_data(self._stream_id, framing.prefixed(data))

    def _finish(self, code: grpc.StatusCode, details: str) -> None:
        if self._over:
            return
        self._code, self._details = code, details
        if code is grpc.StatusCode.OK and self._answering and not (details or self._trailing):
            block = framing.OK_TRAILERS
        else:
            block = framing.trailers(code, details, self._trailing, alone=not self._answering)
        self._link.connection.send_trailers(self._stream_id, block)
        self._close()
        self._link.flush()

    def _close(self) -> None:
        self._over = True
        self._ended = True
        self._inbox.clear()
        if self._counted_bytes:
            self._count(0)
        if self._timer is not None:
            self._timer.cancel()
        self._link.forget(self._stream_id)
        self._link.wake_writers(self._stream_id)
        self._wake()
        for callback in self._callbacks:
            asyncio.get_running_loop().call_soon(callback, self)

    def _out_of_time(self) -> None:
        self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "the caller's time is over")

    def _end(self, code: grpc.StatusCode, details: str) -> None:
        """The call is over, whatever its handler does."""
        if not self._over:
            self._finish(code, details)
            self._link.calls.cancel(self._task)

    def _take(self) -> bytes:
        message = self._inbox.popleft()
        self._held_bytes -= len(message) + framing.MESSAGE_COST_BYTES
        self._count(self._reader.rest_bytes + self._held_bytes)
        if self._kept_back:
            self._give_back()
            self._link.flush()
        return message

    def _give_back(self) -> None:
        if self._held_bytes < STREAM_WINDOW_BYTES:
            self._link.connection.consumed(self._stream_id, self._kept_back)
            self._kept_back = 0

    def _count(self, unread_bytes: int) -> None:
        calls = self._link.calls
        more = unread_bytes > self._counted_bytes
        calls.unread_bytes += unread_bytes - self._counted_bytes
        self._counted_bytes = unread_bytes
        if more and calls.unread_bytes > UNREAD_BYTES_MAX and not self._over:
            self._end(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{UNREAD_BYTES_MAX} bytes of requests are on their way",
            )

    def _wake(self) -> None:
        if self._one_by_one is not None:
            self._one_by_one.feed()
            if not self._ended and not self._over:
                return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
