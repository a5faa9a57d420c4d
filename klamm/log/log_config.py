"""How a log keeps its files; Kafka's defaults."""

from dataclasses import dataclass

from klamm.log.recovery import OnCorruption

SEGMENT_BYTES = 1024 * 1024 * 1024
INDEX_INTERVAL_BYTES = 4_096
INDEX_BYTES_MAX = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    segment_bytes: int = SEGMENT_BYTES
    """A new segment begins before this is exceeded, unless one batch alone exceeds it."""
    index_interval_bytes: int = INDEX_INTERVAL_BYTES
    index_bytes_max: int = INDEX_BYTES_MAX
    """Of a segment's offset index; a new segment begins when it is full."""
    on_corruption: OnCorruption = OnCorruption.TRUNCATE
    """What to do about damage that is no torn tail. With REFUSE a segment is made durable
    before the next one begins, so that a crash can tear only the last."""
    epochs_sealed: bool = False
    """Batches repeat their epoch under their checksum, and one that does otherwise is damaged:
    the metadata log. See `epoch_is_sealed_or_bare`."""
    preallocate_bytes: int = 0
    """So far ahead of the log's end the active segment has its room on the disk already, so that
    an append does not change the file's size; see preallocation.py. 0: not at all."""
