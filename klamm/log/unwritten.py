"""Damage that is no damage: sectors which a power cut kept from the disk.

    ── batch ──┬────── batch ──────┬── batch ──        one write to the page cache, or several
               │     ┆▒▒▒▒▒▒▒┆     │                   ▒ never got to the disk, and reads as zeros
               └─ position                             what was written after it did

A file system writes unsynced pages in what order it likes, and a disk their sectors. So behind
what is lost of an unsynced end there may be whole batches. Nobody can tell it from damage by
that; but zeros up to a sector's end, from its begin or from the batch's, are what a lost write
leaves where nothing stood before, and what bits that flip do not. A batch that has such zeros of
its own may be taken for one that was lost: so only where nobody knew it to be durable.

Source: Pillai et al., All File Systems Are Not Created Equal (OSDI 2014); Alagappan et al.,
Protocol-Aware Recovery for Consensus-Based Storage (FAST 2018), section 3.3.
"""

from klamm.ids import Offset
from klamm.log.record_batch import HEADER_BYTES, LENGTH_END, peek_header
from klamm.log.records import CorruptBatchError

SECTOR_BYTES = 512
"""The least that a disk writes, at positions that are multiples of it."""


def was_not_written(damaged: bytes, position: int, expected: Offset) -> bool:
    """Are there zeros in place of some sectors of a batch, which it cannot have had?

    Args:
        damaged: What stands where the batch should, up to the next whole one.
        position: Of its first byte, in the file.
        expected: The batch's base offset.
    """
    end = min(_size_bytes(damaged, expected), len(damaged))
    start = 0
    while start < end:
        stop = start + SECTOR_BYTES - (position + start) % SECTOR_BYTES
        if not any(damaged[start:stop]) and (start or _had_more(stop, expected)):
            return True
        start = stop
    return False


def _size_bytes(damaged: bytes, expected: Offset) -> int:
    """Of the batch; where its header is of no use, that is where it is damaged."""
    try:
        header = peek_header(damaged) if len(damaged) >= HEADER_BYTES else None
    except CorruptBatchError:
        header = None
    whole = header is not None and header.base_offset == expected
    return header.size_bytes if header is not None and whole else HEADER_BYTES


def _had_more(size: int, expected: Offset) -> bool:
    """Are the first `size` bytes of a batch certainly more than zeros? All of its length is."""
    return size >= LENGTH_END or any(expected.to_bytes(8)[:size])
