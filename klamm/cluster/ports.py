"""Free ports for a local cluster, kept apart from other clusters of the same user.

Ports that the system hands out by itself are avoided: a node that is down for a moment would find
its own port taken by somebody's outgoing connection. A lock file per port, held while the cluster
lives, keeps two clusters that start at the same time from choosing the same.
"""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from klamm.cluster.layout import HOST
from klamm.errors import StartError

BASE_PORT = 9_092
"""Where Kafka's clients look first."""
HTTP_PORT_STEP = 552
"""HTTP ports lie so far above: 9644 for the first broker, where Redpanda's admin API is."""
FREE_PORTS = range(20_000, 32_000)
"""Below Linux's and above most services' own ranges."""


class PortLocks:
    """Ports that this process holds for its cluster, until closed."""

    def __init__(self) -> None:
        self._files: list[int] = []

    def close(self) -> None:
        for descriptor in self._files:
            os.close(descriptor)
        self._files.clear()

    def take(self, port: int) -> bool:
        """Whether the port is free, and now ours."""
        if not bindable(port):
            return False
        descriptor = os.open(_lock_directory() / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._files.append(descriptor)
        return True


def choose_ports(base_port: int | None, nodes: int, locks: PortLocks) -> tuple[int, ...]:
    """Twice `nodes` ports: the nodes' own, then their HTTP ports.

    Args:
        base_port: The first; 0: any free ones; None: from 9092, or any if one there is taken.
        nodes: How many nodes.
        locks: Where the choice is held.

    Raises:
        StartError: A port is in use, or none is free.
    """
    if base_port == 0:
        return _free(2 * nodes, locks)
    base = BASE_PORT if base_port is None else base_port
    wanted = (
        *range(base, base + nodes),
        *range(base + HTTP_PORT_STEP, base + HTTP_PORT_STEP + nodes),
    )
    taken = next((port for port in wanted if not locks.take(port)), None)
    if taken is None:
        return wanted
    if base_port is None:
        locks.close()
        return _free(2 * nodes, locks)
    raise StartError(
        f"Port {taken} is in use; with --base-port {base} the cluster needs {wanted[0]} to "
        f"{wanted[nodes - 1]} and {wanted[nodes]} to {wanted[-1]}. Choose another, or 0 for any."
    )


def check_ports(ports: tuple[int, ...], locks: PortLocks) -> None:
    """Take the ports that a cluster had before. Raises: StartError: One is in use."""
    for port in ports:
        if not locks.take(port):
            raise StartError(
                f"Port {port}, which this cluster had before, is in use by another process. "
                "Stop that one, or begin another cluster: --dir."
            )


def bindable(port: int) -> bool:
    """Whether this machine would let a node listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()  # Bind alone succeeds beside a listener on another address.
        except (OSError, OverflowError):
            return False
    return True


def _free(count: int, locks: PortLocks) -> tuple[int, ...]:
    free = (port for port in _candidates() if locks.take(port))
    chosen = tuple(islice(free, count))
    if len(chosen) < count:
        raise StartError(f"No {count} free ports in {FREE_PORTS.start} to {FREE_PORTS.stop - 1}.")
    return chosen


def _candidates() -> Iterator[int]:
    start = random.choice(FREE_PORTS)
    yield from range(start, FREE_PORTS.stop)
    yield from range(FREE_PORTS.start, start)


def _lock_directory() -> Path:
    directory = Path(tempfile.gettempdir()) / f"klamm-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory
