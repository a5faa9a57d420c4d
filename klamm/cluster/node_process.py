"""One node as a child process: started, signalled, watched until it ends, asked if it is ready.

down ──start──▶ running ──kill, stop──▶ down
                 │  ▲
            pause▼  │resume
                 paused
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from pathlib import Path

from klamm.cluster.health import not_ready
from klamm.cluster.layout import ClusterLayout, NodeLayout
from klamm.errors import StartError

STOP_TIMEOUT_S = 15.0
"""A node that does not stop by SIGTERM within so long is reported, or killed at close."""
LOG_TAIL_BYTES = 4_096
FIRST_POLL_S, POLL_S_MAX = 0.01, 0.025
SAY_S = 2.0
"""A node that starts is silent for so long, and says no oftener than so what it waits for."""


Say = Callable[[str], None]
"""Told what is waited for, a line at a time."""

NodeCommand = Callable[[NodeLayout, Path], Sequence[str]]
"""A node and its configuration file → what to run."""


def python_module(node: NodeLayout, properties: Path) -> Sequence[str]:
    """`python -m controller FILE` or `python -m broker FILE`, with this interpreter."""
    return (sys.executable, "-m", node.kind.value, str(properties))


class NodeProcess:
    """A node of a local cluster. Its state is that of its operating system process."""

    def __init__(
        self,
        layout: NodeLayout,
        cluster: ClusterLayout,
        command: NodeCommand,
        on_change: Callable[[], None],
    ) -> None:
        self.layout = layout
        self._cluster = cluster
        self._command = command
        self._on_change = on_change
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._paused = False

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def pid(self) -> int | None:
        """None while the node is down."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def paused(self) -> bool:
        return self.running and self._paused

    @property
    def log_file(self) -> Path:
        return self._cluster.log_file(self.layout)

    async def start(self) -> None:
        """Start the process; `wait_ready` waits until it serves. Nothing if it runs already.

        Raises:
            StartError: The process cannot be made.
        """
        if self.running:
            return
        properties = self._cluster.properties_file(self.layout)
        try:
            with self.log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(self.layout, properties),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=node_environment(),
                    cwd=properties.parent,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which stops in order.
                )
        except OSError as error:
            raise StartError(f"Cannot start {self.name}: {error.strerror}.") from error
        self._paused = False
        self._watch = asyncio.create_task(self._until_end(self._process), name=f"watch {self.name}")
        self._on_change()

    async def wait_ready(self, timeout_s: float, say: Say = lambda _: None) -> None:
        """Wait until the node serves, and say why it does not yet: each reason once.

        Raises:
            StartError: It ended, or is not ready in time; with its own reason.
        """
        reasons: tuple[str, ...] = ("it did not answer",)
        loop, pause_s = asyncio.get_running_loop(), FIRST_POLL_S
        say_at, said = loop.time() + SAY_S, reasons
        try:
            async with asyncio.timeout(timeout_s):
                while reasons:
                    if not self.running:
                        raise StartError(
                            f"{self.name} ended as it started.\n{last_words(self.log_file)}"
                        )
                    reasons = await not_ready("127.0.0.1", self.layout.http_port)
                    if reasons != said and reasons and loop.time() >= say_at:
                        say_at, said = loop.time() + SAY_S, reasons
                        say(f"{self.name} runs, and is not ready: {'; '.join(reasons)}")
                    if reasons:
                        await asyncio.sleep(pause_s)
                        pause_s = min(pause_s * 1.5, POLL_S_MAX)
        except TimeoutError:
            why = "; ".join(reasons)
            raise StartError(
                f"{self.name} was not ready after {timeout_s:.0f} s: {why}. See {self.log_file}."
            ) from None

    async def kill(self) -> None:
        """SIGKILL, and wait for the end. Nothing if it is down."""
        self._signal(signal.SIGKILL)
        await self._ended()

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, and wait for the end: a controlled shutdown. Nothing if it is down.

        Raises:
            TimeoutError: It still runs after `timeout_s`.
        """
        self.resume()
        self._signal(signal.SIGTERM)
        async with asyncio.timeout(timeout_s):
            await self._ended()

    def pause(self) -> None:
        """SIGSTOP: alive, its sockets open, and silent."""
        self._signal(signal.SIGSTOP)
        self._paused = self.running

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)
        self._paused = False

    async def close(self) -> None:
        """Stop it, by force if need be."""
        try:
            await self.stop()
        except TimeoutError:
            await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _ended(self) -> None:
        if self._watch is not None:
            await asyncio.shield(self._watch)

    async def _until_end(self, process: Process) -> None:
        await process.wait()
        self._paused = False
        self._on_change()


def last_words(log_file: Path) -> str:
    """What a node wrote last, for the person who started it."""
    try:
        with log_file.open("rb") as log:
            log.seek(max(0, log_file.stat().st_size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    tail = "\n".join(lines[-8:]) or "It wrote nothing."
    return f"{tail}\nSee {log_file}."


def node_environment() -> dict[str, str]:
    """This process's environment without what would configure a node behind its file's back."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KAFKA_", "KLAMM_")) and name != "CLUSTER_ID"
    }
    return {"GRPC_VERBOSITY": "NONE", **kept}
