"""The supervisor's door, and what the command line does where nobody stands behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from klamm.cluster import cluster_file, keeper
from klamm.cluster.cluster import LocalCluster
from klamm.cluster.node_process import NodeCommand
from klamm.cluster.supervisor import DOOR_NAME, NoSupervisorError, Supervisor, ask
from klamm.errors import StartError


@pytest.fixture
async def supervisor(directory: Path, fake: NodeCommand) -> AsyncIterator[Supervisor]:
    cluster = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)
    made = Supervisor(cluster)
    up = asyncio.Event()

    async def on_up() -> None:
        up.set()

    running = asyncio.create_task(made.run(lambda _: None, on_up))
    await up.wait()
    yield made
    made.stop()
    await running


async def asked(directory: Path, command: str, node: str = "") -> None:
    await asyncio.to_thread(ask, directory, command, node)


async def test_what_can_be_asked(supervisor: Supervisor, directory: Path) -> None:
    node = supervisor.cluster.node("broker-1")
    await asked(directory, "kill", "broker-1")
    assert not node.running
    await asked(directory, "start", "broker-1")
    assert node.running
    await asked(directory, "pause", "broker-1")
    assert node.paused
    await asked(directory, "resume", "broker-1")
    await asked(directory, "stop", "broker-1")
    assert not node.running
    assert await asyncio.to_thread(keeper.keeps, directory)
    await asyncio.to_thread(keeper.change, directory, "add", "controller-2")
    assert supervisor.cluster.node("controller-2").running
    await asyncio.to_thread(keeper.change, directory, "remove", "controller-2")
    assert "controller-2" not in supervisor.cluster.nodes


async def test_a_node_that_waits_for_others_says_so_at_once_and_in_the_end_what_to_do(
    directory: Path, fake: NodeCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was silent for half a minute."""
    monkeypatch.setattr("klamm.cluster.node_process.SAY_S", 0.0)
    cluster = LocalCluster.open(directory, controllers=3, brokers=1, base_port=0, command=fake)
    async with cluster:
        reason = directory / "controller-1" / "NOT-READY"
        reason.write_text("nobody leads")
        heard: list[str] = []
        with pytest.raises(StartError, match="It runs on") as caught:
            await cluster.start_node("controller-1", timeout_s=1.0, say=heard.append)
        advice = (
            "down: controller-2, controller-3. "
            f"Start one: `klamm start controller-2 --dir {directory}`"
        )
        first = f"controller-1 waits for a majority of the controllers; {advice}"
        assert heard[0] == first, "before anything else"
        assert str(caught.value).endswith(advice)
        reason.unlink()
        heard.clear()
        await cluster.start_node("controller-2", say=heard.append)
        assert not any("majority" in each for each in heard), "two of three are enough"


async def test_what_a_node_waits_for_is_told_to_who_asked(
    supervisor: Supervisor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klamm.cluster.node_process.SAY_S", 0.0)
    await asked(directory, "kill", "broker-1")
    reason = directory / "broker-1" / "NOT-READY"
    reason.write_text("its session is not open")
    heard: list[str] = []

    def say(line: str) -> None:
        heard.append(line)
        if "its session" in line:
            reason.unlink()

    await asyncio.to_thread(keeper.tell, directory, "start", "broker-1", say)
    assert heard[-1] == "broker-1 runs, and is not ready: its session is not open"


@pytest.mark.parametrize(
    ("command", "node", "sentence"),
    [
        ("kill", "broker-9", "There is no broker-9 here; there are controller-1, broker-1."),
        ("explode", "broker-1", "There is no command 'explode'."),
        ("add", "broker-2", "broker-2 is no name of a controller."),
        ("add", "controller-²", "controller-² is no name of a controller."),
    ],
)
async def test_what_cannot(
    supervisor: Supervisor, directory: Path, command: str, node: str, sentence: str
) -> None:
    with pytest.raises(StartError, match=sentence):
        await asked(directory, command, node)


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b"\xff\n", b"x" * 5_000 + b"\n"])
async def test_nonsense_at_the_door(supervisor: Supervisor, directory: Path, line: bytes) -> None:
    door = json.loads((directory / DOOR_NAME).read_text())
    reader, writer = await asyncio.open_unix_connection(door["socket"])
    writer.write(line)
    answer = await reader.read()
    writer.close()
    assert answer == b"" or not json.loads(answer)["ok"]
    await asked(directory, "kill", "broker-1")


async def test_down_ends_it_all(supervisor: Supervisor, directory: Path) -> None:
    assert await asyncio.to_thread(keeper.stop, directory)
    assert [each.pid for each in cluster_file.read(directory).nodes] == [None, None]
    assert not (directory / DOOR_NAME).exists()
    assert not await asyncio.to_thread(keeper.stop, directory)
    assert not await asyncio.to_thread(keeper.keeps, directory)
    with pytest.raises(NoSupervisorError, match="No cluster is running"):
        await asked(directory, "kill", "broker-1")


async def test_where_the_keeper_was_killed_signals_do(directory: Path, fake: NodeCommand) -> None:
    cluster = LocalCluster.open(directory, controllers=1, brokers=2, base_port=0, command=fake)
    await cluster.start()
    import os

    os.close(cluster._lock)
    await asyncio.to_thread(keeper.tell, directory, "kill", "broker-1")
    await cluster.node("broker-1")._ended()
    with pytest.raises(StartError, match="There is no broker-7 in"):
        keeper.tell(directory, "kill", "broker-7")
    with pytest.raises(StartError, match="No cluster is running"):
        keeper.tell(directory, "start", "broker-1")
    assert await asyncio.to_thread(keeper.stop, directory)
    # Their end is seen by another process first; this one's event loop hears of it a moment later.
    await asyncio.gather(*(each._ended() for each in cluster.nodes.values()))
    assert not any(each.running for each in cluster.nodes.values())


async def test_a_stop_while_it_starts(directory: Path, fake: NodeCommand) -> None:
    cluster = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)
    supervisor = Supervisor(cluster)

    async def never() -> None:
        raise AssertionError("it did not come up")

    supervisor.stop()
    await supervisor.run(lambda _: None, never)
    assert not any(each.running for each in cluster.nodes.values())


async def test_what_fails_while_it_is_up_ends_it(directory: Path, fake: NodeCommand) -> None:
    cluster = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)

    async def fail() -> None:
        raise StartError("the tour broke")

    with pytest.raises(StartError, match="the tour broke"):
        await Supervisor(cluster).run(lambda _: None, fail)
    assert not any(each.running for each in cluster.nodes.values())


async def test_a_directory_with_a_long_name(tmp_path: Path, fake: NodeCommand) -> None:
    directory = tmp_path / ("long-" * 30)
    cluster = LocalCluster.open(directory, controllers=1, brokers=1, base_port=0, command=fake)
    supervisor = Supervisor(cluster)

    async def on_up() -> None:
        await asked(directory, "kill", "broker-1")
        supervisor.stop()

    await supervisor.run(lambda _: None, on_up)
