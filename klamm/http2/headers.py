"""Header blocks.

Reading is HPACK's library's. A gRPC peer says the same few blocks again and again, and a block that
changes nothing in the table means the same until something does: it is decoded once.

Writing uses the static table and literals only. Nothing in a block then depends on one before it,
so blocks can be made once, and sent in any order.

Source: RFC 7541; limits against unfolding: RFC 9113 section 10.5.1.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import hpack
from hpack.hpack import Decoder
from hpack.table import HeaderTable

from klamm.http2.frames import Code, ProtocolError
from klamm.http2.limits import (
    BLOCK_REMEMBERED_BYTES_MAX,
    BLOCKS_REMEMBERED_MAX,
    HEADER_LIST_BYTES_MAX,
)

Header = tuple[str, str]
Headers = tuple[Header, ...]


class Judge(Protocol):
    """Says what is wrong with fields; "" if nothing. See rules.py."""

    def __call__(self, headers: Headers, *, trailing: bool) -> str: ...


_STATIC = {
    (name.decode(), value.decode()): place
    for place, (name, value) in enumerate(HeaderTable.STATIC_TABLE, start=1)
}
_STATIC_NAMES = {name: place for (name, _), place in sorted(_STATIC.items(), key=lambda it: -it[1])}


class Fields(NamedTuple):
    """What a block says."""

    headers: Headers
    """In order."""
    malformed: str
    """What is wrong with them as a message; "" if nothing."""
    content_length: int | None
    """As stated; None if it is not. -1 if it is no number, which no length is equal to."""


class HeaderReader:
    """One direction of one connection."""

    def __init__(self, judge: Judge) -> None:
        self._decoder = Decoder(max_header_list_size=HEADER_LIST_BYTES_MAX)
        self._judge = judge
        self._known: dict[tuple[bytes, bool], Fields] = {}

    def read(self, block: bytes, *, trailing: bool) -> Fields:
        """What the block says, as the first of a stream or as the `trailing` one.

        Raises:
            ProtocolError: It is none (COMPRESSION_ERROR), or unfolds to too much
                (ENHANCE_YOUR_CALM). The connection cannot go on: the table may be half changed.
        """
        known = self._known.get((block, trailing))
        if known is not None:
            return known
        before = self._table()
        try:
            headers = tuple(
                (name.decode(), value.decode("latin-1"))
                for name, value in self._decoder.decode(block, raw=True)
            )
        except hpack.OversizedHeaderListError as error:
            raise ProtocolError(
                Code.ENHANCE_YOUR_CALM,
                f"a header list of more than {HEADER_LIST_BYTES_MAX} bytes",
            ) from error
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            # Its own words name addresses in memory, which are nobody's business.
            why = f"a header block: {type(error).__name__}"
            raise ProtocolError(Code.COMPRESSION_ERROR, why) from error
        malformed = self._judge(headers, trailing=trailing)
        fields = Fields(headers, malformed, _content_length(headers))
        if self._has_changed(before):
            self._known.clear()
        elif _size_bytes(block, headers) <= BLOCK_REMEMBERED_BYTES_MAX:
            if len(self._known) >= BLOCKS_REMEMBERED_MAX:
                del self._known[next(iter(self._known))]
            self._known[block, trailing] = fields
        return fields

    def _has_changed(self, before: tuple[int, int, object]) -> bool:
        now = self._table()
        # The entry itself, which is kept meanwhile: an equal one may have come in its place.
        return now[:2] != before[:2] or now[2] is not before[2]

    def _table(self) -> tuple[int, int, object]:
        """Size, count and first entry: another one whenever the table has changed. What is added
        comes first, and is a new object; what is dropped and not replaced makes it shorter."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return table.maxsize, len(entries), entries[0] if entries else None


def _size_bytes(block: bytes, headers: Headers) -> int:
    return len(block) + sum(len(name) + len(value) for name, value in headers)


def _content_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == "content-length":
            return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else -1
    return None


def write_headers(headers: Iterable[Header]) -> bytes:
    """A block that leaves the peer's table as it is. Values are latin-1."""
    block = bytearray()
    for header in headers:
        place = _STATIC.get(header)
        if place is not None:
            block += _integer(place, 7, 0x80)
            continue
        name, value = header
        named = _STATIC_NAMES.get(name)
        if named is not None:
            block += _integer(named, 4, 0)
        else:
            block.append(0)
            block += _string(name.encode())
        block += _string(value.encode("latin-1"))
    return bytes(block)


def _string(data: bytes) -> bytes:
    return _integer(len(data), 7, 0) + data


def _integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((pattern | value,))
    out = bytearray((pattern | limit,))
    value -= limit
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
