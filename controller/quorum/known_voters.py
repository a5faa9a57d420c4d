"""Who votes, as far as a disk tells that is not whole: read only, and before anything is cut.

Asked when something is lost: is there anybody who can give it back? The configuration may not know,
for voters are added and removed while nodes run.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from controller.quorum.control import describe_batches
from controller.quorum.installs import voters_of
from controller.raft.voters import VoterSet
from klamm.ids import LOG_START, NodeId, Offset
from klamm.log.files import Files
from klamm.log.record_batch import (
    HEADER_BYTES,
    MAGIC,
    epoch_is_sealed_or_bare,
    peek_header,
    verify_checksum,
)
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles

HasPeers = Callable[[VoterSet | None], bool]
"""Given the latest voters that the disk names, None if it names none: can anybody else have what
is lost here?"""

_LOG_SUFFIX = ".log"
_MAGIC = bytes([MAGIC])
_MAGIC_POSITION = 16
_CHECK_PASSES_MAX = 8
"""A damaged length cannot be believed: so often all bytes of a file may be looked at."""


def nobody(known: VoterSet | None) -> bool:
    """For who must go by this one disk alone: nothing may be cut in the hope of others."""
    del known
    return False


def others_than(me: NodeId, *, configured: bool) -> HasPeers:
    """
    Args:
        me: Cannot give itself anything back.
        configured: The configuration names others; it counts where the disk names nobody.
    """

    def has_peers(known: VoterSet | None) -> bool:
        return configured if known is None else any(each != me for each in known.ids)

    return has_peers


def latest_voters(files: Files, directory: Path) -> VoterSet | None:
    """Of the last sound Voters record, in a snapshot or in the log; None if there is none.

    Raises:
        OSError: As the disk says.
    """
    if not files.exists(directory):
        return None
    end, found = _in_snapshots(files, directory)
    for offset, voters in _in_segments(files, directory):
        # In the order of the file: a batch's offset is under no checksum.
        if offset >= end:
            found = voters
    return found


def _in_snapshots(files: Files, directory: Path) -> tuple[Offset, VoterSet | None]:
    """Of the latest sound one, and where it ends."""
    snapshots = SnapshotFiles(files, directory)
    for each in reversed(snapshots.list()):
        try:
            snapshots.verify(each)
            return each.offset, voters_of(partial(snapshots.read, each))
        except (CorruptSnapshotError, CorruptBatchError, ValueError):
            continue
    return LOG_START, None


def _in_segments(files: Files, directory: Path) -> Iterator[tuple[Offset, VoterSet]]:
    for name in sorted(files.list(directory)):
        stem = name.removesuffix(_LOG_SUFFIX)
        if name == stem or not stem.isdecimal():
            continue
        file = files.open(directory / name)
        try:
            data = file.read_at(0, file.size)
        finally:
            file.close()
        for batch in _sound_batches(data):
            try:
                for described in describe_batches(batch):
                    yield from described.voters
            except (CorruptBatchError, ValueError):
                continue


def _sound_batches(data: bytes) -> Iterator[bytes]:
    """Control batches that hold by themselves, wherever they begin: damage is stepped over."""
    start, budget_bytes = 0, _CHECK_PASSES_MAX * len(data)
    while 0 <= start <= len(data) - HEADER_BYTES and budget_bytes > 0:
        try:
            header = peek_header(data, start)
        except CorruptBatchError:
            start = _next_magic(data, start)
            continue
        end = start + header.size_bytes
        whole = end <= len(data)
        budget_bytes -= header.size_bytes if whole else 0
        if not whole or not verify_checksum(data, start) or not epoch_is_sealed_or_bare(header):
            start = _next_magic(data, start)
            continue
        if header.is_control:
            yield data[start:end]
        start = end


def _next_magic(data: bytes, start: int) -> int:
    """Where the next batch may begin behind `start`; below 0 if none does."""
    return data.find(_MAGIC, start + 1 + _MAGIC_POSITION) - _MAGIC_POSITION
