"""Snapshots beside a log: a file each, named by the end that it stands for (KIP-630).

    00000000000000004711-0000000007.checkpoint         whole, durable, never changed
    00000000000000004711-0000000007.checkpoint.part    being written or downloaded
    00000000000000004711-0000000007.checkpoint.deleted on its way out
    00000000000000004711-0000000007.checkpoint.damaged found so at a start, and set aside

                        end offset ─┘          └─ epoch of the record before it

Inside are batches as in a log, offsets from 0 on: a control batch that begins with SnapshotHeader,
the state, and a control batch with SnapshotFooter. Each is under its own checksum, and the footer
is there or it is not: so a whole snapshot is told from any other file.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from klamm.errors import KlammError
from klamm.ids import EPOCH_MAX, Epoch, Offset, OffsetAndEpoch
from klamm.log.files import Buffer, File, Files
from klamm.log.record_batch import (
    HEADER_BYTES,
    OFFSET_MAX,
    BatchHeader,
    epoch_is_sealed_or_bare,
    peek_header,
    read_records,
    verify_checksum,
)
from klamm.log.records import ControlType, CorruptBatchError, control_type

SUFFIX = ".checkpoint"
PART_SUFFIX = ".checkpoint.part"
DELETED_SUFFIX = ".checkpoint.deleted"

VERIFY_BYTES = 1024 * 1024
"""Read at a time."""

_NAME = re.compile(r"(\d{20})-(\d{10})\.checkpoint", re.ASCII)


class CorruptSnapshotError(KlammError):
    """A file that is not a whole snapshot."""


class PartFile:
    """A snapshot that grows. Methods raise OSError."""

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._path = path
        self._file = files.open(path)

    @property
    def position(self) -> int:
        """Bytes so far."""
        return self._file.size

    def append(self, data: Buffer) -> None:
        self._file.append(data)

    def read(self, position: int, max_bytes: int) -> bytes:
        return self._file.read_at(position, max_bytes)

    def verify(self) -> None:
        """Look at every byte.

        Raises:
            CorruptSnapshotError: It is not whole, or not sound.
        """
        for _ in _verifying(self._file, self._path):
            pass

    def sync(self) -> None:
        """Durable once it returns, but under no name of a snapshot yet."""
        self._file.sync()
        self._files.sync_directory(self._path.parent)

    def finish(self) -> None:
        """A snapshot from now on, durably: whole or not there, whatever happens on the way."""
        self._file.sync()
        self._file.close()
        self._files.rename(self._path, self._path.with_suffix(""))
        self._files.sync_directory(self._path.parent)

    def abandon(self) -> None:
        """Away with it."""
        self._file.close()
        if self._files.exists(self._path):
            self._files.remove(self._path)


class SnapshotFiles:
    """All that stand in one log's directory. Methods raise OSError."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory

    def list(self) -> tuple[OffsetAndEpoch, ...]:
        """The whole ones, by offset."""
        names = self._files.list(self._directory)
        found = (parse_name(each) for each in names)
        return tuple(sorted((each for each in found if each is not None), key=_order))

    def clean(self) -> None:
        """At the start: remove what nobody writes or deletes any more."""
        for name in self._files.list(self._directory):
            if name.endswith((PART_SUFFIX, DELETED_SUFFIX)):
                self._files.remove(self._directory / name)

    def size(self, snapshot_id: OffsetAndEpoch) -> int:
        """Bytes; 0 if it is not there."""
        file = self._open(snapshot_id)
        if file is None:
            return 0
        try:
            return file.size
        finally:
            file.close()

    def read(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes:
        """Bytes from `position` on; none at the end, or if it is not there."""
        file = self._open(snapshot_id)
        if file is None:
            return b""
        try:
            return file.read_at(position, max_bytes)
        finally:
            file.close()

    def create(self, snapshot_id: OffsetAndEpoch) -> PartFile:
        """Begin one; a part of the same id is forgotten."""
        path = self._directory / f"{format_name(snapshot_id)}.part"
        if self._files.exists(path):
            self._files.remove(path)
        return PartFile(self._files, path)

    def resume(self, snapshot_id: OffsetAndEpoch) -> PartFile | None:
        """Go on with the part that is there; None if there is none."""
        path = self._directory / f"{format_name(snapshot_id)}.part"
        return PartFile(self._files, path) if self._files.exists(path) else None

    def verify(self, snapshot_id: OffsetAndEpoch) -> None:
        """Look at every byte.

        Raises:
            CorruptSnapshotError: It is not there, not whole, or not sound.
        """
        verify_file(self._files, self._directory / format_name(snapshot_id))

    def verifying(self, snapshot_id: OffsetAndEpoch) -> Iterator[int]:
        """As `verify`, batch by batch: how many bytes were looked at so far."""
        return verifying_file(self._files, self._directory / format_name(snapshot_id))

    def set_aside(self, snapshot_id: OffsetAndEpoch) -> None:
        """A damaged one: kept for a person to look at, and a snapshot no more."""
        path = self._directory / format_name(snapshot_id)
        self._files.rename(path, path.with_name(path.name + ".damaged"))
        self._files.sync_directory(self._directory)

    def delete(self, snapshot_id: OffsetAndEpoch) -> None:
        """Not a snapshot any more; no error if it is none."""
        path = self._directory / format_name(snapshot_id)
        if not self._files.exists(path):
            return
        gone = path.with_name(path.name + ".deleted")
        self._files.rename(path, gone)
        self._files.sync_directory(self._directory)
        self._files.remove(gone)

    def _open(self, snapshot_id: OffsetAndEpoch) -> File | None:
        # To open a file that is not there would make one.
        path = self._directory / format_name(snapshot_id)
        return self._files.open(path) if self._files.exists(path) else None


def verify_file(files: Files, path: Path) -> None:
    """Look at every byte of a snapshot under any name. May raise OSError.

    Raises:
        CorruptSnapshotError: It is not there, not whole, or not sound.
    """
    for _ in verifying_file(files, path):
        pass


def verifying_file(files: Files, path: Path) -> Iterator[int]:
    """As `verify_file`, batch by batch: how many bytes were looked at so far."""
    if not files.exists(path):
        raise CorruptSnapshotError(f"{path} is not there")
    file = files.open(path)
    try:
        yield from _verifying(file, path)
    finally:
        file.close()


def format_name(snapshot_id: OffsetAndEpoch) -> str:
    return f"{snapshot_id.offset:020d}-{snapshot_id.epoch:010d}{SUFFIX}"


def parse_name(name: str) -> OffsetAndEpoch | None:
    """The id that a file's name says; None if it names no whole snapshot."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    epoch, offset = int(match[2]), int(match[1])
    if epoch > EPOCH_MAX or offset > OFFSET_MAX:
        return None
    return OffsetAndEpoch(epoch=Epoch(epoch), offset=Offset(offset))


def _order(snapshot_id: OffsetAndEpoch) -> tuple[int, int]:
    return snapshot_id.offset, snapshot_id.epoch


def _verifying(file: File, path: Path) -> Iterator[int]:
    offset: int = 0
    looked = 0
    kind: int | None = None
    try:
        for header, batch in _batches(file):
            if header.base_offset != offset:
                raise CorruptBatchError(f"offset {header.base_offset} where {offset} should be")
            if not verify_checksum(batch) or not epoch_is_sealed_or_bare(header):
                raise CorruptBatchError(f"the checksum of the batch at {offset} does not hold")
            if kind == ControlType.SNAPSHOT_FOOTER:
                raise CorruptBatchError("a footer is what a snapshot ends with")
            kind = _kind(header, batch)
            if (kind == ControlType.SNAPSHOT_HEADER) != (offset == 0):
                raise CorruptBatchError("a header is what a snapshot begins with")
            offset = header.next_offset
            looked += header.size_bytes
            yield looked
    except CorruptBatchError as error:
        raise CorruptSnapshotError(f"{path} is no snapshot: {error}") from error
    if kind != ControlType.SNAPSHOT_FOOTER:
        raise CorruptSnapshotError(f"{path} is no whole snapshot: it has no footer")


def _kind(header: BatchHeader, batch: memoryview) -> int | None:
    """What a control batch begins with; None for a batch of the state."""
    if not header.is_control:
        return None
    records = read_records(batch, limit=len(batch))  # Ours are not compressed.
    return control_type(records[0].key) if records else None


def _batches(file: File) -> Iterator[tuple[BatchHeader, memoryview]]:
    position, window, begin = 0, b"", 0
    while position < file.size:
        if begin + len(window) - position < HEADER_BYTES:
            window, begin = file.read_at(position, VERIFY_BYTES), position
        if len(window) - (position - begin) < HEADER_BYTES:
            raise CorruptBatchError(f"{file.size - position} bytes at the end are no batch")
        header = peek_header(window, position - begin)
        end = position + header.size_bytes
        if end > file.size:
            raise CorruptBatchError(f"the batch at byte {position} is cut short")
        if end > begin + len(window):
            window = file.read_at(position, max(header.size_bytes, VERIFY_BYTES))
            begin = position
        yield header, memoryview(window)[position - begin : end - begin]
        position = end
