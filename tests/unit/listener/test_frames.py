"""Frames out of bytes, however the bytes come."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.listener.frames import FIRST_BUFFER_BYTES, FrameReader, FrameSizeError, new_scratch

LIMIT = 1_000_000


def sized(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def feed(reader: FrameReader, data: bytes, pieces: list[int]) -> list[bytes]:
    """Put `data` into the reader's buffers, no more at a time than the next of `pieces`."""
    frames: list[bytes] = []
    position = turn = 0
    while position < len(data):
        buffer = reader.buffer()
        count = min(len(buffer), len(data) - position, pieces[turn % len(pieces)])
        buffer[:count] = data[position : position + count]
        frames += map(bytes, reader.received(count))
        position += count
        turn += 1
    return frames


@pytest.mark.parametrize("cut", range(1, 31))
def test_a_cut_anywhere(cut: int) -> None:
    data = sized(b"first") + sized(b"") + sized(b"third one")
    assert feed(FrameReader(new_scratch(), LIMIT), data, [cut, len(data)]) == [
        b"first",
        b"",
        b"third one",
    ]


@given(
    frames=st.lists(st.binary(max_size=300), max_size=10),
    pieces=st.lists(st.integers(1, 500), min_size=1, max_size=10),
)
def test_any_frames_in_any_pieces(frames: list[bytes], pieces: list[int]) -> None:
    reader = FrameReader(new_scratch(), LIMIT)
    assert feed(reader, b"".join(map(sized, frames)), pieces) == frames
    assert not reader.in_frame


@pytest.mark.parametrize("size", [60_000, 65_532, 65_533, 200_000, LIMIT])
def test_frames_larger_than_the_scratch_buffer(size: int) -> None:
    frame = bytes(range(256)) * (size // 256 + 1)
    data = sized(frame[:size]) + sized(b"after")
    assert feed(FrameReader(new_scratch(), LIMIT), data, [70_000]) == [frame[:size], b"after"]


def test_memory_follows_what_came_and_not_what_was_said() -> None:
    reader = FrameReader(new_scratch(), 2**31 - 1)
    feed(reader, struct.pack(">i", 2**31 - 1) + bytes(60_000), [100_000])
    assert len(reader.buffer()) <= FIRST_BUFFER_BYTES


def test_frames_may_be_written_to_and_are_not_shared() -> None:
    scratch = new_scratch()
    one, two = FrameReader(scratch, LIMIT), FrameReader(scratch, LIMIT)
    data = sized(b"12345678")
    one.buffer()[: len(data)] = data
    (frame,) = one.received(len(data))
    feed(two, sized(b"xxxxxxxx"), [100])
    memoryview(frame)[0:1] = b"!"
    assert frame == b"!2345678"


@pytest.mark.parametrize("size", [-1, -(2**31), LIMIT + 1, 2**31 - 1])
def test_sizes_that_no_frame_has(size: int) -> None:
    reader = FrameReader(new_scratch(), LIMIT)
    data = sized(b"good") + struct.pack(">i", size)
    reader.buffer()[: len(data)] = data
    with pytest.raises(FrameSizeError, match=str(size)) as raised:
        reader.received(len(data))
    assert raised.value.frames == [b"good"]
