"""Keys that controllers and brokers share."""

from klamm.config.keys import Definer, KeyTable, Scope, table

_node = Definer(Scope.NODE)

NODE_KEYS: KeyTable = table(
    _node.members(
        "process.roles",
        None,
        "What this process is. Klamm runs one role a process; unset, the command says which.",
        allowed=("broker", "controller"),
    ),
    _node.integer("node.id", None, "This node's id, unique among its kind. Required."),
    _node.text(
        "cluster.id",
        None,
        "The cluster's id: 1 to 64 of [A-Za-z0-9_-], the same on every node. Required. "
        "Also CLUSTER_ID in the environment.",
    ),
    _node.members(
        "listeners",
        None,
        "Where to listen, as NAME://HOST:PORT; an empty host is every interface, port 0 is any "
        "free one. Unset: PLAINTEXT://:9092 on a broker, CONTROLLER://:9093 on a controller.",
    ),
    _node.members(
        "advertised.listeners",
        None,
        "What others are told to connect to, listener by listener. Unset: as in listeners, an "
        "empty host being this machine's name.",
    ),
    _node.members(
        "listener.security.protocol.map",
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "Listener name to security protocol. Only PLAINTEXT can be served so far.",
    ),
    _node.members(
        "controller.listener.names",
        "CONTROLLER",
        "Names of the listeners that controllers use; the first is where gRPC is served.",
    ),
    _node.members(
        "controller.quorum.voters",
        None,
        "The voters, as ID@HOST:PORT,…; the same on every controller.",
    ),
    _node.members(
        "controller.quorum.bootstrap.servers",
        None,
        "Controllers to ask first, as HOST:PORT,…; enough for a broker, instead of the voters.",
    ),
    _node.integer(
        "controller.quorum.request.timeout.ms",
        2_000,
        "Deadline of one call to a controller.",
        low=1,
    ),
    _node.integer(
        "controller.quorum.retry.backoff.ms",
        20,
        "Pause before a failed call to a controller is tried again; grows with jitter.",
    ),
    _node.integer(
        "controller.quorum.retry.backoff.max.ms",
        1_000,
        "Longest such pause.",
    ),
    _node.members("log.dirs", None, "Data directories; Klamm uses the first. Unset: log.dir."),
    _node.text("log.dir", "/tmp/klamm-logs", "Data directory, if log.dirs is unset."),  # noqa: S108
    _node.text(
        "metadata.log.dir", None, "Where the metadata log lives. Unset: the first of log.dirs."
    ),
    _node.text(
        "klamm.http.host",
        "127.0.0.1",
        "Where /metrics, /livez and /readyz are served; an empty host is every interface.",
    ),
    _node.integer(
        "klamm.http.port",
        0,
        "Port of /metrics, /livez and /readyz; 0 is any free one, written to the log.",
        high=65_535,
    ),
    _node.text(
        "klamm.log.format",
        "text",
        "Log lines as text like Kafka's, or as JSON objects.",
        allowed=("text", "json"),
    ),
    _node.text(
        "klamm.log.level",
        "INFO",
        "Log lines from this level on.",
        allowed=("DEBUG", "INFO", "WARNING", "ERROR"),
    ),
    _node.text(
        "klamm.profile",
        "kafka",
        "Defaults of the timers: Kafka's, or fast ones for tests on one machine.",
        allowed=("kafka", "fast"),
    ),
)
