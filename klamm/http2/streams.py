"""One stream: which ends are open, the windows both ways, and what waits for the peer's."""

from collections import deque

from klamm.http2.frames import Code, ProtocolError
from klamm.http2.limits import STREAM_WINDOW_BYTES, WINDOW_BYTES_MAX

NOTHING: deque[memoryview] = deque(maxlen=0)
"""The queue of most streams, whose answers go out as they are given."""


class Stream:
    """Owned by its connection."""

    __slots__ = (
        "content_left",
        "end_sent",
        "heard",
        "local_ended",
        "queue",
        "receive_window",
        "remote_ended",
        "send_window",
        "stream_id",
        "trailers",
        "unread_looks",
        "unreturned",
    )

    def __init__(self, stream_id: int, send_window: int) -> None:
        self.stream_id = stream_id
        self.send_window = send_window
        """How much the peer takes yet; below 0 after it made its windows smaller."""
        self.receive_window = STREAM_WINDOW_BYTES
        self.unreturned = 0
        """Bytes read that the peer's window has not been told of."""
        self.queue: deque[memoryview] = NOTHING
        self.trailers: bytes | None = None
        """A header block that goes behind the queue and ends the stream."""
        self.unread_looks = 0
        """Since something of a whole answer has gone out."""
        self.local_ended = False
        """Nothing is sent any more, but for what is queued."""
        self.end_sent = False
        self.remote_ended = False
        self.heard = False
        """The peer's first header block has come."""
        self.content_left: int | None = None
        """Of a stated content-length."""

    def received(self, flow_bytes: int, data_bytes: int) -> None:
        """Count bytes of a DATA frame, its padding included in `flow_bytes`.

        Raises:
            ProtocolError: More than the window allowed.
        """
        self.receive_window -= flow_bytes
        if self.receive_window < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, f"stream {self.stream_id}'s window")
        if self.content_left is not None:
            self.content_left -= data_bytes

    def returned(self, count: int) -> int:
        """Bytes were read: by how much to widen the window now, 0 for not yet."""
        self.unreturned += count
        if self.unreturned * 2 < STREAM_WINDOW_BYTES:
            return 0
        increment, self.unreturned = self.unreturned, 0
        self.receive_window += increment
        return increment

    def widen(self, increment: int) -> bool:
        """The peer takes more. False if no window may be so large."""
        self.send_window += increment
        return self.send_window <= WINDOW_BYTES_MAX
