"""What grpc.aio is to controller/quorum, over a simulated network.

    Channel.unary_unary    ─▶ a call: one message there, one back, or an error
    Channel.stream_stream  ─▶ a stream: a pipe each way, in order, until either end breaks it
    Server                 ─▶ takes the servicer's handlers; runs them as tasks of its incarnation

Pipes are TCP's: in order, and what a cut link swallows arrives once it heals, or the conversation
ends after KEEPALIVE_S. A process that dies breaks its conversations at once, a machine that loses
its power is found dead by keepalive, or when it is back.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from klamm.rpc.context import OneByOne
from tests.sim.driver.network import Conversation, Network, Pipe


def rpc_error(code: grpc.StatusCode, why: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=why)


class Server:
    """One incarnation's."""

    def __init__(self, network: Network, node_id: int, incarnation: str) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self._network = network
        self._handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The registered ones are enough."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self._handlers |= {f"/{service}/{name}": each for name, each in handlers.items()}

    def handler(self, path: str) -> Any:
        return self._handlers[path]


class Channel:
    """From one incarnation to an address."""

    def __init__(self, network: Network, node_id: int, incarnation: str, to: int) -> None:
        self.network = network
        self.node_id = node_id
        self.incarnation = incarnation
        self.to = to
        self._closed = network.loop.create_future()

    def unary_unary(self, path: str, **coding: Any) -> Callable[..., Any]:
        async def call(request: Any, timeout: float) -> Any:
            unary = UnaryCall(self, path, coding["request_serializer"](request))
            try:
                async with asyncio.timeout(timeout):
                    return coding["response_deserializer"](await unary.answer)
            except TimeoutError:
                raise rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "in vain") from None
            finally:
                unary.leave()

        return call

    def stream_stream(self, path: str, **coding: Any) -> Callable[[], "StreamCall"]:
        return lambda: StreamCall(self, path, coding)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, state: grpc.ChannelConnectivity) -> None:
        await self._closed
        raise grpc.aio.UsageError("closed")

    async def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)


