"""The driver on fakes: order, group commit, limits, and what is said when it ends."""

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from controller.quorum import driver
from controller.quorum.driver import INBOX_MAX, STEPS_PER_TURN, QuorumDriver
from controller.quorum.outside import Flushed
from controller.raft.effects import (
    AppendChunk,
    AppendControl,
    AppendRecords,
    AppendVoters,
    Effects,
    SaveQuorumState,
    SendRequest,
)
from controller.raft.events import Event, Moment, StreamLost, TimePassed
from controller.raft.messages import FetchRequest, Response, VoteRequest, VoteResponse
from controller.raft.state import RaftConfig, RaftState, SavedState, restore
from controller.raft.step import step
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from klamm.errors import (
    CommitUnknownError,
    NoSpaceError,
    NotControllerError,
    OverloadedError,
    StorageError,
)
from klamm.frozen import replace
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from klamm.log.files import Buffer
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.log.snapshot import CorruptSnapshotError
from tests.unit.quorum.nodes import Machine

TWO = ReplicaKey(node_id=NodeId(2), directory_id=DirectoryId(UUID(int=2)))


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


class FakeStore:
    """A disk whose fsyncs end when the test says so."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.batches: list[bytes] = []
        self.ends: list[int] = []
        self.flushes: list[tuple[int, asyncio.Future[Offset]]] = []
        self.broken: Exception | None = None

    async def save(self, effect: SaveQuorumState) -> None:
        await asyncio.sleep(0)
        self.did.append(f"save {effect.epoch}")

    def append_records(self, effect: AppendRecords) -> None:
        assert isinstance(effect.records, tuple)
        self._append(effect.base_offset, effect.epoch, effect.records)

    def append_control(self, effect: AppendControl | AppendVoters) -> None:
        count = 1 if effect.voters is None else 2
        records = (NewRecord(value=b"", key=b"\x00\x00\x00\x02"),) * count
        self._append(effect.base_offset, effect.epoch, records, control=True)

    def append_fetched(self, base_offset: Offset, data: Buffer) -> None:
        raise AssertionError("not a follower's test")

    async def truncate(self, to: Offset) -> None:
        raise AssertionError("not a follower's test")

    async def keep_bounds(self) -> None:
        pass

    async def scrub(self) -> None:
        pass

    async def scrub_snapshots(self, found: Callable[[CorruptSnapshotError], None]) -> None:
        pass

    async def trust(self) -> None:
        raise AssertionError("not a follower's test")

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        return b"".join(
            batch
            for batch, end in zip(self.batches, self.ends, strict=True)
            if start < end <= up_to
        )

    def ends_batch(self, offset: Offset) -> bool:
        return offset in self.ends

    def flush(self, done: Flushed) -> None:
        loop = asyncio.get_running_loop()
        if self.broken is not None:
            loop.call_soon(done, self.broken)
            return
        future: asyncio.Future[Offset] = loop.create_future()
        self.flushes.append((self.ends[-1], future))
        self.did.append(f"flush {self.ends[-1]}")
        future.add_done_callback(lambda each: done(each.result()))

    def append_chunk(self, effect: AppendChunk) -> bool:
        raise AssertionError("not a follower's test")

    def abandon(self, snapshot_id: OffsetAndEpoch) -> None:
        raise AssertionError("not a follower's test")

    async def verify(self, snapshot_id: OffsetAndEpoch) -> VoterSet | None:
        raise AssertionError("not a follower's test")

    async def install(self, snapshot_id: OffsetAndEpoch) -> None:
        raise AssertionError("not a follower's test")

    def trim(self, to: OffsetAndEpoch) -> None:
        self.did.append(f"trim {to.offset}")

    def delete(self, snapshot_id: OffsetAndEpoch) -> None:
        self.did.append(f"delete {snapshot_id.offset}")

    def read_chunk(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes:
        return b""

    def finish(self, number: int) -> None:
        end, future = self.flushes[number]
        future.set_result(Offset(end))

    def _append(
        self, base: Offset, epoch: Epoch, records: tuple[NewRecord, ...], control: bool = False
    ) -> None:
        batch = build_batch(
            records, base_offset=base, leader_epoch=epoch, timestamp_ms=0, control=control
        )
        self.batches.append(batch)
        self.ends.append(base + len(records))
        self.did.append(f"append {base}")


class FakePeers:
    def __init__(self) -> None:
        self.sent: list[SendRequest] = []

    def bind(self, post: Callable[[Event], None]) -> None:
        pass

    def use(self, voters: VoterSet) -> None:
        pass

    def send(self, effect: SendRequest) -> None:
        self.sent.append(effect)


class World:
    def __init__(self, size: int) -> None:
        self.clock, self.store, self.peers, self.machine = (
            FakeClock(),
            FakeStore(),
            FakePeers(),
            Machine(),
        )
        voters = VoterSet(tuple(Voter(node_id=NodeId(each)) for each in range(1, size + 1)))
        config = RaftConfig(me=NodeId(1), directory_id=DirectoryId(UUID(int=1)), voters=voters)
        moment = Moment(now_ms=1_000, draw=0.0)
        state = restore(config, SavedState(), EpochChain(), (), moment)
        self.driver = QuorumDriver(
            state,
            store=self.store,
            peers=self.peers,
            clock=self.clock,
            rng=random.Random(1),
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let others run until it holds."""
        for _ in range(200):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to that")


