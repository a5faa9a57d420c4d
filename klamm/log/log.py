"""A log: batches appended at one end, read from any offset, cut back, kept through crashes.

    00000000000000000000.log ┐
    00000000000000000170.log ┤ segments, each from its first offset     leader-epoch-checkpoint
    00000000000000000340.log ┘ the last is the active one, and grows

    log_start_offset ────────────────────────────────▶ end_offset (exclusive)

A log belongs to one thread, or one event loop. `flush` and `checkpoint` alone may be called from
another while appends and reads go on; a truncation waits for them.

Whoever meets an OSError of a write or a sync poisons the log: StorageError then and ever after,
for nobody knows what the disk holds until it is opened again (fsyncgate: a second fsync can
report success for pages that the first one lost).
"""

import threading
from bisect import bisect_right
from pathlib import Path

from klamm.errors import ApiError, CorruptLogError, ErrorCode, NoSpaceError, StorageError
from klamm.ids import LOG_START, NO_EPOCH, Epoch, Offset, OffsetAndEpoch
from klamm.log import checkpoint
from klamm.log.checkpoint import EpochStart
from klamm.log.epochs import EpochChain
from klamm.log.failure import Failure
from klamm.log.files import NO_DESCRIPTOR, NO_ROOM, Buffer, File, Files
from klamm.log.found import FoundRecord, first_not_older, youngest_of
from klamm.log.log_config import LogConfig as LogConfig
from klamm.log.preallocation import Preallocation
from klamm.log.record_batch import BatchHeader, headers_in_order
from klamm.log.recovery import OnCorruption, Recoverer, Recovery
from klamm.log.segment import Segment, reading
from klamm.log.verify import find_damage


