"""One fault after the other, each kind in its turn, from a seed; told as it happens.

Which controller, how long and how hard is chance's, and chance is the seed's. Who leads is not.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator

from tests.process.namespaces.controllers import IDS, Controllers
from tests.process.namespaces.network import CLIENT_HOST
from tests.process.other_version import VERSIONS

FAULT_S = (4.0, 8.0)
PAUSE_S = (10.0, 12.0)
"""Longer than every timeout of the quorum and of the clients."""
DOWN_S = (0.5, 4.0)
LOSS_PERCENT = (10, 20)
LEADER_DEADLINE_S = 60.0

KINDS = (
    "partition",
    "leader isolated",
    "leader cut off from everybody",
    "cut one way, out",
    "cut one way, in",
    "one link cut one way",
    "loss",
    "pause the leader",
    "pause",
    "kill the leader",
    "kill",
    "kill all",
    "killed, and another version",
)
DELAYS = ("delay", "delay and reorder")
"""Only where packets can be queued."""
DELAY_MS = (5, 60)
"""There and back up to twice as long: another continent."""
DISKS = ("the leader's disk is full", "a disk is full")
"""Only where small file systems can be mounted."""
VERSIONS_ROLLED = "all rolled to other versions"
ANOTHER_VERSION = "killed, and another version"
OF_VERSIONS = (VERSIONS_ROLLED, ANOTHER_VERSION, "kill the leader", VERSIONS_ROLLED)
CLOCK = "clock"
"""Only where clocks can be set."""
CLOCK_STEPS_S = (-10 * 31_557_600, -3_600, -1, 1, 3_600, 10 * 31_557_600)


class Nemesis:
    """Does harm; `strike` returns when it is over and undone."""

    def __init__(self, controllers: Controllers, seed: int, tell: Callable[[str], None]) -> None:
        self._controllers = controllers
        self._network = controllers.network
        self._chance = random.Random(f"{seed} nemesis")
        self._tell = tell

    def kinds(self, *, of_versions: bool = False) -> Iterator[str]:
        """All of them in some order, then all of them in another, for ever."""
        while of_versions:
            yield from OF_VERSIONS
        kinds = (*KINDS, CLOCK) if self._controllers.have_clocks else KINDS
        if self._network.can_delay:
            kinds = (*kinds, *DELAYS)
        if self._controllers.have_small_disks:
            kinds = (*kinds, *DISKS)
        while True:
            yield from self._chance.sample(kinds, len(kinds))

    async def strike(self, kind: str) -> None:
        leader = await self._controllers.wait_leader(LEADER_DEADLINE_S)
        victim = self._chance.choice(IDS)
        duration_s = self._chance.uniform(*FAULT_S)
        if kind == CLOCK:
            await self._step_clocks(duration_s)
        elif kind in DISKS:
            await self._fill_disk(leader if "leader" in kind else victim, duration_s)
        elif kind in DELAYS:
            await self._delay(duration_s, in_order=kind == "delay")
        elif kind == "loss":
            await self._lose(self._chance.randint(*LOSS_PERCENT), duration_s)
        elif kind == VERSIONS_ROLLED:
            await self._roll()
        elif kind == ANOTHER_VERSION:
            await self._kill(victim, but_then=self._other_version(victim))
        elif kind.startswith("pause"):
            await self._pause(leader if "leader" in kind else victim)
        elif kind == "kill all":
            await self._kill(*IDS)
        elif kind.startswith("kill"):
            await self._kill(leader if "leader" in kind else victim)
        else:
            await self._cut(kind, victim, leader, duration_s)

    async def _cut(self, kind: str, victim: int, leader: int, duration_s: float) -> None:
        """Scenarios of one node, or one direction of its links, or one link, gone."""
        node = victim if kind == "partition" else leader
        others = [each for each in IDS if each != node]
        out = [(node, each) for each in others]
        back = [(each, node) for each in others]
        links = {
            "partition": out + back,
            "leader isolated": out + back,
            "leader cut off from everybody": [*out, *back, (node, CLIENT_HOST)],
            "cut one way, out": out,
            "cut one way, in": back,
            "one link cut one way": [self._chance.choice(out + back)],
        }[kind]
        for sender, receiver in links:
            self._network.cut(sender, receiver)
        arrows = ", ".join(f"{sender}→{receiver}" for sender, receiver in links)
        await self._hold(f"{kind}: {arrows}", duration_s)
        self._network.heal(IDS)

    async def _lose(self, percent: int, duration_s: float) -> None:
        for each in IDS:
            self._network.lose(each, percent)
        await self._hold(f"{percent} % of everything lost", duration_s)
        self._network.heal(IDS)

    async def _delay(self, duration_s: float, *, in_order: bool) -> None:
        """Scenarios of far or busy links: everybody's packets come later, and in another order."""
        first_ms, last_ms = sorted(self._chance.randint(*DELAY_MS) for _ in range(2))
        span_ms = (last_ms, last_ms) if in_order else (first_ms, last_ms)
        seeds = {each: self._chance.randrange(1 << 32) for each in IDS}
        try:
            for each, seed in seeds.items():
                await asyncio.to_thread(self._network.delay, each, span_ms, seed, in_order=in_order)
            how = "in order" if in_order else "each by another time"
            told = f"everything {span_ms[0]} to {span_ms[1]} ms later, {how}"
            await self._hold(told, duration_s)
        finally:
            self._network.stop_delays(IDS)

    async def _step_clocks(self, duration_s: float) -> None:
        """Scenario 59: everybody's wall clock, each by another step, and back."""
        steps = {each: self._chance.choice(CLOCK_STEPS_S) for each in IDS}
        for each, step_s in steps.items():
            self._controllers.set_clock(each, step_s)
        told = ", ".join(f"{each} by {step_s:+d} s" for each, step_s in steps.items())
        await self._hold(f"wall clocks set: {told}", duration_s)
        for each in IDS:
            self._controllers.set_clock(each, 0)

    async def _fill_disk(self, node: int, duration_s: float) -> None:
        """Scenario 34: no room for a record, a vote or a snapshot; then there is room again."""
        await self._controllers.fill_disk(node)
        await self._hold(f"the disk of {node} is full", duration_s)
        self._controllers.make_room(node)

    async def _pause(self, node: int) -> None:
        self._controllers.pause(node)
        await self._hold(f"{node} paused", self._chance.uniform(*PAUSE_S))
        self._controllers.resume(node)

    async def _kill(self, *nodes: int, but_then: str = "") -> None:
        await self._controllers.kill(*nodes)
        names = ", ".join(str(each) for each in nodes)
        await self._hold(f"{names} killed{but_then}", self._chance.uniform(*DOWN_S))
        await self._controllers.start(*nodes)

    def _other_version(self, node: int) -> str:
        """From its next start on; in words."""
        versions = self._controllers.versions
        others = [each for each in VERSIONS if each != versions[node]]
        versions[node] = self._chance.choice(others)
        return f", then of the {versions[node]} version"

    async def _roll(self) -> None:
        """Scenario 63: one after the other is stopped in order, and is another version then."""
        for each in self._chance.sample(IDS, len(IDS)):
            self._tell(f"{each} stopped{self._other_version(each)}")
            await self._controllers.stop(each)
            await self._controllers.start(each)
            await self._controllers.wait_answers(each, LEADER_DEADLINE_S)

    async def _hold(self, what: str, duration_s: float) -> None:
        self._tell(f"{what}, for {duration_s:.1f} s")
        began = time.monotonic()
        while (left_s := began + duration_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
