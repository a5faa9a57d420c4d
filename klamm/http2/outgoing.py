"""What goes: frames for the transport, and data that waits for the peer's windows.

A stream's data goes out while both windows are open; then it waits in the stream's queue. Who waits
for the connection's window goes in the order in which he came.
"""

from collections import deque

from klamm.http2 import frames
from klamm.http2.frames import Code
from klamm.http2.limits import FRAME_BYTES_MAX, WINDOW_BYTES_MAX
from klamm.http2.streams import NOTHING, Stream


class Outgoing:
    """One connection's."""

    def __init__(self, streams: dict[int, Stream]) -> None:
        self.drained: list[int] = []
        """Streams of which all that waited has gone out, since somebody looked."""
        self.waiting_bytes = 0
        """In all streams' queues."""
        self._streams = streams
        self._frames: list[bytes] = []
        self._window = frames.DEFAULT_WINDOW_BYTES
        self._frame_bytes_max = frames.DEFAULT_FRAME_BYTES_MAX
        self._blocked: dict[int, None] = {}
        """Streams that wait for the connection's window, the longest first."""
        self._table_notice = b""

    def take(self) -> bytes:
        """What is to be written now."""
        if not self._frames:
            return b""
        taken, self._frames = self._frames, []
        return b"".join(taken)

    def frame(self, frame: bytes) -> None:
        """One that no window holds back."""
        self._frames.append(frame)

    def block(self, stream_id: int, block: bytes, *, ended: bool) -> None:
        """A header block, in as many frames as the peer wants it."""
        if self._table_notice:
            block, self._table_notice = self._table_notice + block, b""
        limit, size = self._frame_bytes_max, len(block)
        flags, kind = frames.END_STREAM if ended else 0, frames.HEADERS
        if size <= limit:
            head = frames.pack_head(size << 8 | kind, flags | frames.END_HEADERS, stream_id)
            self._frames.append(head + block)
            return
        while len(block) > limit:
            self._frames.append(frames.head(limit, kind, flags, stream_id) + block[:limit])
            block, kind, flags = block[limit:], frames.CONTINUATION, 0
        flags |= frames.END_HEADERS
        self._frames.append(frames.head(len(block), kind, flags, stream_id) + block)

    def data(self, stream: Stream, data: bytes) -> None:
        """Send it, or as much as the windows allow; the rest waits."""
        size = len(data)
        if (
            0 < size <= stream.send_window
            and size <= self._window
            and size <= self._frame_bytes_max
            and not stream.queue
        ):
            stream.send_window -= size
            self._window -= size
            self._frames.append(frames.pack_head(size << 8, 0, stream.stream_id) + data)
        elif size:
            if stream.queue is NOTHING:
                stream.queue = deque()
            stream.queue.append(memoryview(data))
            self.waiting_bytes += size
            self.pump(stream)

    def pump(self, stream: Stream) -> bool:
        """Send what the windows allow. Whether the stream has ended for both ends thereby."""
        if not stream.queue:
            return stream.local_ended and not stream.end_sent and self._end(stream)
        while stream.queue:
            piece = stream.queue[0]
            size = min(len(piece), stream.send_window, self._window, self._frame_bytes_max)
            if size <= 0:
                if self._window <= 0:
                    self._blocked[stream.stream_id] = None
                return False
            self._frames.append(frames.head(size, frames.DATA, 0, stream.stream_id))
            self._frames.append(bytes(piece[:size]))
            stream.send_window -= size
            self._window -= size
            self.waiting_bytes -= size
            stream.unread_looks = 0
            if size == len(piece):
                stream.queue.popleft()
            else:
                stream.queue[0] = piece[size:]
        self.drained.append(stream.stream_id)
        return stream.local_ended and not stream.end_sent and self._end(stream)

    def widen(self, increment: int) -> list[Stream]:
        """The peer takes more on the connection: those that have ended thereby.

        Raises:
            frames.ProtocolError: No window may be so large.
        """
        self._window += increment
        if self._window > WINDOW_BYTES_MAX:
            raise frames.ProtocolError(Code.FLOW_CONTROL_ERROR, "the connection's window")
        ended = []
        # Who finds the window closed again waits behind the others. Those who were not asked stay:
        # a window that opens by a byte at a time must not cost a look at every stream each time.
        while self._blocked and self._window > 0:
            stream_id = next(iter(self._blocked))
            del self._blocked[stream_id]
            stream = self._streams[stream_id]
            if self.pump(stream):
                ended.append(stream)
        return ended

    def forget(self, stream: Stream) -> None:
        if self._blocked:
            self._blocked.pop(stream.stream_id, None)
        if stream.queue:
            self.waiting_bytes -= sum(map(len, stream.queue))
            stream.queue.clear()

    def use_frames_of(self, size_bytes: int) -> None:
        """The largest that the peer takes."""
        self._frame_bytes_max = min(size_bytes, FRAME_BYTES_MAX)

    def announce_no_table(self) -> None:
        """The peer's table is smaller than it may think that ours is; we use none."""
        self._table_notice = b"\x20"

    def _end(self, stream: Stream) -> bool:
        """The queue is empty, and nothing more will be in it."""
        stream.end_sent = True
        stream_id = stream.stream_id
        if stream.trailers is None:
            self._frames.append(frames.head(0, frames.DATA, frames.END_STREAM, stream_id))
            return False
        self.block(stream_id, stream.trailers, ended=True)
        if not stream.remote_ended:
            # The answer is whole; what the client still sends is not read.
            self._frames.append(frames.rst_stream(stream_id, Code.NO_ERROR))
        return True
