"""The peer: a three-node etcd cluster with its defaults, as child processes.

Debian's `etcd-server` provides the binary; writes go through etcd's own JSON gateway, over one
kept-alive connection a node, so that what is timed is etcd and not the start of a client.
"""

import base64
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

NODES = 3
TRY_TIMEOUT_S = 0.1
"""Short, and all nodes are tried at once: what is timed is the election, not a stuck attempt."""
LEADER_DEADLINE_S = 30.0


def available() -> bool:
    return shutil.which("etcd") is not None


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class EtcdCluster:
    """Three nodes on loopback. Use as a context manager."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="etcd-"))
        ports = free_ports(2 * NODES)
        self.clients = ports[:NODES]
        self._peers = ports[NODES:]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for node in range(NODES):
            self.start(node)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in list(self._processes):
            self.kill(node)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, node: int) -> None:
        """Start, or start again on the same data."""
        peer = f"http://127.0.0.1:{self._peers[node]}"
        client = f"http://127.0.0.1:{self.clients[node]}"
        cluster = ",".join(f"n{i}=http://127.0.0.1:{port}" for i, port in enumerate(self._peers))
        log = (self.directory / f"n{node}.log").open("ab")
        self._processes[node] = subprocess.Popen(
            [
                *("etcd", "--name", f"n{node}", "--data-dir", str(self.directory / f"n{node}")),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--initial-cluster", cluster, "--initial-cluster-state", "new"),
            ],
            stdout=log,
            stderr=log,
        )

    def kill(self, node: int) -> None:
        """SIGKILL, and wait until the process is gone."""
        process = self._processes.pop(node)
        process.kill()
        process.wait()

    def memory_bytes(self) -> list[int]:
        """Resident set of each node."""
        return [resident_bytes(process.pid) for process in self._processes.values()]

    def leader(self) -> int:
        """The node that leads, as the nodes themselves say."""
        deadline = time.monotonic() + LEADER_DEADLINE_S
        while time.monotonic() < deadline:
            for node in list(self._processes):
                status = self._call(node, "/v3/maintenance/status", {})
                if status and status.get("leader") == status["header"]["member_id"]:
                    return node
        raise TimeoutError(f"no etcd leader within {LEADER_DEADLINE_S} s")

    def wait_healthy(self, node: int, deadline_s: float) -> None:
        """Wait until a node that was started again knows its leader."""
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            status = self._call(node, "/v3/maintenance/status", {})
            if status and "leader" in status:
                return
        raise TimeoutError(f"etcd node {node} not back within {deadline_s} s")

    def put(self, key: str, value: str, deadline_s: float) -> float:
        """Write through whichever living node takes it; seconds that it took."""
        body = {
            "key": base64.b64encode(key.encode()).decode(),
            "value": base64.b64encode(value.encode()).decode(),
        }
        began = time.monotonic()
        done = threading.Event()
        nodes = list(self._processes)
        threads = [
            threading.Thread(target=self._put_until, args=(node, body, done, began + deadline_s))
            for node in nodes
        ]
        for thread in threads:
            thread.start()
        taken = done.wait(deadline_s)
        took_s = time.monotonic() - began
        done.set()
        for thread in threads:
            thread.join()
        if not taken:
            raise TimeoutError(f"etcd took no write within {deadline_s} s")
        return took_s

    def _put_until(
        self, node: int, body: dict[str, str], done: threading.Event, deadline_s: float
    ) -> None:
        while not done.is_set() and time.monotonic() < deadline_s:
            answer = self._call(node, "/v3/kv/put", body)
            if answer and "header" in answer:
                done.set()
            else:
                done.wait(0.002)

    def _call(self, node: int, path: str, body: dict[str, str]) -> dict[str, dict[str, str]] | None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.clients[node], timeout=TRY_TIMEOUT_S
        )
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            return json.loads(response.read()) if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def resident_bytes(pid: int) -> int:
    """Resident set size of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
