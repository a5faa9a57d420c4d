"""One client's connection: its bytes in, its answers out, in the order of its requests.

    bytes ─▶ FrameReader ─▶ backlog ─▶ Dispatcher ─▶ answers, first in first out ─▶ Outbox ─▶ socket

An answer that is there at once goes straight to the outbox, without a task or a turn of the loop;
one that is waited for holds back those behind it, never other connections. Reading stops while
there is enough to do already: requests in flight, bytes unsent, frames in the backlog.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Protocol

from broker.api.context import Answer
from broker.kafka.schema import Buffer
from broker.listener.dispatch import Client, ConnectionFault, Dispatcher, Reply
from broker.listener.frames import FrameReader, FrameSizeError
from broker.listener.outbox import Outbox
from klamm import descriptors

REQUESTS_IN_FLIGHT_MAX = 32
"""Of one connection. Apache Kafka handles one at a time; more let a client's pipeline of produces
wait for replication together."""

REQUESTS_PER_TURN_MAX = 32
"""Handled in one turn of the loop; then others have theirs, heartbeats to the controllers too."""

UNSENT_BYTES_MAX = 1024 * 1024
"""Of responses that the client has not taken. Beyond it no request is handled, so one response of
any size may lie above."""


class Door(Protocol):
    """What a connection asks of the listeners that it belongs to."""

    def admit(self, connection: "Connection", host: str) -> str | None:
        """Count it in. Returns why it may not stay, or None."""
        ...

    def leave(self, connection: "Connection", host: str) -> None:
        """Count it out; only if it was admitted."""
        ...

    def fault(self, client: Client, fault: ConnectionFault) -> None:
        """Say why a connection is closed."""
        ...


class Connection(asyncio.BufferedProtocol):
    """Made for each connection that is accepted."""

    def __init__(
        self,
        door: Door,
        dispatcher: Dispatcher,
        listener: str,
        reader: FrameReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._door = door
        self._dispatcher = dispatcher
        self.listener = listener
        self._reader = reader
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._client: Client | None = None
        self._admitted = False
        self._backlog: deque[bytearray] = deque()
        self._replies: deque[Reply | list[Buffer]] = deque()
        """In the order of their requests; the first is the first that is not in the outbox."""
        self._outbox = Outbox()
        self._reading = True
        self._work_is_due = False
        self._at_eof = False
        self._ending = False
        """Nothing more is taken in; closed once what is in flight has been answered."""
        self.active_s = loop.time()
        """When a whole request last came, or a response had been sent."""

    @property
    def is_idle(self) -> bool:
        """Nothing is in flight, or the client does not take what is."""
        return not self._replies or self._outbox.is_blocked

    @property
    def is_ending(self) -> bool:
        return self._ending

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        # A pause as soon as the socket is full, an end to it when all has left: see `outbox`.
        transport.set_write_buffer_limits(high=0)
        host, port = (transport.get_extra_info("peername") or ("?", 0))[:2]
        self._client = Client(host=host, port=port, listener=self.listener, contexts={})
        refusal = "no more open files" if descriptors.are_scarce(transport) else None
        refusal = refusal or self._door.admit(self, host)
        if refusal is not None:
            self._door.fault(self._client, ConnectionFault("limit", "-", refusal))
            transport.abort()
            return
        self._admitted = True

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            frames = self._reader.received(nbytes)
        except FrameSizeError as error:
            self._take_in(error.frames)
            reason = "oversize" if error.size > 0 else "malformed"
            self._end(ConnectionFault(reason, "-", str(error)))
            return
        if frames:
            self._take_in(frames)

    def eof_received(self) -> bool:
        """The client sends no more. What came before is still done: with acks=0 nobody waits for
        an answer before they close. True: the transport shall stay until it is.
        """
        self._at_eof = True
        return bool(self._backlog)

    def pause_writing(self) -> None:
        self._outbox.is_blocked = True

    def resume_writing(self) -> None:
        self._outbox.is_blocked = False
        self.active_s = self._loop.time()
        self._send()
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = True
        self._backlog.clear()
        self._outbox.clear()
        replies, self._replies = self._replies, deque()
        for reply in replies:
            _give_up(reply)
        if self._admitted and self._client is not None:
            self._admitted = False
            self._door.leave(self, self._client.host)

    # What the listeners call.

    def end(self) -> None:
        """Take nothing more in, and close when what is in flight has been answered."""
        self._end(None)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # Requests.

    def _take_in(self, frames: list[bytearray]) -> None:
        if self._ending:
            return
        self.active_s = self._loop.time()
        self._backlog.extend(frames)
        if not self._work_is_due:
            self._work()

    def _work(self) -> None:
        """Handle frames while there is room for their answers, for one turn of the loop."""
        taken = 0
        while self._backlog and taken < REQUESTS_PER_TURN_MAX and self._has_room():
            taken += 1
            self._handle(self._backlog.popleft())
        self._send()
        if self._backlog and self._has_room():
            self._work_later()
        if self._at_eof and not self._backlog and self._transport is not None:
            self._transport.close()
        self._read_or_not()

    def _work_later(self) -> None:
        if not self._work_is_due:
            self._work_is_due = True
            self._loop.call_soon(self._work_now)

    def _work_now(self) -> None:
        self._work_is_due = False
        self._work()

    def _has_room(self) -> bool:
        return (
            len(self._replies) < REQUESTS_IN_FLIGHT_MAX
            and self._outbox.waiting_bytes < UNSENT_BYTES_MAX
        )

    def _read_or_not(self) -> None:
        wanted = not self._backlog and not self._ending and self._has_room()
        transport = self._transport
        if wanted is self._reading or transport is None or transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _handle(self, frame: bytearray) -> None:
        assert self._client is not None, "it is connected"
        try:
            reply = self._dispatcher.dispatch(frame, self._client)
        except ConnectionFault as fault:
            self._end(fault)
            return
        self._replies.append(reply)
        if isinstance(reply, Reply):
            if reply.awaited is not None:
                self._await(reply)
            if reply.is_last:
                self._end(None)
        if self._replies[0] is reply:
            self._deliver()

    def _await(self, reply: Reply) -> None:
        assert reply.awaited is not None
        awaited = asyncio.ensure_future(reply.awaited, loop=self._loop)
        reply.awaited = awaited
        awaited.add_done_callback(partial(self._on_answer, reply))

    def _on_answer(self, reply: Reply, answer: "asyncio.Future[Answer]") -> None:
        error = None if answer.cancelled() else answer.exception()
        if not self._replies:
            return  # The connection is gone; it was this that cancelled the wait.
        try:
            if answer.cancelled():
                raise ConnectionFault("unanswerable", reply.served.api.name, "it was given up")
            if error is None:
                self._dispatcher.finish(reply, answer.result())
            else:
                self._dispatcher.broke(reply, error)
        except ConnectionFault as fault:
            self._drop_from(reply)
            self._end(fault)
            return
        if reply.is_last:
            self._end(None)
        if self._replies[0] is reply:
            self._deliver()
            self._work()

    def _drop_from(self, reply: Reply) -> None:
        """It has no answer, so what follows must not be sent either: clients match by order."""
        while self._replies:
            last = self._replies.pop()
            if last is reply:
                return
            _give_up(last)

    # Answers.

    def _deliver(self) -> None:
        """Move what is answered, up to the first that is not, to the outbox."""
        replies = self._replies
        while replies:
            reply = replies[0]
            frame = reply if isinstance(reply, list) else reply.frame
            if frame is None:
                return
            replies.popleft()
            self._outbox.put(frame)

    def _send(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._outbox.flush(self._transport)
        if self._ending and not self._replies and not self._outbox.waiting_bytes:
            self._transport.close()

    def _end(self, fault: ConnectionFault | None) -> None:
        if self._ending:
            return
        self._ending = True
        self._backlog.clear()
        self.active_s = self._loop.time()
        if fault is not None and self._client is not None:
            self._door.fault(self._client, fault)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._send()


def _give_up(reply: Reply | list[Buffer]) -> None:
    """Nobody is there for its answer, so nothing needs to wait for it."""
    if isinstance(reply, Reply) and isinstance(reply.awaited, asyncio.Future):
        reply.awaited.cancel()
