"""The newest batches, read from memory as they would be from the log."""

import pytest

from klamm.ids import Epoch, Offset
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.log.tail import TAIL_BATCHES_MAX, TAIL_BYTES_MAX, Tail


def batch(base: int, count: int = 1, size_bytes: int = 1) -> bytes:
    return build_batch(
        [NewRecord(value=b"x" * size_bytes)] * count,
        base_offset=Offset(base),
        leader_epoch=Epoch(1),
        timestamp_ms=0,
    )


FIRST, SECOND, THIRD = batch(5, 2), batch(7), batch(8, 3)


@pytest.fixture
def tail() -> Tail:
    tail = Tail()
    tail.append(FIRST)
    tail.append(memoryview(SECOND + THIRD))
    return tail


@pytest.mark.parametrize(
    ("start", "max_bytes", "up_to", "read"),
    [
        (5, 1 << 20, 11, FIRST + SECOND + THIRD),
        (7, 1 << 20, 11, SECOND + THIRD),
        (5, 1 << 20, 8, FIRST + SECOND),
        (5, 1 << 20, 10, FIRST + SECOND),
        (5, len(FIRST) + len(SECOND), 11, FIRST + SECOND),
        (5, 1, 11, FIRST),
        (5, 1 << 20, 6, b""),
        (6, 1 << 20, 11, b""),
        (4, 1 << 20, 11, b""),
        (11, 1 << 20, 20, b""),
    ],
    ids=str,
)
def test_whole_batches_below_the_end_and_one_at_the_least(
    tail: Tail, start: int, max_bytes: int, up_to: int, read: bytes
) -> None:
    assert tail.read(Offset(start), max_bytes, Offset(up_to)) == read


def test_a_cut_leaves_nothing(tail: Tail) -> None:
    tail.clear()
    assert tail.read(Offset(5), 1 << 20, Offset(11)) == b""
    tail.append(SECOND)
    assert tail.read(Offset(7), 1 << 20, Offset(8)) == SECOND


def test_old_ones_go_by_number_and_by_size() -> None:
    tail = Tail()
    for base in range(TAIL_BATCHES_MAX + 1):
        tail.append(batch(base))
    assert tail.read(Offset(0), 1, Offset(1)) == b""
    assert tail.read(Offset(1), 1, Offset(2)) == batch(1)
    end = TAIL_BATCHES_MAX + 1
    large = batch(end, size_bytes=TAIL_BYTES_MAX + 1)
    tail.append(large)
    assert tail.read(Offset(end - 1), 1, Offset(end)) == b""
    assert tail.read(Offset(end), 1, Offset(end + 1)) == large
