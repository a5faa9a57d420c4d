"""The state that a survivor's disk comes to, from its snapshot and its log up to the end."""

from controller.quorum.store import LogStore
from klamm.errors import StartError, UnknownRecordError
from klamm.log.record_batch import iter_batches
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError
from klamm.metadata.agreement import Agreement, told
from klamm.metadata.loader import MetadataLoader

READ_BYTES_MAX = 4 * 1024 * 1024
"""Of the log, at a time."""


async def replay(store: LogStore) -> MetadataLoader:
    """All of it, as if it were committed.

    Raises:
        StartError: It does not come to what the log itself states, or cannot be read.
        StorageError, OSError: The disk failed.
    """
    agreement = Agreement()
    loader, loaded = MetadataLoader((agreement,)), store.load()
    try:
        if loaded.snapshots:
            latest = loaded.snapshots[-1]
            data = store.snapshots.read(latest.snapshot_id, 0, latest.size_bytes)
            batches = (batch for _, batch in iter_batches(data))
            await loader.load_snapshot(latest.snapshot_id, batches)
        end = loaded.log.end_offset
        while loader.end.offset < end:
            loader.load(store.read(loader.end.offset, READ_BYTES_MAX, end), end)
    except (CorruptBatchError, CorruptSnapshotError, UnknownRecordError) as error:
        raise StartError(f"The metadata cannot be read: {error}.") from error
    if agreement.disagreement is not None:
        raise StartError(
            f"The state here is not the one that its log states: {told(agreement.disagreement)}. "
            "Choose another survivor."
        )
    return loader
