"""`klamm up` and what one does with it: every command against real nodes, as a person would."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

COMMAND_TIMEOUT_S = 60


@dataclass(frozen=True)
class Terminal:
    """Types commands about one cluster."""

    directory: Path

    def type(
        self,
        *arguments: str,
        status: int = 0,
        stdin: str = "",
        here: bool = True,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> "subprocess.CompletedProcess[str]":
        where = ("--dir", str(self.directory)) if here else ()
        done = subprocess.run(
            [sys.executable, "-m", "klamm.cli", *arguments, *where],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "KLAMM_STATE_DIR": str(self.directory / "state")},
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def json(self, *arguments: str, here: bool = True) -> Any:
        return json.loads(self.type(*arguments, "-o", "json", here=here).stdout)

    @property
    def file(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.directory / "cluster.json").read_text())
        return told


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("cluster") / "dir")
    said = terminal.type("up", "--detach", "--base-port", "0").stdout
    try:
        assert said.count("Kafka Server started") == 3
        yield terminal
    finally:
        terminal.type("down")
    assert {each["pid"] for each in terminal.file["brokers"]} == {None}


def test_cluster_json_names_processes_and_addresses(terminal: Terminal) -> None:
    told = terminal.file
    assert list(told) == ["cluster_id", "controllers", "brokers"]
    assert [list(each) for each in told["controllers"]] == [["id", "pid", "grpc"]] * 3
    assert [list(each) for each in told["brokers"]] == [["id", "pid", "kafka", "rack"]] * 3
    for each in (*told["controllers"], *told["brokers"]):
        assert Path(f"/proc/{each['pid']}").exists()


def test_topics_from_creation_to_deletion(terminal: Terminal) -> None:
    made = terminal.json("topics", "create", "short", "-p", "2", "-c", "retention.ms=1000")
    assert (made["partitions"], made["replication_factor"]) == (2, 3)
    assert "short" in [each["name"] for each in terminal.json("topics", "list")]
    topic = terminal.json("topics", "describe", "short")[0]
    assert topic["configs"] == {"retention.ms": "1000"}
    assert [len(each["replicas"]) for each in topic["partitions"]] == [3, 3]
    refused = terminal.type("topics", "create", "short", status=1)
    assert "TOPIC_ALREADY_EXISTS" in refused.stderr
    assert (
        "INVALID_CONFIG"
        in terminal.type("topics", "create", "bad", "-c", "retention.ms=soon", status=1).stderr
    )
    terminal.type("topics", "delete", "short")
    assert "short" not in [each["name"] for each in terminal.json("topics", "list")]


def test_records_in_and_out(terminal: Terminal) -> None:
    terminal.type("topics", "create", "letters", "-p", "3")
    lines = "".join(f"k{each}:value {each}\n" for each in range(100))
    said = terminal.type("produce", "letters", "--key-separator", ":", stdin=lines).stderr
    assert "100 acknowledged, 0 failed." in said
    read = terminal.type(
        "consume", "letters", "--from-beginning", "-n", "100", "--key-separator", ":"
    ).stdout
    assert sorted(read.splitlines()) == sorted(lines.splitlines())
    some = terminal.type(
        "consume", "letters", "--from-beginning", "--timeout", "2", "-o", "json"
    ).stdout
    records = [json.loads(each) for each in some.splitlines()]
    assert {each["value"] for each in records} == {f"value {each}" for each in range(100)}
    assert "UNKNOWN_TOPIC" in terminal.type("consume", "nowhere", status=1).stderr


def test_who_leads_and_who_serves(terminal: Terminal) -> None:
    quorum = terminal.json("quorum", "describe")
    assert quorum["leader_id"] in {1, 2, 3}
    assert [each["id"] for each in quorum["current_voters"]] == [1, 2, 3]
    status = terminal.json("status")
    assert status["leader_id"] == quorum["leader_id"]
    assert [each["state"] for each in status["brokers"]] == ["active"] * 3
    assert [each["id"] for each in terminal.json("brokers", "list")] == [1, 2, 3]
    log = terminal.type("metadata", "dump").stdout.splitlines()
    assert [json.loads(each)["offset"] for each in log] == list(range(len(log)))
    image = terminal.json("metadata", "dump", "--image")
    assert image["cluster_id"] == terminal.file["cluster_id"]


def test_a_cluster_is_found_by_any_address(terminal: Terminal) -> None:
    told = terminal.file
    cluster_id = told["cluster_id"]
    for option, node, key in (
        ("--controller", "controllers", "grpc"),
        ("--bootstrap-server", "brokers", "kafka"),
    ):
        for each in told[node]:
            found = terminal.json("status", option, each[key], here=False)
            assert found["cluster_id"] == cluster_id
    assert terminal.json("status", here=False)["cluster_id"] == cluster_id


@pytest.mark.parametrize("node", ["controller-1", "broker-1"])
def test_a_node_is_killed_and_brought_back(terminal: Terminal, node: str) -> None:
    kind, _, node_id = node.partition("-")
    row = int(node_id) - 1
    before = terminal.file[f"{kind}s"][row]["pid"]
    terminal.type("kill", node)
    assert terminal.file[f"{kind}s"][row]["pid"] is None
    assert not Path(f"/proc/{before}").exists()
    # Three: of two replicas one might stand in the dead broker's rack, and acks=all would wait.
    terminal.type("topics", "create", f"without-{node}", "-r", "3")
    terminal.type("produce", f"without-{node}", stdin="on it goes\n")
    terminal.type("start", node)
    assert Path(f"/proc/{terminal.file[f'{kind}s'][row]['pid']}").exists()


def test_a_node_is_paused_stopped_and_started(terminal: Terminal) -> None:
    terminal.type("pause", "broker-3")
    terminal.type("resume", "broker-3")
    terminal.type("stop", "broker-3")
    assert terminal.file["brokers"][2]["pid"] is None
    terminal.type("start", "broker-3")
    assert "There is no broker-9" in terminal.type("kill", "broker-9", status=1).stderr


def test_leadership_is_transferred_and_every_node_restarted(terminal: Terminal) -> None:
    """One after the other, and the cluster serves all the while."""
    former = terminal.json("quorum", "describe")["leader_id"]
    target = former % 3 + 1
    done = terminal.json("quorum", "transfer", "--to", str(target))
    assert (done["former_leader_id"], done["leader_id"]) == (former, target)
    assert terminal.json("quorum", "describe")["leader_id"] == target
    refused = terminal.type("quorum", "transfer", "--to", "9", status=1).stderr
    assert "controller 9 is no voter; 1, 2, 3 are" in refused
    before = {each["pid"] for kind in ("controllers", "brokers") for each in terminal.file[kind]}
    said = terminal.type("roll", timeout_s=150).stdout.splitlines()
    assert said[2] == f"controller-{min({1, 2, 3} - {target})} leads"
    assert said[3] == f"controller-{target} restarted"
    assert sorted(each for each in said if "restarted" in each) == [
        f"{kind}-{node} restarted" for kind in ("broker", "controller") for node in (1, 2, 3)
    ]
    after = {each["pid"] for kind in ("controllers", "brokers") for each in terminal.file[kind]}
    assert not before & after


def test_a_second_cluster_in_the_same_directory_is_refused(terminal: Terminal) -> None:
    assert "is running in" in terminal.type("up", status=1).stderr


def test_a_port_in_use_is_named(terminal: Terminal, tmp_path: Path) -> None:
    port = terminal.file["brokers"][0]["kafka"].rpartition(":")[2]
    other = Terminal(tmp_path / "other")
    assert f"Port {port} is in use" in other.type("up", "--base-port", port, status=1).stderr


def test_the_tour_proves_what_it_shows(tmp_path: Path) -> None:
    other = Terminal(tmp_path / "tour")
    said = other.type("tour", "--leave", "--base-port", "0").stdout
    assert "Proven: all" in said
