"""Snapshots that are another state than the log's, and whole by every checksum.

As a process with a damaged memory writes them: the last record says what is in the file, and the
file says it. Nothing but a statement in the log can tell.
"""

from pathlib import Path

from controller.quorum.control import snapshot_pieces
from controller.quorum.installs import voters_of
from klamm.ids import Offset
from klamm.log.files import SystemFiles
from klamm.log.record_batch import iter_batches
from klamm.log.snapshot import SnapshotFiles
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.records import ConfigRecord, ResourceType
from klamm.metadata.snapshot_batches import SnapshotReader


def alter_snapshots(log_directory: Path, topic: str) -> int:
    """Give a topic a config that nobody has set, in all that stand there. Returns how many."""
    files = SnapshotFiles(SystemFiles(), log_directory)
    for snapshot_id in files.list():
        data = files.read(snapshot_id, 0, files.size(snapshot_id))
        reader = SnapshotReader(snapshot_id)
        for _, batch in iter_batches(data):
            reader.take(batch)
        delta = MetadataDelta(reader.finish())
        record = ConfigRecord(
            resource_type=ResourceType.TOPIC,
            resource_name=topic,
            key="max.message.bytes",
            value="4711",
        )
        delta.replay(record, Offset(snapshot_id.offset))
        voters = voters_of(lambda at, size, data=data: data[at : at + size])
        part = files.create(snapshot_id)
        for piece, _ in snapshot_pieces(
            delta.apply(snapshot_id),
            voters,
            last_timestamp_ms=reader.last_timestamp_ms,
            timestamp_ms=reader.last_timestamp_ms,
        ):
            part.append(piece)
        part.finish()
        files.verify(snapshot_id)
    return len(files.list())
