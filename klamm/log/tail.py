"""The newest batches of a log, as they were appended: what is read next is not read from the disk.

Whoever follows a log closely (replicas, the state machine, observers) reads each batch moments
after it was written. What came from a disk is verified each time; what is here has been built or
verified in this process, and has not left it since.
"""

import struct
from collections import OrderedDict

from klamm.ids import Offset
from klamm.log.files import Buffer

TAIL_BYTES_MAX = 4 * 1024 * 1024
"""Kept at the most; one batch always is."""

TAIL_BATCHES_MAX = 1_024

_LENGTH = struct.Struct(">qi")
"""base_offset and batch_length; the length counts what comes after it."""
_LAST_OFFSET_DELTA = struct.Struct(">i")
_DELTA_AT = 23


class Tail:
    """Whole batches without a gap, up to the log's end."""

    def __init__(self) -> None:
        self._batches: OrderedDict[Offset, tuple[Offset, bytes]] = OrderedDict()
        """By base offset, in order: its end, and its bytes."""
        self._size_bytes = 0

    def append(self, batches: Buffer) -> None:
        """Whole batches, which are in the log by now, and right."""
        data, position = bytes(batches), 0
        while position < len(data):
            base, length = _LENGTH.unpack_from(data, position)
            (delta,) = _LAST_OFFSET_DELTA.unpack_from(data, position + _DELTA_AT)
            stop = position + _LENGTH.size + length
            batch = data[position:stop]  # The same object, if it is the only one.
            self._batches[Offset(base)] = Offset(base + delta + 1), batch
            self._size_bytes += len(batch)
            position = stop
        while len(self._batches) > 1 and (
            self._size_bytes > TAIL_BYTES_MAX or len(self._batches) > TAIL_BATCHES_MAX
        ):
            _, (_, oldest) = self._batches.popitem(last=False)
            self._size_bytes -= len(oldest)

    def clear(self) -> None:
        """The log was cut, or begins anew."""
        self._batches.clear()
        self._size_bytes = 0

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        """Whole batches from `start` on, all below `up_to`; one at the least.

        Nothing if no batch that begins at `start` is kept: then the log is to be asked.
        """
        found: list[bytes] = []
        at, size_bytes = start, 0
        while (kept := self._batches.get(at)) is not None:
            end, batch = kept
            size_bytes += len(batch)
            if end > up_to or (found and size_bytes > max_bytes):
                break
            found.append(batch)
            at = end
        return found[0] if len(found) == 1 else b"".join(found)
