"""Every metric that a node shows, in one table: Kafka's meaning, Prometheus' spelling.

Base units in the name, `_total` on counters, labels from small fixed sets only. The second argument
is Kafka's own name for the same thing; empty where Kafka has none.

    from klamm.telemetry import metrics
    metrics.RAFT_CURRENT_EPOCH.set(7)
    metrics.KAFKA_REQUESTS.labels("Fetch", "NONE").inc()

One process is one node, so the objects are the module's; `exposition` picks those of its kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from klamm.telemetry.histogram import Histogram

CONTENT_TYPE = CONTENT_TYPE_LATEST

CONTROLLER = CollectorRegistry()
"""What controllers show."""
BROKER = CollectorRegistry()
"""What brokers show."""
_BOTH = (CONTROLLER, BROKER)

_LATENCY_BUCKETS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One metric, for the table in the docs and its test."""

    name: str
    kafka_name: str
    labels: tuple[str, ...]
    doc: str


TABLE: list[Row] = []


def _declare(
    registries: Sequence[CollectorRegistry],
    metric: Gauge | Counter | Histogram,
    row: Row,
) -> None:
    TABLE.append(row)
    for registry in registries:
        registry.register(metric)


def _gauge(
    where: Sequence[CollectorRegistry], name: str, kafka: str, doc: str, *labels: str
) -> Gauge:
    metric = Gauge(name, doc, labels, registry=None)
    _declare(where, metric, Row(name, kafka, labels, doc))
    return metric


def _counter(
    where: Sequence[CollectorRegistry], name: str, kafka: str, doc: str, *labels: str
) -> Counter:
    metric = Counter(name, doc, labels, registry=None)
    _declare(where, metric, Row(name, kafka, labels, doc))
    return metric


def _histogram(
    where: Sequence[CollectorRegistry], name: str, kafka: str, doc: str, *labels: str
) -> Histogram:
    metric = Histogram(name, doc, labels, bounds=_LATENCY_BUCKETS_S)
    _declare(where, metric, Row(name, kafka, labels, doc))
    return metric


_C, _B = (CONTROLLER,), (BROKER,)
_RAFT = "raft-metrics: "

# The quorum.
RAFT_STATES = ("unattached", "follower", "prospective", "candidate", "leader", "resigned")
RAFT_CURRENT_STATE = _gauge(
    _C, "raft_current_state", _RAFT + "current-state", "1 for the present role.", "state"
)
RAFT_CURRENT_LEADER = _gauge(
    _C, "raft_current_leader", _RAFT + "current-leader", "The leader's id, or -1."
)
RAFT_CURRENT_EPOCH = _gauge(_C, "raft_current_epoch", _RAFT + "current-epoch", "The epoch.")
RAFT_CURRENT_VOTE = _gauge(
    _C, "raft_current_vote", _RAFT + "current-vote", "Whom this voter voted for, or -1."
)
RAFT_RECOVERING = _gauge(
    _C, "raft_recovering", "", "1 while this voter has no vote, since its log lost records."
)
RAFT_LOG_DAMAGE = _counter(
    _C, "raft_log_damage_total", "", "Damage found in the metadata log where it was sound once."
)
RAFT_HIGH_WATERMARK = _gauge(
    _C, "raft_high_watermark", _RAFT + "high-watermark", "End of what is committed."
)
RAFT_LOG_END_OFFSET = _gauge(_C, "raft_log_end_offset", _RAFT + "log-end-offset", "End of the log.")
RAFT_LOG_END_EPOCH = _gauge(
    _C, "raft_log_end_epoch", _RAFT + "log-end-epoch", "Epoch of the log's last record."
)
RAFT_COMMIT_LATENCY = _histogram(
    _C, "raft_commit_latency_seconds", _RAFT + "commit-latency-avg, -max", "Append to commit."
)
RAFT_ELECTION_LATENCY = _histogram(
    _C,
    "raft_election_latency_seconds",
    _RAFT + "election-latency-avg, -max",
    "Losing a leader to knowing the next.",
)
RAFT_FSYNC = _histogram(_C, "raft_fsync_seconds", "", "One flush of the metadata log.")
RAFT_APPEND_RECORDS = _counter(
    _C, "raft_append_records_total", _RAFT + "append-records-rate", "Records appended as leader."
)
RAFT_FETCH_RECORDS = _counter(
    _C, "raft_fetch_records_total", _RAFT + "fetch-records-rate", "Records fetched as follower."
)

