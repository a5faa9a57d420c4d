"""Names, ports, configuration files, cluster.json."""

import json
from pathlib import Path

import pytest

from klamm.cluster import cluster_file, state
from klamm.cluster.layout import ClusterLayout, NodeKind, layout_from_json, new_layout
from klamm.config.broker import BrokerConfig
from klamm.config.controller import ControllerConfig
from klamm.config.sources import from_file
from klamm.errors import StartError


def layout(directory: Path, controllers: int = 3, brokers: int = 3) -> ClusterLayout:
    nodes = controllers + brokers
    return new_layout(
        directory=directory,
        cluster_id="c",
        controllers=controllers,
        ports=(*range(9092, 9092 + nodes), *range(9644, 9644 + nodes)),
        overrides={"num.partitions": "4", "log.dir": "C:\\x"},
    )


def test_ports_are_dealt_out_in_turn(directory: Path) -> None:
    made = layout(directory, controllers=2, brokers=3)
    assert [(each.name, each.port, each.http_port) for each in made.nodes] == [
        ("controller-1", 9093, 9645),
        ("controller-2", 9095, 9647),
        ("broker-1", 9092, 9644),
        ("broker-2", 9094, 9646),
        ("broker-3", 9096, 9648),
    ]


def test_every_node_gets_a_configuration_that_is_one(directory: Path) -> None:
    made = layout(directory)
    for node in made.nodes:
        given = from_file("f", made.properties(node))
        if node.kind is NodeKind.CONTROLLER:
            controller = ControllerConfig.of(given)
            assert controller.listener.port == node.port
            assert [each.port for each in controller.controller_quorum_voters] == [9093, 9095, 9097]
            assert controller.default_replication_factor == 3
        else:
            broker = BrokerConfig.of(given)
            assert broker.advertised_listeners[0].port == node.port
            assert broker.broker_rack == f"rack-{node.node_id}"
            assert broker.topic_defaults.min_insync_replicas == 2
            assert broker.num_partitions == 4
            assert broker.settings.text("log.dir") == "C:\\x"


def test_a_layout_comes_back_but_for_overrides(directory: Path) -> None:
    made = layout(directory)
    again = layout_from_json(made.to_json(), directory)
    assert (again.nodes, again.cluster_id) == (made.nodes, made.cluster_id)
    with pytest.raises(ValueError, match="no layout"):
        layout_from_json("{}", directory)


def test_a_controller_that_comes_is_told_whom_to_ask_and_not_who_votes(directory: Path) -> None:
    """A list of voters would be believed by one whose disk is gone."""
    made = layout(directory).with_controller(4, 9098, 9650).without_controller("controller-2")
    assert [each.name for each in made.controllers] == [f"controller-{each}" for each in (1, 3, 4)]
    for node in made.controllers:
        config = ControllerConfig.of(from_file("f", made.properties(node)))
        others = [each.address for each in made.controllers if each != node]
        assert list(config.controller_quorum_bootstrap_servers) == others
        assert not config.controller_quorum_voters
    broker = BrokerConfig.of(from_file("f", made.properties(made.brokers[0])))
    assert [each.rpartition(":")[2] for each in broker.controller_quorum_bootstrap_servers] == [
        "9093",
        "9097",
        "9098",
    ]
    again = layout_from_json(made.to_json(), directory)
    assert again.grown
    assert again.controllers == made.controllers


def test_the_last_controller_that_is_left_is_a_quorum_by_itself(directory: Path) -> None:
    made = layout(directory, controllers=2).without_controller("controller-1")
    config = ControllerConfig.of(from_file("f", made.properties(made.controllers[0])))
    assert [each.voter_id for each in config.controller_quorum_voters] == [2]


def test_cluster_json_is_as_the_issue_says(directory: Path) -> None:
    directory.mkdir()
    cluster_file.write(layout(directory, 1, 1), {"broker-1": 4711})
    assert json.loads((directory / "cluster.json").read_text()) == {
        "cluster_id": "c",
        "controllers": [{"id": 1, "pid": None, "grpc": "127.0.0.1:9093"}],
        "brokers": [{"id": 1, "pid": 4711, "kafka": "127.0.0.1:9092", "rack": "rack-1"}],
    }
    told = cluster_file.read(directory)
    assert [(each.name, each.pid) for each in told.nodes] == [
        ("controller-1", None),
        ("broker-1", 4711),
    ]
    assert told.bootstrap_servers == "127.0.0.1:9092"
    assert [each.name for each in directory.iterdir()] == ["cluster.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cluster_id": "c", "controllers": [{}]}'])
def test_what_is_no_cluster_json(directory: Path, text: str) -> None:
    with pytest.raises(StartError, match="holds no cluster"):
        cluster_file.read(directory)
    directory.mkdir()
    (directory / "cluster.json").write_text(text)
    with pytest.raises(StartError, match=r"is not the cluster\.json of a Klamm cluster"):
        cluster_file.read(directory)


def test_the_last_cluster_is_remembered_while_it_is_there(directory: Path) -> None:
    assert state.last_directory() is None
    state.remember(directory)
    assert state.last_directory() is None
    directory.mkdir()
    cluster_file.write(layout(directory), {})
    assert state.last_directory() == directory


def test_a_state_directory_that_cannot_be_made_is_no_failure(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAMM_STATE_DIR", "/proc/none")
    state.remember(directory)


def test_after_a_tour_the_usual_cluster_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLAMM_STATE_DIR", str(tmp_path))
    usual = state.default_directory()
    usual.mkdir()
    (usual / "cluster.json").write_text("{}")
    state.remember(tmp_path / "tour")
    assert state.last_directory() == usual
