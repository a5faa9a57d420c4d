"""Unsigned varints: seven bits a byte, the lowest first, the eighth bit says that more follow.

Compact lengths and tags (KIP-482) are of 32 bits, so of five bytes at the most. An encoding longer
than it need be is read as what it says.
"""

from broker.kafka.errors import MalformedFrameError
from broker.kafka.schema import Buffer

UVARINT_MAX = 0xFFFFFFFF


def read_uvarint(data: Buffer, position: int) -> tuple[int, int]:
    """The varint at `position`, and the position after it.

    Raises:
        IndexError: `data` ends before it does.
        MalformedFrameError: It is longer than five bytes, or over 32 bits.
    """
    first = data[position]
    if first < 0x80:
        return first, position + 1
    return finish_uvarint(data, first, position + 1)


def finish_uvarint(data: Buffer, first: int, position: int) -> tuple[int, int]:
    """As `read_uvarint`, where `first`, its first byte, says that more follow at `position`."""
    value = first & 0x7F
    for shift in (7, 14, 21, 28):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > UVARINT_MAX:
                break
            return value, position
    raise MalformedFrameError("a varint is longer than 32 bits")


def write_uvarint(value: int) -> bytes:
    """The varint of `value`.

    Raises:
        ValueError: `value` is negative or over 32 bits.
    """
    if not 0 <= value <= UVARINT_MAX:
        raise ValueError(f"{value} is not an unsigned integer of 32 bits")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip_tagged_fields(data: Buffer, count: int, position: int) -> int:
    """The position after `count` tagged fields, none of which anyone here knows (KIP-482).

    Raises:
        IndexError: `data` ends before they do.
        MalformedFrameError: There are too many, or they are out of order, or one is longer than
            what is left.
    """
    size = len(data)
    if count > TAGGED_FIELDS_MAX:
        raise MalformedFrameError(f"{count} tagged fields are over {TAGGED_FIELDS_MAX}")
    if count * TAGGED_FIELD_BYTES_MIN > size - position:
        raise MalformedFrameError(f"{count} tagged fields in {size - position} bytes")
    previous = -1
    for _ in range(count):
        tag, position = read_uvarint(data, position)
        length, position = read_uvarint(data, position)
        if tag <= previous:
            raise MalformedFrameError(f"tag {tag} follows tag {previous}")
        if length > size - position:
            raise MalformedFrameError(f"tag {tag} has {length} bytes of {size - position}")
        previous = tag
        position += length
    return position


TAGGED_FIELD_BYTES_MIN = 2
"""A tag and a length of zero."""

TAGGED_FIELDS_MAX = 1_000
"""In one struct or header. Kafka itself has four at the most."""
