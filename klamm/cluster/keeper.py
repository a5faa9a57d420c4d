"""Up and down: a supervisor in this process or in one of its own, found again by its directory.

run ─────────────── this process keeps the cluster until a signal
start_detached ──▶ another process runs `run`, its output in DIR/logs/supervisor.log
tell, stop ──────▶ asked over DIR's socket; where its keeper is gone, done by signals
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from klamm import names
from klamm.cluster import cluster_file, state
from klamm.cluster.cluster import (
    LOCK_NAME,
    START_TIMEOUT_S,
    LocalCluster,
    is_node,
    make_directory,
)
from klamm.cluster.layout import NodeKind
from klamm.cluster.node_process import STOP_TIMEOUT_S, NodeProcess, Say
from klamm.cluster.supervisor import DOOR_NAME, NoSupervisorError, Supervisor, ask
from klamm.errors import StartError

POLL_S = 0.02

_SIGNALS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGTERM,
    "pause": signal.SIGSTOP,
    "resume": signal.SIGCONT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A cluster as somebody asks for it; see `LocalCluster.open`."""

    directory: Path
    controllers: int | None = None
    brokers: int | None = None
    base_port: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)


def run(request: Request, say: Say) -> None:
    """Start the cluster and keep it until SIGINT, SIGTERM or `klamm down`.

    Raises:
        StartError: It cannot be started.
    """
    names.run(_run(request, say))


async def _run(request: Request, say: Say) -> None:
    cluster = LocalCluster.open(
        request.directory,
        controllers=request.controllers,
        brokers=request.brokers,
        base_port=request.base_port,
        overrides=request.overrides,
    )

    async def on_up() -> None:
        state.remember(request.directory)
        for line in described(cluster):
            say(line)

    await Supervisor(cluster).run(lambda node: say_ready(node, say), on_up)
    say("The cluster is down.")


def say_ready(node: NodeProcess, say: Say) -> None:
    """Told of each node as it serves; the words for brokers are those that tools wait for."""
    if node.layout.kind is NodeKind.BROKER:
        say(f"[KafkaServer id={node.layout.node_id}] Kafka Server started: {node.layout.address}")


def described(cluster: LocalCluster) -> Iterator[str]:
    """Where everything is, for the person who started it."""
    layout = cluster.layout
    yield f"Cluster {layout.cluster_id} is up in {layout.directory}"
    yield f"  bootstrap servers  {layout.bootstrap_servers}"
    yield f"  controllers, gRPC  {','.join(cluster.controller_addresses)}"
    yield f"  metrics, health    http://{layout.brokers[0].http_address}/metrics (broker-1)"
    yield f"  logs               {layout.directory / 'logs'}"


def start_detached(request: Request, say: Say) -> None:
    """Start a process that keeps the cluster, and wait until it is up.

    Raises:
        StartError: It cannot be started; with the keeper's own reason.
    """
    make_directory(request.directory)
    log_file = request.directory / "logs" / "supervisor.log"
    begins_at = log_file.stat().st_size if log_file.exists() else 0
    with log_file.open("ab") as log:
        keeper = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "klamm.cli", *_arguments(request)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    door = request.directory / DOOR_NAME
    up = _wait(lambda: _is_door_of(door, keeper.pid) or keeper.poll() is not None, START_TIMEOUT_S)
    said = log_file.read_bytes()[begins_at:].decode(errors="replace").strip()
    if keeper.poll() is not None or not up:
        raise StartError(said.removeprefix("klamm: ") or f"It did not start; see {log_file}.")
    say(said)


def _arguments(request: Request) -> list[str]:
    arguments = ["up", "--dir", str(request.directory)]
    for option, value in (
        ("--controllers", request.controllers),
        ("--brokers", request.brokers),
        ("--base-port", request.base_port),
    ):
        if value is not None:
            arguments += [option, str(value)]
    for key, text in request.overrides.items():
        arguments += ["--override", f"{key}={text}"]
    return arguments


def _is_door_of(door: Path, pid: int) -> bool:
    try:
        return f'"pid": {pid},' in door.read_text()
    except OSError:
        return False


def tell(directory: Path, command: str, node: str, say: Say = lambda _: None) -> None:
    """Do something to one node: kill, stop, pause, resume or start; `say` hears what it waits for.

    Raises:
        StartError: There is no such node, or it did not work.
    """
    names = [each.name for each in cluster_file.read(directory).nodes]
    if node not in names:
        raise StartError(f"There is no {node} in {directory}; there are {', '.join(names)}.")
    try:
        ask(directory, command, node, say)
    except NoSupervisorError:
        row = next(each for each in cluster_file.read(directory).nodes if each.name == node)
        if command not in _SIGNALS or not is_node(row.pid, directory) or row.pid is None:
            raise
        os.kill(row.pid, _SIGNALS[command])


def keeps(directory: Path) -> bool:
    """Whether somebody keeps the cluster there, and can be told."""
    try:
        ask(directory, "look")
    except NoSupervisorError:
        return False
    return True


def change(directory: Path, command: str, node: str) -> None:
    """Add or remove a controller's process; its vote is another matter.

    Raises:
        StartError: It did not work.
    """
    ask(directory, command, node)


def stop(directory: Path) -> bool:
    """Stop the cluster and wait until it is down. False: it was not running.

    Raises:
        StartError: It does not stop, or there is no cluster.
    """
    cluster_file.read(directory)
    try:
        ask(directory, "down")
    except NoSupervisorError:
        if _is_free(directory):
            return _stop_orphans(directory)
    if not _wait(lambda: _is_free(directory), 2 * STOP_TIMEOUT_S):
        raise StartError(f"The cluster in {directory} is still stopping; see its logs there.")
    return True


def _stop_orphans(directory: Path) -> bool:
    """Nodes whose keeper was killed: brokers first, by signals."""
    told = cluster_file.read(directory)
    any_ran = False
    for rows in (told.brokers, told.controllers):
        pids = [each.pid for each in rows if each.pid is not None and is_node(each.pid, directory)]
        any_ran = any_ran or bool(pids)
        for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number is signal.SIGCONT:
                continue
            if _all_gone(pids, directory):
                break
    return any_ran


def _all_gone(pids: list[int], directory: Path) -> bool:
    return _wait(lambda: not any(is_node(pid, directory) for pid in pids), STOP_TIMEOUT_S)


def _is_free(directory: Path) -> bool:
    """Whether nobody keeps a cluster there."""
    with (directory / LOCK_NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for another process; whether `condition` came to hold in time."""

    async def poll() -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():  # noqa: ASYNC110 - other processes set no Event
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True

    return names.run(poll())
