"""Unsigned varints, against the definition and kio's reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kio._kio_native import read_unsigned_varint

from broker.kafka.errors import MalformedFrameError
from broker.kafka.varint import UVARINT_MAX, read_uvarint, write_uvarint


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (UVARINT_MAX, "ffffffff0f"),
    ],
)
def test_edges(value: int, written: str) -> None:
    assert write_uvarint(value).hex() == written
    assert read_uvarint(bytes.fromhex(written) + b"\xff", 0) == (value, len(written) // 2)


@given(st.integers(0, UVARINT_MAX), st.binary(max_size=3), st.binary(max_size=3))
def test_what_is_written_is_read_in_place(value: int, before: bytes, after: bytes) -> None:
    written = write_uvarint(value)
    end = len(before) + len(written)
    assert read_uvarint(memoryview(before + written + after), len(before)) == (value, end)
    assert read_unsigned_varint(written, 0) == (value, len(written))


@pytest.mark.parametrize("bad", ["ffffffff10", "ffffffff7f", "8080808080", "808080808000"])
def test_more_than_32_bits_is_refused(bad: str) -> None:
    with pytest.raises(MalformedFrameError):
        read_uvarint(bytes.fromhex(bad), 0)


@pytest.mark.parametrize("cut", ["", "80", "80808080"])
def test_the_end_of_the_bytes_is_noticed(cut: str) -> None:
    with pytest.raises(IndexError):
        read_uvarint(bytes.fromhex(cut), 0)


@pytest.mark.parametrize("value", [-1, UVARINT_MAX + 1])
def test_what_has_no_encoding_is_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        write_uvarint(value)