# Snapshots of the metadata log, written by this node.
SNAPSHOT_BYTES = _gauge(
    _C,
    "controller_snapshot_latest_generated_bytes",
    "LatestSnapshotGeneratedBytes",
    "Size of the latest snapshot; 0 if there is none.",
)
SNAPSHOT_AGE = _gauge(
    _C,
    "controller_snapshot_latest_generated_age_seconds",
    "LatestSnapshotGeneratedAgeMs",
    "Since this process wrote a snapshot, or since it started.",
)
SNAPSHOT_ERRORS = _counter(
    _C, "controller_snapshot_errors_total", "", "Snapshots that could not be written."
)
SNAPSHOTS_LOADED = _gauge(
    _C,
    "controller_snapshots_loaded",
    "HandleLoadSnapshotCount",
    "Snapshots loaded since the start.",
)

# The active controller, and what its image counts.
CONTROLLER_ACTIVE = _gauge(
    _C, "controller_active", "ActiveControllerCount", "1 on the active controller."
)
CONTROLLER_NEW_ACTIVE = _counter(
    _C, "controller_new_active_total", "NewActiveControllersCount", "Leaders seen to begin."
)
CONTROLLER_LAST_APPLIED_OFFSET = _gauge(
    _C, "controller_last_applied_offset", "LastAppliedRecordOffset", "Last offset in the image."
)
CONTROLLER_LAST_COMMITTED_OFFSET = _gauge(
    _C, "controller_last_committed_offset", "LastCommittedRecordOffset", "Last offset committed."
)
CONTROLLER_LAST_APPLIED_LAG = _gauge(
    _C,
    "controller_last_applied_lag_seconds",
    "LastAppliedRecordLagMs",
    "Age of the last applied record; 0 on the active controller.",
)
CONTROLLER_EVENT_QUEUE = _histogram(
    _C, "controller_event_queue_seconds", "EventQueueTimeMs", "A request's wait to be decided."
)
CONTROLLER_EVENT_PROCESSING = _histogram(
    _C, "controller_event_processing_seconds", "EventQueueProcessingTimeMs", "Deciding a request."
)
CONTROLLER_BROKERS = _gauge(
    _C,
    "controller_brokers",
    "ActiveBrokerCount, FencedBrokerCount",
    "Registered brokers; state is active or fenced.",
    "state",
)
CONTROLLER_HEARTBEATS_TIMED_OUT = _counter(
    _C,
    "controller_heartbeats_timed_out_total",
    "TimedOutBrokerHeartbeatCount",
    "Brokers fenced because their session timed out.",
)
CONTROLLER_SESSIONS_LOST = _counter(
    _C,
    "controller_sessions_lost_total",
    "",
    "Brokers fenced because their session stream broke.",
)
CONTROLLER_TOPICS = _gauge(_C, "controller_topics", "GlobalTopicCount", "Topics.")
CONTROLLER_PARTITIONS = _gauge(
    _C, "controller_partitions", "GlobalPartitionCount", "Partitions of all topics."
)
CONTROLLER_OFFLINE_PARTITIONS = _gauge(
    _C, "controller_offline_partitions", "OfflinePartitionsCount", "Partitions without a leader."
)
CONTROLLER_PREFERRED_REPLICA_IMBALANCE = _gauge(
    _C,
    "controller_preferred_replica_imbalance",
    "PreferredReplicaImbalanceCount",
    "Partitions that their preferred replica does not lead.",
)

