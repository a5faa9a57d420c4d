"""What controllers believe, in the simulated shell: real decisions, states, checksums, snapshots.

    decide ─▶ propose ─▶ on_commit ─▶ image, checksum ─┬─▶ Agreement ─▶ Verification ─▶ ends
                              ╎ misread: one record     └─▶ held against the truth: a replay of
                              ╎ is taken for another        what was committed, by nobody's node

A process that misreads has a state of its own from there on, as a flipped bit of memory or a
replay that is not the same everywhere gives it. With the next true statement that it hears it must
say so; it ends, and the next process is right. What it wrote down meanwhile may keep a node wrong
for good: that node says so, and is rebuilt from its peers (scenarios 24 and 72, row 14 of kraft
7.2).
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

from controller.active import ActiveController
from controller.plan.decision import Decision
from controller.plan.ledger import View
from controller.quorum.node import QuorumNode
from controller.snapshots import Snapshots
from controller.verification import Verification
from klamm.clock import Clock
from klamm.config.controller import ControllerConfig
from klamm.errors import CommitUnknownError, DefiniteError, KlammError, StateDivergedError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch, iter_batches, read_records
from klamm.metadata.checksum import checksum_of
from klamm.metadata.codec import decode, encode
from klamm.metadata.image import MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import (
    Cause,
    ConfigRecord,
    ConfigsRecord,
    MetadataRecord,
    ResourceType,
    StateChecksumRecord,
)
from tests.sim.chance import exponential
from tests.sim.driver.administrator import Administrator
from tests.sim.driver.recorder import History, Recorder
from tests.sim.driver.troubles import Troubles, hand_over
from tests.sim.driver.world import Node, World
from tests.sim.loop import NODE

STATES = "states"
"""The profile of `scenario.Run` that runs this."""

CAUSE = Cause(principal="Simulated", request="IncrementalAlterConfigs")
BROKERS = 100
"""So many that what was misread is seldom written again before it is noticed."""
COMING_S = 0.03
"""In which those come who have waited for a leader."""

COLUMNS_EACH = 8
"""One change in so many is of several brokers at once."""
COMMIT_WAIT_MS = 1_500
PEACE_S = 20.0
ENDS_WITHIN_S = 5.0
"""So long a process may doubt itself before it ends, or stays to be rebuilt."""
LOG_END = Offset(1 << 62)
CONFIG = ControllerConfig.for_tests(
    metadata_max_idle_interval_ms="0", metadata_log_max_snapshot_interval_ms="1500"
)


class Truth:
    """A replay of what was committed, that no fault touches."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._loader = MetadataLoader()
        self.images = {0: self._loader.image}
        """By end offset of a batch."""
        self.stated: dict[int, bool] = {}
        """By a statement's offset: is it true?"""

    def advance(self) -> None:
        """As nobody's node, whoever calls."""
        here = NODE.set("truth")
        try:
            self._advance()
        finally:
            NODE.reset(here)

    def _advance(self) -> None:
        while data := self._history.batches.get(self._loader.end.offset):
            for offset, record in statements(data):
                self.stated[offset] = record.checksum == self._loader.image.checksum
            self._loader.load(data, LOG_END)
            self.images[self._loader.end.offset] = self._loader.image

    def is_told(self, image: MetadataImage) -> bool:
        """Item by item: what a checksum might not see."""
        known = self.images[image.provenance.offset]
        return image.configs == known.configs and image.features == known.features


