"""Nodes that cannot start: each says in a sentence why, and exits with 1; the others never mind.

Every node here is an extra one, beside a cluster that serves, with one thing wrong.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from klamm.cluster.node_process import node_environment
from tests.process.raw_broker import RawBroker, batch_of
from tests.process.running import Running

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

TOPIC = "unmoved"
DEADLINE_S = 40.0
OTHER_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAQ"


@dataclass
class Extra:
    """A further node: the configuration of `of`, with some keys changed, in a new directory."""

    cluster: Running
    directory: Path
    of: str = "broker-1"
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def kind(self) -> str:
        return self.of.partition("-")[0]

    def meta(self) -> Path:
        """A copy of the model's meta.properties, to be spoiled."""
        self.data.mkdir(parents=True)
        name = "meta.properties"
        shutil.copy(self.cluster.directory / self.of / "data" / name, self.data / name)
        return self.data / name

    def refused(self) -> str:
        """Start it; what it says on stderr before it exits with 1."""
        file = self.directory / "server.properties"
        layout = self.cluster.cluster.layout
        listener = "CONTROLLER" if self.kind == "controller" else "PLAINTEXT"
        text = layout.properties(self.cluster.cluster.node(self.of).layout)
        keys = {
            "log.dirs": str(self.data),
            "listeners": f"{listener}://127.0.0.1:0",
            "klamm.http.port": "0",
            **self.keys,
        }
        file.write_text(text + "".join(f"{key}={value}\n" for key, value in keys.items()))
        done = subprocess.run(
            [sys.executable, "-m", self.kind, str(file)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=node_environment(),
        )
        assert done.returncode == 1, done
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        _, refusal, sentence = done.stderr.partition(f"klamm {self.kind}: ")
        assert refusal, done.stderr
        return sentence


@pytest.fixture(scope="module")
def leader(cluster: Running) -> str:
    cluster.create_topic(TOPIC, 1)
    cluster.wait_in_sync()
    return cluster.address(f"broker-{cluster.topics(TOPIC)[0].partitions[0].leader_id}")


@pytest.fixture(autouse=True)
def unharmed(cluster: Running, leader: str) -> Iterator[None]:
    """The cluster serves on, with the same brokers in sync."""
    yield
    with RawBroker(leader) as raw:
        assert raw.produce(TOPIC, batch_of(b"after")) == 0
    cluster.wait_in_sync()


@pytest.fixture
def extra(cluster: Running, tmp_path: Path) -> Extra:
    return Extra(cluster, tmp_path)


def test_a_broker_of_another_cluster(extra: Extra) -> None:
    extra.keys = {"cluster.id": OTHER_CLUSTER, "node.id": "9"}
    said = extra.refused()
    assert OTHER_CLUSTER in said, said
    assert "cluster" in said


def test_a_second_broker_with_the_same_id(extra: Extra) -> None:
    """It waits for as long as the first may be a dead one whose session has not ended yet."""
    extra.keys = {"broker.heartbeat.interval.ms": "200"}
    said = extra.refused()
    assert "another process is running as broker 1" in said


def test_a_controller_of_another_cluster(extra: Extra) -> None:
    """Its peers refuse it: it never leads nor votes here."""
    extra.of, extra.keys = "controller-1", {"cluster.id": OTHER_CLUSTER, "node.id": "9"}
    assert "node.id" in extra.refused()


def test_a_controller_that_is_no_voter(extra: Extra) -> None:
    extra.of, extra.keys = "controller-1", {"node.id": "9"}
    said = extra.refused()
    assert "9" in said
    assert "controller.quorum.voters" in said


@pytest.mark.parametrize("of", ["broker-1", "controller-1"])
@pytest.mark.parametrize("key", ["listeners", "klamm.http.port"])
def test_a_port_in_use(extra: Extra, of: str, key: str) -> None:
    extra.of = of
    layout = extra.cluster.cluster.node("broker-2").layout
    listener = "PLAINTEXT" if of == "broker-1" else "CONTROLLER"
    if key == "listeners":
        port, value = layout.port, f"{listener}://{layout.address}"
    else:
        port, value = layout.http_port, str(layout.http_port)
    extra.keys = {key: value}
    assert str(port) in extra.refused()


@pytest.mark.parametrize("of", ["broker-1", "controller-1"])
def test_a_directory_that_another_process_uses(extra: Extra, of: str) -> None:
    extra.of = of
    data = extra.cluster.directory / of / "data"
    extra.keys = {"log.dirs": str(data)}
    said = extra.refused()
    assert str(data) in said
    assert "in use" in said


@pytest.mark.parametrize("of", ["broker-1", "controller-1"])
def test_a_directory_of_another_cluster(extra: Extra, of: str) -> None:
    extra.of = of
    meta = extra.meta()
    text = meta.read_text().replace(extra.cluster.cluster.layout.cluster_id, OTHER_CLUSTER)
    text = text.partition("checksum")[0]  # As one that was written before there were any.
    meta.write_text(text)
    said = extra.refused()
    assert OTHER_CLUSTER in said
    assert str(extra.data) in said
    assert meta.read_text() == text


def test_a_directory_of_another_node(extra: Extra) -> None:
    extra.meta()
    extra.keys = {"node.id": "9"}
    said = extra.refused()
    assert str(extra.data) in said
    assert "9" in said


@pytest.mark.parametrize("of", ["broker-1", "controller-1"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00\x01" * 40, b"version=1\n", b"no equals sign\n", b"version=7\n"],
    ids=["empty", "noise", "half", "no keys", "a later version"],
)
def test_a_damaged_meta_properties(extra: Extra, of: str, content: bytes) -> None:
    extra.of = of
    meta = extra.meta()
    meta.write_bytes(content)
    assert str(meta) in extra.refused()
    assert meta.read_bytes() == content


def test_a_meta_properties_that_cannot_be_read(extra: Extra) -> None:
    (extra.data / "meta.properties").mkdir(parents=True)
    assert str(extra.data / "meta.properties") in extra.refused()


def test_a_directory_that_is_a_file(extra: Extra) -> None:
    extra.data.write_text("not a directory")
    assert str(extra.data) in extra.refused()


def test_a_directory_with_strange_things_in_it(extra: Extra) -> None:
    extra.data.mkdir()
    (extra.data / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in extra.refused()
    assert (extra.data / "thesis.txt").read_text() == "years of work"


def test_all_that_is_wrong_in_a_configuration_is_told_at_once(extra: Extra) -> None:
    extra.keys = {"num.partitions": "many", "no.such.key": "1", "broker.heartbeat.interval.ms": "0"}
    said = extra.refused()
    for key in extra.keys:
        assert key in said
