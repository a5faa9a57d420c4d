"""A bridge, and a network namespace for each node, whose outgoing packets can be dropped or held.

    namespace NAME-0:   bridge ── veth ── root namespace:     NAME   10.A.B.254
                               ├─ veth ── namespace NAME-1:   eth0   10.A.B.1
                               └─ veth ── namespace NAME-2:   eth0   10.A.B.2  …

A packet is dropped where it is sent, so that every direction can be cut alone. The bridge has a
namespace of its own since a machine's own firewall may filter what a bridge forwards.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.process.namespaces.delay import QUEUE

HOW_TO_GET = "apt-get install iproute2 nftables (or iptables)"
CLIENT_HOST = 254
"""The root namespace's address, from which clients come."""
SWITCH = 0
"""The namespace with the bridge."""
COMMAND_DEADLINE_S = 30.0
BURST_BYTES, QUEUE_BYTES = 4_000, 40_000
"""Of a narrow link; a packet must fit in the one, a few tenths of a second are in the other."""
NAMES = 1 << 24
"""So many runs have names of their own; a bridge's name has at most 15 letters."""


class Unavailable(Exception):
    """No namespaces can be had here; the message says why, and what would help."""


class Firewall:
    """What drops packets in a namespace, by whichever tool there is."""

    def __init__(self, tool: str) -> None:
        self.tool = tool

    def prepare(self) -> Sequence[str]:
        """Commands, one a line."""
        if self.tool == "iptables":
            return ("iptables -w -F OUTPUT",)
        return (
            "nft add table inet faults",
            "nft add chain inet faults out { type filter hook output priority 0 ; }",
        )

    def drop(self, address: str) -> str:
        if self.tool == "iptables":
            return f"iptables -w -A OUTPUT -d {address} -j DROP"
        return f"nft add rule inet faults out ip daddr {address} drop"

    def lose(self, percent: int) -> str:
        if self.tool == "iptables":
            chance = f"--probability {percent / 100}"
            return f"iptables -w -A OUTPUT -m statistic --mode random {chance} -j DROP"
        return f"nft add rule inet faults out numgen random mod 100 < {percent} drop"

    def hold_back(self) -> str:
        """Everything goes by way of delay.py; undelayed, once that has ended. By iptables in any
        case: kernels that are made small have its NFQUEUE, and not nft's."""
        bypass = f"--queue-num {QUEUE} --queue-bypass"
        return f"iptables -w -A OUTPUT -o eth0 -j NFQUEUE {bypass}"

    def let_go(self) -> str:
        return "iptables -w -F OUTPUT"

    def clear(self) -> str:
        return "iptables -w -F OUTPUT" if self.tool == "iptables" else "nft flush ruleset"


