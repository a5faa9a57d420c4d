"""Keys that only controllers read. Timers: Kafka's, kraft metadata quorum."""

from klamm.config.keys import Definer, KeyTable, Scope, table

_controller = Definer(Scope.CONTROLLER)
_inert = Definer(Scope.CONTROLLER, effect=False)

CONTROLLER_KEYS: KeyTable = table(
    _controller.integer(
        "controller.quorum.election.timeout.ms",
        1_000,
        "Base of the election timer, which is drawn from [T, 2T).",
        low=10,
    ),
    _controller.integer(
        "controller.quorum.fetch.timeout.ms",
        2_000,
        "A follower without a successful fetch for so long asks for votes; a leader without a "
        "majority for 1.5 times as long resigns.",
        low=10,
    ),
    _controller.integer(
        "controller.quorum.election.backoff.max.ms",
        1_000,
        "Longest pause after a lost election.",
    ),
    _inert.integer(
        "controller.quorum.append.linger.ms",
        25,
        "Kafka waits so long to group appends. Klamm flushes at once when idle, and groups what "
        "arrives while a flush is under way.",
    ),
    _inert.flag("controller.quorum.auto.join.enable", False, "Join the voters unasked (KIP-853)."),
    _controller.flag(
        "klamm.quorum.begin.alone",
        False,
        "A node that is configured as the only voter, and finds its directory empty, begins a new "
        "cluster. Without this only in a directory of `klamm format`: the disk of the first node "
        "of a cluster that has grown may be gone.",
    ),
    _controller.integer(
        "broker.session.timeout.ms",
        9_000,
        "A broker that is silent for so long is fenced.",
        low=10,
    ),
    _controller.integer(
        "klamm.broker.session.grace.ms",
        50,
        "A broker whose session stream broke, and that opened no other within so long, is fenced.",
    ),
    _controller.integer(
        "metadata.max.idle.interval.ms",
        500,
        "An idle leader writes a NoOp record so often; 0 is never.",
    ),
    _controller.integer(
        "metadata.log.segment.bytes",
        1_073_741_824,
        "Segment size of the metadata log; at most a quarter of metadata.max.retention.bytes (but "
        "1 MiB always may be), since only whole segments go.",
        low=1_024,
    ),
    _inert.integer("metadata.log.segment.min.bytes", 8_388_608, "Smallest segment size.", low=14),
    _inert.long("metadata.log.segment.ms", 604_800_000, "Longest time to one segment.", low=1),
    _controller.long(
        "metadata.max.retention.bytes",
        104_857_600,
        "Metadata log and snapshots together; above it the oldest snapshots go, and the log before "
        "the next. The newest stays. -1 is no limit.",
        low=-1,
    ),
    _controller.long(
        "metadata.max.retention.ms",
        604_800_000,
        "Snapshots whose last record is older go, but for the newest. -1 is no limit.",
        low=-1,
    ),
    _controller.long(
        "metadata.log.max.record.bytes.between.snapshots",
        20_971_520,
        "A snapshot is written when so many bytes were committed since the last one.",
        low=1,
    ),
    _controller.long(
        "metadata.log.max.snapshot.interval.ms",
        3_600_000,
        "A snapshot is written when the last one is older, and something was committed; 0 is off.",
    ),
    _controller.flag("delete.topic.enable", True, "Whether topics may be deleted."),
    _inert.flag("auto.leader.rebalance.enable", True, "Move leaders to preferred replicas."),
    _inert.long(
        "leader.imbalance.check.interval.seconds", 300, "How often to look for imbalance.", low=1
    ),
    _inert.integer("leader.imbalance.per.broker.percentage", 10, "Imbalance that is put up with."),
)

FAST_TIMERS: dict[str, str] = {
    "controller.quorum.election.timeout.ms": "300",
    "controller.quorum.fetch.timeout.ms": "600",
    "controller.quorum.election.backoff.max.ms": "100",
    "controller.quorum.request.timeout.ms": "500",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    "replica.lag.time.max.ms": "2000",
    "replica.fetch.backoff.ms": "50",
}
"""Other defaults under klamm.profile=fast. A value set anywhere still wins."""