@asynccontextmanager
async def driven(size: int = 1) -> AsyncIterator[World]:
    world = World(size)
    task = asyncio.create_task(world.driver.run(world.machine))
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def leading() -> AsyncIterator[World]:
    """A single voter that has claimed epoch 1, with its log ending at 2."""
    async with driven() as world:
        await world.until(lambda: len(world.store.flushes) == 1)
        assert world.store.did == ["save 1", "append 0", "flush 2"]
        world.store.finish(0)
        await world.until(lambda: world.machine.epoch == 1)
        yield world


def values(*texts: bytes) -> tuple[NewRecord, ...]:
    return tuple(NewRecord(value=each) for each in texts)


async def test_group_commit_flushes_at_once_and_batches_what_comes_meanwhile() -> None:
    async with leading() as world:
        store = world.store
        assert await world.driver.propose(Epoch(1), Offset(2), values(b"a")) == 3
        await world.until(lambda: store.did[-1] == "flush 3")
        for base in (3, 4, 5):
            await world.driver.propose(Epoch(1), Offset(base), values(b"x"))
        assert store.did[-4:] == ["flush 3", "append 3", "append 4", "append 5"]
        store.finish(1)
        # Three appends, one fsync.
        await world.until(lambda: store.did[-1] == "flush 6")
        assert world.driver.state.high_watermark == 3
        waiting = asyncio.ensure_future(world.driver.wait_committed(Epoch(1), Offset(6), 5_000))
        await world.until(lambda: world.machine.values == [b"a"])
        assert not waiting.done()
        store.finish(2)
        await waiting
        assert world.machine.values == [b"a", b"x", b"x", b"x"], "delivered before it is told"


async def test_one_that_comes_alone_is_appended_at_once_and_a_crowd_together() -> None:
    """A single caller's write waits for nobody; of many, those of one turn share a batch."""
    async with leading() as world:
        store, driver = world.store, world.driver
        first = driver.propose(Epoch(1), Offset(2), values(b"a"))
        assert store.did[-1] == "flush 2", "nobody has come yet: others may"
        await first
        store.finish(1)
        await world.until(lambda: driver.state.high_watermark == 3)
        driver.propose(Epoch(1), Offset(3), values(b"b"))
        assert store.did[-2:] == ["append 3", "flush 4"], "alone as the one before"
        together = [driver.propose(Epoch(1), Offset(each), values(b"c")) for each in (4, 5, 6)]
        assert store.did[-1] == "flush 4", "not all is committed"
        await asyncio.gather(*together)
        assert store.did[-1] == "append 4"
        store.finish(2)
        await world.until(lambda: store.did[-1] == "flush 7")
        store.finish(3)
        await world.until(lambda: driver.state.high_watermark == 7)
        driver.propose(Epoch(1), Offset(7), values(b"d"))
        assert store.did[-1] == "flush 7", "there was a crowd: it is waited for"


async def test_a_failed_fsync_ends_the_driver_and_leaves_the_outcome_unknown() -> None:
    world = World(1)
    task = asyncio.create_task(world.driver.run(world.machine))
    await world.until(lambda: len(world.store.flushes) == 1)
    world.store.finish(0)
    await world.until(lambda: world.machine.epoch == 1)
    world.store.broken = StorageError("EIO")
    await world.driver.propose(Epoch(1), Offset(2), values(b"a"))
    with pytest.raises(CommitUnknownError):
        await world.driver.wait_committed(Epoch(1), Offset(3), 5_000)
    with pytest.raises(StorageError, match="EIO"):
        await task
    with pytest.raises(OverloadedError, match="stops"):
        await world.driver.propose(Epoch(1), Offset(3), values(b"b"))


