"""What a peer does that costs this end more than it: counted, and ended where it is too much.

Counts are forgiven at each look (klamm/rpc/link.py), so they are rates: nothing here has a clock.
"""

from klamm.http2 import frames
from klamm.http2.frames import Code, ProtocolError
from klamm.http2.limits import (
    CONTINUATIONS_MAX,
    CONTROL_FRAMES_MAX,
    HEADER_BLOCK_BYTES_MAX,
    RESETS_MAX,
    SETTINGS_FRAMES_MAX,
    UNFINISHED_LOOKS_MAX,
)


class Conduct:
    """One peer's."""

    def __init__(self) -> None:
        self.advanced = False
        """A frame has come since the last look, and no header block is open."""
        self._controls = 0
        self._resets = 0
        self._settings = 0
        self._unfinished_looks = 0

    def useful(self) -> None:
        """Data, or a call: control frames between them are as they should be."""
        self._controls = 0

    def control(self) -> None:
        """
        Raises:
            ProtocolError: One frame too many.
        """
        self._controls += 1
        if self._controls > CONTROL_FRAMES_MAX:
            raise _calm(f"more than {CONTROL_FRAMES_MAX} frames of no use")

    def settings(self) -> None:
        """
        Raises:
            ProtocolError: Once too often, whatever is between them.
        """
        self._settings += 1
        if self._settings > SETTINGS_FRAMES_MAX:
            raise _calm(f"more than {SETTINGS_FRAMES_MAX} SETTINGS")

    def reset(self) -> None:
        """A stream was given up by the peer, or for what the peer did.

        Raises:
            ProtocolError: One too many.
        """
        self._resets += 1
        if self._resets > RESETS_MAX:
            raise _calm(f"more than {RESETS_MAX} streams begun and given up")

    def look(self, *, unfinished: bool) -> None:
        """Some time has passed.

        Args:
            unfinished: A greeting, a frame or a header block has begun and not ended.

        Raises:
            ProtocolError: It was so for too long: who does it may do it on many connections.
        """
        self._controls = self._resets = self._settings = 0
        self._unfinished_looks += 1
        if self.advanced or not unfinished:
            self._unfinished_looks = 0
        self.advanced = False
        if self._unfinished_looks > UNFINISHED_LOOKS_MAX:
            raise _calm("a greeting, a frame or a header block that does not end")


def check_block(size_bytes: int, continuations: int = 0) -> None:
    """
    Raises:
        ProtocolError: No header block may be so large, or come in so many frames.
    """
    if size_bytes > HEADER_BLOCK_BYTES_MAX or continuations > CONTINUATIONS_MAX:
        raise _calm(
            f"a header block of more than {HEADER_BLOCK_BYTES_MAX} bytes or "
            f"{CONTINUATIONS_MAX} CONTINUATIONs"
        )


def check_order(kind: int, flags: int, stream_id: int, in_block: bool, settled: bool) -> None:
    """Of a frame that comes while a header block may be open, or before any other.

    Raises:
        ProtocolError: It may not come now, or not on this stream.
    """
    if in_block and kind != frames.CONTINUATION:
        raise ProtocolError(Code.PROTOCOL_ERROR, "a header block is cut in two")
    if not settled and (kind != frames.SETTINGS or flags & frames.ACK):
        raise ProtocolError(Code.PROTOCOL_ERROR, "SETTINGS do not come first")
    if kind in (frames.OF_CONNECTION if stream_id else frames.OF_STREAMS):
        raise ProtocolError(Code.PROTOCOL_ERROR, f"type {kind} on stream {stream_id}")


def _calm(why: str) -> ProtocolError:
    return ProtocolError(Code.ENHANCE_YOUR_CALM, why)
