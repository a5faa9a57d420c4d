"""One simulated quorum: nodes that live and die, on a network and on disks that fail."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import cast

import grpc.aio

from controller.quorum.bounds import QUORUM_BOUNDS, Bounds
from controller.quorum.known_voters import latest_voters
from controller.quorum.node import QuorumNode
from controller.quorum.opening import METADATA_LOG, NEW_DISK
from controller.quorum.quorum_config import QuorumConfig
from controller.quorum.quorum_state import QUORUM_STATE
from controller.raft.state import RaftConfig
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from klamm.errors import CorruptLogError, StartError, StateDivergedError, StorageError
from klamm.ids import DirectoryId, NodeId
from klamm.log.record_batch import BatchHeader, iter_batches
from klamm.log.records import CorruptBatchError
from klamm.metadata.records import Endpoint
from tests.sim.disk import SimFiles
from tests.sim.driver import voting
from tests.sim.driver.disks import CLUSTER, DIRECTORY, Disk
from tests.sim.driver.judge import Judge, judged
from tests.sim.driver.network import Network
from tests.sim.driver.recorder import History, Recorder
from tests.sim.driver.transport import Channel, Server
from tests.sim.loop import NODE, SimulatedLoop

PORT = 9093
SEGMENT_BYTES = 16 * 1024
PREALLOCATE_BYTES = 1024
ELECTION_TIMEOUT_MS = 300
FETCH_TIMEOUT_MS = 600


class WorldLoop(SimulatedLoop):
    """Work in threads takes as long as its node's disk does."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.disk_s: dict[str, tuple[float, float]] = {}
        """By node."""

    def executor_plan(self) -> tuple[bool, float]:
        node = NODE.get().partition(".")[0]
        low_s, high_s = self.disk_s.get(node, (0.0001, self.executor_delay_max_s))
        return self.rng.random() < 0.5, self.rng.uniform(low_s, high_s)


class SimClock:
    def __init__(self, loop: SimulatedLoop, ahead_ms: int, node: "Node") -> None:
        self._loop = loop
        self._ahead_ms = ahead_ms
        self._node = node

    def monotonic_ms(self) -> int:
        return self._ahead_ms + int(self._loop.time() * 1_000)

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self._node.wall_ahead_ms + self.monotonic_ms()


def endpoint(node_id: int) -> Endpoint:
    return Endpoint(name="CONTROLLER", host=f"node{node_id}", port=PORT)


