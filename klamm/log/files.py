"""The port through which every byte of every log reaches a disk.

The simulator (tests/sim/disk.py) implements the same two protocols, with files that lose what
was not synced. What a caller may rely on after a power cut:

    appended, truncated     nothing, until `File.sync` has returned
    created, renamed,
    removed                 nothing, until `Files.sync_directory` of its directory has returned

Every method raises OSError. A failed `append` may have written some of it; a failed `sync` may
never be repeated as if it could still succeed, for the kernel may have dropped the pages.
"""

import errno
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

Buffer = bytes | bytearray | memoryview


NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
"""No open file is left, to this process or to the machine: nothing was done."""

NO_ROOM = NO_DESCRIPTOR | {errno.ENOSPC, errno.EDQUOT}
"""Of anything but a sync they say that there may be room later."""

RESERVE_S_MAX = 0.05
"""A file whose file system takes longer to reserve is not asked again: the loop waits for it. Where
there is no such thing, as over NFS 3, the C library writes into each block instead."""

REWRITE_BYTES = 1024 * 1024
"""Held in memory at once while a file is written again."""


class File(Protocol):
    """One open file, written at its end only."""

    @property
    def size(self) -> int:
        """Bytes, as this process sees them: without what is reserved."""
        ...

    def append(self, data: Buffer) -> None:
        """Write all of `data` at the end."""
        ...

    def read_at(self, position: int, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        ...

    def rewrite(self, position: int, size: int) -> None:
        """Write again what stands there, where it stands, so that the next sync is for it too."""
        ...

    def truncate(self, size: int) -> None:
        """Cut off what stands at and after `size`."""
        ...

    def reserve(self, size: int) -> None:
        """Let the file take the room of `size` bytes at the least: appends will not change it.

        Behind its end it is zeros then, which this process does not see. Whoever opens the file
        meanwhile does, and after a crash. Nothing, where the system has no such thing. If it
        fails, nothing is reserved.
        """
        ...

    def give_back(self) -> bool:
        """Cut off what is reserved; False if nothing was. Durable after the next sync."""
        ...

    def sync(self) -> None:
        """Return once the content would survive a power cut. May run in another thread."""
        ...

    def close(self) -> None:
        """What is reserved goes back. Again is no error."""
        ...


class Files(Protocol):
    """A file system."""

    def open(self, path: Path) -> File:
        """Open for reading and appending; created if it is not there."""
        ...

    def exists(self, path: Path) -> bool: ...

    def list(self, directory: Path) -> tuple[str, ...]:
        """Names in `directory`, sorted."""
        ...

    def make_directory(self, path: Path) -> None:
        """Make it, and those above it; no error if it is there."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Atomically; `target` is replaced if it is there."""
        ...

    def remove(self, path: Path) -> None: ...

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Return once the names in `path` would survive a power cut."""
        ...

    def room(self, directory: Path) -> tuple[int, int]:
        """Bytes that are free where `directory` is, and all that the file system has."""
        ...


class SystemFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "_is_slow", "_reserved", "_size")

    def __init__(self, path: Path) -> None:
        # Without O_APPEND: the end of the file may be behind that of what was appended.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._size = os.fstat(self._fd).st_size
        self._reserved = 0
        """Size of the file; 0 if nothing is reserved."""
        self._is_slow = False
        """To reserve."""

    @property
    def size(self) -> int:
        return self._size

    def append(self, data: Buffer) -> None:
        written = os.pwrite(self._fd, data, self._size)
        self._size += written
        if written == len(data):
            return
        rest = memoryview(data)[written:]
        while rest:
            written = os.pwrite(self._fd, rest, self._size)
            self._size += written
            rest = rest[written:]

    def read_at(self, position: int, size: int) -> bytes:
        if self._reserved:
            size = max(0, min(size, self._size - position))
        data = os.pread(self._fd, size, position)
        if len(data) == size or not data or position + len(data) >= self._size:
            return data
        return data + self.read_at(position + len(data), size - len(data))

    def rewrite(self, position: int, size: int) -> None:
        while size > 0:
            data = self.read_at(position, min(size, REWRITE_BYTES))
            if not data:
                return
            written = os.pwrite(self._fd, data, position)
            position += written
            size -= written

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._size = size
        self._reserved = 0

    def reserve(self, size: int) -> None:
        if sys.platform != "linux" or self._is_slow or size <= max(self._size, self._reserved):
            return
        self._reserved = size
        began_s = time.monotonic()
        try:
            os.posix_fallocate(self._fd, self._size, size - self._size)
        except OSError:
            self.give_back()  # A part of it may be there.
            raise
        self._is_slow = time.monotonic() - began_s > RESERVE_S_MAX

    def give_back(self) -> bool:
        if not self._reserved:
            return False
        self.truncate(self._size)
        return True

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd < 0:
            return
        with suppress(OSError):  # It is found to be zeros by whoever opens it.
            self.give_back()
        fd, self._fd = self._fd, -1
        os.close(fd)


class SystemFiles:
    """The operating system's files."""

    def open(self, path: Path) -> SystemFile:
        return SystemFile(path)

    def exists(self, path: Path) -> bool:
        return path.exists()

    def list(self, directory: Path) -> tuple[str, ...]:
        return tuple(sorted(os.listdir(directory)))

    def make_directory(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        path.rmdir()

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def room(self, directory: Path) -> tuple[int, int]:
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