async def test_an_fsync_for_which_no_open_file_was_left_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scenario 42: the node ended, as it does over a broken disk."""
    monkeypatch.setattr("controller.quorum.flusher.RETRY_S", 0.0)
    async with leading() as world:
        store = world.store
        store.broken = NoSpaceError("the log", 0, OSError(errno.EMFILE, "too many"))
        await world.driver.propose(Epoch(1), Offset(2), values(b"a"))
        waiting = asyncio.ensure_future(world.driver.wait_committed(Epoch(1), Offset(3), 60_000))
        await asyncio.sleep(0)
        store.broken = None
        await world.until(lambda: store.did[-1] == "flush 3")
        store.finish(1)
        await waiting


async def test_who_waits_for_a_change_is_woken_by_the_end_once() -> None:
    """An event that stayed set had them look again for ever, and the process never ended."""
    async with leading() as world:
        changed = world.driver.changed
    assert changed.is_set()
    assert not world.driver.changed.is_set()


async def test_a_vote_is_saved_before_it_is_given() -> None:
    async with driven(size=3) as world:
        request = VoteRequest(epoch=Epoch(4), log_end=OffsetAndEpoch(Epoch(-1), Offset(0)))
        answer = await world.driver.request(TWO, request)
        assert isinstance(answer, VoteResponse)
        assert answer.vote_granted
        assert world.store.did == ["save 4"]


async def test_a_due_timer_goes_before_a_full_inbox() -> None:
    async with driven(size=3) as world:
        await world.until(lambda: not world.peers.sent)
        asked = [asyncio.ensure_future(world.driver.read_index()) for _ in range(INBOX_MAX)]
        await asyncio.sleep(0)
        world.clock.now_ms += 10_000
        await world.until(lambda: bool(world.peers.sent))
        assert sum(each.done() for each in asked) < STEPS_PER_TURN
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, NotControllerError) for each in answers)


async def test_a_due_timer_goes_before_what_has_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped: list[type[Event]] = []

    def told(state: RaftState, event: Event, moment: Moment) -> tuple[RaftState, Effects]:
        stepped.append(type(event))
        return step(state, event, moment)

    async with driven(size=3) as world:
        await asyncio.sleep(0)
        monkeypatch.setattr(driver, "step", told)
        world.clock.now_ms += 10_000
        world.driver.post(StreamLost(NodeId(2)))
        assert stepped == [TimePassed, StreamLost]


async def test_a_full_inbox_refuses() -> None:
    async with driven(size=3) as world:
        await asyncio.sleep(0)
        asked = [asyncio.ensure_future(world.driver.read_index()) for _ in range(INBOX_MAX + 5)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, OverloadedError)]
        assert len(refused) == 5
        assert "1024" in str(refused[0])


async def test_a_request_is_answered_where_it_is_posted() -> None:
    """Without a turn of the loop; but what waits for the disk holds up who comes after it."""
    async with driven(size=3) as world:
        await asyncio.sleep(0)
        end = OffsetAndEpoch(Epoch(-1), Offset(0))
        pre_vote = VoteRequest(epoch=Epoch(0), log_end=end, pre_vote=True)
        answers: list[Response | Exception] = []
        world.driver.ask(TWO, pre_vote, answers.append)
        assert isinstance(answers.pop(), VoteResponse)
        world.driver.ask(TWO, VoteRequest(epoch=Epoch(4), log_end=end), answers.append)
        world.driver.ask(TWO, replace(pre_vote, epoch=Epoch(4)), answers.append)
        assert (answers, world.store.did) == ([], [])
        await world.until(lambda: len(answers) == 2)
        assert world.store.did == ["save 4"]


async def test_a_caller_that_leaves_is_forgotten() -> None:
    async with leading() as world:
        waiting = asyncio.ensure_future(world.driver.read_index())
        assert await waiting == 2
        request = FetchRequest(
            epoch=Epoch(1),
            log_end=OffsetAndEpoch(Epoch(1), Offset(2)),
            high_watermark=Offset(2),
            max_bytes=1,
            max_wait_ms=500,
        )
        parked = asyncio.ensure_future(world.driver.request(TWO, request))
        await world.until(lambda: world.driver.state.role.parked != ())  # type: ignore[union-attr]
        parked.cancel()
        await world.until(lambda: world.driver.state.role.parked == ())  # type: ignore[union-attr]
