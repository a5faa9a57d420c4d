"""The active segment's file is kept longer than its log, so that an append leaves its size alone.

    ┌── batches ──┬── zeros ──────────────┐
    0          the log's end        the file's end ─▶ again, when the first has come to the second

An fdatasync of a file that has grown waits for the file system's journal too, which has to learn
the new size: 110 µs here instead of 70. What is reserved is the log's own only while it may spare
it: it goes back where a segment ends, at a close, and when the disk is nearly full. A crash leaves
the zeros; recovery finds where the batches end. ext4 and XFS journal that a block is in use, once
its data are on the disk, and show zeros until then: so what a power cut takes of unsynced appends
is zeros, at the end or with batches behind them (unwritten.py).

Source: posix_fallocate(3), fdatasync(2); etcd's wal does the same.
"""

import errno
import sys
from pathlib import Path

from klamm.log.files import NO_ROOM, Files
from klamm.log.log_config import LogConfig
from klamm.log.segment import Segment

ROOM_SHARE = 16
"""No more than this part of what is free on the disk is taken ahead."""

NOT_HERE = NO_ROOM | {
    errno.EFBIG,
    errno.EINVAL,
    errno.ENODEV,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
}
"""The disk does without; nothing is wrong with it."""


class Preallocation:
    """Of one log's active segment."""

    def __init__(self, files: Files, directory: Path, config: LogConfig) -> None:
        self._files = files
        self._directory = directory
        self._step_bytes = config.preallocate_bytes
        self._segment_bytes = config.segment_bytes
        self.end = 0
        """Position up to which there is nothing to be done: it is reserved, or it cannot be."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """Another segment is the active one, or what was reserved has gone back."""
        self.end = 0 if self._step_bytes else sys.maxsize

    def extend(self, active: Segment, size_bytes: int) -> None:
        """Reserve for an append of `size_bytes`, and for those that come after it.

        Raises:
            OSError: The disk failed. That it has no room, or cannot do this, is no failure.
        """
        step_bytes = self._step_bytes
        self.end = active.size_bytes + size_bytes + step_bytes
        if self._files.room(self._directory)[0] < ROOM_SHARE * (step_bytes + size_bytes):
            return
        try:
            active.reserve(min(self.end, self._segment_bytes))
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
