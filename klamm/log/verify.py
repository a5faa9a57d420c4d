"""Are these the batches that were written? Asked of what is read again, before it is believed."""

from klamm.ids import Offset
from klamm.log.record_batch import (
    epoch_is_sealed_or_bare,
    iter_batches,
    verify_checksum,
)
from klamm.log.records import CorruptBatchError


def find_damage(data: bytes, start: Offset, *, epochs_sealed: bool) -> tuple[int, str] | None:
    """The first batch that is not what was written: its position in `data`, and how it shows.

    Args:
        data: Batches end to end, of which the first holds `start`.
        start: Where the reader wanted to begin.
        epochs_sealed: As of the log's configuration.
    """
    position, expected, epoch = 0, None, -1
    try:
        for header, batch in iter_batches(data):
            if not verify_checksum(batch, header=header):
                return position, "the checksum is not that of the bytes"
            if expected is None and not header.base_offset <= start < header.next_offset:
                return position, f"offset {header.base_offset} where {start} should be"
            if expected is not None and header.base_offset != expected:
                return position, f"offset {header.base_offset} where {expected} should be"
            if header.leader_epoch < epoch or (
                epochs_sealed and not epoch_is_sealed_or_bare(header)
            ):
                return position, f"epoch {header.leader_epoch} is not that of its batch"
            position += header.size_bytes
            expected, epoch = header.next_offset, header.leader_epoch
    except CorruptBatchError as error:
        return position, str(error)
    return None if position == len(data) else (position, "a batch cut short")