# The broker.
BROKER_LEADERS = _gauge(_B, "broker_leaders", "LeaderCount", "Partitions led here.")
BROKER_PARTITIONS = _gauge(_B, "broker_partitions", "PartitionCount", "Partitions held here.")
BROKER_UNDER_REPLICATED = _gauge(
    _B,
    "broker_under_replicated_partitions",
    "UnderReplicatedPartitions",
    "Partitions led here with fewer in sync than replicas.",
)
BROKER_UNDER_MIN_ISR = _gauge(
    _B,
    "broker_under_min_isr_partitions",
    "UnderMinIsrPartitionCount",
    "Partitions led here with fewer in sync than min.insync.replicas.",
)
BROKER_ISR_SHRINKS = _counter(
    _B, "broker_isr_shrinks_total", "IsrShrinksPerSec", "Followers taken from an ISR."
)
BROKER_ISR_EXPANDS = _counter(
    _B, "broker_isr_expands_total", "IsrExpandsPerSec", "Followers added to an ISR."
)
BROKER_BYTES_IN = _counter(_B, "broker_bytes_in_total", "BytesInPerSec", "Bytes produced here.")
BROKER_BYTES_OUT = _counter(_B, "broker_bytes_out_total", "BytesOutPerSec", "Bytes consumed.")
BROKER_MESSAGES_IN = _counter(
    _B, "broker_messages_in_total", "MessagesInPerSec", "Records produced here."
)
BROKER_CONNECTIONS = _gauge(
    _B, "broker_connections", "connection-count", "Open client connections.", "listener"
)
BROKER_CONNECTIONS_REFUSED = _counter(
    _B,
    "broker_connections_refused_total",
    "",
    "Connections closed for a limit or a malformed frame.",
    "reason",
)
STATE_CHECKSUM_VERIFIED_OFFSET = _gauge(
    _BOTH,
    "klamm_state_checksum_verified_offset",
    "",
    "Offset of the last record that stated the checksum that the state had here.",
)
STATE_CHECKSUM_DISAGREES = _gauge(
    _BOTH,
    "klamm_state_checksum_disagrees",
    "",
    "1 if the last record that stated a checksum stated another than the state had here.",
)
METADATA_VERSION = _gauge(
    _BOTH,
    "klamm_metadata_version",
    "CurrentMetadataVersion",
    "Level of metadata.version that is in force here; 0 if none is.",
)
BROKER_METADATA_LAST_APPLIED_OFFSET = _gauge(
    _B,
    "broker_metadata_last_applied_offset",
    "broker-metadata-metrics: last-applied-record-offset",
    "Last metadata offset in this broker's image.",
)
BROKER_METADATA_LOAD_ERRORS = _counter(
    _B,
    "broker_metadata_load_errors_total",
    "broker-metadata-metrics: metadata-load-error-count",
    "Records that could not be replayed.",
)
BROKER_METADATA_APPLY_ERRORS = _counter(
    _B,
    "broker_metadata_apply_errors_total",
    "broker-metadata-metrics: metadata-apply-error-count",
    "Publishers that failed on an image.",
)
BROKER_FENCED = _gauge(_B, "broker_fenced", "BrokerState", "1 while this broker is fenced.")
KAFKA_REQUESTS = _counter(
    _B, "kafka_requests_total", "RequestMetrics", "Requests answered.", "api", "error"
)
KAFKA_REQUEST_TIME = _histogram(
    _B,
    "kafka_request_seconds",
    "RequestMetrics",
    "Time of a request; stage is queue, local, remote or send.",
    "api",
    "stage",
)

# Either.
EVENT_LOOP_LAG = _gauge(
    _BOTH, "klamm_event_loop_lag_seconds", "", "How late the event loop last ran a timer."
)

for _registry in _BOTH:
    ProcessCollector(registry=_registry)
    GCCollector(registry=_registry)


def set_raft_state(state: str) -> None:
    """Show the role that this voter is in, one of RAFT_STATES."""
    for each in RAFT_STATES:
        RAFT_CURRENT_STATE.labels(each).set(each == state)


def exposition(registry: CollectorRegistry) -> bytes:
    """The present values as text, for a scrape."""
    return generate_latest(registry)
