"""Holds packets back: `python -m tests.process.namespaces.delay --ms 10 40`, in a namespace.

    OUTPUT ── NFQUEUE ──▶ netlink socket ──▶ a heap by the time at which each may go ──▶ ACCEPT

With a span each packet waits for a time of its own, and so they overtake each other; with
`--in-order` none does. Says "ready" once the kernel hands packets over; they go on undelayed when
it ends (--queue-bypass). By hand, since what there is on PyPI needs a compiler.

Source: linux/netfilter/nfnetlink_queue.h, linux/netfilter/nfnetlink.h
"""

import argparse
import heapq
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

QUEUE = 1
HELD_MAX = 16_384
"""Packets held at once; the kernel drops what is more."""

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 3 << 8
_PACKET, _VERDICT, _CONFIG = _SUBSYSTEM, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_ERROR = 2
_REQUEST, _ACK = 1, 4
_CFG_COMMAND, _CFG_PARAMS, _CFG_MAX = 1, 2, 3
_BIND = 1
_COPY_META = 1
_PACKET_HEADER, _VERDICT_HEADER = 1, 2
_ACCEPT = 1
_MESSAGE = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_BYTES = 1 << 20


class Queue:
    """The packets of one NFQUEUE."""

    def __init__(self, number: int) -> None:
        """Raises: OSError: No root, or a kernel without it."""
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self._number = number
        self._configure(_attribute(_CFG_COMMAND, struct.pack(">BBH", _BIND, 0, 0)))
        self._configure(_attribute(_CFG_PARAMS, struct.pack(">IB", 0, _COPY_META)))
        self._configure(_attribute(_CFG_MAX, struct.pack(">I", HELD_MAX)))

    def packets(self) -> Iterator[int]:
        """Ids of those that have come; waits for nothing."""
        for kind, payload in _messages(self.socket.recv(_BUFFER_BYTES)):
            if kind == _PACKET:
                for name, value in _attributes(payload[4:]):
                    if name == _PACKET_HEADER:
                        yield int.from_bytes(value[:4])

    def accept(self, packet: int) -> None:
        verdict = struct.pack(">II", _ACCEPT, packet)
        self._send(_VERDICT, _attribute(_VERDICT_HEADER, verdict), _REQUEST)

    def _configure(self, attribute: bytes) -> None:
        self._send(_CONFIG, attribute, _REQUEST | _ACK)
        for kind, payload in _messages(self.socket.recv(_BUFFER_BYTES)):
            error = -struct.unpack_from("=i", payload)[0] if kind == _ERROR else 0
            if error:
                raise OSError(error, "NFQUEUE")

    def _send(self, kind: int, attribute: bytes, flags: int) -> None:
        body = struct.pack(">BBH", socket.AF_UNSPEC, 0, self._number) + attribute
        self.socket.send(_MESSAGE.pack(_MESSAGE.size + len(body), kind, flags, 0, 0) + body)


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _MESSAGE.size:
        size, kind, _, _, _ = _MESSAGE.unpack_from(data)
        yield kind, data[_MESSAGE.size : size]
        data = data[(size + 3) & ~3 :]


def run(queue: Queue, span_ms: tuple[int, int], chance: random.Random, *, in_order: bool) -> None:
    """Until the process is ended."""
    held: list[tuple[float, int]] = []
    last_s = 0.0
    while True:
        wait_s = None if not held else max(held[0][0] - time.monotonic(), 0)
        if select.select([queue.socket], [], [], wait_s)[0]:
            for packet in queue.packets():
                due_s = time.monotonic() + chance.uniform(*span_ms) / 1_000
                last_s = due_s = max(due_s, last_s) if in_order else due_s
                heapq.heappush(held, (due_s, packet))
        now_s = time.monotonic()
        while held and held[0][0] <= now_s:
            queue.accept(heapq.heappop(held)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds this namespace's packets back (root).")
    parser.add_argument("--ms", type=int, nargs=2, default=(10, 40), metavar=("FROM", "TO"))
    parser.add_argument("--in-order", action="store_true", help="none overtakes another")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        queue = Queue(QUEUE)
    except OSError as error:
        print(f"cannot: {error}")
        return 2
    print("ready", flush=True)
    run(queue, tuple(arguments.ms), random.Random(arguments.seed), in_order=arguments.in_order)
    return 0


if __name__ == "__main__":
    sys.exit(main())
