"""Bytes on their way out of one connection, a bounded part of them in the transport.

A transport copies what the socket does not take at once. So it gets small buffers joined, and large
ones piece by piece, the next when the last has left: a response of 50 MB lies in memory once, as
its handler made it, whatever the client's pace.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from broker.kafka.schema import Buffer

JOINED_BYTES_MAX = 64 * 1024
"""Buffers are joined up to so many bytes, and so cost one system call."""

PIECE_BYTES_MAX = 256 * 1024
"""Of a large buffer at a time; about what a socket's buffer takes."""


class Sink(Protocol):
    """The part of a transport that is used here."""

    def write(self, data: Buffer) -> None: ...


class Outbox:
    """What waits to be sent. While `is_blocked` the transport has more than it could send."""

    __slots__ = ("_buffers", "is_blocked", "waiting_bytes")

    def __init__(self) -> None:
        self.is_blocked = False
        self.waiting_bytes = 0
        self._buffers: deque[Buffer] = deque()

    def put(self, buffers: Iterable[Buffer]) -> None:
        for each in buffers:
            self._buffers.append(each)
            self.waiting_bytes += len(each)

    def flush(self, sink: Sink) -> None:
        """Write until nothing waits or the sink has called for a pause (`is_blocked`)."""
        buffers = self._buffers
        if not self.is_blocked and 0 < self.waiting_bytes <= JOINED_BYTES_MAX:
            data = b"".join(buffers)
            buffers.clear()
            self.waiting_bytes = 0
            sink.write(data)
            return
        while buffers and not self.is_blocked:
            piece = self._next_piece()
            self.waiting_bytes -= len(piece)
            if len(piece):
                sink.write(piece)

    def clear(self) -> None:
        self._buffers.clear()
        self.waiting_bytes = 0

    def _next_piece(self) -> Buffer:
        buffers = self._buffers
        first = buffers.popleft()
        if len(first) > PIECE_BYTES_MAX:
            view = memoryview(first)
            buffers.appendleft(view[PIECE_BYTES_MAX:])
            return view[:PIECE_BYTES_MAX]
        joined = [first]
        size = len(first)
        while buffers and size + len(buffers[0]) <= JOINED_BYTES_MAX:
            following = buffers.popleft()
            size += len(following)
            joined.append(following)
        return first if len(joined) == 1 else b"".join(joined)
