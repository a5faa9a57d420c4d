"""gRPC's own bytes inside HTTP/2: messages behind five bytes, statuses, timeouts, metadata. Pure.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import base64
import struct
import zlib
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

import grpc

from klamm.http2.headers import Headers, write_headers

Metadata = tuple[tuple[str, str | bytes], ...]
"""As a call carries it: values of names that end in -bin are bytes."""

PREFIX_BYTES = 5
MESSAGE_COST_BYTES = 64
"""Of memory beside its bytes: a message may have none, and come a million times."""

CONTENT_TYPE = "application/grpc"
ACCEPTED_ENCODINGS = "identity,deflate,gzip"

_PREFIX = struct.Struct(">BI")
_INFLATE_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_TIMEOUT_NS = {"H": 3_600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}
_TIMEOUT_DIGITS = 8

_RESERVED = frozenset({"content-type", "te", "user-agent", "host"})
CODES = {str(each.value[0]): each for each in grpc.StatusCode}
"""By what stands in grpc-status. Whatever else does is no number to be made of it."""

RESPONSE = write_headers(
    (
        (":status", "200"),
        ("content-type", CONTENT_TYPE),
        ("grpc-accept-encoding", ACCEPTED_ENCODINGS),
    )
)
OK_TRAILERS = write_headers((("grpc-status", "0"),))
NO_TRAILERS = write_headers(())

NOT_GRPC = write_headers(((":status", "415"), ("content-type", "text/plain")))
NOT_GRPC_BODY = b"this port speaks gRPC: POST, content-type application/grpc\n"


class FramingError(Exception):
    """What the peer sent is no gRPC, or more of it than is taken; `code` is the call's status."""

    def __init__(self, code: grpc.StatusCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def prefixed(message: bytes) -> bytes:
    """The message as it goes, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


class MessageReader:
    """Puts one stream's messages together."""

    __slots__ = ("_buffer", "_encoding", "_max_bytes", "_wanted")

    def __init__(self, max_bytes: int, encoding: str = "identity") -> None:
        """
        Args:
            max_bytes: Of one message, unfolded.
            encoding: The stream's grpc-encoding.
        """
        self._buffer = bytearray()
        self._wanted = 0
        """Bytes that must be there before it is worth a look."""
        self._max_bytes = max_bytes
        self._encoding = encoding

    @property
    def rest_bytes(self) -> int:
        """Of a message that is not whole yet."""
        return len(self._buffer)

    def read(self, data: bytes) -> list[bytes]:
        """The messages that are whole now.

        Raises:
            FramingError: A message is too large, or compressed as nobody said, or what unfolds at
                once is more than one message may be.
        """
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        messages: list[bytes] = []
        at, size, unfolded_bytes = 0, len(data), 0
        self._wanted = PREFIX_BYTES
        while size - at >= PREFIX_BYTES:
            compressed, length = _PREFIX.unpack_from(data, at)
            if length > self._max_bytes:
                raise _too_large(length, self._max_bytes)
            end = at + PREFIX_BYTES + length
            if end > size:
                self._wanted = PREFIX_BYTES + length
                break
            message = data[at + PREFIX_BYTES : end]
            if compressed:
                message = self._inflated(message)
                unfolded_bytes += len(message)
                if unfolded_bytes > self._max_bytes:
                    raise _too_large(unfolded_bytes, self._max_bytes)
            messages.append(message)
            at = end
        if at < size:
            self._buffer += data[at:]
        return messages

    def _inflated(self, data: bytes) -> bytes:
        bits = _INFLATE_BITS.get(self._encoding)
        if bits is None:
            raise FramingError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"grpc-encoding {self._encoding!r}; known are {ACCEPTED_ENCODINGS}",
            )
        inflate = zlib.decompressobj(bits)
        try:
            message = inflate.decompress(data, self._max_bytes + 1)
        except zlib.error as error:
            raise FramingError(grpc.StatusCode.INTERNAL, f"a message: {error}") from error
        if len(message) > self._max_bytes:
            raise _too_large(len(message), self._max_bytes)
        if not inflate.eof:
            raise FramingError(grpc.StatusCode.INTERNAL, "a compressed message is cut short")
        return message


def _too_large(length: int, max_bytes: int) -> FramingError:
    return FramingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"a message of {length} bytes or more; {max_bytes} are allowed",
    )