class Node:
    """A machine: its disk outlives its processes."""

    def __init__(self, world: "World", node_id: int) -> None:
        self.id = node_id
        self.disk = Disk(node_id, world.rng)
        self.quorum: QuorumNode | None = None
        self.recorder: Recorder
        self.incarnation = ""
        self.rotten = False
        """Bits of its log have flipped, and it is not whole again yet."""
        self.healed = False
        """A process has found the damage, and cut it off."""
        self.emptied = False
        """Its log was removed, and it is not whole again yet."""
        self.alive = False
        """Started, and not ended; `running` once its disk is recovered."""
        self.wall_ahead_ms = 0
        """Of the others' wall clocks."""
        self._world = world
        self._count = 0
        self._stopping = False
        self._life: asyncio.Task[None]

    @property
    def files(self) -> SimFiles:
        return self.disk.files

    @property
    def running(self) -> bool:
        return self.quorum is not None

    @property
    def claims(self) -> bool:
        return self.running and self.recorder.epoch is not None

    def holds(self, data: bytes, directory_id: DirectoryId | None) -> bool:
        """Does its log, and would it after a power cut? With the disk of this id, if there is one.

        Who has lost records has them again before it has a say: a leader may learn late of what
        it acknowledged before.
        """
        return self.rotten or self.disk.holds(data, directory_id)

    def knows(self) -> tuple[VoterSet, ...]:
        """The voters that may be in force, by what its log says; none if it does not say it."""
        if self.quorum is None:
            found = latest_voters(self.files, DIRECTORY / METADATA_LOG)
            return () if found is None else (found,)
        state = self.quorum._driver.state
        said = state.voter_history[1:]
        return tuple(voters for _, voters in said[-1 if state.voters_committed else -2 :])

    def start(self) -> None:
        world = self._world
        assert not self.alive
        self.alive = True
        self._count += 1
        self._stopping = False
        self.incarnation = f"{self.id}.{self._count}"
        self.recorder = world.make_machine(self.incarnation)
        world.tell("start", self.incarnation)
        self._life = world.loop.spawn(self.incarnation, self._live(self.incarnation))

    async def _live(self, incarnation: str) -> None:
        world = self._world
        try:
            self.quorum = quorum = self._open(incarnation)
            world.judge.started(quorum)
            self.healed = self.healed or bool(quorum.recovering)
            assert self.rotten or self.emptied or quorum.recovering in ("", NEW_DISK), (
                f"a crash alone has cost {incarnation} its vote: {quorum.recovering}"
            )
            server = Server(world.network, self.id, incarnation)
            quorum.register(cast("grpc.aio.Server", server))
            world.network.servers[self.id] = server
            world.opened(self, quorum, SimClock(world.loop, 1_000_000 * self.id, self))
            try:
                await quorum.run(self.recorder)
            except asyncio.CancelledError:
                world.network.servers.pop(self.id, None)
                await quorum.close()
                self._end("stopped", silently=False)
                self.files.kill()
        except StateDivergedError as error:
            world.diverged(self, error)
        except Exception as error:
            if not _is_of_the_disk(error, rotten=self.rotten):
                world.found(error)
                return
            world.disk_failed(self, error)

    def _open(self, incarnation: str) -> QuorumNode:
        world = self._world

        def connect(address: str) -> grpc.aio.Channel:
            to = int(address.partition(":")[0].removeprefix("node"))
            return cast("grpc.aio.Channel", Channel(world.network, self.id, incarnation, to))

        return QuorumNode.open(
            self._config(self.disk.open()),
            files=self.files,
            clock=SimClock(world.loop, 1_000_000 * self.id, self),
            rng=random.Random(f"{world.seed} {incarnation}"),
            connect=connect,
            draw_id=self.disk.renew,
        )

    def _config(self, directory_id: DirectoryId) -> QuorumConfig:
        return QuorumConfig(
            raft=RaftConfig(
                me=NodeId(self.id),
                directory_id=directory_id,
                voters=self._world.configured,
                endpoint=endpoint(self.id),
                election_timeout_ms=ELECTION_TIMEOUT_MS,
                fetch_timeout_ms=FETCH_TIMEOUT_MS,
                election_backoff_max_ms=200,
            ),
            cluster_id=CLUSTER,
            metadata_log_dir=DIRECTORY,
            segment_bytes=SEGMENT_BYTES,
            preallocate_bytes=PREALLOCATE_BYTES,
            request_timeout_ms=500,
        )

    @property
    def whole(self) -> bool:
        """Running, with a say."""
        if self.quorum is None or self.quorum.recovering:
            return False
        self.rotten = self.rotten and not self.healed
        self.emptied = False
        return not self.rotten

    @property
    def is_voter(self) -> bool:
        """By what its own log says."""
        known = self.knows() or (self._world.configured,)
        directory_id = self.disk.directory_id
        return known[-1].admits(ReplicaKey(node_id=NodeId(self.id), directory_id=directory_id))

    @property
    def is_sound(self) -> bool:
        """Has its disk all that it ever acknowledged, as far as anybody can know?"""
        if self.quorum is not None:
            return self.whole
        return not self.rotten and not self.emptied and not self.disk.distrust

    def lose_disk(self) -> None:
        """It is down, and comes back with another disk: another id, and nothing on it."""
        assert not self.alive, "not while it runs"
        self._world.tell("disk lost", self.id)
        self._world.disks_lost += 1
        self.disk.lose()
        self.rotten = self.healed = self.emptied = False

    def rot(self) -> bool:
        """Flip a bit of the log, or lose a sector, below what is known to be durable.

        Above it, damage cannot be told from a torn write. False if there is nothing below.
        """
        bounds = self.files.durable().get(DIRECTORY / QUORUM_BOUNDS)
        known = 0 if bounds is None else Bounds.decode(bounds).end_offset
        places = [
            (path, position + at)
            for path, content in self.files.durable().items()
            if path.suffix == ".log" and self.files.exists(path)
            for position, header in _batches(content)
            if header.next_offset <= known
            for at in (self._world.rng.randrange(header.size_bytes),)
        ]
        if places:
            path, position = self._world.rng.choice(places)
            if self._world.rng.random() < 0.3:
                self.files.lose_sector(path, position)
            else:
                self.files.damage(path, position, 1 << self._world.rng.randrange(8))
            self.rotten, self.healed = True, False
        return bool(places)

    def forget(self) -> bool:
        """Lose the vote file, one way or another. False if there is nothing to vouch for it."""
        if DIRECTORY / QUORUM_BOUNDS not in self.files.durable():
            return False
        path = DIRECTORY / METADATA_LOG / QUORUM_STATE
        content = self.files.durable().get(path, b"")
        at = self._world.rng.randint(0, len(content))
        self.files.replace_content(path, content[:at])
        return True

    def empty_log(self) -> None:
        """An administrator removes log and snapshots of a process that ends. Its vote stays, and
        what it knows of the log's end: it follows without a say until it has all again."""
        self.kill()
        self.emptied = True
        directory = DIRECTORY / METADATA_LOG
        for path in self.files.snapshot():
            if path.parent == directory and path.name != QUORUM_STATE:
                self.files.remove(path)
        self.files.sync_directory(directory)

    def kill(self) -> None:
        """The process ends; the machine goes on, and tells its peers."""
        self._end("kill", silently=False)
        self.files.kill()

    async def stop(self) -> None:
        """In order: `run` is cancelled, the peers are left, the log is closed."""
        if self.running and not self._stopping:
            self._stopping = True
            self._world.tell("stop", self.incarnation)
            self._life.cancel()

    def cut_power(self, *, silently: bool = True) -> None:
        """What was not synced is lost."""
        self._end("power", silently=silently)
        self.files.crash(self._world.rng)

    def _end(self, how: str, *, silently: bool) -> None:
        world = self._world
        world.tell(how, self.incarnation)
        self.quorum, self.alive = None, False
        world.network.servers.pop(self.id, None)
        world.loop.resume(self.incarnation)
        world.loop.kill(self.incarnation)
        world.network.died(self.incarnation, silently=silently)


