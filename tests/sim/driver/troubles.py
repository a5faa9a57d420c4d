"""What goes wrong, and when: misfortunes at seeded times, each with an end.

Each seed draws its own mixture of weights: uniform chance finds the common bugs and never the rare
ones (tests/sim/quorum/faults).
"""

import asyncio
import errno
import random
from collections.abc import Callable, Sequence

from controller.quorum.port import Quorum
from klamm.errors import KlammError
from klamm.ids import NodeId
from tests.sim.chance import exponential
from tests.sim.driver import voting
from tests.sim.driver.world import Node, World

KINDS = (
    "kill",
    "stop",
    "power",
    "blackout",
    "cut_link",
    "cut_off",
    "pause",
    "slow_disk",
    "broken_disk",
    "full_disk",
    "rot",
    "forget",
    "new_disk",
    "resets",
    "resign",
    "clock_step",
)

HOUR_MS = 3_600_000
CLOCK_STEPS_MS = (-HOUR_MS, HOUR_MS, -87_600 * HOUR_MS, 87_600 * HOUR_MS, -50, 50)
"""An hour, ten years and a little, back and forth (scenario 59)."""


WIPED = "wiped"
PROFILES: dict[str, dict[str, int]] = {
    "rot": {"rot": 8, "power": 3, "kill": 2, "cut_off": 2, "slow_disk": 1},
    "pages": {"broken_disk": 8, "power": 2, "blackout": 2},
    "scatter": {"slow_disk": 8, "power": 6, "blackout": 3},
    "full": {"full_disk": 8, "kill": 1, "cut_off": 1, "resign": 1},
    "votes": {"forget": 8, "resign": 4, "cut_link": 4, "resets": 1},
    WIPED: {"new_disk": 8, "kill": 2, "power": 1, "cut_off": 2, "resign": 1},
}
"""Weights that dwell on one kind of trouble, which then comes more often."""
PROFILE_EVERY_S = 0.2
SCATTERING = ("pages", "scatter")
"""Profiles whose disks write unsynced sectors in any order."""
WIPED_EVERY_S = 0.7
"""A disk that is lost takes a while to be replaced."""


async def hand_over(quorum: Quorum, to: int) -> None:
    """Done, or refused, or unknown in words; nothing else."""
    try:
        done = await quorum.transfer(NodeId(to), 500)
    except KlammError:
        return
    assert done.leader == to, f"{done} was to lead to {to}"


