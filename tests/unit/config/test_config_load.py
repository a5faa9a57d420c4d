"""From what a person gives to a typed config, and every complaint on the way."""

from pathlib import Path

import pytest

from klamm.config.broker import BrokerConfig
from klamm.config.controller import ControllerConfig
from klamm.config.listeners import Listener
from klamm.config.load import Arguments, load_broker, load_controller, parse_arguments
from klamm.errors import StartError

BROKER = ("node.id=1", "cluster.id=c", "controller.quorum.voters=1@h:9093")


def complaints(*overrides: str, environment: dict[str, str] | None = None) -> list[str]:
    """What a broker that is otherwise well configured says of these."""
    with pytest.raises(StartError) as caught:
        load_broker(Arguments(overrides=(*BROKER, *overrides)), environment or {})
    return str(caught.value).splitlines()[1:]


def test_file_then_environment_then_override(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("num.partitions=1\nlog.dirs=/file\nbroker.rack=file\nnode.id=7\n")
    environment = {"KAFKA_LOG_DIRS": "/environment", "KAFKA_BROKER_RACK": "environment"}
    arguments = Arguments(file, (*BROKER, "broker.rack=override"))
    config = load_broker(arguments, environment)
    assert config.num_partitions == 1
    assert config.log_dirs == ("/environment",)
    assert config.broker_rack == "override"


def test_every_problem_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("# mine\nnum.partitions=0\nnum.partition=3\nlisteners=PLAINTEXT:9092\n")
    environment = {"KAFKA_NODE_ID": "minus one", "KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE": "yes"}
    with pytest.raises(StartError) as caught:
        load_broker(Arguments(file, ("ssl.keystore.location=/x",)), environment)
    assert (
        str(caught.value)
        == """\
The broker cannot start: 8 problems in its configuration.
  num.partition=3 (server.properties:3): no such key. Did you mean num.partitions?
  ssl.keystore.location=/x (--override): TLS is not there yet.
  node.id=minus one (KAFKA_NODE_ID in the environment): must be a whole number from 0 to 2147483647.
  num.partitions=0 (server.properties:2): must be a whole number from 1 to 2147483647.
  unclean.leader.election.enable=yes (KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE in the environment): \
must be true or false.
  cluster.id is required: 1 to 64 of [A-Za-z0-9_-], the same on every node. \
Set CLUSTER_ID, or --override cluster.id=…; `klamm config random-id` makes one.
  controller.quorum.voters (ID@HOST:PORT,…) or controller.quorum.bootstrap.servers \
(HOST:PORT,…) is required: where are the controllers?
  listeners=PLAINTEXT:9092 (server.properties:4): must be a list of NAME://HOST:PORT, \
has 'PLAINTEXT:9092'."""
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        # Ranges and types.
        ("min.insync.replicas=0", "must be a whole number from 1"),
        ("log.segment.bytes=13", "must be a whole number from 14"),
        ("log.cleaner.min.cleanable.ratio=1.5", "must be a number from 0 to 1"),
        ("log.cleaner.min.cleanable.ratio=nan", "must be a number from 0 to 1"),
        ("auto.create.topics.enable=1", "must be true or false"),
        ("compression.type=rar", "must be one of uncompressed, zstd, lz4"),
        ("klamm.http.port=65536", "must be a whole number from 0 to 65535"),
        ("node.id=1.0", "must be a whole number"),
        # Across keys.
        ("process.roles=controller", "this process is a broker"),
        ("process.roles=broker,controller", "one role a process"),
        ("cluster.id=a b", "must be 1 to 64 of [A-Za-z0-9_-]"),
        ("inter.broker.listener.name=OTHER", "does not stand in listeners"),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:1", "no address that others can connect to"),
        ("advertised.listeners=SSL://h:1", "only PLAINTEXT can be served"),
        ("controller.quorum.bootstrap.servers=h", "must be HOST:PORT"),
        # What somebody would count on.
        ("sasl.enabled.mechanisms=PLAIN", "SASL is not there yet"),
        ("authorizer.class.name=x", "authorization is not there yet"),
        ("zookeeper.connect=z:2181", "there is no ZooKeeper here"),
        ("broker.id=1", "the key is node.id"),
        ("nonsense", "(--override without =): no such key"),
    ],
)
def test_a_complaint(override: str, sentence: str) -> None:
    said = complaints(override)
    assert len(said) == 1
    assert override.partition("=")[0] in said[0]
    assert sentence in said[0]


def test_an_empty_variable_is_unset() -> None:
    config = load_broker(Arguments(overrides=BROKER), {"KAFKA_BROKER_RACK": ""})
    assert config.broker_rack is None


