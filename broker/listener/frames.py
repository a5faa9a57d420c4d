"""Bytes of one connection into frames, each in a bytearray of its own.

    │ size int32 │ frame, `size` bytes │ size │ frame │ si…

Bytes are received into a scratch buffer that all connections share, so that a silent connection
holds none, and small frames are cut out of it. The rest of a large frame is received into that
frame's own buffer, where it stays: a handler writes offsets into the batches in place, and keeps
slices. The buffer grows with what has come, and not by what the sender says will come.
"""

import struct

from broker.kafka.errors import MalformedFrameError

SCRATCH_BYTES = 64 * 1024

FIRST_BUFFER_BYTES = 128 * 1024
"""Of a frame that did not come at once."""

GROWTH = 4
"""How much larger its next buffer is, when one is full. Copied to, not grown in place: what the
allocator gives for the size of a usual batch is memory that it has had before, where a block that
is moved and extended is new pages each time (measured: 1 ms for 1 MB, against 0.05)."""

_SIZE = struct.Struct(">i")


def new_scratch() -> memoryview:
    """A buffer for all connections of one thread: each leaves nothing in it."""
    return memoryview(bytearray(SCRATCH_BYTES))


class FrameReader:
    """Where the bytes of one connection go. `buffer`, fill some of it, `received`, and so on."""

    __slots__ = (
        "_filled",
        "_frame",
        "_scratch",
        "_size",
        "_size_bytes",
        "frame_bytes_max",
    )

    def __init__(self, scratch: memoryview, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._scratch = scratch
        self._size_bytes = b""
        """Up to three bytes of a size that is not whole."""
        self._frame: bytearray | None = None
        """The frame that is being received; None between frames."""
        self._size = 0
        self._filled = 0

    @property
    def in_frame(self) -> bool:
        """Whether a part of a frame has come."""
        return self._frame is not None or bool(self._size_bytes)

    def buffer(self) -> memoryview:
        """Where to put the next bytes; never empty."""
        frame = self._frame
        if frame is None:
            return self._scratch
        if self._filled == len(frame):
            larger = bytearray(min(len(frame) * GROWTH, self._size))
            larger[: self._filled] = frame
            self._frame = frame = larger
        return memoryview(frame)[self._filled :]

    def received(self, count: int) -> list[bytearray]:
        """`count` bytes are in the buffer; the frames that are whole now, in order.

        Raises:
            MalformedFrameError: A size is negative or over the limit. `frames` of the error are
                those that were whole before it; nothing can be read after it.
        """
        frame = self._frame
        if frame is None:
            return self._cut(count)
        self._filled += count
        if self._filled < self._size:
            return []
        self._frame = None
        return [frame]

    def _cut(self, count: int) -> list[bytearray]:
        """Frames out of the scratch buffer; what is left over begins the next."""
        data: memoryview = self._scratch[:count]
        if self._size_bytes:
            data = memoryview(self._size_bytes + bytes(data))
            self._size_bytes = b""
            count = len(data)
        frames: list[bytearray] = []
        position = 0
        while count - position >= _SIZE.size:
            (size,) = _SIZE.unpack_from(data, position)
            if not 0 <= size <= self.frame_bytes_max:
                raise FrameSizeError(size, self.frame_bytes_max, frames)
            position += _SIZE.size
            end = position + size
            if end > count:
                self._begin(size, data[position:])
                return frames
            frames.append(bytearray(data[position:end]))
            position = end
        self._size_bytes = bytes(data[position:])
        return frames

    def _begin(self, size: int, head: memoryview) -> None:
        capacity = min(size, max(len(head), FIRST_BUFFER_BYTES))
        self._frame = bytearray(capacity)
        self._frame[: len(head)] = head
        self._size = size
        self._filled = len(head)


class FrameSizeError(MalformedFrameError):
    """A size that no frame may have, and the whole frames that came before it."""

    def __init__(self, size: int, frame_bytes_max: int, frames: list[bytearray]) -> None:
        allowed = f"0 to {frame_bytes_max} (socket.request.max.bytes)"
        super().__init__(f"a frame says it has {size} bytes; allowed are {allowed}")
        self.size = size
        self.frames = frames