class Network:
    """Namespaces 1, 2, 3 … on one bridge."""

    def __init__(self, name: str, prefix: str, firewall: Firewall) -> None:
        self.name = name
        self._prefix = prefix
        self._firewall = firewall
        self._delays: list[subprocess.Popen[str]] = []
        self.can_delay = shutil.which("iptables") is not None
        """See `delay`."""

    @property
    def client_address(self) -> str:
        return self.address(CLIENT_HOST)

    def address(self, node: int) -> str:
        return f"{self._prefix}.{node}"

    def namespace(self, node: int) -> str:
        return f"{self.name}-{node}"

    def command(self, node: int, command: Sequence[str]) -> Sequence[str]:
        """`command`, run in the node's namespace; its process id is the one that is started."""
        return ("ip", "netns", "exec", self.namespace(node), *command)

    def cut(self, node: int, to: int) -> None:
        """Nothing that `node` sends arrives at `to`; what `to` sends still arrives."""
        self._inside(node, self._firewall.drop(self.address(to)))

    def lose(self, node: int, percent: int) -> None:
        """So many of a hundred packets that `node` sends are lost."""
        self._inside(node, self._firewall.lose(percent))

    def narrow(self, node: int, bits_per_second: int) -> None:
        """What `node` sends goes no faster, and waits in a short queue that drops what is more.

        Raises:
            Unavailable: No `tc`, or a kernel without this queue.
        """
        rate = f"rate {bits_per_second} burst {BURST_BYTES} limit {QUEUE_BYTES}"
        try:
            self._inside(node, f"tc qdisc replace dev eth0 root tbf {rate}")
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"no link can be made narrow here: {error}") from error

    def widen(self, node: int) -> None:
        """No narrow link any more."""
        self._inside(node, "tc qdisc del dev eth0 root")

    def delay(self, node: int, span_ms: tuple[int, int], seed: int, *, in_order: bool) -> None:
        """What `node` sends arrives so much later; and in another order, unless `in_order`.

        Raises:
            Unavailable: The kernel has no NFQUEUE.
        """
        module = ("-m", "tests.process.namespaces.delay", "--seed", str(seed))
        span = ("--ms", *map(str, span_ms), *(("--in-order",) if in_order else ()))
        command = self.command(node, (sys.executable, *module, *span))
        delay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._delays.append(delay)
        assert delay.stdout is not None
        said = delay.stdout.readline().strip()
        if said != "ready":
            raise Unavailable(f"packets cannot be delayed: {said}")
        self._inside(node, self._firewall.hold_back())

    def stop_delays(self, nodes: Sequence[int]) -> None:
        """Packets go at once again; those that are held are lost."""
        for node in nodes:
            self._inside(node, self._firewall.let_go())
        self.end_delays()

    def end_delays(self) -> None:
        for delay in self._delays:
            delay.terminate()
            delay.wait(COMMAND_DEADLINE_S)
        self._delays.clear()

    def heal(self, nodes: Sequence[int]) -> None:
        """No more cuts, no more loss."""
        for node in nodes:
            self._inside(node, self._firewall.clear())
            for command in self._firewall.prepare():
                self._inside(node, command)

    def make(self, nodes: Sequence[int]) -> None:
        """Bridge, links, addresses; the namespaces are there."""
        self._inside(SWITCH, "ip link add bridge type bridge")
        self._inside(SWITCH, "ip link set bridge up")
        switch = self.namespace(SWITCH)
        _run(f"ip link add {self.name} type veth peer name port{CLIENT_HOST} netns {switch}")
        _run(f"ip addr add {self.client_address}/24 dev {self.name}")
        _run(f"ip link set {self.name} up")
        self._plug_in(CLIENT_HOST)
        for node in nodes:
            end = f"eth0 netns {self.namespace(node)}"
            _run(f"ip link add port{node} netns {switch} type veth peer name {end}")
            self._plug_in(node)
            self._inside(node, "ip link set lo up")
            self._inside(node, f"ip addr add {self.address(node)}/24 dev eth0")
            self._inside(node, "ip link set eth0 up")
            for command in self._firewall.prepare():
                self._inside(node, command)
        self._try_faults(nodes[0])

    def _try_faults(self, node: int) -> None:
        """A kernel without one of these is found out now, and not in the middle of a trial."""
        self.cut(node, node)
        self.lose(node, 10)
        self.heal((node,))
        try:
            if self.can_delay:
                self.delay(node, (1, 1), seed=0, in_order=True)
        except (Unavailable, subprocess.CalledProcessError):
            self.can_delay = False
        finally:
            if self._delays:
                self.stop_delays((node,))

    def _plug_in(self, host: int) -> None:
        self._inside(SWITCH, f"ip link set port{host} master bridge")
        self._inside(SWITCH, f"ip link set port{host} up")

    def _inside(self, node: int, command: str) -> None:
        _run(" ".join(self.command(node, (command,))))


@contextmanager
def network(nodes: Sequence[int]) -> Iterator[Network]:
    """Made, and gone in the end, whatever happened in between.

    Raises:
        Unavailable: Not root, or a tool is missing, or the kernel refuses.
    """
    firewall = Firewall(_firewall_tool())
    it = Network(f"kl{random.randrange(NAMES):06x}", _free_prefix(), firewall)
    with ExitStack() as undo:
        try:
            for node in (SWITCH, *nodes):
                _run(f"ip netns add {it.namespace(node)}")
                undo.callback(_run_if_possible, f"ip netns del {it.namespace(node)}")
            undo.callback(_run_if_possible, f"ip link del {it.name}")
            undo.callback(it.end_delays)
            it.make(nodes)
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"{error.cmd}: {error.stderr.strip()}") from error
        yield it


def _firewall_tool() -> str:
    if os.geteuid() != 0:
        raise Unavailable("only root can make network namespaces")
    if shutil.which("ip") is None:
        raise Unavailable(f"there is no `ip` here: {HOW_TO_GET}")
    for tool in ("nft", "iptables"):
        if shutil.which(tool) is not None:
            return tool
    raise Unavailable(f"there is neither nft nor iptables here: {HOW_TO_GET}")


def _free_prefix() -> str:
    """Three numbers of a private network that no route of this machine leads to."""
    routes = _run("ip -4 route")
    while True:
        prefix = f"10.{random.randrange(64, 250)}.{random.randrange(1, 250)}"
        if f"{prefix}." not in routes:
            return prefix


def _run(command: str) -> str:
    done = subprocess.run(
        command.split(), capture_output=True, text=True, check=True, timeout=COMMAND_DEADLINE_S
    )
    return done.stdout


def _run_if_possible(command: str) -> None:
    subprocess.run(command.split(), capture_output=True, check=False, timeout=COMMAND_DEADLINE_S)
