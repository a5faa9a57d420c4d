"""LocalCluster with fake nodes: real processes, signals and files, and no Klamm in them."""

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from klamm.cluster.cluster import LocalCluster
from klamm.cluster.health import not_ready
from klamm.cluster.layout import NodeLayout
from klamm.cluster.node_process import NodeCommand, NodeProcess
from klamm.errors import StartError


@pytest.fixture
async def cluster(directory: Path, fake: NodeCommand) -> AsyncIterator[LocalCluster]:
    async with LocalCluster.open(
        directory, controllers=1, brokers=2, base_port=0, command=fake
    ) as made:
        await made.start()
        yield made


def pids(directory: Path) -> dict[str, int | None]:
    told = json.loads((directory / "cluster.json").read_text())
    controllers = {f"controller-{each['id']}": each["pid"] for each in told["controllers"]}
    return controllers | {f"broker-{each['id']}": each["pid"] for each in told["brokers"]}


def formatted(directory: Path) -> list[Path]:
    return list(directory.rglob("meta.properties"))


def is_alive(pid: int | None) -> bool:
    assert pid is not None
    return Path(f"/proc/{pid}").exists()


async def test_cluster_json_is_kept_true(cluster: LocalCluster, directory: Path) -> None:
    before = pids(directory)
    assert all(is_alive(pid) for pid in before.values())
    await cluster.kill("broker-1")
    assert pids(directory) == before | {"broker-1": None}
    assert not is_alive(before["broker-1"])
    await cluster.start_node("broker-1")
    assert is_alive(pids(directory)["broker-1"])


async def test_a_node_that_ends_by_itself_is_noticed(
    cluster: LocalCluster, directory: Path
) -> None:
    pid = pids(directory)["broker-2"]
    assert pid is not None
    os.kill(pid, 9)

    async def noticed() -> bool:
        return pids(directory)["broker-2"] is None

    await cluster.until(noticed, "cluster.json to say so", timeout_s=5)
    assert not cluster.node("broker-2").running


async def test_stop_is_in_order_and_kill_is_not(cluster: LocalCluster) -> None:
    await cluster.stop_node("broker-1")
    await cluster.kill("broker-2")
    assert "stopped in order" in cluster.node("broker-1").log_file.read_text()
    assert "stopped in order" not in cluster.node("broker-2").log_file.read_text()


async def test_a_paused_node_is_silent_and_goes_on(cluster: LocalCluster) -> None:
    node = cluster.node("broker-1")
    cluster.pause("broker-1")
    assert node.paused
    assert node.running
    assert await not_ready("127.0.0.1", node.layout.http_port) == ("it does not answer",)
    cluster.resume("broker-1")
    assert not node.paused
    assert await not_ready("127.0.0.1", node.layout.http_port) == ()


async def test_a_paused_node_can_be_stopped(cluster: LocalCluster) -> None:
    cluster.pause("broker-1")
    await cluster.stop_node("broker-1")
    assert not cluster.node("broker-1").running


async def test_nodes_hear_nothing_of_our_environment(
    directory: Path, fake: NodeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_NODE_ID", "77")
    cluster = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)
    ready: list[str] = []

    def on_ready(node: NodeProcess) -> None:
        ready.append(node.name)

    async with cluster:
        await cluster.start(on_ready=on_ready)
        assert "serving 1 None" in cluster.node("broker-1").log_file.read_text()
    assert sorted(ready) == ["broker-1", "controller-1"]


async def test_the_same_directory_is_the_same_cluster(directory: Path, fake: NodeCommand) -> None:
    first = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)
    with pytest.raises(StartError, match=r"is running in .* already"):
        LocalCluster.open(directory, command=fake)
    await first.close()
    async with LocalCluster.open(directory, command=fake) as second:
        assert second.layout.nodes == first.layout.nodes
        assert second.layout.cluster_id == first.layout.cluster_id
    for asked in ({"controllers": 3}, {"brokers": 2}, {"base_port": 1}):
        with pytest.raises(StartError, match="holds a cluster"):
            LocalCluster.open(directory, command=fake, **asked)  # type: ignore[arg-type]


async def test_a_new_clusters_controllers_are_formatted_and_an_old_ones_are_not(
    directory: Path,
) -> None:
    """A node that was to begin alone, and finds nothing, has lost its disk."""
    async with LocalCluster.open(directory, controllers=1, brokers=1, base_port=0):
        (meta,) = formatted(directory)
    assert meta.parent.parent.name == "controller-1"
    meta.unlink()
    async with LocalCluster.open(directory):
        assert not formatted(directory)