class Replica(Recorder):
    """The state machine of one process, and what keeps it going."""

    def __init__(self, incarnation: str, history: History, world: World, truth: Truth) -> None:
        super().__init__(incarnation, history, world.loop.time)
        self.misreads = False
        """Takes the next config that is written for another."""
        self.was_misled = False
        """By its memory or a snapshot: its state may be another than the log's."""
        self.claimed: Callable[[], None] = lambda: None
        """Whoever has waited for a leader may come."""
        self._truth = truth
        self.active: ActiveController
        self.verification: Verification
        self.snapshots: Snapshots

    def open(self, quorum: QuorumNode, clock: Clock, world: World) -> None:
        rng = random.Random(f"replica {world.seed} {self._incarnation}")
        self.active = ActiveController(quorum, CONFIG, clock, rng)
        log = self.active.log
        self.verification = Verification(quorum, log)
        self.snapshots = Snapshots(
            quorum, log, CONFIG, clock, rng, now_ns=lambda: int(world.loop.time() * 1e9)
        )

    @property
    def is_right(self) -> bool:
        return self._truth.is_told(self.active.log.image)

    @property
    def why_not(self) -> list[str]:
        """Why nobody should ask it, as it says itself."""
        return self.active.log.agreement.why_not()

    async def on_snapshot(
        self, snapshot_id: OffsetAndEpoch, pieces: Iterator[tuple[memoryview, ...]]
    ) -> None:
        await self.active.log.on_snapshot(snapshot_id, pieces)
        self.end = snapshot_id.offset
        self._history.loads += 1
        self._truth.advance()
        self.was_misled = self.was_misled or not self.is_right  # By who wrote it.
        self._tell("load", self.end, self.is_right)

    def on_commit(self, batches: tuple[memoryview, ...]) -> None:
        super().on_commit(batches)
        self._truth.advance()
        for batch in batches:
            for _, data in iter_batches(batch):
                self.active.log.on_commit((self._read(data),))
                self._judge(data)

    def on_claim(self, epoch: Epoch, end_offset: Offset) -> None:
        super().on_claim(epoch, end_offset)
        self.active.log.on_claim(epoch, end_offset)
        self.claimed()

    def on_renounce(self, epoch: Epoch) -> None:
        super().on_renounce(epoch)
        self.active.log.on_renounce(epoch)

    def _read(self, data: memoryview) -> memoryview:
        header = next(iter_batches(data))[0]
        if not self.misreads or header.is_control:
            return data
        records = [decode(each) for each in read_records(data)]
        first = records[0]
        if not isinstance(first, ConfigRecord):
            return data
        self.misreads, self.was_misled = False, True
        self._tell("misread", header.base_offset)
        records[0] = ConfigRecord(
            resource_type=first.resource_type,
            resource_name=first.resource_name,
            key=first.key,
            value="misread",
        )
        return memoryview(
            build_batch(
                encode(records, CAUSE),
                base_offset=header.base_offset,
                leader_epoch=header.leader_epoch,
                timestamp_ms=header.max_timestamp_ms,
            )
        )

    def _judge(self, data: memoryview) -> None:
        """A replay is the same everywhere; and who hears the truth, and is wrong, says so."""
        is_right, begun = self.is_right, self.active.log.leads_from
        assert is_right or self.was_misled, f"{self._incarnation} replays to another state"
        for offset, _ in statements(data):
            if begun is not None and offset >= begun:
                assert self._truth.stated[offset] or self.was_misled, (
                    f"{self._incarnation} was not misled, and states what is wrong at {offset}"
                )
            says_so = bool(self.why_not)
            if is_right and not self.misreads:
                self.was_misled = False  # What it took for another was overwritten.
            self._tell("stated", offset, self._truth.stated[offset], is_right, says_so)
            if self._truth.stated[offset]:
                assert says_so != is_right, (
                    f"{self._incarnation} is {'right' if is_right else 'wrong'} at {offset}, "
                    f"and says {self.why_not}"
                )


def statements(data: bytes | memoryview) -> list[tuple[Offset, StateChecksumRecord]]:
    """In one batch."""
    if next(iter_batches(data))[0].is_control:
        return []
    found = [(each.offset, decode(each)) for each in read_records(data)]
    return [(offset, each) for offset, each in found if isinstance(each, StateChecksumRecord)]


