"""One segment: a file of batches, named by its first offset, and its two indexes.

    00000000000000000170.log        batches end to end
    00000000000000000170.index      written when the segment is rolled or closed
    00000000000000000170.timeindex  as above

A segment only knows bytes; that batches follow on each other is the log's to hold. Methods raise
OSError as the disk does, and CorruptLogError for bytes that are not what was written.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from klamm.errors import CorruptLogError, StorageError
from klamm.ids import Offset
from klamm.log.files import NO_DESCRIPTOR, Buffer, File, Files
from klamm.log.index import (
    NO_TIMESTAMP,
    OFFSET_ENTRY_BYTES,
    POSITION_MAX,
    RELATIVE_OFFSET_MAX,
    CorruptIndexError,
    OffsetEntry,
    OffsetIndex,
    TimeEntry,
    TimeIndex,
)
from klamm.log.record_batch import HEADER_BYTES, BatchHeader, peek_header, read_header
from klamm.log.records import CorruptBatchError

WALK_BYTES = 4_096 + HEADER_BYTES
"""Read at once while walking from an index entry: about as far as the next one."""
REBUILD_WALK_BYTES = 256 * 1024
ZEROS_BYTES = 1024 * 1024
"""Read at once while looking for a byte that is none."""
MEMO_MAX = 16
"""Positions remembered for readers that go on from where they stopped."""


def log_path(directory: Path, base_offset: Offset) -> Path:
    return directory / f"{base_offset:020d}.log"


class Segment:
    """A file of batches that starts at `base_offset` and ends before `end_offset`."""

    def __init__(
        self, files: Files, directory: Path, base_offset: Offset, index_interval_bytes: int
    ) -> None:
        self.base_offset = base_offset
        self.end_offset = base_offset
        """As far as batches are known; set by recovery, and by `append`."""
        self.path = log_path(directory, base_offset)
        self.index_path = self.path.with_suffix(".index")
        self.time_index_path = self.path.with_suffix(".timeindex")
        self.indexes_unsynced = False
        """The index files were written and not yet synced."""
        self.end_unsynced = False
        """What stood or was reserved behind the end was cut off, and that is not yet synced."""
        self._files = files
        self._file = files.open(self.path)
        self._interval_bytes = index_interval_bytes
        self._bytes_since_entry = 0
        self._youngest = TimeEntry(NO_TIMESTAMP, base_offset)
        self._indexes: tuple[OffsetIndex, TimeIndex] | None = None
        """None until a reader of an old segment needs them."""
        self._memo: dict[Offset, int] = {}
        """From an offset to the position of its batch."""

    @property
    def size_bytes(self) -> int:
        return self._file.size

    @property
    def index_bytes(self) -> int:
        return self._offset_index.size_bytes

    @property
    def max_timestamp_ms(self) -> int:
        """NO_TIMESTAMP if there are no batches, or none that has a time."""
        return self._youngest_entry().timestamp_ms

    @property
    def _offset_index(self) -> OffsetIndex:
        return (self._indexes or self._load_indexes())[0]

    @property
    def _time_index(self) -> TimeIndex:
        return (self._indexes or self._load_indexes())[1]

    def append(self, data: Buffer, headers: Sequence[BatchHeader]) -> None:
        """Write whole batches, in one write; `headers` are theirs."""
        position = self._file.size
        self._file.append(data)
        for header in headers:
            self.note_batch(header, position)
            position += header.size_bytes

    def note_batch(self, header: BatchHeader, position: int) -> None:
        """Take a batch that stands at `position` into the indexes. Each once, in order."""
        last_offset = header.last_offset
        if header.max_timestamp_ms > self._youngest.timestamp_ms:
            self._youngest = TimeEntry(header.max_timestamp_ms, last_offset)
        if self._bytes_since_entry > self._interval_bytes:
            self._offset_index.add(OffsetEntry(last_offset, position))
            self._time_index.add(self._youngest)
            self._bytes_since_entry = 0
        self._bytes_since_entry += header.size_bytes
        self.end_offset = Offset(last_offset + 1)

    def begin_indexes(self) -> None:
        """Forget the indexes and what is known of the batches; `note_batch` builds them anew."""
        self._indexes = (OffsetIndex(self.base_offset), TimeIndex(self.base_offset))
        self._bytes_since_entry = 0
        self._youngest = TimeEntry(NO_TIMESTAMP, self.base_offset)
        self.end_offset = self.base_offset
        self._memo.clear()

    def position_of(self, offset: Offset) -> int:
        """Position of the batch that holds `offset`; the segment's size if it ends before."""
        if offset >= self.end_offset:
            return self.size_bytes
        known = self._memo.get(offset)
        if known is not None:
            return known
        for position, header in self._walk_from(self._offset_index.at_or_before(offset)):
            if header.last_offset >= offset:
                self.remember(offset, position)
                return position
        raise CorruptLogError(str(self.path), self.size_bytes, f"no batch holds offset {offset}")

    def whole_batches_end(self, start: int, limit: int) -> int:
        """The last end of a batch up to `limit`, going from the batch at `start`.

        `start` itself if the batch there is longer than that.
        """
        entry = self._offset_index.at_or_before_position(limit)
        end, next_offset = start, None
        walk = self._walk_from(entry) if entry and entry.position > start else self.walk(start)
        for position, header in walk:
            if position < start:
                continue
            end = position
            if position + header.size_bytes > limit:
                break
            end, next_offset = position + header.size_bytes, header.next_offset
        if next_offset is not None:
            self.remember(next_offset, end)
        return end

    def batch_end(self, position: int) -> int:
        """Where the batch at `position` ends."""
        for _, header in self.walk(position):
            return position + header.size_bytes
        return position

    def read(self, start: int, end: int) -> bytes:
        """Bytes of the file between two positions."""
        data = self._file.read_at(start, end - start)
        if len(data) != end - start:
            raise CorruptLogError(
                str(self.path), start + len(data), f"the file ends before byte {end}"
            )
        return data

    def read_batches(self, start: int, end: int, offset: Offset) -> bytes:
        """As `read`, of batches of which the first holds `offset`.

        An index that was believed, or a header that has changed since, may say otherwise.
        """
        data = self.read(start, end)
        try:
            header = read_header(data)
        except CorruptBatchError as error:
            raise CorruptLogError(str(self.path), start, str(error)) from error
        reason = ""
        if header is None:
            reason = f"no whole batch at offset {offset}"
        elif not header.base_offset <= offset <= header.last_offset:
            reason = f"offset {header.base_offset} where {offset} should be"
        if reason:
            raise CorruptLogError(str(self.path), start, reason)
        return data

    def read_some(self, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start`; fewer only at the end of the file."""
        return self._file.read_at(start, size)

    def remember(self, offset: Offset, position: int) -> None:
        """A reader is about to ask for the position of the batch that holds `offset`."""
        if len(self._memo) >= MEMO_MAX:
            del self._memo[next(iter(self._memo))]
        self._memo[offset] = position

    def position_before(self, timestamp_ms: int) -> int:
        """A position such that no batch ahead of it has a record as young as `timestamp_ms`."""
        entry = self._time_index.at_or_before(timestamp_ms)
        if entry is not None and not self._is_true(entry):
            self.rebuild_indexes()
            entry = self._time_index.at_or_before(timestamp_ms)
        return 0 if entry is None else self.position_of(entry.last_offset)

    def youngest_batch(self) -> int | None:
        """Position of the first batch with the largest timestamp; None if there is none."""
        youngest = self._youngest_entry()
        if youngest.timestamp_ms == NO_TIMESTAMP:
            return None
        return self.position_of(youngest.last_offset)

    def walk(
        self, position: int, window_bytes: int = WALK_BYTES
    ) -> Iterator[tuple[int, BatchHeader]]:
        """Each batch from `position` on, by its header; records are passed over unread.

        Raises:
            CorruptLogError: There are bytes that are no whole batch.
        """
        end = self.size_bytes
        window, window_start = b"", position
        while position < end:
            at = position - window_start
            if len(window) < at + HEADER_BYTES:
                window, window_start, at = self._file.read_at(position, window_bytes), position, 0
            if len(window) < HEADER_BYTES:
                raise CorruptLogError(str(self.path), position, "a header cut short")
            try:
                header = peek_header(window, at)
            except CorruptBatchError as error:
                raise CorruptLogError(str(self.path), position, str(error)) from error
            if position + header.size_bytes > end:
                raise CorruptLogError(
                    str(self.path), position, f"{header.size_bytes} bytes, of which some are there"
                )
            if not 0 <= header.last_offset - self.base_offset <= RELATIVE_OFFSET_MAX:
                raise CorruptLogError(
                    str(self.path), position, f"offset {header.last_offset} has no place here"
                )
            yield position, header
            position += header.size_bytes

    def truncate(self, position: int, to: Offset) -> None:
        """Cut the file at `position`, where the batch that holds `to` begins. Durable after."""
        offset_index, time_index = self._indexes or self._load_indexes()
        self._file.truncate(position)
        self._file.sync()
        self._memo.clear()
        self.end_offset = to
        offset_index.truncate(position)
        time_index.truncate(to)
        # The time index knows of every batch up to the last entry of the other.
        self._youngest = time_index.last() or TimeEntry(NO_TIMESTAMP, self.base_offset)
        entry = offset_index.last()
        start = 0 if entry is None else entry.position
        for _, header in self.walk(start):
            if header.max_timestamp_ms > self._youngest.timestamp_ms:
                self._youngest = TimeEntry(header.max_timestamp_ms, header.last_offset)
        self._bytes_since_entry = position - start

    def reserve(self, size_bytes: int) -> None:
        """Have room for `size_bytes` of the file; see `File.reserve`."""
        self._file.reserve(size_bytes)

    def give_back(self) -> bool:
        """End the file where the batches end; False if it does. Not durable before `sync`."""
        given = self._file.give_back()
        self.end_unsynced = self.end_unsynced or given
        return given

    def zeros_from(self, position: int) -> bool:
        """Is there nothing but zeros from `position` to the end of the file?"""
        while data := self._file.read_at(position, ZEROS_BYTES):
            if data.count(0) != len(data):
                return False
            position += len(data)
        return True

    def take_back(self, size_bytes: int) -> None:
        """Cut off what a failed `append` left behind `size_bytes`. Not durable before `sync`."""
        self._file.truncate(size_bytes)
        self.end_unsynced = True

    def write_indexes(self) -> None:
        """Write both index files whole. Not durable before `sync_indexes`."""
        self._time_index.add(self._youngest_entry())
        for path, data in (
            (self.index_path, self._offset_index.encode()),
            (self.time_index_path, self._time_index.encode()),
        ):
            file = self._files.open(path)
            try:
                file.truncate(0)
                file.append(data)
            finally:
                file.close()
        self.indexes_unsynced = True

    def rewrite(self, position: int) -> None:
        """Write again what stands from `position` on. Not durable before `sync`."""
        self._file.rewrite(position, self._file.size - position)

    def has_room(
        self,
        headers: list[BatchHeader],
        size_bytes: int,
        segment_bytes: int,
        index_bytes_max: int,
    ) -> bool:
        """May these batches of together `size_bytes` go into it?"""
        near = not headers or headers[-1].last_offset - self.base_offset <= RELATIVE_OFFSET_MAX
        if not self.size_bytes:
            return near and (size_bytes <= segment_bytes or len(headers) == 1)
        room = min(segment_bytes, POSITION_MAX) - self.size_bytes
        return near and size_bytes <= room and self.index_bytes < index_bytes_max

    @property
    def file(self) -> File:
        """Of the records; to be synced, and for nothing else."""
        return self._file

    def sync(self) -> None:
        """Return once all batches written so far would survive a power cut, and their end."""
        self.end_unsynced = False
        self._file.sync()

    def sync_indexes(self) -> None:
        """Another time, if no open file is left: one that a crash takes is built anew."""
        for path in (self.index_path, self.time_index_path):
            try:
                file = self._files.open(path)
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    return
                raise
            try:
                file.sync()
            finally:
                file.close()
        self.indexes_unsynced = False

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """Delete the segment's files; the log file last, which is what makes it a segment."""
        self._file.close()
        for path in (self.index_path, self.time_index_path, self.path):
            if self._files.exists(path):
                self._files.remove(path)

    def rebuild_indexes(self) -> None:
        """Build both indexes from the batches' headers."""
        end_offset = self.end_offset
        try:
            self.begin_indexes()
            for position, header in self.walk(0, REBUILD_WALK_BYTES):
                self.note_batch(header, position)
        except BaseException:
            self._indexes, self.end_offset = None, end_offset
            raise
        if self.end_offset != end_offset:
            found, self._indexes, self.end_offset = self.end_offset, None, end_offset
            raise CorruptLogError(
                str(self.path), self.size_bytes, f"ends at offset {found}, not at {end_offset}"
            )

    def cut_tail(self, position: int) -> None:
        """Drop what recovery did not take into the indexes, from `position` on. Durable after."""
        self._file.truncate(position)
        self._file.sync()

    def last_entry(self) -> OffsetEntry | None:
        """The index file's last entry, without reading the others; None if there is none.

        Raises:
            CorruptIndexError: It points nowhere.
        """
        if not self._files.exists(self.index_path):
            return None
        file = self._files.open(self.index_path)
        try:
            start = max(0, file.size - OFFSET_ENTRY_BYTES)
            data = file.read_at(start, OFFSET_ENTRY_BYTES)
        finally:
            file.close()
        return OffsetIndex.decode(self.base_offset, data, self.size_bytes).last()

    def go_on(self, end_offset: Offset) -> None:
        """Make this the segment that is appended to, its tail having been verified."""
        self.end_offset = end_offset
        entry = self._offset_index.last()
        self._bytes_since_entry = self.size_bytes - (0 if entry is None else entry.position)

    def _walk_from(self, entry: OffsetEntry | None) -> Iterator[tuple[int, BatchHeader]]:
        """Walk from an index entry, once it has proved true; else build the index anew."""
        if entry is None:
            return self.walk(0)
        if not self._points_at_its_batch(entry):
            offset = entry.last_offset
            self.rebuild_indexes()
            entry = self._offset_index.at_or_before(offset)
        return self.walk(0 if entry is None else entry.position)

    def _points_at_its_batch(self, entry: OffsetEntry) -> bool:
        try:
            for _, header in self.walk(entry.position):
                return header.last_offset == entry.last_offset
        except CorruptLogError:
            pass
        return False

    def _is_true(self, entry: TimeEntry) -> bool:
        """Is there such a batch, with that time?"""
        if not self.base_offset <= entry.last_offset < self.end_offset:
            return False
        for _, header in self.walk(self.position_of(entry.last_offset)):
            return (header.last_offset, header.max_timestamp_ms) == (
                entry.last_offset,
                entry.timestamp_ms,
            )
        return False

    def _has_younger(self, youngest: TimeEntry) -> bool:
        """Is a batch behind the last index entry younger? Then the time index has lost its end."""
        walk = self._walk_from(self._offset_index.last())
        return any(header.max_timestamp_ms > youngest.timestamp_ms for _, header in walk)

    def _youngest_entry(self) -> TimeEntry:
        if self._indexes is None:
            self._load_indexes()
        return self._youngest

    def _load_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        """Read the index files of an old segment, or do without them."""
        try:
            self._indexes = read = self._read_indexes()
            youngest = read[1].last()
            if youngest is None or not self._is_true(youngest) or self._has_younger(youngest):
                raise CorruptIndexError("the largest timestamp is not that of the log")
            if self._indexes is read:  # Else they were rebuilt on the way.
                self._youngest = youngest
        except CorruptIndexError:
            self.rebuild_indexes()
        assert self._indexes is not None
        return self._indexes

    def _read_indexes(self) -> tuple[OffsetIndex, TimeIndex]:
        return (
            OffsetIndex.decode(self.base_offset, self._read_all(self.index_path), self.size_bytes),
            TimeIndex.decode(self.base_offset, self._read_all(self.time_index_path)),
        )

    def _read_all(self, path: Path) -> bytes:
        if not self._files.exists(path):
            return b""
        file = self._files.open(path)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()


@contextmanager
def reading(segment: Segment) -> Iterator[None]:
    """A read that fails is the disk's failure, and none of the log's: it may succeed again."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot read {segment.path}: {error}") from error