def request_block(authority: str, path: str, timeout_s: float | None, metadata: Metadata) -> bytes:
    """The header block of a call."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", CONTENT_TYPE),
        ("grpc-accept-encoding", ACCEPTED_ENCODINGS),
    ]
    if timeout_s is not None:
        headers.append(("grpc-timeout", timeout_header(timeout_s)))
    headers.extend(_written(metadata))
    return write_headers(headers)


def trailers(
    code: grpc.StatusCode, details: str, metadata: Metadata = (), *, alone: bool = False
) -> bytes:
    """The block that ends a call; `alone` if no response headers went before it."""
    headers: list[tuple[str, str]] = []
    if alone:
        headers += [(":status", "200"), ("content-type", CONTENT_TYPE)]
    headers.append(("grpc-status", str(code.value[0])))
    if details:
        headers.append(("grpc-message", quote(details, safe=_MESSAGE_SAFE)))
    headers.extend(_written(metadata))
    return write_headers(headers)


_MESSAGE_SAFE = "".join(chr(each) for each in range(0x20, 0x7F) if each != ord("%"))


def status(headers: Headers) -> tuple[grpc.StatusCode, str, Metadata]:
    """What a call's last block says: code, details, and the rest of it."""
    said = dict(headers)
    number = said.get("grpc-status")
    if number is None:
        return _of_http(said.get(":status", "")), f"no grpc-status; HTTP {said.get(':status')}", ()
    code = CODES.get(number)
    if code is None:
        return grpc.StatusCode.UNKNOWN, f"grpc-status {number[:20]!r}", ()
    details = unquote_to_bytes(said.get("grpc-message", "")).decode(errors="replace")
    return code, details, metadata(headers)


def _of_http(http_status: str) -> grpc.StatusCode:
    """What stands between may answer in plain HTTP (http-grpc-status-mapping.md)."""
    return {
        "400": grpc.StatusCode.INTERNAL,
        "401": grpc.StatusCode.UNAUTHENTICATED,
        "403": grpc.StatusCode.PERMISSION_DENIED,
        "404": grpc.StatusCode.UNIMPLEMENTED,
        "429": grpc.StatusCode.UNAVAILABLE,
        "502": grpc.StatusCode.UNAVAILABLE,
        "503": grpc.StatusCode.UNAVAILABLE,
        "504": grpc.StatusCode.UNAVAILABLE,
    }.get(http_status, grpc.StatusCode.UNKNOWN)


def metadata(headers: Headers) -> Metadata:
    """The caller's own fields: not the protocol's, nor values that should be base64 and are not."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name.startswith((":", "grpc-")) and name != "grpc-status-details-bin":
            continue
        if name in _RESERVED:
            continue
        if not name.endswith("-bin"):
            found.append((name, value))
            continue
        for part in value.split(","):
            try:
                padding = "=" * (-len(part) % 4)
                found.append((name, base64.b64decode(part + padding, validate=True)))
            except ValueError:
                continue  # Not base64, or not even ASCII.
    return tuple(found)


def _written(metadata: Iterable[tuple[str, str | bytes]]) -> Iterable[tuple[str, str]]:
    for name, value in metadata:
        if isinstance(value, bytes):
            yield name, base64.b64encode(value).rstrip(b"=").decode()
        else:
            yield name, value


def timeout_header(timeout_s: float) -> str:
    """At most eight digits and a unit, rounded up: a peer may give up a little late."""
    left_ns = max(int(timeout_s * 10**9), 1)
    for unit in ("n", "u", "m", "S", "M", "H"):
        count = -(-left_ns // _TIMEOUT_NS[unit])
        if count < 10**_TIMEOUT_DIGITS:
            return f"{count}{unit}"
    return f"{10**_TIMEOUT_DIGITS - 1}H"


def timeout_s(header: str) -> float:
    """
    Raises:
        FramingError: It is none.
    """
    digits, unit = header[:-1], header[-1:]
    valid = digits.isascii() and digits.isdigit() and len(digits) <= _TIMEOUT_DIGITS
    if not valid or unit not in _TIMEOUT_NS:
        raise FramingError(grpc.StatusCode.INTERNAL, f"grpc-timeout {header!r}")
    return int(digits) * _TIMEOUT_NS[unit] / 10**9


def metadata_block(metadata: Metadata) -> bytes:
    """Fields to go behind others in one block."""
    return write_headers(_written(metadata))


def held_bytes(messages: Iterable[bytes]) -> int:
    """What they cost while nobody has read them."""
    return sum([len(each) + MESSAGE_COST_BYTES for each in messages])
