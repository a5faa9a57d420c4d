"""What a controller is told, typed and checked."""

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
class ControllerConfig:
    """A controller's configuration. Fields without a docstring are the key of that name."""

    node_id: NodeId
    """Names one of the voters."""
    cluster_id: str
    listener: Listener
    """Where gRPC is served."""
    advertised: Listener
    """Where others reach it."""
    controller_quorum_voters: tuple[QuorumVoter, ...]
    """By id; those of the first start. Empty: this one joins a quorum that there is."""
    controller_quorum_bootstrap_servers: tuple[str, ...]
    """Controllers to ask who leads; empty if the voters are given."""
    controller_quorum_election_timeout_ms: int
    controller_quorum_fetch_timeout_ms: int
    controller_quorum_election_backoff_max_ms: int
    controller_quorum_request_timeout_ms: int
    controller_quorum_retry_backoff_ms: int
    controller_quorum_retry_backoff_max_ms: int
    metadata_log_dir: str
    metadata_log_segment_bytes: int
    metadata_max_idle_interval_ms: int
    """0: no NoOp records."""
    metadata_max_retention_bytes: int
    metadata_max_retention_ms: int
    metadata_log_max_record_bytes_between_snapshots: int
    metadata_log_max_snapshot_interval_ms: int
    broker_session_timeout_ms: int
    broker_session_grace_ms: int
    num_partitions: int
    default_replication_factor: int
    delete_topic_enable: bool
    topic_defaults: TopicConfig
    """What holds for topics without keys of their own; see `TopicConfig.effective`."""
    http_host: str
    http_port: int
    log_format: str
    log_level: str
    settings: Settings
    """Every key as it was given."""

    @staticmethod
    def of(given: Iterable[Given]) -> "ControllerConfig":
        """Check what was given, all of it.

        Raises:
            StartError: Something is wrong; every problem is named.
        """
        problems = Problems()
        settings = resolve(given, problems)
        node.check_role(settings, "controller", problems)
        node_id = node.node_id(settings, problems)
        voters, servers = _voters(settings, node_id, problems)
        listener, advertised = _listeners(settings, problems)
        names = tuple(each.name for each in fields(ControllerConfig))
        values: dict[str, Any] = {
            **node.plain_values(settings, names),
            "node_id": node_id,
            "cluster_id": node.cluster_id(settings, problems),
            "listener": listener,
            "advertised": advertised,
            "controller_quorum_bootstrap_servers": servers,
            "controller_quorum_voters": voters,
            "metadata_log_dir": settings.text("metadata.log.dir") or node.log_dirs(settings)[0],
            "topic_defaults": node.topic_defaults(settings),
            "settings": settings,
        }
        problems.raise_if_any("The controller")
        return ControllerConfig(**values)

    @staticmethod
    def for_tests(**keys: str) -> "ControllerConfig":
        """A valid config with these keys set, `_` for `.`: `for_tests(node_id="2")`."""
        given = {**_EXAMPLE, **{key.replace("_", "."): text for key, text in keys.items()}}
        return ControllerConfig.of(Given(key, text, "the test") for key, text in given.items())


_EXAMPLE = {
    "node.id": "1",
    "cluster.id": "test-cluster",
    "listeners": "CONTROLLER://127.0.0.1:0",
    "controller.quorum.voters": "1@127.0.0.1:9093,2@127.0.0.1:9094,3@127.0.0.1:9095",
}


def _voters(
    settings: Settings, node_id: NodeId, problems: Problems
) -> tuple[tuple[QuorumVoter, ...], tuple[str, ...]]:
    """The voters of a first start; or else controllers of a quorum that this one joins."""
    setting = settings["controller.quorum.voters"]
    voters = node.voters(settings, problems)
    if setting.text is None:
        servers = node.bootstrap_servers(settings, (), problems)
        if not servers:
            problems.add(
                "controller.quorum.voters is required: ID@HOST:PORT,… of every controller; or, "
                "to join a quorum, controller.quorum.bootstrap.servers: HOST:PORT,… of some."
            )
        return (), servers
    stranger = all(each.voter_id != node_id for each in voters)
    if voters and stranger and settings["node.id"].value is not None:
        problems.add(node.complaint(setting, f"does not name this node, node.id={node_id}"))
    return voters, ()


def _listeners(
    settings: Settings, problems: Problems
) -> tuple[Listener, Listener] | tuple[None, None]:
    """The listener for gRPC, the first that controller.listener.names names, bound and told."""
    bound, told = node.listeners(settings, "CONTROLLER://:9093", problems)
    by_name = {each.name: each for each in bound}
    names = tuple(each.upper() for each in settings.members("controller.listener.names"))
    for name in names:
        if name in by_name:
            advertised = {each.name: each for each in told}
            return by_name[name], advertised.get(name, by_name[name])
    if bound:
        sentence = f"names no controller listener ({', '.join(names)})"
        problems.add(node.complaint(settings["listeners"], sentence))
    return None, None