class World:
    """Made within the loop."""

    def __init__(self, seed: int, loop: WorldLoop, size: int) -> None:
        self.seed = seed
        self.loop = loop
        self.size = size
        self.rng = random.Random(f"world {seed}")
        self.history = History(self._on_majority)
        self.network = Network(loop, random.Random(f"network {seed}"), self.found)
        self.network.trace = self.history.trace
        self.nodes = [Node(self, each) for each in range(1, size + 1)]
        self.configured = VoterSet(
            tuple(Voter(node_id=NodeId(each.id), endpoint=endpoint(each.id)) for each in self.nodes)
        )
        self.judge = Judge()
        self.finding: BaseException | None = None
        self.disk_failures = 0
        self.disks_lost = self.disks_replaced = 0
        self.make_machine: Callable[[str], Recorder] = self._recorder
        """The state machine of an incarnation."""
        self.opened: Callable[[Node, QuorumNode, SimClock], None] = lambda *_: None
        """A process has found what is on its disk, and begins."""
        self.diverged: Callable[[Node, StateDivergedError], None] = self._not_diverged
        loop.set_exception_handler(self._unhandled)

    def tell(self, *words: object) -> None:
        self.history.tell(f"{self.loop.time():.6f}", *words)

    def found(self, error: BaseException) -> None:
        """The first finding ends the run."""
        if self.finding is None:
            self.finding = error

    def _recorder(self, incarnation: str) -> Recorder:
        return Recorder(incarnation, self.history, self.loop.time)

    def _not_diverged(self, node: Node, error: StateDivergedError) -> None:
        self.found(error)

    def check(self) -> None:
        if self.finding is not None:
            raise self.finding

    def disk_failed(self, node: Node, error: Exception) -> None:
        """The process ends, and sometimes the power is cut too; then the disk is repaired.

        Without the cut, the next process reads from the page cache what a failed fsync has dropped
        (scenario 32).
        """
        self.tell("disk failed", node.incarnation, type(error).__name__)
        self.disk_failures += 1
        if self.rng.random() < 0.5:
            node.cut_power(silently=False)
        else:
            node.kill()
        node.files.heal()
        self.loop.disk_s.pop(str(node.id), None)

    async def until(self, condition: Callable[[], bool], limit_s: float, what: str) -> float:
        """Simulated seconds that it took."""
        began_s = self.loop.time()
        while not condition():
            self.check()
            took_s = self.loop.time() - began_s
            assert took_s < limit_s, f"no {what} within {limit_s} s"
            await asyncio.sleep(0.005)
        self.check()
        return self.loop.time() - began_s

    async def watch(self, work: Sequence[asyncio.Task[None]], for_s: float) -> None:
        """Returns after so long; raises before it what was found, or what ended one of `work`."""
        until_s = self.loop.time() + for_s
        while self.loop.time() < until_s:
            await asyncio.sleep(0.1)
            self.check()
            for each in work:
                if each.done():
                    each.result()

    def _on_majority(self, data: bytes) -> bool:
        return voting.is_on_majority(self, data)

    def _unhandled(self, loop: object, context: dict[str, object]) -> None:
        error = context.get("exception")
        self.found(error if isinstance(error, Exception) else AssertionError(str(context)))


def _is_of_the_disk(error: Exception, *, rotten: bool) -> bool:
    """An error that a disk reported; or one in what it holds, if bits of that were flipped."""
    cause = error.__cause__ if isinstance(error, StartError) else error
    if isinstance(cause, CorruptLogError):
        return rotten and cause is error
    return isinstance(cause, StorageError | OSError)


def _batches(content: bytes) -> Iterator[tuple[int, BatchHeader]]:
    """Those that are whole, up to the first that is not."""
    position = 0
    try:
        for header, _ in iter_batches(content):
            yield position, header
            position += header.size_bytes
    except CorruptBatchError:
        return


def run(
    seed: int,
    main: Callable[[World], Awaitable[None]],
    *,
    size: int = 3,
) -> World:
    """Run `main` in a world of its own."""
    loop = WorldLoop(random.Random(f"loop {seed}"))
    worlds: list[World] = []

    async def begin() -> None:
        world = World(seed, loop, size)
        worlds.append(world)
        await main(world)
        world.check()

    with judged(lambda: worlds[0].judge):
        loop.run_world(begin())
    return worlds[0]
