"""LocalCluster: controllers and brokers as child processes of this one, and what to do to them.

    async with LocalCluster.open(directory, base_port=0) as cluster:
        await cluster.start()
        await cluster.kill("controller-1")
        …  cluster.bootstrap_servers, cluster.controller_addresses  …
        await cluster.start_node("controller-1")

A second `open` of the same directory after `close` finds the same cluster: ids, ports, data.
"""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from klamm.cluster import cluster_file, ports
from klamm.cluster.layout import (
    BROKERS_MAX,
    CONTROLLERS_MAX,
    ClusterLayout,
    NodeKind,
    NodeLayout,
    layout_from_json,
    new_layout,
)
from klamm.cluster.node_process import NodeCommand, NodeProcess, Say, python_module
from klamm.config.broker import BrokerConfig
from klamm.config.controller import ControllerConfig
from klamm.config.sources import from_file
from klamm.directory import DataDirectory
from klamm.errors import StartError
from klamm.ids import format_uuid

START_TIMEOUT_S = 30.0
LAYOUT_NAME = "layout.json"
LOCK_NAME = ".lock"

OnReady = Callable[[NodeProcess], None]


def _nothing(_: NodeProcess) -> None:
    return None


class LocalCluster:
    """A cluster in one directory, owned by this process until `close`."""

    def __init__(
        self,
        layout: ClusterLayout,
        lock: int,
        port_locks: ports.PortLocks,
        command: NodeCommand = python_module,
    ) -> None:
        """See `open`."""
        self.layout = layout
        self._lock = lock
        self._port_locks = port_locks
        self._command = command
        self._nodes = {each.name: self._process(each) for each in layout.nodes}

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        controllers: int | None = None,
        brokers: int | None = None,
        base_port: int | None = None,
        overrides: Mapping[str, str] | None = None,
        command: NodeCommand = python_module,
    ) -> "LocalCluster":
        """Take a directory and write what its nodes need; nothing is started yet.

        Args:
            directory: Made if need be. One with a cluster keeps that cluster's ids and ports.
            controllers: How many; None: three, or as many as there were.
            brokers: Likewise.
            base_port: See `ports.choose_ports`.
            overrides: Config keys for every node.
            command: What runs a node; another in tests.

        Raises:
            StartError: The directory, a port, a count or a config key cannot be used.
        """
        directory = directory.absolute()
        lock = _take_directory(directory)
        locks = ports.PortLocks()
        try:
            is_new = not (directory / LAYOUT_NAME).exists()
            layout = _layout(directory, controllers, brokers, base_port, overrides or {}, locks)
            _check_overrides(layout)
            if is_new:
                _format(layout)
            _write_layout(layout, {})
        except BaseException:
            locks.close()
            os.close(lock)
            raise
        return cls(layout, lock, locks, command)

    @property
    def nodes(self) -> Mapping[str, NodeProcess]:
        """By name."""
        return self._nodes

    @property
    def bootstrap_servers(self) -> str:
        """host:port of every broker, as Kafka's clients take it."""
        return self.layout.bootstrap_servers

    @property
    def controller_addresses(self) -> Sequence[str]:
        """host:port of every controller's gRPC."""
        return tuple(each.address for each in self.layout.controllers)

    def node(self, name: str) -> NodeProcess:
        """A node by name. Raises: StartError: There is none of that name."""
        if name not in self._nodes:
            raise StartError(f"There is no {name} here; there are {', '.join(self.nodes)}.")
        return self.nodes[name]

    async def start(self, timeout_s: float = START_TIMEOUT_S, on_ready: OnReady = _nothing) -> None:
        """Start every node that is down, all at once, and wait until all serve.

        Raises:
            StartError: A node did not come up; those that did are stopped again.
        """
        try:
            for node in self.nodes.values():
                await node.start()
            async with asyncio.TaskGroup() as waits:
                for node in self.nodes.values():
                    waits.create_task(self._wait_ready(node, timeout_s, on_ready))
        except ExceptionGroup as errors:
            await self.stop()
            raise _first_start_error(errors) from None

    async def _wait_ready(self, node: NodeProcess, timeout_s: float, on_ready: OnReady) -> None:
        await node.wait_ready(timeout_s)
        on_ready(node)

    async def start_node(
        self, name: str, timeout_s: float = START_TIMEOUT_S, say: Say = lambda _: None
    ) -> None:
        """Start one node and wait until it serves; `say` is told what it waits for.

        Raises:
            StartError: It does not come up, or runs and waits for others in vain.
        """
        node = self.node(name)
        await node.start()
        if missing := self._missing_controllers():
            say(f"{name} waits for a majority of the controllers; {missing}")
        try:
            await node.wait_ready(timeout_s, say)
        except StartError as error:
            if not node.running or not (missing := self._missing_controllers()):
                raise
            raise StartError(
                f"{error} It runs on, and serves once enough of them do; {missing}"
            ) from error

    def _missing_controllers(self) -> str:
        """Who has to be started before anybody can lead, and how; empty if enough run."""
        controllers = [self.nodes[each.name] for each in self.layout.controllers]
        down = [each.name for each in controllers if not each.running]
        if len(controllers) - len(down) > len(controllers) // 2:
            return ""
        command = f"klamm start {down[0]} --dir {self.layout.directory}"
        return f"down: {', '.join(down)}. Start one: `{command}`"

    async def add_controller(self, node_id: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start one controller more, which follows the quorum without a vote.

        Raises:
            StartError: It does not come up, and is gone again; or there may be no other.
        """
        _check_counts(len(self.layout.controllers) + 1, len(self.layout.brokers))
        former = self.layout
        near = max(each.port for each in former.nodes) + 1
        try:
            port, http_port = ports.choose_ports(near, 1, self._port_locks)
        except StartError:
            port, http_port = ports.choose_ports(0, 1, self._port_locks)
        self.layout = former.with_controller(node_id, port, http_port)
        new = next(each for each in self.layout.controllers if each.node_id == node_id)
        where = self.layout.properties_file(new).parent
        if new.name in self._nodes or where.exists():
            self.layout = former
            raise StartError(f"{where} is there already: a controller that comes has a new id.")
        self._nodes[new.name] = self._process(new)
        try:
            _write_layout(self.layout, self._pids())
            await self.start_node(new.name, timeout_s)
        except BaseException:
            await self.remove_controller(new.name)
            raise

    async def remove_controller(self, name: str) -> None:
        """Stop a controller and forget it; its directory is kept.

        Raises:
            StartError: There is none of that name, or no other.
        """
        node = self.node(name)
        if node.layout.kind is not NodeKind.CONTROLLER or len(self.layout.controllers) == 1:
            raise StartError(f"{name} is not one controller of several.")
        await node.close()
        self.layout = self.layout.without_controller(name)
        del self._nodes[name]
        _write_layout(self.layout, self._pids())

    async def kill(self, name: str) -> None:
        """`kill -9`, and wait until it is gone."""
        await self.node(name).kill()

    async def stop_node(self, name: str) -> None:
        """SIGTERM, and wait until it is gone. Raises: TimeoutError."""
        await self.node(name).stop()

    async def restart(self, name: str) -> None:
        """Stop one node in order, and start it again."""
        await self.stop_node(name)
        await self.start_node(name)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.node(name).pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.node(name).resume()

    async def until(
        self, condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 10.0
    ) -> None:
        """Wait until `condition` holds, asking it again and again.

        Raises:
            TimeoutError: It did not within `timeout_s`; the message says `what` was waited for.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not await condition():  # noqa: ASYNC110 - other processes set no Event
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s} s for {what}, in vain") from None

    async def stop(self) -> None:
        """Stop every node: brokers first, as they need a controller to leave in order."""
        for layouts in (self.layout.brokers, self.layout.controllers):
            await asyncio.gather(*(self.nodes[each.name].close() for each in layouts))

    async def close(self) -> None:
        """Stop every node and let go of the directory."""
        await self.stop()
        self._port_locks.close()
        os.close(self._lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _process(self, node: NodeLayout) -> NodeProcess:
        return NodeProcess(node, self.layout, self._command, self._write_file)

    def _pids(self) -> dict[str, int | None]:
        return {name: node.pid for name, node in self._nodes.items()}

    def _write_file(self) -> None:
        cluster_file.write(self.layout, self._pids())


def _first_start_error(errors: ExceptionGroup) -> Exception:
    matching, _ = errors.split(StartError)
    first: Exception = errors if matching is None else matching
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first


def make_directory(directory: Path) -> None:
    """With the place for logs in it. Raises: StartError: It cannot be made."""
    try:
        (directory / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(directory, error) from error


def _unusable(directory: Path, error: OSError) -> StartError:
    return StartError(
        f"Cannot use the directory {directory}: {error.strerror} ({error.filename}). Name another "
        "with --dir."
    )


def _take_directory(directory: Path) -> int:
    """Make it and lock it; the lock ends with this process."""
    make_directory(directory)
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StartError(
            f"A cluster is running in {directory} already; `klamm down --dir {directory}` stops it."
        ) from error
    return lock


def _layout(
    directory: Path,
    controllers: int | None,
    brokers: int | None,
    base_port: int | None,
    overrides: Mapping[str, str],
    locks: ports.PortLocks,
) -> ClusterLayout:
    path = directory / LAYOUT_NAME
    if path.exists():
        layout = _former_layout(path, overrides)
        _check_same(layout, controllers, brokers, base_port)
        _check_nothing_runs(layout)
        former = [each.port for each in layout.nodes] + [each.http_port for each in layout.nodes]
        ports.check_ports(tuple(former), locks)
        return layout
    _check_unused(directory)
    counts = (3 if controllers is None else controllers, 3 if brokers is None else brokers)
    _check_counts(*counts)
    return new_layout(
        directory=directory,
        cluster_id=overrides.get("cluster.id") or random_cluster_id(),
        controllers=counts[0],
        ports=ports.choose_ports(base_port, sum(counts), locks),
        overrides=overrides,
    )


def random_cluster_id() -> str:
    """A new one, in Kafka's spelling; never with a leading dash, which a shell would misread."""
    text = format_uuid(uuid4())
    while text.startswith("-"):
        text = format_uuid(uuid4())
    return text


def _former_layout(path: Path, overrides: Mapping[str, str]) -> ClusterLayout:
    try:
        return layout_from_json(path.read_text(), path.parent, overrides)
    except OSError as error:
        raise StartError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise StartError(f"{path} is not the layout of a Klamm cluster.") from error


def _check_same(
    layout: ClusterLayout, controllers: int | None, brokers: int | None, base_port: int | None
) -> None:
    for kind, asked, have in (
        ("controllers", controllers, len(layout.controllers)),
        ("brokers", brokers, len(layout.brokers)),
    ):
        if asked is not None and asked != have:
            raise StartError(
                f"{layout.directory} holds a cluster of {have} {kind}, not {asked}; "
                "choose another directory, or leave the number out."
            )
    first = min(each.port for each in layout.nodes)
    if base_port and base_port != first:
        raise StartError(
            f"{layout.directory} holds a cluster whose ports begin at {first}, not {base_port}; "
            "choose another directory, or leave --base-port out."
        )


def _check_nothing_runs(layout: ClusterLayout) -> None:
    """Nodes whose owner died still run, and would be in the way."""
    try:
        rows = cluster_file.read(layout.directory).nodes
    except StartError:
        return
    orphans = [
        f"{each.name} (pid {each.pid})" for each in rows if is_node(each.pid, layout.directory)
    ]
    if orphans:
        raise StartError(
            f"Nodes of {layout.directory} are still running: {', '.join(orphans)}; "
            f"`klamm down --dir {layout.directory}` stops them."
        )


def is_node(pid: int | None, directory: Path) -> bool:
    """Whether `pid` is alive and a node of the cluster there, as far as /proc can tell."""
    if pid is None:
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(directory) + b"/" in command


def _check_unused(directory: Path) -> None:
    of_nodes = (*directory.glob("controller-*"), *directory.glob("broker-*"))
    for path in (directory / cluster_file.NAME, *of_nodes):
        if path.exists():
            raise StartError(
                f"{directory} holds {path.name} but no {LAYOUT_NAME}: it is not a directory of "
                "`klamm up`. Choose another."
            )


def _check_counts(controllers: int, brokers: int) -> None:
    if not 1 <= controllers <= CONTROLLERS_MAX:
        raise StartError(f"--controllers must be 1 to {CONTROLLERS_MAX}, is {controllers}.")
    if not 1 <= brokers <= BROKERS_MAX:
        raise StartError(f"--brokers must be 1 to {BROKERS_MAX}, is {brokers}.")


def _check_overrides(layout: ClusterLayout) -> None:
    """Let a bad key be told once, here, and not by six nodes in their logs."""
    for node in (layout.controllers[0], layout.brokers[0]):
        given = from_file(str(layout.properties_file(node)), layout.properties(node))
        if node.kind is NodeKind.CONTROLLER:
            ControllerConfig.of(given)
        else:
            BrokerConfig.of(given)


def _format(layout: ClusterLayout) -> None:
    """Controllers' directories; later starts find them, or somebody has taken them away."""
    for node in layout.controllers:
        given = from_file(str(layout.properties_file(node)), layout.properties(node))
        config = ControllerConfig.of(given)
        path = Path(config.metadata_log_dir)
        DataDirectory.open(path, config.cluster_id, config.node_id).close()


def _write_layout(layout: ClusterLayout, pids: Mapping[str, int | None]) -> None:
    try:
        for node in layout.nodes:
            path = layout.properties_file(node)
            path.parent.mkdir(parents=True, exist_ok=True)
            cluster_file.replace_file(path, layout.properties(node))
        cluster_file.replace_file(layout.directory / LAYOUT_NAME, layout.to_json() + "\n")
        cluster_file.write(layout, pids)
    except OSError as error:
        raise StartError(
            f"Cannot write to {layout.directory}: {error.strerror} ({error.filename})."
        ) from error
