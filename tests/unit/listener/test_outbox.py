"""Bytes on their way out: in order, all of them, and few at a time in the transport."""

from hypothesis import given
from hypothesis import strategies as st

from broker.listener.outbox import JOINED_BYTES_MAX, PIECE_BYTES_MAX, Outbox


class Transport:
    """Takes `room` bytes, then calls for a pause, as one does whose socket is full."""

    def __init__(self, outbox: Outbox, room: int) -> None:
        self.outbox = outbox
        self.room = room
        self.taken = 0
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.outbox.is_blocked
        self.writes.append(bytes(data))
        self.taken += len(data)
        self.outbox.is_blocked = self.taken >= self.room


@given(
    buffers=st.lists(st.integers(0, 700_000), max_size=12),
    room=st.integers(1, 1_000_000),
)
def test_everything_leaves_in_order(buffers: list[int], room: int) -> None:
    data = [bytes([index]) * size for index, size in enumerate(buffers)]
    outbox = Outbox()
    outbox.put(data)
    transport = Transport(outbox, room)
    for _ in range(100):
        outbox.flush(transport)
        transport.taken, outbox.is_blocked = 0, False
    assert b"".join(transport.writes) == b"".join(data)
    assert outbox.waiting_bytes == 0
    assert all(len(each) <= PIECE_BYTES_MAX for each in transport.writes)


def test_small_ones_leave_together() -> None:
    outbox = Outbox()
    outbox.put([b"a", b"b", memoryview(b"c")])
    transport = Transport(outbox, 1_000)
    outbox.flush(transport)
    assert transport.writes == [b"abc"]


def test_nothing_is_written_while_blocked() -> None:
    outbox = Outbox()
    transport = Transport(outbox, JOINED_BYTES_MAX)
    outbox.put([bytes(PIECE_BYTES_MAX * 3)])
    outbox.flush(transport)
    assert (len(transport.writes), outbox.waiting_bytes) == (1, PIECE_BYTES_MAX * 2)
    outbox.flush(transport)
    assert len(transport.writes) == 1