class Log:
    """One log. Made by `Log.open` only."""

    def __init__(
        self, files: Files, directory: Path, config: LogConfig, recoverer: Recoverer
    ) -> None:
        self.directory = directory
        self.config = config
        self.recovery: Recovery = recoverer.report
        """What `open` did."""
        self._files = files
        self._segments = recoverer.segments
        self._bases = [segment.base_offset for segment in self._segments]
        self._active = self._segments[-1]
        self._chain = recoverer.chain
        """Up to date but for its end, which `epochs` brings up."""
        self._end_offset = self._chain.end_offset
        self._last_epoch = self._chain.last_epoch
        self._ahead = Preallocation(files, directory, config)
        self._failure = Failure(lambda: self._active.path)
        self._closed = False
        self._disk = threading.Lock()
        """Held by whoever syncs, closes or removes files; never by `append` or `read`."""
        self._durable_end = self._bases[0]
        """Below it everything was synced in this process."""
        self._names_unsynced = True
        self._starts_written: tuple[EpochStart, ...] | None = None
        """What leader-epoch-checkpoint says, if this process wrote it."""

    @classmethod
    def open(
        cls,
        files: Files,
        directory: Path,
        config: LogConfig | None = None,
        *,
        recovery_point: Offset = LOG_START,
        clean_shutdown: bool = False,
        known_durable: Offset | None = None,
    ) -> "Log":
        """Open the log in `directory`, which is made if it is not there, and recover it.

        What it finds may stand in the page cache only: it is durable once `flush` has returned.

        Args:
            files: The file system.
            directory: Of this log alone.
            config: Kafka's defaults if not given.
            recovery_point: What `checkpoint` last returned, if that was kept: batches in
                segments below it are not all checked again. 0 checks every batch.
            clean_shutdown: The log was closed by `close`, and not opened since: only the ends of
                segments are checked.
            known_durable: What is below it was. Above, a power cut may have taken any pages.

        Raises:
            CorruptLogError: Damage that is no torn tail, with OnCorruption.REFUSE.
            NoSpaceError: The disk is full, or no open file is left.
            StorageError: The disk failed.
        """
        config = config or LogConfig()
        recoverer = Recoverer(
            files,
            directory,
            index_interval_bytes=config.index_interval_bytes,
            on_corruption=config.on_corruption,
            epochs_sealed=config.epochs_sealed,
            known_durable=known_durable,
        )
        try:
            files.make_directory(directory)
            recoverer.run(recovery_point, clean_shutdown)
            log = cls(files, directory, config, recoverer)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise NoSpaceError(str(directory), 0, error) from error
            raise StorageError(f"cannot open the log in {directory}: {error}") from error
        return log

    @property
    def end_offset(self) -> Offset:
        """Exclusive: the offset that the next record gets. Kafka's LEO."""
        return self._end_offset

    @property
    def log_start_offset(self) -> Offset:
        return self._bases[0]

    @property
    def has_failed(self) -> bool:
        """A write or a sync failed: what the disk holds is not known."""
        return self._failure.reason is not None

    @property
    def epochs(self) -> EpochChain:
        """Where each epoch begins, and the end."""
        chain = self._chain
        if chain.end_offset != self._end_offset:
            count = self._end_offset - chain.end_offset
            chain = self._chain = chain.append(self._last_epoch, count)
        return chain

    @property
    def size_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    def append(self, batches: Buffer) -> Offset:
        """Write whole batches at the end, as they are: offsets and epochs are assigned.

        Not durable before `flush`. Checksums are not looked at. One write, but for a new segment
        among the batches. The new end offset.

        Raises:
            CorruptBatchError: Not whole batches, or not those that come next; nothing was
                written.
            NoSpaceError: The disk is full, or no open file is left; nothing was written.
            StorageError: The disk failed, now or before.
        """
        self._check()
        headers = headers_in_order(batches, self._end_offset, self._last_epoch)
        active, size_bytes, count = self._active, self._active.size_bytes, len(self._segments)
        try:
            if self._fits(headers, len(batches)):
                if size_bytes + len(batches) > self._ahead.end:
                    self._ahead.extend(active, len(batches))
                active.append(batches, headers)
            else:
                self._append_with_rolls(memoryview(batches), headers)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise self._failure.of("append to", error) from error
            self._take_back(active, size_bytes, count)
            raise NoSpaceError(str(active.path), len(batches), error) from error
        for header in headers:
            if header.leader_epoch != self._last_epoch:
                self._begin_epoch(Epoch(header.leader_epoch), Offset(header.base_offset))
        self._end_offset = self._active.end_offset
        return self._end_offset

    def read(
        self,
        start: Offset,
        max_bytes: int,
        up_to: Offset | None = None,
        min_one_batch: bool = True,
    ) -> bytes:
        """Whole batches from the one that holds `start` on, of one segment at the most.

        Args:
            start: The first batch may begin before it; whoever reads passes over those records.
            max_bytes: Not exceeded, but for the first batch.
            up_to: Exclusive; batches that reach it or beyond are left out. None: the end.
            min_one_batch: The first batch is returned even if it exceeds `max_bytes`.

        Raises:
            ApiError: OFFSET_OUT_OF_RANGE, `start` is before the log's start or after its end.
            StorageError: The disk failed, or no batch is where that of `start` should be.
        """
        self._check()
        if not self._bases[0] <= start <= self._end_offset:
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"offset {start} is not in {self._bases[0]} to {self._end_offset}",
            )
        if start >= self._end_offset or (up_to is not None and start >= up_to):
            return b""
        segment = self._segment_of(start)
        with reading(segment):
            first = segment.position_of(start)
            stop = segment.end_offset if up_to is None else min(up_to, segment.end_offset)
            last = segment.position_of(stop)
            if last - first > max_bytes:
                cut = segment.whole_batches_end(first, first + max(max_bytes, 0))
                if cut == first and min_one_batch:
                    cut = segment.batch_end(first)
                last = cut
            else:
                segment.remember(stop, last)
            return segment.read_batches(first, last, start) if last > first else b""

    def read_verified(self, start: Offset, max_bytes: int, up_to: Offset | None = None) -> bytes:
        """As `read`, once checksums, offsets and epochs have proved to be those of the log.

        Raises:
            CorruptLogError: They are not. Whoever gets this must not go on with this log.
        """
        data = self.read(start, max_bytes, up_to)
        found = find_damage(data, start, epochs_sealed=self.config.epochs_sealed) if data else None
        if found is not None:
            position, reason = found
            segment = self._segment_of(start)
            raise CorruptLogError(str(segment.path), segment.position_of(start) + position, reason)
        return data

    def offset_for_timestamp(self, timestamp_ms: int) -> FoundRecord | None:
        """The first record that is not older than `timestamp_ms`; None if there is none.

        Raises:
            UnreadableRecordsError: A batch that seems to have it was made such that none can tell.
            CorruptBatchError: It was not made so; it is damaged.
            StorageError: The disk failed.
        """
        self._check()
        for segment in self._segments:
            with reading(segment):
                record = first_not_older(segment, timestamp_ms)
            if record is not None:
                return record
        return None

    def youngest_record(self) -> FoundRecord | None:
        """The first record with the largest timestamp; None if there is none.

        Raises: As `offset_for_timestamp`.
        """
        self._check()
        with reading(self._active):
            return youngest_of(max(self._segments, key=lambda each: each.max_timestamp_ms))

    def give_back(self) -> bool:
        """To a disk that is short of room, what was reserved; False if nothing was."""
        with self._failure.writing("give back what was reserved for"):
            return self._active.give_back()

    def flush(self) -> Offset:
        """Make everything appended so far durable. May run in another thread.

        Returns:
            Below it all is durable: the end as the flush began, unless the log was closed by then.

        Raises:
            NoSpaceError: No open file is left for the directory; the next flush does it all.
            StorageError: The disk failed, now or before. What is durable is not known.
        """
        with self._disk:
            if self._closed:
                return self._durable_end
            self._check()
            if (end := self._end_offset) > self._durable_end or self._names_unsynced:
                with self._failure.syncing("sync"):
                    self._sync_up_to(end)
            return end

    def begin_flush(self) -> tuple[File, Offset] | None:
        """For who syncs the one file elsewhere, up to where; `end_flush` ends it. None: `flush`."""
        self._check()
        more = self._names_unsynced or any(each.indexes_unsynced for each in self._segments)
        if more or self._durable_end < self._active.base_offset:
            return None
        return self._active.file, self._end_offset

    def end_flush(self, end: Offset, error: OSError | None) -> None:
        """That sync is over. Raises as `flush`."""
        self._check()
        if error is not None:
            raise self._failure.of("sync", error) from error
        with self._disk:
            self._durable_end = max(self._durable_end, end)

    def rewrite_end(self, durable_end: Offset) -> None:
        """Write again what `open` found in the active segment from `durable_end` on.

        It may stand in the page cache only, and not be known there as unwritten: after an fsync
        that failed in an earlier process. The next `flush` makes it durable in truth.

        Raises:
            StorageError: The disk failed.
        """
        self._check()
        active = self._active
        start = max(durable_end, active.base_offset)
        with self._failure.writing("write again"):
            if start < active.end_offset:
                active.rewrite(active.position_of(start))

    def checkpoint(self) -> Offset:
        """Flush, and write leader-epoch-checkpoint; the recovery point for `open`. As `flush`."""
        end = self.flush()
        with self._disk:
            self._check()
            with self._failure.syncing("write a checkpoint of"):
                self._write_epochs()
        return end

    def truncate_to(self, offset: Offset) -> Offset:
        """Cut off the records at `offset` and after it. Durable once it returns.

        Returns:
            The new end: `offset`, or less if that lies within a batch, which goes whole.
        """
        self._check()
        if offset >= self._end_offset:
            return self._end_offset
        if offset <= self._bases[0]:
            self.truncate_fully_and_start_at(self._bases[0])
            return self._end_offset
        keep = bisect_right(self._bases, offset - 1)
        segment = self._segments[keep - 1]
        with self._disk, self._failure.writing("truncate"):
            with reading(segment):
                position = segment.position_of(offset)
                for _, header in segment.walk(position):
                    offset = Offset(header.base_offset)
                    break
            self._remove_segments_from(keep)
            segment.truncate(position, offset)
            self._chain = self.epochs.truncate(offset)
            self._set_end(offset)
        return offset

    def delete_before(self, offset: Offset) -> None:
        """Remove the segments whose records are all below `offset`; never the active one.

        The first one first, so that a crash leaves the log's end. Needs no sync: a segment that
        comes back does no harm.
        """
        self._check()
        count = min(bisect_right(self._bases, offset), len(self._bases)) - 1
        if count <= 0:
            return
        with self._disk, self._failure.writing("remove segments of"):
            for segment in self._segments[:count]:
                segment.remove()
            chain, base = self.epochs, self._bases[count]
            epoch = chain.epoch_at(Offset(base - 1))
            del self._segments[:count], self._bases[:count]
            self._chain = chain.start_at(OffsetAndEpoch(epoch=epoch, offset=base))

    def truncate_fully_and_start_at(self, offset: Offset, epoch: Epoch = NO_EPOCH) -> None:
        """Drop everything and go on from `offset`. Durable once it returns.

        A crash on the way leaves a part of the old log, or an empty one that starts at 0.

        Args: `epoch` of the record before `offset`, if it is known, as from a snapshot's id.
        """
        self._check()
        with self._disk, self._failure.writing("truncate"):
            self._remove_segments_from(0)
            self._add_segment(offset)
            self._files.sync_directory(self.directory)
            self._chain = EpochChain().begin_at(OffsetAndEpoch(epoch=epoch, offset=offset))
            self._set_end(offset)

    def close(self) -> None:
        """Flush, write indexes and checkpoint, and close the files.

        One that has failed, or is empty, only closes its files. StorageError: no clean close.
        """
        if self._closed:
            return
        try:
            if self._failure.reason is None and self._end_offset > self._bases[0]:
                with self._failure.writing("write the indexes of"):
                    self._active.write_indexes()
                self.checkpoint()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files and write nothing: for a log that is to be removed. Again is no error."""
        with self._disk:
            self._closed = True
            for segment in self._segments:
                segment.close()

    def _check(self) -> None:
        self._failure.check()
        assert not self._closed, "the log is closed"

    def _fits(self, headers: list[BatchHeader], size_bytes: int) -> bool:
        limits = self.config.segment_bytes, self.config.index_bytes_max
        return self._active.has_room(headers, size_bytes, *limits)

    def _take_back(self, active: Segment, size_bytes: int, count: int) -> None:
        """An append found no room: leave nothing of it, nor of what a roll in it has synced."""
        with self._disk, self._failure.writing("take back a part of an append to"):
            self._remove_segments_from(count)
            self._active, self._durable_end = active, min(self._durable_end, self._end_offset)
            if active.end_offset == self._end_offset:
                active.take_back(size_bytes)
            else:
                active.truncate(size_bytes, self._end_offset)

    def _append_with_rolls(self, batches: memoryview, headers: list[BatchHeader]) -> None:
        """Batch by batch, with a new segment whenever one is full."""
        position = 0
        for header in headers:
            batch = batches[position : position + header.size_bytes]
            if not self._fits([header], len(batch)):
                self._roll()
            self._active.append(batch, [header])
            position += header.size_bytes

    def _roll(self) -> None:
        """Begin a new segment after the active one."""
        active, durably = self._active, self.config.on_corruption is OnCorruption.REFUSE
        active.write_indexes()
        active.give_back()
        if durably:
            # No room for a sync is a failure like any other: what it lost, the next one would not.
            with self._disk, self._failure.writing("sync", unless=NO_DESCRIPTOR):
                self._sync_up_to(active.end_offset)
        self._add_segment(active.end_offset)
        if durably:
            with self._failure.writing("sync", unless=NO_DESCRIPTOR):
                self._files.sync_directory(self.directory)

    def _begin_epoch(self, epoch: Epoch, offset: Offset) -> None:
        chain = self._chain
        self._chain = chain.append(self._last_epoch, offset - chain.end_offset).append(epoch, 1)
        self._last_epoch = epoch

    def _segment_of(self, offset: Offset) -> Segment:
        if offset >= self._active.base_offset:
            return self._active
        return self._segments[bisect_right(self._bases, offset) - 1]

    def _add_segment(self, base_offset: Offset) -> None:
        interval_bytes = self.config.index_interval_bytes
        segment = Segment(self._files, self.directory, base_offset, interval_bytes)
        segment.begin_indexes()
        # Readers in `flush` go through the list: it only ever grows beside them.
        self._segments.append(segment)
        self._bases.append(base_offset)
        self._active = segment
        self._ahead.begin_anew()
        self._names_unsynced = True

    def _remove_segments_from(self, first: int) -> None:
        """Remove the last one first, so that a crash leaves a prefix."""
        for segment in reversed(self._segments[first:]):
            segment.remove()
        if self._segments[first:]:
            self._files.sync_directory(self.directory)
        del self._segments[first:], self._bases[first:]

    def _set_end(self, offset: Offset) -> None:
        self._active = self._segments[-1]
        self._ahead.begin_anew()
        self._end_offset = offset
        self._last_epoch = self._chain.last_epoch
        self._durable_end = min(self._durable_end, offset)

    def _sync_up_to(self, end: Offset) -> None:
        if self._names_unsynced:
            self._names_unsynced = False  # Unless there are more of them meanwhile.
            try:
                self._files.sync_directory(self.directory)
                self._files.sync_directory(self.directory.parent)
            except OSError:
                self._names_unsynced = True
                raise
        for segment in tuple(self._segments):
            if segment.end_offset > self._durable_end or segment.end_unsynced:
                segment.sync()
            if segment.indexes_unsynced:
                segment.sync_indexes()
        self._durable_end = end

    def _write_epochs(self) -> None:
        chain = self._chain
        starts = tuple(zip(chain.epochs, chain.starts, strict=True))
        if starts != self._starts_written:
            checkpoint.write_epochs(self._files, self.directory, starts)
            self._starts_written = starts