class Troubles:
    def __init__(self, world: World, without: Sequence[str] = (), profile: str = "") -> None:
        self.counts = dict.fromkeys(KINDS, 0)
        self._world = world
        self._rng = rng = random.Random(f"troubles {world.seed}")
        self._weights = [rng.choice((0, 1, 1, 4)) for _ in KINDS]
        if not any(self._weights):
            self._weights = [1] * len(KINDS)
        self._every_s = rng.choice((0.3, 0.7, 1.5))
        self._over = False
        if profile:
            self._weights = [PROFILES[profile].get(each, 0) for each in KINDS]
            self._every_s = WIPED_EVERY_S if profile == WIPED else PROFILE_EVERY_S
        self._nobody_formats = world.size > 1 and rng.random() < 0.5
        for node in world.nodes:
            node.files.scatters = profile in SCATTERING
            node.disk.formats_itself = self._nobody_formats
        for each in without:
            self._weights[KINDS.index(each)] = 0
        network = world.network
        network.slow_chance = rng.choice((0.0, 0.0, 0.01, 0.05))
        network.loss = rng.choice((0.0, 0.0, 0.001, 0.01))
        network.delay_s = rng.choice(((0.0001, 0.001), (0.0005, 0.005), (0.001, 0.03)))
        world.loop.executor_delay_max_s = rng.choice((0.001, 0.004, 0.02))

    async def go_on(self) -> None:
        """Until cancelled or `stop`."""
        while not self._over:
            await asyncio.sleep(exponential(self._rng, self._every_s))
            if not any(self._weights):
                continue
            (kind,) = self._rng.choices(KINDS, self._weights)
            self.counts[kind] += 1
            self._world.tell("trouble", kind)
            getattr(self, f"_{kind}")()

    def stop(self) -> None:
        """Peace: everything is healed, and everybody starts."""
        world = self._world
        self._over = True
        world.network.heal_all()
        world.loop.disk_s.clear()
        world.loop.executor_delay_max_s = 0.004
        for node in world.nodes:
            node.files.heal()
            world.loop.resume(node.incarnation)
            self._start(node)

    def _kill(self) -> None:
        node = self._some()
        if node.alive:
            node.kill()
            self._start_later(node)

    def _stop(self) -> None:
        node = self._some()
        if node.running:
            self._world.network.spawn(node.incarnation, node.stop)
            self._later(self._duration() + 1.0, lambda: self._start(node))

    def _power(self) -> None:
        self._cut_power(self._some())

    def _blackout(self) -> None:
        for node in self._world.nodes:
            self._cut_power(node)

    def _cut_link(self) -> None:
        if self._world.size == 1:
            return
        one, two = self._rng.sample(self._world.nodes, 2)
        links = [(one.id, two.id), (two.id, one.id)]
        self._cut(links[: self._rng.choice((1, 2))])

    def _cut_off(self) -> None:
        """One node hears nobody, or nobody hears it, or both."""
        node = self._some()
        others = [each.id for each in self._world.nodes if each is not node]
        outward = [(node.id, each) for each in others]
        inward = [(each, node.id) for each in others]
        self._cut(self._rng.choice((outward, inward, outward + inward)))

    def _pause(self) -> None:
        node = self._some()
        incarnation = node.incarnation
        self._world.loop.pause(incarnation)
        self._later(self._duration(), lambda: self._world.loop.resume(incarnation))

    def _slow_disk(self) -> None:
        name = str(self._some().id)
        disks = self._world.loop.disk_s
        disks[name] = self._rng.choice(((0.005, 0.05), (0.05, 0.4)))
        self._later(2 * self._duration(), lambda: disks.pop(name, None))

    def _broken_disk(self) -> None:
        """The next operation of a kind fails, and the process with it; then it is repaired."""
        node = self._some()
        operation = self._rng.choice(("append", "sync", "sync", "rename", "sync_directory"))
        node.files.fail(operation, self._rng.choice((errno.EIO, errno.ENOSPC)))
        self._later(self._duration(), node.files.heal)
        self._later(self._duration() + 3.0, lambda: self._start(node))

    def _full_disk(self) -> None:
        """Some bytes more fit, or none; and in a while there is room again (scenario 34)."""
        node = self._some()
        used = sum(map(len, node.files.snapshot().values()))
        node.files.capacity = used + self._rng.choice((0, 40, 100, 400, 2_000))
        self._later(2 * self._duration(), node.files.heal)
        self._later(2 * self._duration() + 3.0, lambda: self._start(node))

    def _rot(self) -> None:
        """A bit flips: of one voter at a time, for a majority must be able to give it back.

        And have weight without it, which a disk has not that no record names.
        """
        world, node = self._world, self._some()
        if not all(each.whole for each in world.nodes) or not voting.may_lose(world, node):
            return
        if self._rng.random() < 0.5:
            node.kill()
            self._start_later(node)
        world.tell("rot", node.rot())

    def _forget(self) -> None:
        """The vote is lost between two processes. Who is no voter, as its log says, is another
        replica then: as if its disk were lost, if it had been added meanwhile."""
        node = self._some()
        if not node.alive:
            return
        node.kill()
        self._start_later(node)
        if node.is_voter or voting.may_lose(self._world, node):
            self._world.tell("forget", node.forget())

    def _new_disk(self) -> None:
        """At any time; or right behind an acknowledgement; or when most of the others that have
        what was acknowledged are away, and those who were cut off are back."""
        node = self._some()
        how = (self._lose_disk, self._lose_soon, self._lose_with_others_away)
        self._rng.choice(how)(node)

    def _lose_disk(self, node: Node) -> None:
        again = node.disk.directory_id is None or not node.is_voter
        if not voting.may_lose(self._world, node) or (again and self._rng.random() < 0.7):
            return
        if node.alive:
            self._rng.choice((node.kill, node.cut_power))()
        node.lose_disk()
        # A person who formats a new disk sees to it that the others' logs name theirs.
        others = [each for each in self._world.nodes if each is not node]
        node.disk.formats_itself = self._nobody_formats or not voting.all_know(others)
        delay_s = self._rng.choice((0.05, 0.05, self._duration()))
        self._later(delay_s, lambda: self._start(node))

    def wipe_most(self) -> list[Node]:
        """But never all that know of the quorum. Nobody formats the new disks.

        Returns the nodes that have kept theirs.
        """
        nodes = self._rng.sample(self._world.nodes, self._world.size)
        nodes.sort(key=lambda node: not node.knows())
        kept = self._world.size - self._world.size // 2 - 1
        for node in nodes[kept:]:
            if node.alive:
                node.kill()
            node.lose_disk()
            node.disk.formats_itself = True
        return nodes[:kept]

    def _lose_soon(self, node: Node) -> None:
        self._when_acknowledged(lambda: self._lose_disk(node))

    def _lose_with_others_away(self, node: Node) -> None:
        """With {A, B, C} a record is acknowledged by A and B; A's disk is lost, and B is down."""
        world = self._world
        others = [each for each in world.nodes if each is not node]
        late = self._rng.sample(others, (world.size - 1) // 2)
        links = [(one.id, each.id) for one in late for each in world.nodes if one is not each]
        links += [(to, at) for at, to in links]

        def strike() -> None:
            heal()
            self._lose_disk(node)
            for each in others:
                if each not in late and each.alive:
                    each.kill()
                    self._start_later(each)

        heal = self._cut(links)
        self._when_acknowledged(strike)

    def _resets(self) -> None:
        self._world.network.break_some(self._rng.choice((0.3, 1.0)))

    def _resign(self) -> None:
        """To whoever is there; each other time to the next node, be it there or not."""
        nodes = self._world.nodes
        for node, after in zip(nodes, (*nodes[1:], nodes[0]), strict=True):
            if not node.claims or node.quorum is None:
                continue
            if self.counts["resign"] % 2:
                self._world.network.spawn(node.incarnation, node.quorum.resign, 500)
            else:
                self._world.network.spawn(node.incarnation, hand_over, node.quorum, after.id)

    def _clock_step(self) -> None:
        """Somebody sets a machine's wall clock; only its monotonic clock may time anything."""
        self._some().wall_ahead_ms += self._rng.choice(CLOCK_STEPS_MS)

    # How each is done.

    def _some(self) -> Node:
        """The leader, every other time."""
        leaders = [node for node in self._world.nodes if node.claims]
        return self._rng.choice(
            leaders if leaders and self._rng.random() < 0.5 else self._world.nodes
        )

    def _duration(self) -> float:
        low_s, high_s = self._rng.choice(((0.001, 0.03), (0.05, 0.5), (0.5, 3.0)))
        return self._rng.uniform(low_s, high_s)

    def _cut_power(self, node: Node) -> None:
        if node.alive:
            node.cut_power(silently=self._rng.random() < 0.5)
            self._start_later(node)

    def _cut(self, links: list[tuple[int, int]]) -> Callable[[], None]:
        """Until what this returns is called, or some time has passed."""
        network, still = self._world.network, [*links]
        for link in links:
            network.cut(*link)

        def heal() -> None:
            while still:
                network.heal(*still.pop())

        self._later(self._duration(), heal)
        return heal

    def _when_acknowledged(self, strike: Callable[[], None]) -> None:
        """The next one; or a moment after it."""
        network = self._world.network
        delay_s = self._rng.uniform(0.0, self._rng.choice((0.0, 0.002, 0.02)))

        def do() -> None:
            if not self._over:
                strike()

        self._world.history.when_acknowledged = lambda: network.after(delay_s, do)

    def _start_later(self, node: Node) -> None:
        self._later(self._duration(), lambda: self._start(node))

    def _start(self, node: Node) -> None:
        if not node.alive:
            node.start()

    def _later(self, delay_s: float, what: Callable[[], object]) -> None:
        def do() -> None:
            if not self._over:
                what()

        self._world.loop.call_later(delay_s, do)
