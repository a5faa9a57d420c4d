"""Keys that only brokers read, the topics' defaults, and Kafka's keys without effect so far."""

from klamm.config.keys import INT_MAX, ConfigKey, Definer, KeyTable, Scope, table
from klamm.config.topic_keys import topic_default_keys

_broker = Definer(Scope.BROKER)
_shared = Definer(Scope.NODE)
_inert = Definer(Scope.BROKER, effect=False)

BROKER_KEYS: KeyTable = table(
    _broker.text("broker.rack", None, "Where this broker stands; replicas spread over racks."),
    _broker.text(
        "inter.broker.listener.name",
        None,
        "The listener that brokers use among themselves. Unset: the first of listeners.",
    ),
    _broker.integer(
        "broker.heartbeat.interval.ms", 2_000, "How often to tell the controller.", low=1
    ),
    _broker.integer(
        "initial.broker.registration.timeout.ms",
        60_000,
        "A broker that cannot register for so long stops.",
        low=1,
    ),
    _broker.flag(
        "controlled.shutdown.enable", True, "Whether SIGTERM moves leaders away before stopping."
    ),
    _broker.integer(
        "klamm.controlled.shutdown.timeout.ms",
        10_000,
        "A broker that is told to stop and hears no consent for so long stops without. "
        "Kafka waits five minutes.",
    ),
    _broker.flag(
        "auto.create.topics.enable", True, "Whether a client that asks for a topic makes it."
    ),
    _shared.integer("num.partitions", 1, "Partitions of a topic that does not say.", low=1),
    _shared.integer(
        "default.replication.factor", 1, "Replicas of a topic that does not say.", low=1
    ),
    # The listener and its limits.
    _broker.integer("socket.request.max.bytes", 104_857_600, "Largest request.", low=1),
    _broker.integer(
        "socket.listen.backlog.size", 50, "Connections that wait to be accepted.", low=1
    ),
    _broker.integer("socket.send.buffer.bytes", 102_400, "SO_SNDBUF; -1 is the system's.", low=-1),
    _broker.integer(
        "socket.receive.buffer.bytes", 102_400, "SO_RCVBUF; -1 is the system's.", low=-1
    ),
    _broker.integer("max.connections", INT_MAX, "Connections of all clients together."),
    _broker.integer("max.connections.per.ip", INT_MAX, "Connections from one address."),
    _broker.long("connections.max.idle.ms", 600_000, "A connection silent for so long is closed."),
    _broker.integer("queued.max.requests", 500, "Requests read and not yet answered.", low=1),
    _broker.integer("fetch.max.bytes", 57_671_680, "Largest answer to one fetch.", low=1_024),
    # Replication.
    _broker.long(
        "replica.lag.time.max.ms",
        30_000,
        "A follower that has not caught up for so long leaves the ISR.",
        low=1,
    ),
    _broker.integer("replica.fetch.wait.max.ms", 500, "Longest wait of a follower's fetch."),
    _broker.integer("replica.fetch.min.bytes", 1, "Bytes that end that wait."),
    _broker.integer("replica.fetch.max.bytes", 1_048_576, "Bytes per partition of one fetch."),
    _broker.integer("replica.fetch.response.max.bytes", 10_485_760, "Bytes of one fetch."),
    _broker.integer("replica.fetch.backoff.ms", 1_000, "Longest pause after a failed fetch."),
    _broker.integer("replica.socket.timeout.ms", 30_000, "Deadline of one fetch.", low=1),
    _broker.long(
        "replica.high.watermark.checkpoint.interval.ms",
        5_000,
        "How often high watermarks are written down.",
        low=1,
    ),
    # Logs.
    _broker.integer(
        "log.flush.offset.checkpoint.interval.ms",
        60_000,
        "How often recovery points are written down.",
    ),
    _broker.integer(
        "producer.id.expiration.ms",
        86_400_000,
        "An idle producer is forgotten after so long.",
        low=1,
    ),
    *topic_default_keys(),
)


def _inert_ints(*names: str) -> tuple[ConfigKey, ...]:
    return tuple(
        _inert.long(name, None, "Known from Kafka; no effect so far.", low=-1) for name in names
    )


def _inert_strings(*names: str) -> tuple[ConfigKey, ...]:
    return tuple(_inert.text(name, None, "Known from Kafka; no effect so far.") for name in names)


INERT_KEYS: KeyTable = table(
    *_inert_ints(
        "num.network.threads",
        "num.io.threads",
        "background.threads",
        "num.recovery.threads.per.data.dir",
        "num.replica.fetchers",
        "num.replica.alter.log.dirs.threads",
        "request.timeout.ms",
        "controller.socket.timeout.ms",
        "controlled.shutdown.max.retries",
        "controlled.shutdown.retry.backoff.ms",
        "replica.socket.receive.buffer.bytes",
        "max.incremental.fetch.session.cache.slots",
        "fetch.purgatory.purge.interval.requests",
        "producer.purgatory.purge.interval.requests",
        "delete.records.purgatory.purge.interval.requests",
        "connection.failed.authentication.delay.ms",
        "max.connection.creation.rate",
        "log.flush.scheduler.interval.ms",
        "log.flush.start.offset.checkpoint.interval.ms",
        "log.retention.check.interval.ms",
        "log.cleaner.threads",
        "log.cleaner.backoff.ms",
        "log.cleaner.dedupe.buffer.size",
        "log.cleaner.io.buffer.size",
        "log.dir.failure.timeout.ms",
        "max.request.partition.size.limit",
        "metrics.num.samples",
        "metrics.sample.window.ms",
        "group.initial.rebalance.delay.ms",
        "group.min.session.timeout.ms",
        "group.max.session.timeout.ms",
        "group.max.size",
        "group.coordinator.threads",
        "offsets.topic.replication.factor",
        "offsets.topic.num.partitions",
        "offsets.topic.segment.bytes",
        "offsets.topic.compression.codec",
        "offsets.retention.minutes",
        "offsets.retention.check.interval.ms",
        "offsets.commit.timeout.ms",
        "offsets.load.buffer.size",
        "offset.metadata.max.bytes",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "transaction.state.log.num.partitions",
        "transaction.state.log.segment.bytes",
        "transaction.max.timeout.ms",
        "transactional.id.expiration.ms",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
        "share.coordinator.state.topic.num.partitions",
    ),
    *_inert_strings(
        "max.connections.per.ip.overrides",
        "log.cleaner.enable",
        "log.cleaner.io.max.bytes.per.second",
        "log.cleaner.io.buffer.load.factor",
        "group.coordinator.rebalance.protocols",
        "metric.reporters",
        "metrics.recording.level",
    ),
    _inert.text(
        "security.inter.broker.protocol",
        None,
        "Known from Kafka; see inter.broker.listener.name.",
        allowed=("PLAINTEXT",),
    ),
)
