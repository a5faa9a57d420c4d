"""What stands in the three compression bits of a batch, and how to undo it within a limit.

    0  none
    1  gzip     RFC 1952
    2  snappy   raw blocks, behind xerial's header as the Java library writes it, or one raw block
    3  lz4      frame format
    4  zstd

Decompression never makes more than `limit` bytes: a batch of a megabyte may claim to hold
gigabytes. Source: KIP-110 for zstd, https://github.com/xerial/snappy-java for its framing.
"""

import struct
from collections.abc import Callable
from enum import IntEnum
from itertools import count

import cramjam

from klamm.errors import KlammError

DECOMPRESSED_BYTES_MAX = 256 * 1024 * 1024
"""Of one batch; 256 times the default `max.message.bytes`."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK_BYTES = 32 * 1024
_FIRST_GUESS_BYTES_MIN = 4_096
_FIRST_GUESS_RATIO = 4
_OUTPUT_IS_FULL = "failed to write whole buffer"


class CompressionError(KlammError):
    """Bytes that the codec cannot read, or that hold more than the limit."""


class Compression(IntEnum):
    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def compress(data: bytes, codec: Compression) -> bytes:
    """Compress the records of a batch."""
    match codec:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            return bytes(cramjam.gzip.compress(data))
        case Compression.SNAPPY:
            return _compress_xerial(data)
        case Compression.LZ4:
            return bytes(cramjam.lz4.compress(data))
        case Compression.ZSTD:
            return bytes(cramjam.zstd.compress(data))


def decompress(
    data: bytes | memoryview, codec: Compression, limit: int = DECOMPRESSED_BYTES_MAX
) -> bytes | memoryview:
    """Undo `compress`, or any client's.

    Raises:
        CompressionError: `data` is not what the codec writes, or holds more than `limit` bytes.
    """
    match codec:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            return _decompress_within(cramjam.gzip.decompress_into, data, limit)
        case Compression.SNAPPY:
            return _decompress_snappy(data, limit)
        case Compression.LZ4:
            return _decompress_within(cramjam.lz4.decompress_into, data, limit)
        case Compression.ZSTD:
            return _decompress_within(cramjam.zstd.decompress_into, data, limit)


def _decompress_within(
    decompress_into: Callable[[bytes | memoryview, bytearray], int],
    data: bytes | memoryview,
    limit: int,
) -> memoryview:
    """Decompress into a buffer of a guessed size, doubled until the output fits.

    None of the formats says how much it holds in a way that could be believed.
    """
    size = max(_FIRST_GUESS_BYTES_MIN, _FIRST_GUESS_RATIO * len(data))
    for attempt in count():
        output = bytearray(min(size << attempt, limit))
        try:
            return memoryview(output)[: decompress_into(data, output)]
        except cramjam.DecompressionError as error:
            if _OUTPUT_IS_FULL not in str(error):
                raise CompressionError(str(error)) from error
            if len(output) == limit:
                raise CompressionError(f"holds more than {limit} bytes") from error
    raise AssertionError("the output reaches the limit first")


def _compress_xerial(data: bytes) -> bytes:
    parts = [_XERIAL_HEADER]
    for start in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (struct.pack(">i", len(block)), block)
    return b"".join(parts)


def _decompress_snappy(data: bytes | memoryview, limit: int) -> bytes:
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _decompress_block(data, limit)
    parts: list[bytes] = []
    position = len(_XERIAL_HEADER)
    if len(data) < position:
        raise CompressionError("a xerial header cut short")
    while position < len(data):
        if position + 4 > len(data):
            raise CompressionError("a xerial block's length cut short")
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if not 0 <= size <= len(data) - position:
            raise CompressionError(f"a xerial block of {size} bytes, {len(data) - position} left")
        block = _decompress_block(data[position : position + size], limit)
        limit -= len(block)
        parts.append(block)
        position += size
    return b"".join(parts)


def _decompress_block(block: bytes | memoryview, limit: int) -> bytes:
    """One raw snappy block; its first varint says how much it holds."""
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > limit:
            raise CompressionError(f"holds {size} bytes, more than {limit}")
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise CompressionError(str(error)) from error
