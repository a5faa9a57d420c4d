"""Room on the disk that the log leaves for what is small, and for what makes room.

A log that took the last byte would leave none for a vote, so that nobody could be elected with it,
and none for the snapshot that lets old segments go, so that nothing would ever change. So the log
finds the disk full a little earlier than the disk says.
"""

from pathlib import Path

from klamm.errors import NoSpaceError
from klamm.log.files import NO_DESCRIPTOR, Files
from klamm.log.snapshot import SnapshotFiles

RESERVE_BYTES_MAX = 1024 * 1024
RESERVE_SHARE = 16
"""A small disk is not asked for more than this part of it."""

LOOK_BYTES = 64 * 1024
"""Appended until it is looked again. While the disk is full, each append looks."""


class Room:
    """Of one metadata log."""

    def __init__(self, files: Files, directory: Path, snapshots: SnapshotFiles) -> None:
        self._files = files
        self._directory = directory
        self._snapshots = snapshots
        self._left_bytes = 0
        """So much may be appended before it is looked again."""
        self._refused_bytes = 0
        """What found no room at the last look."""
        self._snapshot_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Of what the log may have; before it is written.

        Raises:
            NoSpaceError: What is left is for others.
            OSError: As the disk says.
        """
        self._left_bytes -= size_bytes
        if self._left_bytes >= 0:
            return
        spare_bytes = self._spare()
        if spare_bytes < size_bytes:
            self._left_bytes, self._refused_bytes = 0, size_bytes
            raise NoSpaceError(str(self._directory), size_bytes)
        self._left_bytes, self._refused_bytes = min(spare_bytes - size_bytes, LOOK_BYTES), 0

    def is_full(self) -> bool:
        """Whatever was refused last, or anything, would be so now. Raises: OSError."""
        return self._spare() < max(self._refused_bytes, 1)

    def _spare(self) -> int:
        free, total = self._files.room(self._directory)
        return free - min(RESERVE_BYTES_MAX, total // RESERVE_SHARE) - self._next_snapshot()

    def _next_snapshot(self) -> int:
        """Bytes that it may take, by the latest one."""
        try:
            latest = self._snapshots.list()[-1:]
            self._snapshot_bytes = sum(self._snapshots.size(each) * 5 // 4 for each in latest)
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR:
                raise
        return self._snapshot_bytes