async def test_controllers_come_and_go_and_stay_so(directory: Path, fake: NodeCommand) -> None:
    async with LocalCluster.open(
        directory, controllers=1, brokers=2, base_port=0, command=fake
    ) as cluster:
        await cluster.start()
        before = pids(directory)
        await cluster.add_controller(4)
        came = pids(directory)
        assert is_alive(came.pop("controller-4"))
        assert came == before, "the others go on"
        assert "bootstrap.servers" in (directory / "controller-1/server.properties").read_text()
        assert len(set(cluster.controller_addresses)) == 2
        await cluster.remove_controller("controller-1")
        assert set(pids(directory)) == {"controller-4", "broker-1", "broker-2"}
        assert not is_alive(before["controller-1"])
        assert (directory / "controller-1").exists(), "what it had is kept"
    async with LocalCluster.open(directory, command=fake) as again:
        assert [each.name for each in again.layout.controllers] == ["controller-4"]
        assert again.layout.nodes == cluster.layout.nodes


async def test_controllers_that_cannot_come_or_go(cluster: LocalCluster, directory: Path) -> None:
    with pytest.raises(StartError, match="controller-1 is not one controller of several"):
        await cluster.remove_controller("controller-1")
    await cluster.add_controller(2)
    for name in ("broker-1", "controller-7"):
        with pytest.raises(StartError, match=r"is not one controller of several|There is no"):
            await cluster.remove_controller(name)
    await cluster.remove_controller("controller-2")
    with pytest.raises(StartError, match=r"controller-2 is there already"):
        await cluster.add_controller(2)
    assert set(pids(directory)) == set(cluster.nodes)


async def test_a_controller_that_does_not_come_up_is_gone_again(
    directory: Path, fake: NodeCommand
) -> None:
    def some(node: NodeLayout, properties: Path) -> Sequence[str]:
        if node.name == "controller-2":
            return (sys.executable, "-c", "raise SystemExit('no room')")
        return fake(node, properties)

    async with LocalCluster.open(
        directory, controllers=1, brokers=1, base_port=0, command=some
    ) as cluster:
        await cluster.start()
        with pytest.raises(StartError, match=r"(?s)controller-2 ended as it started.*no room"):
            await cluster.add_controller(2)
        assert set(pids(directory)) == set(cluster.nodes) == {"controller-1", "broker-1"}


async def test_nodes_whose_owner_died_are_told_of(directory: Path, fake: NodeCommand) -> None:
    cluster = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)
    await cluster.start()
    os.close(cluster._lock)  # As the kernel does for an owner that was killed.
    with pytest.raises(StartError, match=r"still running: controller-1 \(pid \d+\), broker-1"):
        LocalCluster.open(directory, command=fake)
    await cluster.stop()


async def test_a_node_that_fails_says_why_and_the_others_are_stopped(
    directory: Path, fake: NodeCommand
) -> None:
    cluster = LocalCluster.open(
        directory,
        controllers=1,
        brokers=1,
        base_port=0,
        overrides={"broker.rack": "broken"},
        command=fake,
    )
    async with cluster:
        with pytest.raises(
            StartError, match=r"(?s)broker-1 ended as it started.*the disk is broken"
        ):
            await cluster.start()
        assert not any(each.running for each in cluster.nodes.values())


def test_a_command_that_is_not_there(directory: Path) -> None:
    async def start() -> None:
        cluster = LocalCluster.open(directory, base_port=0, command=lambda *_: ("/no/such",))
        async with cluster:
            await cluster.start()

    import asyncio

    with pytest.raises(StartError, match="Cannot start controller-1: No such file"):
        asyncio.run(start())


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"controllers": 0}, "--controllers must be 1 to 9, is 0"),
        ({"brokers": 101}, "--brokers must be 1 to 100, is 101"),
        ({"overrides": {"num.partitions": "x", "nonsense": "1"}}, "2 problems"),
    ],
)
def test_a_request_that_cannot_be_met(
    directory: Path, asked: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StartError, match=sentence):
        LocalCluster.open(directory, base_port=0, **asked)  # type: ignore[arg-type]
    assert not (directory / "layout.json").exists()
    LocalCluster.open(directory, base_port=0)  # Nothing was left behind that would be in the way.


def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"Cannot use the directory .*: Not a directory"):
        LocalCluster.open(tmp_path / "file", base_port=0)
    (tmp_path / "broker-1").mkdir()
    with pytest.raises(StartError, match=r"holds broker-1 but no layout\.json"):
        LocalCluster.open(tmp_path, base_port=0)


async def test_a_wait_that_is_in_vain_says_for_what(cluster: LocalCluster) -> None:
    async def never() -> bool:
        return False

    with pytest.raises(TimeoutError, match=r"waited 0\.05 s for the moon, in vain"):
        await cluster.until(never, "the moon", timeout_s=0.05)
