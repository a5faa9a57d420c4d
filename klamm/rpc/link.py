"""One TCP connection that speaks HTTP/2: a server's or a client's end.

    socket ──▶ data_received ──▶ Connection.receive ──▶ on_event, one after the other
    flush  ◀── Connection.take ◀── whoever sends

A client that does not read is not read either: what it asks for would pile up here. A client's end
always reads, or two ends that both have much to say would wait for each other. A peer that says
nothing, or takes nothing of what waits for it, is asked by PING, and given up if it stays so.
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

LINGER_MS = 2_000
"""What a closed connection has still to say must be taken in this time."""

UNWRITTEN_BYTES_MAX = 256 * 1024
"""Waiting for the socket; above it nothing more is read, and streams' writers wait."""

_PING = b"keepaliv"


class Link(asyncio.Protocol, ABC):
    """Made for each connection. All of it runs on the loop's thread."""

    def __init__(self, *, client: bool) -> None:
        self.connection = Connection(client=client)
        self.closed = False
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._writers: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits until the stream's data has gone out."""
        self._receiving = False
        self._heard = False
        """Something has come since the last look."""
        self.unsent_bytes = 0
        """That waited for the peer's windows at the last flush."""
        self._written_bytes = 0
        self._gone_bytes = 0
        """Of these so many had gone to the kernel at the last look."""
        self._timer: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        """Nothing of it is left to be sent: its socket is closed."""

    # ── what a side makes of it ──────────────────────────────────────────────────────────────

    @abstractmethod
    def on_event(self, event: Event) -> None:
        """Something about a stream, or GoneAway."""

    @abstractmethod
    def on_closed(self, why: str) -> None:
        """The connection is over, once."""

    def on_unsent(self, more_bytes: int) -> None:
        """So many more wait for the peer's windows; less, if it is negative."""

    def on_look(self) -> None:
        """Some time has passed: KEEPALIVE_TIME_MS, or a little more."""

    # ── asyncio's ────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNWRITTEN_BYTES_MAX)
        self._timer = self._loop.call_later(KEEPALIVE_TIME_MS / 1_000, self._look)
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        self._heard = True
        self._receiving = True
        try:
            for event in self.connection.receive(data):
                if type(event) is StreamDrained:
                    self._wake(event.stream_id)
                elif type(event) is not PingAnswered:
                    self.on_event(event)
        finally:
            self._receiving = False
            self.flush()
        if self.connection.failure is not None:
            self._check()

    def pause_writing(self) -> None:
        self._writable = False
        if self._transport is not None and not self._client:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if self._transport is not None and not self._client and not self._transport.is_closing():
            self._transport.resume_reading()
        for stream_id in [each for each, _ in self._writers]:
            self._wake(stream_id)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        self._over(str(error) if error else "the other end closed the connection")
        if self._timer is not None:
            self._timer.cancel()

    # ── what is sent ─────────────────────────────────────────────────────────────────────────

    def flush(self) -> None:
        """Write what the connection has to say. While bytes are being read it is written after."""
        transport = self._transport
        if self._receiving or transport is None:
            return
        connection = self.connection
        data = connection.take()
        if data and not transport.is_closing():
            self._written_bytes += len(data)
            transport.write(data)
        more_bytes = connection.waiting_bytes - self.unsent_bytes
        if more_bytes and not self.closed:
            self.unsent_bytes += more_bytes
            self.on_unsent(more_bytes)

    async def drained(self, stream_id: int) -> None:
        """Returns once all that was sent on the stream has gone out, or the stream is over."""
        while not self.closed:
            stream = self.connection.streams.get(stream_id)
            if stream is None or (self._writable and not stream.queue):
                return
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._writers.append((stream_id, waiter))
            await waiter

    async def all_drained(self) -> None:
        """Returns once what waits on its streams has gone out, or will not."""
        for stream_id in list(self.connection.streams):
            await self.drained(stream_id)

    def wake_writers(self, stream_id: int) -> None:
        """The stream is over: nobody need wait for it."""
        if self._writers:
            self._wake(stream_id)

    def close(self, why: str) -> None:
        """End the connection; what was flushed goes out before, if the peer takes it in time.
        Idempotent."""
        transport = self._transport
        self._over(why)
        if transport is None or transport.is_closing():
            return
        if not self._writable:
            transport.abort()  # The peer does not read; it would take for ever.
            return
        transport.close()
        if transport.get_write_buffer_size():
            self._timer = self._loop.call_later(LINGER_MS / 1_000, transport.abort)

    def close_soon(self, why: str) -> None:
        """As `close`, from any thread. Raises: RuntimeError: The loop is closed."""
        self._loop.call_soon_threadsafe(self.close, why)

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
        self.on_look()
        self.flush()
        self._check()
        if self.closed:
            return
        if self._lives():
            self._timer = self._loop.call_later(KEEPALIVE_TIME_MS / 1_000, self._look)
            return
        self.connection.ping(_PING)
        self.flush()
        self._timer = self._loop.call_later(KEEPALIVE_TIMEOUT_MS / 1_000, self._look_again)

    def _look_again(self) -> None:
        if self._lives():
            self._timer = self._loop.call_later(KEEPALIVE_TIME_MS / 1_000, self._look)
            return
        self._over(f"no sign of life for {KEEPALIVE_TIME_MS + KEEPALIVE_TIMEOUT_MS} ms")
        if self._transport is not None:
            self._transport.abort()

    def _lives(self) -> bool:
        """Whether the peer has given a sign of life since this was asked last: it took something,
        where much waits for it; it said something otherwise. Who takes may have no chance to be
        heard, and who talks and does not take would keep what waits for ever."""
        heard, self._heard = self._heard, False
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        gone_bytes, self._gone_bytes = self._gone_bytes, self._written_bytes - waiting
        return heard if self._writable else self._gone_bytes > gone_bytes

    def _check(self) -> None:
        """A peer that broke the protocol is told, and left."""
        if self.connection.failure is not None:
            self.close(str(self.connection.failure))

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
