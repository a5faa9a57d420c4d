"""What a broker is told, typed and checked."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from klamm.config import node
from klamm.config.listeners import Listener, QuorumVoter
from klamm.config.settings import Problems, Settings, resolve
from klamm.config.sources import Given
from klamm.config.topic import TopicConfig
from klamm.ids import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """A broker's configuration. Fields without a docstring are the key of that name.

    Built by `BrokerConfig.of`; in tests, `BrokerConfig.for_tests` needs only what matters.
    """

    node_id: NodeId
    cluster_id: str
    broker_rack: str | None
    listeners: tuple[Listener, ...]
    """Where to bind. Never empty."""
    advertised_listeners: tuple[Listener, ...]
    """What clients and other brokers are told, by the same names. A port of 0 is to be replaced
    by the one that was bound."""
    inter_broker_listener_name: str
    """Names one of both."""
    controller_quorum_voters: tuple[QuorumVoter, ...]
    controller_quorum_bootstrap_servers: tuple[str, ...]
    """host:port of controllers to ask first; never empty."""
    controller_quorum_request_timeout_ms: int
    controller_quorum_retry_backoff_ms: int
    controller_quorum_retry_backoff_max_ms: int
    log_dirs: tuple[str, ...]
    """The first is used."""

    broker_heartbeat_interval_ms: int
    initial_broker_registration_timeout_ms: int
    controlled_shutdown_enable: bool
    controlled_shutdown_timeout_ms: int
    auto_create_topics_enable: bool
    num_partitions: int
    default_replication_factor: int

    socket_request_max_bytes: int
    socket_listen_backlog_size: int
    socket_send_buffer_bytes: int
    socket_receive_buffer_bytes: int
    max_connections: int
    max_connections_per_ip: int
    connections_max_idle_ms: int
    queued_max_requests: int
    fetch_max_bytes: int

    replica_lag_time_max_ms: int
    replica_fetch_wait_max_ms: int
    replica_fetch_min_bytes: int
    replica_fetch_max_bytes: int
    replica_fetch_response_max_bytes: int
    replica_fetch_backoff_ms: int
    replica_socket_timeout_ms: int
    replica_high_watermark_checkpoint_interval_ms: int
    log_flush_offset_checkpoint_interval_ms: int
    producer_id_expiration_ms: int

    topic_defaults: TopicConfig
    """What holds for topics without keys of their own; see `TopicConfig.effective`."""
    http_host: str
    http_port: int
    log_format: str
    log_level: str
    settings: Settings
    """Every key as it was given; for DescribeConfigs."""

    @staticmethod
    def of(given: Iterable[Given]) -> "BrokerConfig":
        """Check what was given, all of it.

        Raises:
            StartError: Something is wrong; every problem is named.
        """
        problems = Problems()
        settings = resolve(given, problems)
        node.check_role(settings, "broker", problems)
        node_id = node.node_id(settings, problems)
        cluster_id = node.cluster_id(settings, problems)
        voters = node.voters(settings, problems)
        servers = _bootstrap_servers(settings, voters, problems)
        bound, told = node.listeners(settings, "PLAINTEXT://:9092", problems)
        inter_broker = _inter_broker(settings, bound, told, problems)
        names = tuple(each.name for each in fields(BrokerConfig))
        values: dict[str, Any] = {
            **node.plain_values(settings, names),
            "node_id": node_id,
            "cluster_id": cluster_id,
            "listeners": bound,
            "advertised_listeners": told,
            "inter_broker_listener_name": inter_broker,
            "controller_quorum_voters": voters,
            "controller_quorum_bootstrap_servers": servers,
            "log_dirs": node.log_dirs(settings),
            "topic_defaults": node.topic_defaults(settings),
            "settings": settings,
        }
        problems.raise_if_any("The broker")
        return BrokerConfig(**values)

    @staticmethod
    def for_tests(**keys: str) -> "BrokerConfig":
        """A valid config with these keys set, `_` for `.`: `for_tests(num_partitions="3")`."""
        return BrokerConfig.of(_example(_EXAMPLE, keys))


_EXAMPLE = {
    "node.id": "1",
    "cluster.id": "test-cluster",
    "listeners": "PLAINTEXT://127.0.0.1:0",
    "controller.quorum.voters": "1@127.0.0.1:9093",
}


def _example(base: dict[str, str], keys: dict[str, str]) -> tuple[Given, ...]:
    given = {**base, **{key.replace("_", "."): text for key, text in keys.items()}}
    return tuple(Given(key, text, "the test") for key, text in given.items())


def _bootstrap_servers(
    settings: Settings, voters: tuple[QuorumVoter, ...], problems: Problems
) -> tuple[str, ...]:
    servers = node.bootstrap_servers(settings, voters, problems)
    named = ("controller.quorum.voters", "controller.quorum.bootstrap.servers")
    if not servers and all(settings[key].text is None for key in named):
        problems.add(
            "controller.quorum.voters (ID@HOST:PORT,…) or controller.quorum.bootstrap.servers "
            "(HOST:PORT,…) is required: where are the controllers?"
        )
    return servers


def _inter_broker(
    settings: Settings,
    bound: tuple[Listener, ...],
    told: tuple[Listener, ...],
    problems: Problems,
) -> str:
    """The listener that brokers use among themselves; it must be bound and advertised."""
    setting = settings["inter.broker.listener.name"]
    if setting.value is None:
        return bound[0].name if bound else ""
    name = settings.text("inter.broker.listener.name").upper()
    for key, listeners in (("listeners", bound), ("advertised.listeners", told)):
        if listeners and name not in {each.name for each in listeners}:
            problems.add(node.complaint(setting, f"does not stand in {key}"))
            break
    return name
