"""The two sparse indexes of a segment, in memory, and in Kafka's file formats.

    .index      8 bytes an entry:  last offset of a batch, less the segment's base    int32
                                   position of that batch in the .log file            int32
    .timeindex  12 bytes an entry: the largest timestamp so far, ms                   int64
                                   last offset of the batch that has it, less base    int32

An entry is made for a batch once `index.interval.bytes` have gone by since the last entry. Big
endian. The files are written whole when a segment is closed or rolled. Neither format has a
checksum, so readers verify each entry that they use against the batch it points at, and build
the index anew from the log if it lies; damage costs time and nothing else.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from klamm.ids import Offset

OFFSET_ENTRY_BYTES = 8
TIME_ENTRY_BYTES = 12
POSITION_MAX = 2**31 - 1
"""What an entry can point at; so no segment grows beyond it."""
RELATIVE_OFFSET_MAX = 2**31 - 1
NO_TIMESTAMP = -1

_TIME_ENTRY = struct.Struct(">qi")

assert array("i").itemsize == 4


class CorruptIndexError(Exception):
    """An index that cannot be one of ours, or not of this log. Answered by rebuilding it."""


@dataclass(frozen=True, slots=True)
class OffsetEntry:
    last_offset: Offset
    """Of the batch at `position`."""
    position: int


@dataclass(frozen=True, slots=True)
class TimeEntry:
    timestamp_ms: int
    """No batch up to the one that ends in `last_offset` is younger."""
    last_offset: Offset


class OffsetIndex:
    """From offsets, or positions, to the position of a batch a little before."""

    __slots__ = ("_base_offset", "_offsets", "_positions")

    def __init__(self, base_offset: Offset) -> None:
        self._base_offset = base_offset
        self._offsets = array("i")
        self._positions = array("i")

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def size_bytes(self) -> int:
        return len(self._offsets) * OFFSET_ENTRY_BYTES

    def add(self, entry: OffsetEntry) -> None:
        self._offsets.append(entry.last_offset - self._base_offset)
        self._positions.append(entry.position)

    def last(self) -> OffsetEntry | None:
        return self._entry(len(self) - 1)

    def at_or_before(self, offset: Offset) -> OffsetEntry | None:
        """The last entry whose batch ends at `offset` or before."""
        return self._entry(bisect_right(self._offsets, offset - self._base_offset) - 1)

    def at_or_before_position(self, position: int) -> OffsetEntry | None:
        """The last entry whose batch starts at `position` or before."""
        return self._entry(bisect_right(self._positions, position) - 1)

    def truncate(self, size_bytes: int) -> None:
        """Forget batches that start at `size_bytes` of the log file, or after."""
        kept = bisect_left(self._positions, size_bytes)
        del self._offsets[kept:], self._positions[kept:]

    def encode(self) -> bytes:
        entries = array("i", bytes(self.size_bytes))
        entries[0::2] = self._offsets
        entries[1::2] = self._positions
        if sys.byteorder == "little":
            entries.byteswap()
        return entries.tobytes()

    @classmethod
    def decode(cls, base_offset: Offset, data: bytes, log_bytes: int) -> "OffsetIndex":
        """Read an index of a log file of `log_bytes`.

        Raises:
            CorruptIndexError: It is cut short, disordered, or points outside of the log file.
        """
        if len(data) % OFFSET_ENTRY_BYTES:
            raise CorruptIndexError(f"{len(data)} bytes are no whole entries")
        entries = array("i", data)
        if sys.byteorder == "little":
            entries.byteswap()
        index = cls(base_offset)
        index._offsets = entries[0::2]
        index._positions = entries[1::2]
        if not _ascends(index._offsets) or not _ascends(index._positions):
            raise CorruptIndexError("entries do not ascend")
        if index._positions and not 0 <= index._positions[0] <= index._positions[-1] < log_bytes:
            raise CorruptIndexError(f"an entry points outside of {log_bytes} bytes")
        return index

    def _entry(self, at: int) -> OffsetEntry | None:
        if at < 0:
            return None
        return OffsetEntry(Offset(self._base_offset + self._offsets[at]), self._positions[at])


class TimeIndex:
    """From timestamps to the offset of a batch a little before."""

    __slots__ = ("_base_offset", "_offsets", "_timestamps")

    def __init__(self, base_offset: Offset) -> None:
        self._base_offset = base_offset
        self._timestamps = array("q")
        self._offsets = array("i")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, entry: TimeEntry) -> None:
        """Only if it is younger than the last; an index of times ascends."""
        last = self._timestamps[-1] if self._timestamps else NO_TIMESTAMP
        if entry.timestamp_ms <= last:
            return
        self._timestamps.append(entry.timestamp_ms)
        self._offsets.append(entry.last_offset - self._base_offset)

    def last(self) -> TimeEntry | None:
        return self._entry(len(self) - 1)

    def at_or_before(self, timestamp_ms: int) -> TimeEntry | None:
        """The last entry of this time or before: no batch ahead of its own is as young."""
        return self._entry(bisect_right(self._timestamps, timestamp_ms) - 1)

    def truncate(self, to: Offset) -> None:
        """Forget batches that end at `to` or after."""
        kept = bisect_left(self._offsets, to - self._base_offset)
        del self._offsets[kept:], self._timestamps[kept:]

    def encode(self) -> bytes:
        return b"".join(
            _TIME_ENTRY.pack(timestamp_ms, offset)
            for timestamp_ms, offset in zip(self._timestamps, self._offsets, strict=True)
        )

    @classmethod
    def decode(cls, base_offset: Offset, data: bytes) -> "TimeIndex":
        """Read an index.

        Raises:
            CorruptIndexError: It is cut short or disordered.
        """
        if len(data) % TIME_ENTRY_BYTES:
            raise CorruptIndexError(f"{len(data)} bytes are no whole entries")
        index = cls(base_offset)
        for timestamp_ms, offset in _TIME_ENTRY.iter_unpack(data):
            index._timestamps.append(timestamp_ms)
            index._offsets.append(offset)
        if not _ascends(index._timestamps) or not _ascends(index._offsets):
            raise CorruptIndexError("entries do not ascend")
        return index

    def _entry(self, at: int) -> TimeEntry | None:
        if at < 0:
            return None
        return TimeEntry(self._timestamps[at], Offset(self._base_offset + self._offsets[at]))


def _ascends(values: "array[int]") -> bool:
    return all(map(int.__lt__, values, values[1:]))