class States:
    """The replicas of a world, who misleads them, and who asks them."""

    def __init__(self, world: World) -> None:
        self.diverged = 0
        """Processes that ended because of what they believed."""
        self.misled = 0
        self.rebuilt = 0
        self.truth = Truth(world.history)
        self._world = world
        self._rng = random.Random(f"states {world.seed}")
        self._every_s = self._rng.choice((0.7, 3.0))
        self._proposals = 0
        world.make_machine = self._make
        world.opened = self._opened
        world.diverged = self._diverged

    def replica(self, node: Node) -> Replica:
        return cast("Replica", node.recorder)

    @property
    def running(self) -> list[Node]:
        return [node for node in self._world.nodes if node.running]

    def _make(self, incarnation: str) -> Replica:
        return Replica(incarnation, self._world.history, self._world, self.truth)

    def _opened(self, node: Node, quorum: QuorumNode, clock: Clock) -> None:
        replica = self.replica(node)
        replica.open(quorum, clock, self._world)
        replica.claimed = partial(self._come, node)
        for work in (replica.verification.run, replica.active.run, replica.snapshots.run):
            self._world.network.spawn(node.incarnation, self._keep, node, work)

    async def _keep(self, node: Node, work: object) -> None:
        try:
            await work()  # type: ignore[operator]
        except StateDivergedError as error:
            self._diverged(node, error)

    def _diverged(self, node: Node, error: StateDivergedError) -> None:
        """The process ends, and is started again as whoever runs it does."""
        self._world.tell("diverged", node.incarnation, error)
        assert self.replica(node).was_misled or not all(self.truth.stated.values()), str(error)
        self.diverged += 1
        node.kill()
        self._world.loop.call_later(0.2, lambda: None if node.alive else node.start())

    # ── who misleads them ────────────────────────────────────────────────────────────────────

    async def mislead_for_ever(self) -> None:
        """One at a time: a majority that is wrong in one way is what there is."""
        while True:
            await asyncio.sleep(exponential(self._rng, self._every_s))
            if self.running and not self._some_wrong():
                self.misled += 1
                self.replica(self._rng.choice(self.running)).misreads = True

    def _some_wrong(self) -> bool:
        return len(self.running) < self._world.size or any(
            replica.misreads or replica.was_misled for replica in map(self.replica, self.running)
        )

    async def trim_for_ever(self) -> None:
        """A log is kept for longer than it takes to hear that what it is trimmed to is right; but
        for one node at a time, which is then wrong for good."""
        while True:
            await asyncio.sleep(exponential(self._rng, 2.0))
            verified = [self.replica(node).active.log.agreement for node in self.running]
            if not verified:
                continue
            agreed = min(each.verified_offset for each in verified)
            node = self._rng.choice(self.running)
            if self._some_wrong():
                agreed = -1
                if self.replica(node).was_misled and not node.claims:
                    agreed = node.recorder.end  # Nobody else gets what it wrote.
            assert node.quorum is not None
            held = [each for each in node.quorum.snapshots if each.snapshot_id.offset <= agreed]
            if held:
                node.quorum.trim(held[-1].snapshot_id)

    # ── who asks them ────────────────────────────────────────────────────────────────────────

    async def decide_for_ever(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(exponential(self._rng, every_s))
            claimants = [node for node in self.running if node.claims]
            if claimants:
                self.decide(self._rng.choice(claimants))

    def _come(self, node: Node) -> None:
        """Those who have waited for a leader, beside its own first decisions."""

        def decide() -> None:
            if node.claims:
                self.decide(node)

        for _ in range(self._rng.choice((0, 4, 12))):
            self._world.loop.call_later(self._rng.uniform(0.0, COMING_S), decide)

    def decide(self, node: Node) -> None:
        self._proposals += 1
        number = self._rng.randrange(BROKERS)
        key = self._rng.choice(("log.retention.ms", "log.segment.bytes"))
        value = str(self._proposals)
        record: MetadataRecord = ConfigRecord(ResourceType.BROKER, str(number), key, value)
        if self._proposals % COLUMNS_EACH == 0:
            names = tuple(str((number + each) % BROKERS) for each in range(4))
            values = tuple(value + name for name in names) if number % 2 else (value,)
            record = ConfigsRecord(ResourceType.BROKER, key, names, values)
        self._world.network.spawn(node.incarnation, self._decide, self.replica(node), record)

    async def _decide(self, replica: Replica, record: MetadataRecord) -> None:
        history = self._world.history
        value = encode((record,), CAUSE)[0].value or b""

        def decision(view: View, _: Offset) -> Decision[None]:
            return Decision((record,), None)

        try:
            _, end = await replica.active.log.decide(decision, CAUSE, COMMIT_WAIT_MS)
        except DefiniteError:
            history.refuse(value)
        except CommitUnknownError:
            history.unknown += 1
        else:
            history.acknowledge(value, end)

    # ── peace ────────────────────────────────────────────────────────────────────────────────

    async def settle(self) -> None:
        """Each leads in its turn and states; who is wrong is found; in the end all are right."""
        world = self._world
        for node in [*world.nodes, *world.nodes]:
            await self._lead(node)
            await world.until(self._have_heard, PEACE_S, "statement heard by all")
            await self._rebuild_the_wrong()
        self._check()

    async def _lead(self, node: Node) -> None:
        world = self._world
        began = world.history.end

        def has_stated() -> bool:
            """As a leader whose time began after this; who leads already leads anew."""
            self._all_start()
            for each in self.running:
                if not each.claims:
                    continue
                begun = self.replica(each).active.log.leads_from
                if each is node and begun is not None and begun >= began:
                    return any(begun <= at < each.recorder.end for at in self.truth.stated)
                others = [other for other in world.nodes if other is not each]
                self._hand_over(each, node if each is not node else others[0])
            return False

        await world.until(has_stated, PEACE_S, f"statement of node {node.id}")

    def _hand_over(self, node: Node, to: Node) -> None:
        """Now and then, since it may be refused; with a config, or what is planted stays unseen."""
        if self._rng.random() < 0.02:
            assert node.quorum is not None
            self.decide(node)
            self._world.network.spawn(node.incarnation, hand_over, node.quorum, to.id)

    def _all_start(self) -> None:
        """Some were stopping when peace came."""
        for node in self._world.nodes:
            if not node.alive:
                node.start()

    def _have_heard(self) -> bool:
        """All, of everything that is stated; and no process that doubts itself may go on."""
        self._all_start()
        last = max(self.truth.stated, default=0)
        return all(node.running and node.recorder.end > last for node in self._world.nodes)

    async def _rebuild_the_wrong(self) -> None:
        """An administrator, who has heard a true statement and sees who is still not ready."""
        world = self._world
        await asyncio.sleep(ENDS_WITHIN_S)
        world.check()
        for node in self._wrong():
            assert node.quorum is not None
            begin = node.quorum.log_start_offset
            assert begin > 0, f"node {node.id} has the whole log, and did not end"
            node.kill()
            node.start()  # Some of the log below may still be there, and help.
            await world.until(self._have_heard, PEACE_S, "node up to date that started anew")
            await asyncio.sleep(ENDS_WITHIN_S)
            if node in self._wrong():
                self.rebuilt += 1
                node.empty_log()
                node.start()
        await world.until(self._have_heard, PEACE_S, "rebuilt node up to date")

    def _wrong(self) -> list[Node]:
        """Who is not ready, by a true statement."""
        if not self.truth.stated[max(self.truth.stated)]:
            return []
        replicas = [(node, self.replica(node)) for node in self.running]
        return [node for node, each in replicas if each.why_not and not each.is_right]

    def _check(self) -> None:
        for node in self._world.nodes:
            replica = self.replica(node)
            image = replica.active.log.image
            assert replica.is_right, f"node {node.id} is wrong in the end, and says nothing of it"
            assert image.checksum == checksum_of(image), f"node {node.id}: a checksum of its own"
            assert not replica.why_not, f"node {node.id} is right, and says {replica.why_not}"
            assert replica.active.log.agreement.verified_offset >= 0


async def ended(work: asyncio.Task[None]) -> None:
    work.cancel()
    with suppress(asyncio.CancelledError, KlammError):
        await work


async def trouble_and_states(world: World, trouble_s: float, without: Sequence[str] = ()) -> States:
    """As `scenario.trouble_and_peace`, with states that must agree."""
    states = States(world)
    administrator = Administrator(world, lambda node: states.replica(node).active.log)
    troubles = Troubles(world, without)
    for node in world.nodes:
        node.start()
    work = [
        world.loop.create_task(each)
        for each in (
            administrator.go_on(),
            states.decide_for_ever(0.06),
            states.mislead_for_ever(),
            states.trim_for_ever(),
            troubles.go_on(),
        )
    ]
    healing, *troubling = work
    await world.watch(work, trouble_s)
    for each in troubling:
        await ended(each)
    troubles.stop()

    def all_is_well() -> bool:
        states._all_start()
        return administrator.all_is_well()

    await world.until(all_is_well, PEACE_S, "quorum of all nodes in peace")
    await ended(healing)
    await states.settle()
    for value, end in world.history.acknowledged.items():
        assert world.history.place.get(value) == end, f"{value!r} is lost"
    world.tell("end", world.history.end, world.loop.steps)
    return states