def test_keys_without_effect_are_taken_and_named() -> None:
    config = BrokerConfig.for_tests(offsets_topic_replication_factor="1")
    assert config.settings.inert() == ("offsets.topic.replication.factor",)


def test_listeners_as_in_apaches_isolated_example() -> None:
    config = load_broker(
        Arguments(overrides=BROKER),
        {
            "KAFKA_LISTENERS": "PLAINTEXT://:19092,PLAINTEXT_HOST://:9092",
            "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://b:19092,PLAINTEXT_HOST://localhost:29092",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
            "PLAINTEXT_HOST:PLAINTEXT",
        },
    )
    assert [str(each) for each in config.listeners] == [
        "PLAINTEXT://:19092",
        "PLAINTEXT_HOST://:9092",
    ]
    assert config.advertised_listeners[1] == Listener(
        name="PLAINTEXT_HOST", host="localhost", port=29092
    )
    assert config.inter_broker_listener_name == "PLAINTEXT"


def test_an_empty_host_is_advertised_as_the_machines_name() -> None:
    config = BrokerConfig.for_tests(listeners="PLAINTEXT://:9092")
    assert config.advertised_listeners[0].host


def test_a_brokers_bootstrap_servers_are_the_voters_unless_named() -> None:
    config = BrokerConfig.for_tests(controller_quorum_voters="2@b:2,1@a:1")
    assert config.controller_quorum_bootstrap_servers == ("a:1", "b:2")
    named = BrokerConfig.for_tests(controller_quorum_bootstrap_servers="c:3")
    assert named.controller_quorum_bootstrap_servers == ("c:3",)


def test_a_controller() -> None:
    config = ControllerConfig.for_tests(node_id="2", log_dirs="/data,/other")
    assert config.listener == Listener(name="CONTROLLER", host="127.0.0.1", port=0)
    assert config.metadata_log_dir == "/data"
    assert config.broker_session_grace_ms == 50
    assert config.controller_quorum_election_timeout_ms == 1_000


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"node_id": "9"}, "does not name this node, node.id=9"),
        ({"listeners": "PLAINTEXT://:1"}, "names no controller listener (CONTROLLER)"),
        ({"controller_quorum_voters": ""}, "controller.quorum.voters is required"),
    ],
)
def test_a_controllers_complaint(keys: dict[str, str], sentence: str) -> None:
    with pytest.raises(StartError) as caught:
        ControllerConfig.for_tests(**keys)
    assert sentence in str(caught.value)


def test_one_file_serves_both_kinds(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text(
        "node.id=1\ncluster.id=c\ncontroller.quorum.voters=1@h:9093\n"
        "broker.session.timeout.ms=9001\nbroker.heartbeat.interval.ms=2001\n"
    )
    assert load_broker(Arguments(file), {}).broker_heartbeat_interval_ms == 2_001
    assert load_controller(Arguments(file), {}).broker_session_timeout_ms == 9_001


def test_the_fast_profile_changes_defaults_and_nothing_else() -> None:
    fast = ControllerConfig.for_tests(klamm_profile="fast", broker_session_timeout_ms="4000")
    assert fast.controller_quorum_election_timeout_ms == 300
    assert fast.broker_session_timeout_ms == 4_000


@pytest.mark.parametrize(
    ("keys", "retention_ms"),
    [
        ({}, 604_800_000),
        ({"log_retention_hours": "1"}, 3_600_000),
        ({"log_retention_hours": "1", "log_retention_minutes": "1"}, 60_000),
        ({"log_retention_hours": "1", "log_retention_ms": "5"}, 5),
        ({"log_retention_hours": "-1"}, -1),
    ],
)
def test_the_finer_unit_wins(keys: dict[str, str], retention_ms: int) -> None:
    assert BrokerConfig.for_tests(**keys).topic_defaults.retention_ms == retention_ms


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"Cannot read the configuration .*: No such file"):
        load_broker(Arguments(tmp_path / "none"), {})
    with pytest.raises(StartError, match="Is a directory"):
        load_broker(Arguments(tmp_path), {})
    (tmp_path / "binary").write_bytes(b"node.id=\xff")
    with pytest.raises(StartError, match="not UTF-8 at byte 8"):
        load_broker(Arguments(tmp_path / "binary"), {})
    (tmp_path / "large").write_bytes(b"#" * 1_048_577)
    with pytest.raises(StartError, match="at most 1,048,576"):
        load_broker(Arguments(tmp_path / "large"), {})


def test_the_command_line() -> None:
    arguments = parse_arguments("broker", ["f.properties", "--override", "a=1", "--override=b=2"])
    assert arguments == Arguments(Path("f.properties"), ("a=1", "b=2"))
    with pytest.raises(SystemExit):
        parse_arguments("broker", ["--unknown"])
