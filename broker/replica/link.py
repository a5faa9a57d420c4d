"""One connection to another broker: a request out, its response in, one at a time.

    Link.fetch(request) ──frame──▶ leader's inter-broker listener
                        ◀─frame──

The frame is read into one buffer of its own size; records stay memoryviews into it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from broker.kafka import codec, header
from broker.kafka.api import ApiKey
from broker.kafka.errors import MalformedFrameError
from broker.kafka.messages.fetch import FetchRequest, FetchResponse
from broker.kafka.schema import Buffer

FETCH_VERSION = 17
"""Topic ids (13), the replica's uptime (15). Both ends are of one release."""

FRAME_BYTES_MAX = 128 * 1024 * 1024
"""More than a response's limit and one batch beyond it."""

_SIZE_BYTES = 4


class Link(Protocol):
    """A way to ask one leader. Used by one task; `close` by any."""

    async def fetch(self, request: FetchRequest, timeout_ms: int) -> FetchResponse:
        """Ask, and wait for the answer.

        Raises:
            OSError: The connection broke, was closed or is silent; the outcome is of no interest,
                since a fetch changes nothing that another fetch would not.
        """
        ...

    def close(self) -> None:
        """A fetch that waits ends with OSError."""
        ...


Connect = Callable[[str, int], Awaitable[Link]]
"""host, port → a link. Raises OSError."""


def tcp_connector(client_id: str, timeout_ms: int) -> Connect:
    """Links over TCP. `client_id` names this broker to the leader."""

    async def connect(host: str, port: int) -> Link:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                _, link = await loop.create_connection(lambda: TcpLink(client_id), host, port)
        except TimeoutError as error:
            raise ConnectionError(f"{host}:{port} did not accept within {timeout_ms} ms") from error
        return link

    return connect


class TcpLink(asyncio.BufferedProtocol):
    """Reads whole frames. Made by the loop's `create_connection`."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._correlation_id = 0
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[memoryview] | None = None
        self._size = bytearray(_SIZE_BYTES)
        self._frame: memoryview | None = None
        """None while the size is being read."""
        self._filled = 0

    async def fetch(self, request: FetchRequest, timeout_ms: int) -> FetchResponse:
        assert self._answer is None, "one request at a time"
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the link is closed")
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._transport.writelines(self._request_frame(request))
            async with asyncio.timeout(timeout_ms / 1_000):
                frame = await self._answer
        except TimeoutError as error:
            self.close()
            raise ConnectionError(f"no answer to a fetch within {timeout_ms} ms") from error
        finally:
            self._answer = None
        return self._response(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._fail(ConnectionAbortedError("the link was closed"))

    def _request_frame(self, request: FetchRequest) -> list[Buffer]:
        body = codec.encode_request(ApiKey.FETCH, FETCH_VERSION, request)
        return header.request_frame(
            ApiKey.FETCH, FETCH_VERSION, self._correlation_id, self._client_id, body
        )

    def _response(self, frame: memoryview) -> FetchResponse:
        try:
            correlation_id, body = header.read_response_header(ApiKey.FETCH, FETCH_VERSION, frame)
            if correlation_id != self._correlation_id:
                raise MalformedFrameError(
                    f"the answer is to request {correlation_id}, not {self._correlation_id}"
                )
            response = codec.decode_response(ApiKey.FETCH, FETCH_VERSION, body)
        except MalformedFrameError as error:
            self.close()
            raise ConnectionError(str(error)) from error
        assert isinstance(response, FetchResponse)
        return response

    # The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._frame is None:
            return memoryview(self._size)[self._filled :]
        return self._frame[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._frame is None:
            if self._filled == _SIZE_BYTES:
                self._begin_frame(int.from_bytes(self._size, signed=True))
        elif self._filled == len(self._frame):
            frame, self._frame, self._filled = self._frame, None, 0
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionResetError("the leader's connection is gone"))

    def _begin_frame(self, size: int) -> None:
        self._filled = 0
        if not 0 < size <= FRAME_BYTES_MAX or self._answer is None:
            self.close()
            return
        self._frame = memoryview(bytearray(size))

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
