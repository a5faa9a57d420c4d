"""What a trial says of its network is true: packets are late, and come in another order."""

import socket
import subprocess
import sys
import time

import pytest

from tests.process.namespaces.network import Network, Unavailable, network

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

COUNT = 100
DEADLINE_S = 30.0
DELAY_MS = 40
SEND = """
import socket, sys, time
to = (sys.argv[1], int(sys.argv[2]))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for number in range(int(sys.argv[3])):
        sender.sendto(b"%d %d" % (number, time.monotonic_ns()), to)
"""


def arrivals(net: Network) -> tuple[list[int], list[float]]:
    """Numbers of the datagrams that node 1 sent, as they come, and how long each took, in ms."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((net.client_address, 0))
        receiver.settimeout(DEADLINE_S)
        host, port = receiver.getsockname()
        command = net.command(1, (sys.executable, "-c", SEND, host, str(port), str(COUNT)))
        subprocess.run(command, check=True, timeout=DEADLINE_S)
        numbers, took_ms = [], []
        while len(numbers) < COUNT:
            number, sent_ns = receiver.recv(100).split()
            numbers.append(int(number))
            took_ms.append((time.monotonic_ns() - int(sent_ns)) / 1e6)
        return numbers, took_ms


def test_packets_are_late_and_overtake_each_other() -> None:
    try:
        with network((1,)) as net:
            if not net.can_delay:
                pytest.skip("this kernel queues no packets for a process (NFQUEUE)")
            assert arrivals(net)[0] == list(range(COUNT))
            net.delay(1, (DELAY_MS, DELAY_MS), seed=1, in_order=True)
            numbers, took_ms = arrivals(net)
            assert numbers == list(range(COUNT))
            assert min(took_ms) >= DELAY_MS
            net.stop_delays((1,))
            net.delay(1, (1, DELAY_MS), seed=2, in_order=False)
            numbers, _ = arrivals(net)
            assert numbers != list(range(COUNT))
            assert sorted(numbers) == list(range(COUNT))
            net.stop_delays((1,))
            assert arrivals(net)[0] == list(range(COUNT))
    except Unavailable as why:
        pytest.skip(str(why))
