"""deploy/docker-compose.yml with a real engine: clients on the host and in the network, and kills.

Skipped, saying so, where no Docker engine can be had.
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "docker-compose.yml"
NODES = tuple(f"klamm-{kind}-{number}" for kind in ("controller", "kafka") for number in (1, 2, 3))
ON_THE_HOST = "localhost:29092,localhost:39092,localhost:49092"
IN_THE_NETWORK = "kafka-1:19092,kafka-2:19092,kafka-3:19092"

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def compose_command() -> list[str] | None:
    """Compose 1.29 or v2, whichever is here with an engine; None: neither."""
    if shutil.which("docker") is None:
        return None
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return None
    if shutil.which("docker-compose") is not None:
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else None


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def health(node: str) -> str:
    return docker("inspect", "-f", "{{.State.Health.Status}}", node).strip()


def until(condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.5)):
        if condition():
            return
        pause.wait(0.5)
    raise AssertionError(f"waited {timeout_s} s for {what}, in vain")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    compose = compose_command()
    if compose is None:
        pytest.skip("no Docker engine, or no compose, can be had here")

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [*compose, "-f", str(FILE), *arguments],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("down", "-v")
    try:
        run("up", "--build", "-d")
        until(lambda: all(health(each) == "healthy" for each in NODES), "six healthy nodes")
        yield
    finally:
        run("down", "-v", "-t", "30")


def klamm(*arguments: str, on: str = "klamm-controller-1") -> str:
    return docker("exec", on, "klamm", *arguments)


def leader() -> int:
    controllers = "controller-1:9093,controller-2:9093,controller-3:9093"
    on = next(each for each in NODES if health(each) == "healthy")
    told = json.loads(klamm("quorum", "describe", "--controller", controllers, "-o", "json", on=on))
    return int(told["leader_id"])


def produce(values: range) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": ON_THE_HOST, "acks": "all"})
    for value in values:
        producer.produce(
            "orders",
            str(value),
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(60) == 0
    assert failed == []


def consume(count: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": ON_THE_HOST, "group.id": "unused"})
    consumer.assign([TopicPartition("orders", each, OFFSET_BEGINNING) for each in range(6)])
    values: list[int] = []

    def more() -> bool:
        for message in consumer.consume(1_000, timeout=0.1):
            value = message.value()
            if message.error() is None and value is not None:
                values.append(int(value))
        return len(values) >= count

    until(more, f"{count} records", timeout_s=60)
    consumer.close()
    return sorted(values)


def test_nodes_are_nobody_in_particular(cluster: None) -> None:
    assert docker("exec", "klamm-kafka-1", "id", "-u").strip() == "1000"


def test_clients_on_the_host_and_in_the_network(cluster: None) -> None:
    made = klamm(
        "topics", "create", "orders", "-p", "6", "-o", "json", "--bootstrap-server", IN_THE_NETWORK
    )
    assert json.loads(made)["replication_factor"] == 3
    produce(range(100))
    read = klamm(
        "consume", "orders", "--from-beginning", "-n", "100", "--bootstrap-server", IN_THE_NETWORK,
        on="klamm-kafka-2",
    )  # fmt: skip
    assert sorted(map(int, read.split())) == list(range(100))


def test_a_killed_controller_and_a_killed_broker_are_survived(cluster: None) -> None:
    active = f"klamm-controller-{leader()}"
    docker("kill", active)
    produce(range(100, 200))
    until(lambda: leader() > 0, "another leader")
    docker("kill", "klamm-kafka-2")
    produce(range(200, 300))
    assert consume(300) == list(range(300))
    for node in (active, "klamm-kafka-2"):
        docker("start", node)
        until(lambda node=node: health(node) == "healthy", f"{node} to be healthy again")  # type: ignore[misc]


def test_docker_stop_is_a_clean_stop(cluster: None) -> None:
    docker("stop", "-t", "30", "klamm-kafka-3")
    assert docker("inspect", "-f", "{{.State.ExitCode}}", "klamm-kafka-3").strip() == "0"
    docker("start", "klamm-kafka-3")
    until(lambda: health("klamm-kafka-3") == "healthy", "it to be healthy again")


def test_a_node_that_is_not_ready_is_not_called_healthy(cluster: None) -> None:
    docker("pause", "klamm-controller-2")
    docker("unpause", "klamm-controller-2")
    for number in (1, 3):
        docker("kill", f"klamm-controller-{number}")
    until(lambda: health("klamm-controller-2") == "unhealthy", "the last of three to say so")
    for number in (1, 3):
        docker("start", f"klamm-controller-{number}")
    until(lambda: all(health(each) == "healthy" for each in NODES), "six healthy nodes")
