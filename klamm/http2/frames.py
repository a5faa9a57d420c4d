"""The frame: nine bytes of header, and a payload (RFC 9113 section 4.1)."""

import struct
from enum import IntEnum

from klamm.errors import DefiniteError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
DEFAULT_FRAME_BYTES_MAX = 16_384
DEFAULT_WINDOW_BYTES = 65_535
DEFAULT_TABLE_BYTES = 4_096
PING_BYTES = 8
PRIORITY_BYTES = 5

DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

OF_STREAMS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM})
OF_CONNECTION = frozenset({SETTINGS, PING, GOAWAY})

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

_HEAD = struct.Struct(">IBI")
"""Length and type share the first four bytes."""
pack_head = _HEAD.pack
"""Of length << 8 | type, flags and stream: `head`, without its call."""


read_head = _HEAD.unpack_from
"""Of the frame at an offset, where HEADER_BYTES are: length << 8 | type, flags, and the stream with
a bit before it that means nothing."""


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(DefiniteError):
    """The peer broke the protocol: the connection ends, and says why."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(f"{code.name}: {why}")
        self.code = code


def head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """A frame's header. `length` is of the payload, in bytes."""
    return _HEAD.pack(length << 8 | kind, flags, stream_id)


def settings(values: dict[Setting, int]) -> bytes:
    payload = b"".join(struct.pack(">HI", key, value) for key, value in values.items())
    return head(len(payload), SETTINGS, 0, 0) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    return head(4, WINDOW_UPDATE, 0, stream_id) + increment.to_bytes(4)


def rst_stream(stream_id: int, code: int) -> bytes:
    return head(4, RST_STREAM, 0, stream_id) + code.to_bytes(4)


def ping(payload: bytes, flags: int = 0) -> bytes:
    return head(PING_BYTES, PING, flags, 0) + payload


def goaway(last_stream_id: int, code: int, why: bytes = b"") -> bytes:
    payload = last_stream_id.to_bytes(4) + code.to_bytes(4) + why
    return head(len(payload), GOAWAY, 0, 0) + payload


def unpadded(payload: bytes) -> bytes:
    """
    Raises:
        ProtocolError: The padding is longer than the frame.
    """
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(Code.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def check_priority(payload: bytes, stream_id: int) -> None:
    """
    Raises:
        ProtocolError: It is none. What it says is nobody's business.
    """
    if len(payload) != PRIORITY_BYTES:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a priority of {len(payload)} bytes")
    if int.from_bytes(payload[:4]) & 0x7FFF_FFFF == stream_id:
        raise ProtocolError(Code.PROTOCOL_ERROR, "a stream that depends on itself")
