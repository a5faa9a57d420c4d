"""The controllers' processes, each in its namespace; one broker while topics are made."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import grpc.aio

from klamm.client.node import Node
from klamm.cluster.cluster import random_cluster_id
from klamm.cluster.layout import ClusterLayout, NodeKind, NodeLayout
from klamm.cluster.node_process import NodeProcess
from klamm.v1 import metadata_pb2 as metadata
from tests.process import other_version
from tests.process.namespaces.network import Network
from tests.process.small_disks import fill, mount, unmount

Answer = TypeVar("Answer")

PORT, HTTP_PORT = 9_093, 9_644
BROKER = 101
IDS = (1, 2, 3)
ASK_DEADLINE_S = 2.0
POLL_S = 0.05
LAST_LINES = 25
DISK_SIZE = "96m"
"""Room for some twenty minutes of writes; soon filled."""


def faketime() -> Path | None:
    """The library that tells a process another time, if this machine has it."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class Controllers:
    """Three of them, by node id."""

    def __init__(
        self,
        directory: Path,
        network: Network,
        clocks: Path | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """Writes their configuration; nothing is started yet.

        Args:
            directory: Theirs.
            network: With a namespace for each.
            clocks: See `faketime`; None: nobody's wall clock can be set.
            keys: Of every node's configuration, beside what is needed.
        """
        self._keys = keys or {}
        self.network = network
        self._clocks = clocks
        self.lives = dict.fromkeys(IDS, 0)
        """How often each was started."""
        self.versions = dict.fromkeys(IDS, other_version.PRESENT)
        """As which each will be started; see other_version.py."""
        self.addresses = {each: f"{network.address(each)}:{PORT}" for each in IDS}
        self._asked = {each: Node(address) for each, address in self.addresses.items()}
        broker_port, broker_http = _free_ports(network.client_address)
        layouts = [
            NodeLayout(kind=NodeKind.CONTROLLER, node_id=each, port=PORT, http_port=HTTP_PORT)
            for each in IDS
        ]
        broker = NodeLayout(
            kind=NodeKind.BROKER, node_id=BROKER, port=broker_port, http_port=broker_http
        )
        self._layout = ClusterLayout(
            directory=directory,
            cluster_id=random_cluster_id(),
            controllers=tuple(layouts),
            brokers=(broker,),
        )
        (directory / "logs").mkdir(parents=True)
        self._disks = {each: directory / f"disk-{each}" for each in IDS}
        for each in self._disks.values():
            each.mkdir()
        self._mounted = [each for each in self._disks.values() if not mount(each, DISK_SIZE)]
        self._nodes = {each.node_id: self._process(each) for each in layouts}
        self.broker = self._process(broker)

    def _process(self, node: NodeLayout) -> NodeProcess:
        is_controller = node.kind is NodeKind.CONTROLLER
        host = self.network.address(node.node_id) if is_controller else self.network.client_address
        voters = ",".join(f"{each}@{address}" for each, address in self.addresses.items())
        listener = "CONTROLLER" if is_controller else "PLAINTEXT"
        path = self._layout.properties_file(node)
        path.parent.mkdir()
        disk = self._disks[node.node_id] if is_controller else path.parent
        path.write_text(
            f"process.roles={node.kind.value}\n"
            f"node.id={node.node_id}\n"
            f"cluster.id={self._layout.cluster_id}\n"
            f"listeners={listener}://{host}:{node.port}\n"
            "controller.listener.names=CONTROLLER\n"
            f"controller.quorum.voters={voters}\n"
            f"log.dirs={disk / 'data'}\n"
            "klamm.http.host=127.0.0.1\n"
            f"klamm.http.port={node.http_port}\n"
            + "".join(f"{key}={value}\n" for key, value in self._keys.items())
        )

        def command(layout: NodeLayout, properties: Path) -> Sequence[str]:
            plain = (sys.executable, "-m", layout.kind.value, str(properties))
            if not is_controller:
                return plain
            version = self.versions[layout.node_id]
            if version != other_version.PRESENT:
                plain = (sys.executable, other_version.__file__, version, *plain[2:])
            return self.network.command(layout.node_id, (*self._clock(layout.node_id), *plain))

        return NodeProcess(node, self._layout, command, lambda: None)

    def set_clock(self, node: int, ahead_s: int) -> None:
        """From now on its wall clock is so far ahead of the machine's, or behind."""
        path = self._clock_file(node)
        new = path.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n")
        new.rename(path)

    @property
    def have_small_disks(self) -> bool:
        return len(self._mounted) == len(IDS)

    async def fill_disk(self, node: int) -> None:
        """Not a byte is left on it."""
        await asyncio.to_thread(fill, self._ballast(node))

    def make_room(self, node: int) -> None:
        self._ballast(node).unlink()

    def _ballast(self, node: int) -> Path:
        return self._disks[node] / "ballast"

    @property
    def have_clocks(self) -> bool:
        return self._clocks is not None

    def _clock_file(self, node: int) -> Path:
        return self._layout.directory / f"clock-{node}"

    def _clock(self, node: int) -> Sequence[str]:
        """What goes before a controller's command, so that its wall clock can be set."""
        if self._clocks is None:
            return ()
        self.set_clock(node, 0)
        return (
            "env",
            f"LD_PRELOAD={self._clocks}",
            f"FAKETIME_TIMESTAMP_FILE={self._clock_file(node)}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    async def start(self, *nodes: int) -> None:
        """The processes; who serves is for `wait_leader` and `wait_answers` to find out."""
        for each in nodes:
            self.lives[each] += 1
            await self._nodes[each].start()

    async def stop(self, node: int) -> None:
        """SIGTERM, and wait until it is gone."""
        await self._nodes[node].stop()

    async def kill(self, *nodes: int) -> None:
        """`kill -9`."""
        await asyncio.gather(*(self._nodes[each].kill() for each in nodes))

    def pause(self, node: int) -> None:
        self._nodes[node].pause()

    def resume(self, node: int) -> None:
        self._nodes[node].resume()

    def running(self) -> set[int]:
        return {each for each, node in self._nodes.items() if node.running}

    async def close(self) -> None:
        for asked in self._asked.values():
            await asked.close()
        for each in (self.broker, *self._nodes.values()):
            await each.kill()
        for disk in self._mounted:
            unmount(disk)

    def log(self, node: int) -> str:
        """All that a controller has written to its standard output and error."""
        return self._nodes[node].log_file.read_text()

    async def header(self, node: int) -> metadata.ResponseHeader | None:
        """Of its own state; None if it does not answer."""
        own = metadata.Consistency(level=metadata.CONSISTENCY_LEVEL_LOCAL)
        request = metadata.ListTopicsRequest(consistency=own)
        try:
            answer = await self._asked[node].metadata.ListTopics(request, timeout=ASK_DEADLINE_S)
        except grpc.aio.AioRpcError:
            return None
        return answer.header

    async def leader(self) -> int | None:
        """Whoever says so of itself, of the latest epoch."""
        headers = await asyncio.gather(*(self.header(each) for each in IDS))
        leading = [
            (each.epoch, each.responder_id)
            for each in headers
            if each is not None and each.leader_id == each.responder_id
        ]
        return max(leading)[1] if leading else None

    async def wait_answers(self, node: int, deadline_s: float) -> None:
        """Wait until it tells of its own state."""
        await wait_for(lambda: self.header(node), f"an answer of {node}", deadline_s)

    async def wait_leader(self, deadline_s: float) -> int:
        return await wait_for(self.leader, "a leader", deadline_s)

    def last_lines(self) -> str:
        """Of every controller's log."""
        texts = {each: node.log_file for each, node in self._nodes.items()}
        return "\n".join(
            "\n".join((f"── controller-{each}", *path.read_text().splitlines()[-LAST_LINES:]))
            for each, path in texts.items()
            if path.exists()
        )

    def tracebacks(self) -> list[str]:
        """What follows the first one in each controller's log."""
        texts = {each: node.log_file.read_text() for each, node in self._nodes.items()}
        return [
            f"controller-{each}: {text[text.index('Traceback') :][:3000]}"
            for each, text in texts.items()
            if "Traceback" in text
        ]


async def wait_for(
    ask: Callable[[], Awaitable[Answer | None]], what: str, deadline_s: float
) -> Answer:
    """The first answer that is not None. Raises: AssertionError: There is none in time."""
    try:
        async with asyncio.timeout(deadline_s):
            while (answer := await ask()) is None:
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"waited {deadline_s} s for {what}, in vain") from None
    return answer


def _free_ports(host: str) -> tuple[int, int]:
    with socket.create_server((host, 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]