class UnaryCall(Conversation):
    def __init__(self, channel: Channel, path: str, request: bytes) -> None:
        super().__init__(channel.network, channel.node_id, channel.incarnation, channel.to)
        self.answer: asyncio.Future[bytes] = self.network.loop.create_future()
        self._path = path
        self._task: asyncio.Task[None] | None = None
        self._out = Pipe(self, self.client, self.server, self._arrived)
        self._back = Pipe(self, self.server, self.client, self._answered)
        self._out.send(request)

    def leave(self) -> None:
        """The caller does not wait any more."""
        if not self.over:
            self.end()
            self.network.later(self.client, self.server, self._abandoned)

    def _arrived(self, data: bytes) -> None:
        server = self.network.servers.get(self.server)
        if server is None:
            self.refuse()
            return
        self.accepted_by = server.incarnation
        handler = server.handler(self._path)
        self._task = self.network.spawn(server.incarnation, self._serve, handler, data)

    async def _serve(self, handler: Any, data: bytes) -> None:
        request = handler.request_deserializer(data)
        response = await handler.unary_unary(request, None)
        self._back.send(handler.response_serializer(response))

    def _answered(self, data: bytes) -> None:
        self.end()
        if not self.answer.done():
            self.answer.set_result(data)

    def _abandoned(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def client_broken(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(rpc_error(grpc.StatusCode.UNAVAILABLE, why))

    def server_broken(self) -> None:
        self._abandoned()


class StreamCall(Conversation):
    """The caller's end, as grpc.aio.StreamStreamCall; `_ServerEnd` is the other."""

    def __init__(self, channel: Channel, path: str, coding: dict[str, Any]) -> None:
        super().__init__(channel.network, channel.node_id, channel.incarnation, channel.to)
        self._path = path
        self._coding = coding
        self._inbox = Inbox(self.network.loop)
        self._callbacks: list[tuple[Callable[[object], None], contextvars.Context]] = []
        self._done = False
        self._server_end: _ServerEnd | None = None
        self._out = Pipe(self, self.client, self.server, self._arrived)
        self._on_message: Callable[[Any], None] | None = None
        self._context = contextvars.copy_context()
        self._back = Pipe(self, self.server, self.client, self._came)
        self._out.send(None)

    def send(self, message: Any) -> None:
        if not self._done:
            self._out.send(self._coding["request_serializer"](message))

    @property
    def on_message(self) -> Callable[[Any], None] | None:
        return self._on_message

    @on_message.setter
    def on_message(self, on_message: Callable[[Any], None]) -> None:
        self._on_message = on_message
        self._context = contextvars.copy_context()  # Its incarnation's: what it begins dies too.

    def _came(self, data: bytes | None) -> None:
        if self._on_message is None:
            self._inbox.put(data)
        elif data is None:
            self._finish(rpc_error(grpc.StatusCode.UNAVAILABLE, "the server ended the call"))
        elif not self._done:
            message = self._coding["response_deserializer"](data)
            self._context.run(self._on_message, message)

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._callbacks.append((callback, contextvars.copy_context()))

    async def write(self, message: Any) -> None:
        if self._done:
            raise asyncio.InvalidStateError("the stream is over")
        self._out.send(self._coding["request_serializer"](message))

    async def read(self) -> Any:
        data = await self._inbox.get()
        return grpc.aio.EOF if data is None else self._coding["response_deserializer"](data)

    def cancel(self) -> bool:
        if self._done:
            return False
        self._finish(asyncio.CancelledError())
        if not self.over:
            self.end()
            self.network.later(self.client, self.server, self.server_broken)
        return True

    def client_broken(self, why: str) -> None:
        self._finish(rpc_error(grpc.StatusCode.UNAVAILABLE, why))

    def server_broken(self) -> None:
        if self._server_end is not None:
            self._server_end.task.cancel()

    def _finish(self, error: BaseException) -> None:
        if self._done:
            return
        self._done = True
        self._inbox.fail(error)
        for callback, context in self._callbacks:
            self.network.loop.call_soon(callback, self, context=context)

    def _arrived(self, data: bytes | None) -> None:
        if data is not None:
            assert self._server_end is not None
            self._server_end.put(data)
            return
        server = self.network.servers.get(self.server)
        if server is None:
            self.refuse()
            return
        self.accepted_by = server.incarnation
        self._server_end = _ServerEnd(self, server, server.handler(self._path), self._back)


class _ServerEnd:
    """The context that a streaming handler reads and writes."""

    def __init__(self, call: StreamCall, server: Server, handler: Any, back: Pipe) -> None:
        self.inbox = Inbox(call.network.loop)
        self._call = call
        self._handler = handler
        self._back = back
        self._one_by_one: OneByOne | None = None
        self._context = contextvars.copy_context()
        self.task = call.network.spawn(server.incarnation, self._serve)

    def put(self, data: bytes) -> None:
        self.inbox.put(data)
        if self._one_by_one is not None:
            self._context.run(self._one_by_one.feed)

    async def read(self) -> Any:
        return self._handler.request_deserializer(await self.inbox.get())

    async def write(self, message: Any) -> None:
        self._back.send(self._handler.response_serializer(message))

    async def each(self, take: Callable[[Any], None]) -> None:
        self._context = contextvars.copy_context()  # Its incarnation's.
        self._one_by_one = OneByOne(self._next, take)
        self._one_by_one.feed()
        await self._call.network.loop.create_future()

    def answer(self, message: Any) -> None:
        assert self._one_by_one is not None
        self._back.send(self._handler.response_serializer(message))
        self._one_by_one.answered()

    def _next(self) -> Any:
        data = self.inbox.pop()
        return None if data is None else self._handler.request_deserializer(data)

    async def _serve(self) -> None:
        await self._handler.stream_stream(None, self)
        self._back.send(None)


class Inbox:
    """What has arrived and was not read; one reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[bytes | None] = deque()
        self._reader: asyncio.Future[bytes | None] | None = None
        self._error: BaseException | None = None

    def put(self, item: bytes | None) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(item)
        else:
            self._items.append(item)

    def fail(self, error: BaseException) -> None:
        self._error = error
        if self._reader is None or self._reader.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self._reader.cancel()
        else:
            self._reader.set_exception(error)

    def pop(self) -> bytes | None:
        """What is there already."""
        return self._items.popleft() if self._items else None

    async def get(self) -> bytes | None:
        if self._items:
            return self._items.popleft()
        if self._error is not None:
            raise self._error
        self._reader = self._loop.create_future()
        try:
            return await self._reader
        finally:
            self._reader = None
