"""One TCP connection that speaks HTTP/2: a server's or a client's end.

    socket ──▶ data_received ──▶ Connection.receive ──▶ on_event, one after the other
    flush  ◀── Connection.take ◀── whoever sends

A peer that does not read is not read either: what it asks for would pile up here. One that says
nothing is asked by PING, and given up if it does not answer.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import cast

from klamm.http2.connection import Connection
from klamm.http2.events import Event, PingAnswered, StreamDrained

KEEPALIVE_TIME_MS = 5_000
"""Silence after which a peer is asked whether it is there."""

KEEPALIVE_TIMEOUT_MS = 3_000
"""It has so long to say so."""

UNWRITTEN_BYTES_MAX = 256 * 1024
"""Waiting for the socket; above it nothing more is read, and streams' writers wait."""

_PING = b"keepaliv"


class Link(asyncio.Protocol, ABC):
    """Made for each connection. All of it runs on the loop's thread."""

    def __init__(self, *, client: bool) -> None:
        self.connection = Connection(client=client)
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._writers: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits until the stream's data has gone out."""
        self._receiving = False
        self._heard = False
        """Something has come since the last look."""
        self._timer: asyncio.TimerHandle | None = None

    # ── what a side makes of it ──────────────────────────────────────────────────────────────

    @abstractmethod
    def on_event(self, event: Event) -> None:
        """Something about a stream, or GoneAway."""

    @abstractmethod
    def on_closed(self, why: str) -> None:
        """The connection is over, once."""

    # ── asyncio's ────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNWRITTEN_BYTES_MAX)
        self._timer = self._loop.call_later(KEEPALIVE_TIME_MS / 1_000, self._look)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._receiving = True
        try:
            for event in self.connection.receive(data):
                if isinstance(event, StreamDrained):
                    self._wake(event.stream_id)
                elif not isinstance(event, PingAnswered):
                    self.on_event(event)
        finally:
            self._receiving = False
            self.flush()
        failure = self.connection.failure
        if failure is not None:
            self.close(str(failure))

    def pause_writing(self) -> None:
        self._writable = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        for stream_id in [each for each, _ in self._writers]:
            self._wake(stream_id)

    def connection_lost(self, error: Exception | None) -> None:
        self._over(str(error) if error else "the other end closed the connection")

    # ── what is sent ─────────────────────────────────────────────────────────────────────────

    def flush(self) -> None:
        """Write what the connection has to say. While bytes are being read it is written after."""
        if self._receiving or self._transport is None:
            return
        data = self.connection.take()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self, stream_id: int) -> None:
        """Returns once all that was sent on the stream has gone out, or the stream is over."""
        while not self.closed:
            stream = self.connection.streams.get(stream_id)
            if stream is None or (self._writable and not stream.queue):
                return
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._writers.append((stream_id, waiter))
            await waiter

    def wake_writers(self, stream_id: int) -> None:
        """The stream is over: nobody need wait for it."""
        if self._writers:
            self._wake(stream_id)

    def close(self, why: str) -> None:
        """End the connection; what was flushed goes out before. Idempotent."""
        if self._transport is not None and not self._transport.is_closing():
            if self._writable:
                self._transport.close()
            else:
                self._transport.abort()  # The peer does not read; it would take for ever.
        self._over(why)

    def peer(self) -> str:
        """`ipv4:host:port`, as grpcio has it."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        if not isinstance(name, tuple):
            return "unknown"
        host, port = name[0], name[1]
        return f"ipv6:[{host}]:{port}" if ":" in str(host) else f"ipv4:{host}:{port}"

    # ── how ──────────────────────────────────────────────────────────────────────────────────

    def _wake(self, stream_id: int) -> None:
        for waiting, waiter in self._writers:
            if waiting == stream_id and not waiter.done():
                waiter.set_result(None)
        self._writers = [each for each in self._writers if not each[1].done()]

    def _look(self) -> None:
        """Has it been silent? Then ask."""
        self.connection.calm()
        if self._heard:
            self._heard = False
            self._timer = self._loop.call_later(KEEPALIVE_TIME_MS / 1_000, self._look)
            return
        self.connection.ping(_PING)
        self.flush()
        self._timer = self._loop.call_later(KEEPALIVE_TIMEOUT_MS / 1_000, self._look_again)

    def _look_again(self) -> None:
        if self._heard:
            self._look()
            return
        if self._transport is not None:
            self._transport.abort()
        self._over(f"no sign of life for {KEEPALIVE_TIME_MS + KEEPALIVE_TIMEOUT_MS} ms")

    def _over(self, why: str) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for _, waiter in self._writers:
            if not waiter.done():
                waiter.set_result(None)
        self._writers.clear()
        self.on_closed(why)
