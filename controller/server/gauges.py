"""What `/metrics` shows of the quorum and of the metadata, read when it is asked for."""

from controller.quorum.port import Quorum
from controller.server.answers import Counts
from controller.server.port import Metadata, SnapshotsView
from klamm.ids import NO_NODE
from klamm.metadata.features import METADATA_VERSION
from klamm.telemetry import metrics


class Gauges:
    def __init__(self, quorum: Quorum, metadata: Metadata, snapshots: SnapshotsView) -> None:
        self._quorum = quorum
        self._metadata = metadata
        self._snapshots = snapshots
        self._counts = Counts()

    def page(self) -> bytes:
        """All of a controller's metrics, as Prometheus text."""
        self._read_quorum()
        self._read_metadata()
        return metrics.exposition(metrics.CONTROLLER)

    def _read_quorum(self) -> None:
        quorum = self._quorum
        metrics.set_raft_state(quorum.role)
        metrics.RAFT_CURRENT_LEADER.set(quorum.leader)
        metrics.RAFT_CURRENT_EPOCH.set(quorum.epoch)
        metrics.RAFT_HIGH_WATERMARK.set(quorum.high_watermark)
        metrics.RAFT_LOG_END_OFFSET.set(quorum.log_end.offset)
        metrics.RAFT_LOG_END_EPOCH.set(quorum.log_end.epoch)
        held = quorum.snapshots
        metrics.SNAPSHOT_BYTES.set(held[-1].size_bytes if held else 0)
        metrics.SNAPSHOT_AGE.set(self._snapshots.age_ms / 1_000)
        metrics.SNAPSHOTS_LOADED.set(self._snapshots.loaded)
        metrics.CONTROLLER_ACTIVE.set(quorum.leader == quorum.node_id)
        metrics.CONTROLLER_LAST_COMMITTED_OFFSET.set(quorum.high_watermark - 1)

    def _read_metadata(self) -> None:
        image = self._metadata.image
        counts = self._counts.of(image.topics)
        active = sum(each.active for each in image.brokers.values())
        metrics.CONTROLLER_LAST_APPLIED_OFFSET.set(image.provenance.offset - 1)
        metrics.METADATA_VERSION.set(image.features.get(METADATA_VERSION, 0))
        metrics.CONTROLLER_BROKERS.labels("active").set(active)
        metrics.CONTROLLER_BROKERS.labels("fenced").set(len(image.brokers) - active)
        metrics.CONTROLLER_TOPICS.set(len(counts.names))
        metrics.CONTROLLER_PARTITIONS.set(counts.partitions)
        metrics.CONTROLLER_OFFLINE_PARTITIONS.set(counts.offline)
        metrics.CONTROLLER_PREFERRED_REPLICA_IMBALANCE.set(
            sum(
                each.leader not in (each.replicas[0], NO_NODE)
                for topic in image.topics.by_id.values()
                for each in topic.partitions
            )
        )
