"""Topic keys, and the broker key that is each one's cluster-wide default.

Source: Kafka's TopicConfig and ServerTopicConfigSynonyms.
"""

from klamm.config.keys import LONG_MAX, ConfigKey, Definer, KeyTable, Scope, table

_topic = Definer(Scope.TOPIC)
_inert = Definer(Scope.TOPIC, effect=False)

_CODECS = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")

TOPIC_KEYS: KeyTable = table(
    _inert.members(
        "cleanup.policy",
        "delete",
        "What becomes of old records.",
        allowed=("compact", "delete"),
    ),
    _topic.text(
        "compression.type",
        "producer",
        "Codec of stored batches; producer: as they come.",
        allowed=_CODECS,
    ),
    _inert.integer("compression.gzip.level", -1, "Level of gzip; -1 is its own.", low=-1, high=9),
    _inert.integer("compression.lz4.level", 9, "Level of lz4.", low=1, high=17),
    _inert.integer("compression.zstd.level", 3, "Level of zstd.", low=-131_072, high=22),
    _inert.long("delete.retention.ms", 86_400_000, "How long tombstones are kept."),
    _inert.long("file.delete.delay.ms", 60_000, "Delay before files are removed."),
    _topic.long("flush.messages", LONG_MAX, "Records to an fsync.", low=1),
    _topic.long("flush.ms", LONG_MAX, "Longest time to an fsync."),
    _topic.integer("index.interval.bytes", 4_096, "Bytes of log to an index entry."),
    _inert.long("max.compaction.lag.ms", LONG_MAX, "Longest time to compaction.", low=1),
    _topic.integer("max.message.bytes", 1_048_588, "Largest batch, as it comes."),
    _topic.text(
        "message.timestamp.type",
        "CreateTime",
        "Whose clock stamps records: the producer's or the leader's.",
        allowed=("CreateTime", "LogAppendTime"),
    ),
    _topic.long(
        "message.timestamp.before.max.ms",
        LONG_MAX,
        "How far a producer's timestamp may lie in the past.",
    ),
    _topic.long(
        "message.timestamp.after.max.ms",
        3_600_000,
        "How far a producer's timestamp may lie in the future.",
    ),
    _inert.number(
        "min.cleanable.dirty.ratio", 0.5, "Share of a log that is worth compacting.", low=0, high=1
    ),
    _inert.long("min.compaction.lag.ms", 0, "Shortest time to compaction."),
    _topic.integer(
        "min.insync.replicas",
        1,
        "With fewer replicas in sync, acks=all is refused.",
        low=1,
    ),
    _inert.flag("preallocate", False, "Allocate a segment's file at once."),
    _inert.long("retention.bytes", -1, "Bytes of a partition that are kept; -1 is all.", low=-1),
    _inert.long("retention.ms", 604_800_000, "How long records are kept; -1 is ever.", low=-1),
    _topic.integer("segment.bytes", 1_073_741_824, "Size of a segment.", low=14),
    _topic.integer("segment.index.bytes", 10_485_760, "Size of a segment's index.", low=4),
    _inert.long("segment.jitter.ms", 0, "Random part taken from segment.ms."),
    _inert.long("segment.ms", 604_800_000, "Longest time to one segment.", low=1),
    _topic.flag(
        "unclean.leader.election.enable",
        False,
        "Whether a replica that is out of sync may lead when no other is left; loses records.",
    ),
    _inert.members("leader.replication.throttled.replicas", "", "PARTITION:BROKER,… or *."),
    _inert.members("follower.replication.throttled.replicas", "", "PARTITION:BROKER,… or *."),
    _inert.flag("remote.storage.enable", False, "Tiered storage (KIP-405)."),
    _inert.long("local.retention.ms", -2, "With tiered storage; -2 is as retention.ms.", low=-2),
    _inert.long("local.retention.bytes", -2, "With tiered storage.", low=-2),
)

BROKER_SYNONYMS: dict[str, str] = {
    "cleanup.policy": "log.cleanup.policy",
    "compression.type": "compression.type",
    "compression.gzip.level": "compression.gzip.level",
    "compression.lz4.level": "compression.lz4.level",
    "compression.zstd.level": "compression.zstd.level",
    "delete.retention.ms": "log.cleaner.delete.retention.ms",
    "file.delete.delay.ms": "log.segment.delete.delay.ms",
    "flush.messages": "log.flush.interval.messages",
    "flush.ms": "log.flush.interval.ms",
    "index.interval.bytes": "log.index.interval.bytes",
    "local.retention.bytes": "log.local.retention.bytes",
    "local.retention.ms": "log.local.retention.ms",
    "max.compaction.lag.ms": "log.cleaner.max.compaction.lag.ms",
    "max.message.bytes": "message.max.bytes",
    "message.timestamp.after.max.ms": "log.message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms": "log.message.timestamp.before.max.ms",
    "message.timestamp.type": "log.message.timestamp.type",
    "min.cleanable.dirty.ratio": "log.cleaner.min.cleanable.ratio",
    "min.compaction.lag.ms": "log.cleaner.min.compaction.lag.ms",
    "min.insync.replicas": "min.insync.replicas",
    "preallocate": "log.preallocate",
    "retention.bytes": "log.retention.bytes",
    "retention.ms": "log.retention.ms",
    "segment.bytes": "log.segment.bytes",
    "segment.index.bytes": "log.index.size.max.bytes",
    "segment.jitter.ms": "log.roll.jitter.ms",
    "segment.ms": "log.roll.ms",
    "unclean.leader.election.enable": "unclean.leader.election.enable",
}
"""Topic key → the broker key that sets it for all topics without their own."""

COARSER_UNITS: dict[str, tuple[tuple[str, int], ...]] = {
    "retention.ms": (("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)),
    "segment.ms": (("log.roll.hours", 3_600_000),),
    "segment.jitter.ms": (("log.roll.jitter.hours", 3_600_000),),
}
"""Topic key → older broker keys for the same thing, the finer unit first, and their ms."""


def topic_default_keys() -> tuple[ConfigKey, ...]:
    """The topic table seen from a broker's file: the same types and ranges under broker names."""
    define = Definer(Scope.NODE)
    same = tuple(
        ConfigKey(
            name=BROKER_SYNONYMS[key.name],
            kind=key.kind,
            default=key.default,
            doc=f"Default of the topics' {key.name}: {key.doc}",
            scope=Scope.NODE,
            minimum=key.minimum,
            maximum=key.maximum,
            allowed=key.allowed,
            effect=key.effect,
        )
        for key in TOPIC_KEYS.values()
        if key.name in BROKER_SYNONYMS
    )
    coarser = tuple(
        define.integer(
            name, None, f"Default of the topics' {key}, in units of {unit_ms:,} ms.", low=-1
        )
        for key, names in COARSER_UNITS.items()
        for name, unit_ms in names
    )
    return same + coarser
