"""A backup of a running cluster begins a new one with the same state, and the old nodes stay out.

Real controllers, a real broker, a Kafka client; the disks of the controllers are wiped in between
(kraft.md 7.2, 12, and 7.8, 43; scenario 16 for what is in the file).
"""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.recovery.raised import OFFSET_JUMP, PARTITION_EPOCHS_JUMP, raised
from klamm.cluster.node_process import node_environment
from klamm.log.files import SystemFiles
from klamm.metadata.backup import read
from tests.process.test_members import WAIT_S, Quorum, registered
from tests.process.test_recover import register

pytestmark = pytest.mark.process

BROKER = 11
TOPIC = "orders"
ACKNOWLEDGED = 1_001
LATER = 1_002
"""Registered before the backup, and after it."""

LINES = "".join(f"line {each}\n" for each in range(20))
CONFIGS = {"retention.ms": "123456789", "max.message.bytes": "65536"}


class Whole(Quorum):
    """Controllers, and one broker with data of its own."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.broker: subprocess.Popen[bytes] | None = None
        self.bootstrap = free_address()

    def start_broker(self) -> None:
        where = self.root / "broker"
        where.mkdir(exist_ok=True)
        properties = where / "server.properties"
        keys = {
            "process.roles": "broker",
            "node.id": str(BROKER),
            "cluster.id": self.describe()["cluster_id"],
            "listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": ",".join(self.addresses.values()),
            "log.dirs": str(where / "data"),
        }
        properties.write_text("".join(f"{key}={each}\n" for key, each in keys.items()))
        with (where / "broker.log").open("ab") as log:
            self.broker = subprocess.Popen(
                [sys.executable, "-m", "broker", str(properties)],
                stdout=log,
                stderr=log,
                env=node_environment(),
            )
        self.wait(lambda: self.states().get(BROKER) == "active", "the broker to serve")

    def stop_broker(self) -> None:
        assert self.broker is not None
        self.broker.terminate()
        self.broker.wait(WAIT_S)
        self.broker = None
        self.wait(lambda: self.states().get(BROKER) == "fenced", "the broker to be fenced")

    def lines(self) -> list[str]:
        """What a Kafka client reads of the topic."""
        words = ("consume", TOPIC, "--from-beginning", "-n", str(LINES.count("\n")))
        return sorted(self.klamm(*words, "--bootstrap-server", self.bootstrap).splitlines())

    def states(self) -> dict[int, str]:
        listed = json.loads(self.ask("brokers", "list", "-o", "json"))
        return {each["id"]: each["state"] for each in listed}

    def ask(self, *words: str) -> str:
        """A command to the controllers."""
        return self.klamm(*words, "--controller", ",".join(self.addresses.values()))

    def image(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.ask("metadata", "dump", "--image"))
        return told

    def back_up(self, path: Path, node: int) -> dict[str, Any]:
        """Asked of one controller only."""
        words = ("metadata", "backup", str(path), "-o", "json", "--controller")
        told: dict[str, Any] = json.loads(self.klamm(*words, self.addresses[node]))
        return told

    def close(self) -> None:
        if self.broker is not None:
            self.broker.kill()
            self.broker.wait()
        super().close()
        for log in self.root.glob("broker/broker.log"):
            assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    it = Whole(tmp_path)
    try:
        it.first()
        yield it
    finally:
        it.close()


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.timeout(900)
def test_wiped_and_restored_it_is_the_same_cluster(whole: Whole, tmp_path: Path) -> None:
    whole.wait(lambda: whole.leader() == 1, "the first leader")
    for node in (2, 3):
        whole.join(node, tmp_path / str(node))
    _work(whole)
    path = tmp_path / "monday.klamm"
    asyncio.run(register(whole, ACKNOWLEDGED))
    taken = whole.back_up(path, node=2)
    assert ACKNOWLEDGED in read(SystemFiles(), path).image.brokers, "whoever leads"
    assert "is there already" in whole.klamm("metadata", "backup", str(path), fails=True)
    before = whole.image()
    asyncio.run(register(whole, LATER))
    _lose_all(whole, tmp_path)
    _restore(whole, path, tmp_path / "1", taken)
    _the_same(whole, tmp_path, taken, before)
    _the_old_one_stays_out(whole, tmp_path)
    whole.join(2, tmp_path / "2")
    whole.join(3, tmp_path / "3-new")
    assert whole.voters() == [1, 2, 3]
    whole.start_broker()
    assert whole.lines() == sorted(LINES.splitlines())
    assert LATER not in asyncio.run(registered(tuple(whole.addresses.values())))


def _work(whole: Whole) -> None:
    """A topic with configs and records; then the broker stops, so that nothing changes any more."""
    whole.start_broker()
    configs = [word for key, value in CONFIGS.items() for word in ("--config", f"{key}={value}")]
    whole.ask("topics", "create", TOPIC, "-p", "3", "-r", "1", *configs)
    whole.klamm("produce", TOPIC, "--bootstrap-server", whole.bootstrap, typed=LINES)
    assert whole.lines() == sorted(LINES.splitlines())
    whole.stop_broker()


def _lose_all(whole: Whole, root: Path) -> None:
    """The third disk is not lost, but nobody knows."""
    for node in (1, 2, 3):
        whole.kill(node)
    for node in (1, 2):
        shutil.rmtree(root / str(node))


def _restore(whole: Whole, path: Path, where: Path, taken: dict[str, Any]) -> None:
    """Into an empty directory, at the address that the brokers know."""
    address = whole.addresses[1]
    whole.addresses = {1: address}
    words = ("--dir", str(where), "--id", "1", "--listen", address, "-o", "json")
    short = path.with_name("short.klamm")
    short.write_bytes(path.read_bytes()[:-1])
    refused = whole.klamm("metadata", "restore", "--from", str(short), *words, fails=True)
    assert "short.klamm" in refused
    assert not where.exists(), "nothing is written before the file is known to be whole"
    told = json.loads(whole.klamm("metadata", "restore", "--from", str(path), *words))
    assert told["cluster_id"] == told["from_cluster_id"] == taken["cluster_id"]
    assert (told["offset"], told["epoch"]) == (taken["offset"], taken["epoch"])
    assert told["checksum"] == taken["checksum"]
    whole.start(1, where)
    whole.wait(lambda: whole.voters() == [1], "the only voter")
    assert whole.describe()["leader_epoch"] >= told["new_epoch"] > taken["epoch"] + 1_000_000


def _the_same(whole: Whole, root: Path, taken: dict[str, Any], before: dict[str, Any]) -> None:
    """What the quorum says of itself, and what its checksum is of."""
    after = whole.image()
    assert after["cluster_id"] == before["cluster_id"]
    assert after["offset"] > taken["offset"] + OFFSET_JUMP
    for partition in (each for topic in after["topics"] for each in topic["partitions"]):
        partition["leader_epoch"] -= PARTITION_EPOCHS_JUMP
        partition["partition_epoch"] -= PARTITION_EPOCHS_JUMP
    assert after["topics"] == before["topics"]
    assert after["brokers"] == before["brokers"]
    assert [each["configs"] for each in after["topics"]] == [CONFIGS]
    again = whole.back_up(root / "again.klamm", node=1)
    expected = raised(read(SystemFiles(), root / "monday.klamm").image)
    assert again["checksum"] == f"{expected.checksum:032x}"


def _the_old_one_stays_out(whole: Whole, root: Path) -> None:
    whole.start(3, root / "3")
    whole.wait(lambda: 3 in whole.observers(), "the old one to follow")
    described = whole.describe()
    assert described["leader_id"] == 1
    assert [each["id"] for each in described["current_voters"]] == [1]
    assert "removed" in whole.change("add", 3, fails=True)
    whole.kill(3)


@pytest.mark.timeout(600)
def test_a_broker_goes_on_whatever_it_has_written_since_the_backup(
    whole: Whole, tmp_path: Path
) -> None:
    """Under later leader epochs than the backup knows of; it is not even started again."""
    whole.wait(lambda: whole.leader() == 1, "the only controller to lead")
    whole.start_broker()
    whole.ask("topics", "create", TOPIC, "-p", "1", "-r", "1")
    path = tmp_path / "monday.klamm"
    taken = whole.back_up(path, node=1)
    whole.stop_broker()
    whole.start_broker()
    half = len(LINES) // 2
    cut = LINES.index("\n", half) + 1
    whole.klamm("produce", TOPIC, "--bootstrap-server", whole.bootstrap, typed=LINES[:cut])
    asyncio.run(register(whole, *range(LATER, LATER + 9)))
    whole.kill(1)
    shutil.rmtree(tmp_path / "1")
    _restore(whole, path, tmp_path / "1", taken)
    whole.wait(lambda: _leads(whole), "the broker to lead in the new generation")
    whole.klamm("produce", TOPIC, "--bootstrap-server", whole.bootstrap, typed=LINES[cut:])
    assert whole.lines() == sorted(LINES.splitlines())
    whole.stop_broker()
    whole.start_broker()
    assert whole.lines() == sorted(LINES.splitlines())


def _leads(whole: Whole) -> bool:
    (topic,) = json.loads(whole.ask("topics", "describe", TOPIC, "-o", "json"))
    (partition,) = topic["partitions"]
    later = partition["leader_epoch"] >= PARTITION_EPOCHS_JUMP
    return later and partition["leader_id"] == BROKER and whole.states()[BROKER] == "active"
