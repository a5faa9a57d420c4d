"""Keeps a local cluster running and does what `klamm kill`, `klamm start` … ask of it.

    klamm up ──▶ Supervisor ── owns ──▶ LocalCluster
    klamm kill broker-1 ──▶ DIR/control.sock ──▶ one line of JSON in, one out

    {"command": "kill", "node": "broker-1"}  ▶  {"ok": true}  or  {"ok": false, "error": "…"}
    …, "waits": true}  ▶  before that, as often as there is something: {"waits_for": "…"}

The socket stands in a directory of the user's own; who may write there may stop the nodes anyway.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from klamm.cluster.cluster import LocalCluster, OnReady
from klamm.cluster.cluster_file import replace_file
from klamm.cluster.layout import NodeKind
from klamm.cluster.node_process import Say
from klamm.errors import KlammError, StartError

DOOR_NAME = "supervisor.json"
REQUEST_BYTES_MAX = 4_096
REQUEST_TIMEOUT_S = 60.0
SOCKET_PATH_BYTES_MAX = 100
"""Unix sockets have room for 107 bytes of path on Linux, 103 on macOS."""


class Supervisor:
    """Runs a cluster until told to stop: by a signal, by `klamm down`, or by `stop`."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self._stopping = asyncio.Event()
        self._socket_path = _socket_path(cluster.layout.directory)

    async def run(self, on_ready: OnReady, on_up: Callable[[], Awaitable[None]]) -> None:
        """Start the cluster, do `on_up`, serve until told to stop, and stop the cluster.

        To be told to stop ends what is under way; what `on_up` raises ends the cluster too.

        Raises:
            StartError: The cluster did not come up.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        try:
            if await self._unless_stopped(self.cluster.start(on_ready=on_ready)):
                async with await asyncio.start_unix_server(
                    self._serve, self._socket_path, limit=REQUEST_BYTES_MAX
                ):
                    self._open_door()
                    await self._unless_stopped(on_up())
                    await self._stopping.wait()
        finally:
            self._close_door()
            await self.cluster.close()

    async def _unless_stopped(self, work: Awaitable[None]) -> bool:
        """Whether the work was done; False: it was cancelled, as we were told to stop."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
        for task in (working, stopping):
            task.cancel()
        results = await asyncio.gather(working, return_exceptions=True)
        if done and isinstance(results[0], BaseException):
            raise results[0]
        return done

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def _open_door(self) -> None:
        told = {"pid": os.getpid(), "socket": str(self._socket_path)}
        replace_file(self.cluster.layout.directory / DOOR_NAME, json.dumps(told) + "\n")

    def _close_door(self) -> None:
        with contextlib.suppress(OSError):
            (self.cluster.layout.directory / DOOR_NAME).unlink()
        with contextlib.suppress(OSError):
            self._socket_path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                answer = await self._answer(await reader.readline(), partial(_write, writer))
                _write(writer, answer)
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            pass  # Whoever asked has gone, or asked too slowly or too much.
        finally:
            writer.close()

    async def _answer(
        self, line: bytes, write: Callable[[dict[str, object]], None]
    ) -> dict[str, object]:
        def say(line: str) -> None:
            if request.get("waits"):
                write({"waits_for": line})

        try:
            request = json.loads(line)
            await self._carry_out(str(request["command"]), str(request.get("node", "")), say)
        except (KlammError, TimeoutError) as error:
            return {"ok": False, "error": str(error) or "it took too long"}
        except (ValueError, KeyError, TypeError):
            return {"ok": False, "error": "not a request of the klamm command"}
        return {"ok": True}

    async def _carry_out(self, command: str, node: str, say: Say) -> None:
        match command:
            case "kill":
                await self.cluster.kill(node)
            case "stop":
                await self.cluster.stop_node(node)
            case "pause":
                self.cluster.pause(node)
            case "resume":
                self.cluster.resume(node)
            case "start":
                await self.cluster.start_node(node, say=say)
            case "add":
                await self.cluster.add_controller(_id_of_controller(node))
            case "remove":
                await self.cluster.remove_controller(node)
            case "look":
                pass
            case "down":
                self.stop()
            case _:
                raise StartError(f"There is no command {command!r}.")


def _write(writer: asyncio.StreamWriter, answer: dict[str, object]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")


def _id_of_controller(name: str) -> int:
    kind, _, number = name.partition("-")
    if kind != NodeKind.CONTROLLER.value or not number.isdecimal() or not number.isascii():
        raise StartError(f"{name} is no name of a controller.")
    return int(number)


def _socket_path(directory: Path) -> Path:
    path = directory / "control.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        with contextlib.suppress(OSError):
            path.unlink()  # Of an owner that died: the directory's lock is ours.
        return path
    return Path(tempfile.mkdtemp(prefix="klamm-")) / "control.sock"


def ask(directory: Path, command: str, node: str = "", say: Say = lambda _: None) -> None:
    """Ask the supervisor of the cluster in `directory`, and wait until it is done.

    `say` is told meanwhile what it waits for.

    Raises:
        NoSupervisorError: Nobody answers there.
        StartError: It was refused, or did not work.
    """
    try:
        told = json.loads((directory / DOOR_NAME).read_bytes())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(REQUEST_TIMEOUT_S)
            connection.connect(told["socket"])
            request = {"command": command, "node": node, "waits": True}
            connection.sendall(json.dumps(request).encode() + b"\n")
            answers = connection.makefile("rb")
            while "ok" not in (answer := json.loads(answers.readline())):
                say(str(answer["waits_for"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoSupervisorError(
            f"No cluster is running in {directory}: `klamm up --dir {directory}` starts it."
        ) from error
    if not answer["ok"]:
        raise StartError(str(answer["error"]))


class NoSupervisorError(StartError):
    """Nobody keeps the cluster: it is down, or its keeper was killed."""
