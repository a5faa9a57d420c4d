"""The shell that drives the core: steps it, and carries out its effects in order.

requests ─┐                                       ┌─▶ Store   quorum-state before what follows;
answers  ─┤                                       │           appends at once, fsync beside
streams  ─┼─▶ inbox ─▶ step(state, event, moment) ┼─▶ Peers   never waited for
fsyncs   ─┤      ▲                                ├─▶ Calls   those that asked
calls    ─┘      │ a due timer goes first         └─▶ Applier ─▶ StateMachine

What has happened is stepped in the moment in which it is posted, in the stack of whoever posts it:
a turn of the loop, which costs as much as the step, lies in between for what was asked only, so
that several may be asked together. A task waits for the disk where an effect has to.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TypeVar, assert_never

from controller.quorum.applier import Applier
from controller.quorum.calls import Calls, into
from controller.quorum.disk_watch import DiskWatch
from controller.quorum.doing import Doing, Slow
from controller.quorum.flusher import Flusher
from controller.quorum.journal import Journal
from controller.quorum.outside import Peers, Store
from controller.quorum.port import StateMachine
from controller.quorum.proposals import Group
from controller.raft import membership
from controller.raft.effects import (
    AbandonDownload,
    AppendChunk,
    AppendControl,
    AppendFetched,
    AppendRecords,
    AppendVoters,
    Claim,
    Commit,
    DeleteSnapshot,
    Effect,
    InstallSnapshot,
    LoadSnapshot,
    Renounce,
    SaveQuorumState,
    SendChunk,
    SendRecords,
    SendRequest,
    SendResponse,
    TransferRefusal,
    TrimLog,
    Truncate,
    VerifySnapshot,
)
from controller.raft.events import (
    Event,
    Moment,
    NoRoomFound,
    ReadRequested,
    RequestDropped,
    RequestReceived,
    SnapshotDamaged,
    SnapshotVerified,
    TimePassed,
    TransferRequested,
    VoterChangeAsked,
)
from controller.raft.messages import Request, Response
from controller.raft.no_room import may_not_have_happened
from controller.raft.state import RaftState
from controller.raft.step import step
from controller.raft.voters import ReplicaKey, VoterChange
from klamm.clock import Clock
from klamm.errors import NoSpaceError, OverloadedError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.records import NewRecord
from klamm.telemetry import metrics

INBOX_MAX = 1_024
"""Requests and calls that wait for the core; more are refused."""

STEPS_PER_TURN = 16
"""Then everybody else in the process gets a turn."""

SLEEP_MS_MAX = 60_000

_T = TypeVar("_T")


class QuorumDriver:
    """Owns one voter's state. One step at a time, on one loop, so it needs no lock."""

    def __init__(
        self,
        state: RaftState,
        *,
        store: Store,
        peers: Peers,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.state = state
        self.changed = asyncio.Event()
        """Set, and replaced, when leader, epoch or high watermark change."""
        self._store = store
        self._peers = peers
        self._clock = clock
        # Each step has a draw; the system's chance, which costs a call of the kernel, begins it.
        self._rng = random.Random(rng.getrandbits(64))
        self._journal = Journal(clock)
        self._watch = DiskWatch(store, self._journal)
        self._applier = Applier(store.read, store.read_chunk, state.log.start_offset)
        if state.snapshots:
            self._applier.tell(LoadSnapshot(state.snapshots[-1].snapshot_id))
        self._facts: deque[Event] = deque()
        """What has happened and cannot be refused; bounded by what is out."""
        self._asked: deque[Event | Group] = deque()
        """What others want, at most INBOX_MAX."""
        self._call = 0
        self._calls = Calls(store, clock, self._applier)
        self.proposals = self._calls.proposals
        self._flusher = Flusher(store, self.post, self._fail)
        self._tasks: asyncio.TaskGroup | None = None
        """None while it does not run."""
        self._stepping = True
        """A step is under way, here or in the task that waits for the disk; or none may begin."""
        self._turn_due = False
        self._waited: asyncio.Future[Doing] | None = None
        """For a step that the task is to go on with; or for what ends everything."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        """When it goes off: at the next deadline, or before."""
        self._deadline_of: RaftState | None = None
        self._deadline_ms = 0
        """Of that state: found once, for it takes a look at all that wait."""
        self._stopped = False
        peers.bind(self.post)
        peers.use(membership.reachable(state))

    async def run(self, machine: StateMachine) -> None:
        """Step until cancelled. An exception means a broken disk or a bug; it ends the process."""
        self._journal.opened(self.state)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._applier.run(machine))
                tasks.create_task(self._watch.run(lambda: bool(self.state.others)))
                await self._run()
        except BaseExceptionGroup as group:
            self._journal.ended(group.exceptions[0])
            raise group.exceptions[0] from None
        finally:
            self._stop()

    async def _run(self) -> None:
        """Goes on where a step has to wait for the disk."""
        while True:
            waited = self._waited = asyncio.get_running_loop().create_future()
            if self._flusher.failure is not None:
                raise self._flusher.failure
            self._stepping = False
            self._turn()
            doing: Doing | None = await waited
            while doing is not None:
                doing = await self._wait_for_disk(doing)

    # What others do to it.

    def post(self, event: Event) -> None:
        """Something has happened. Never refused."""
        self._facts.append(event)
        if not self._stepping:
            self._turn()

    def ask(
        self, sender: ReplicaKey, request: Request, answered: Callable[[Response | Exception], None]
    ) -> int:
        """Have the core answer another replica: `answered` is called, at once or later.

        Returns:
            The call, for `drop`.

        Raises:
            OverloadedError: INBOX_MAX; or this node stops.
        """
        call = self._next_call()
        self._calls.requests[call] = answered
        self._asked.append(RequestReceived(call, sender, request))
        if not self._stepping:
            self._turn()
        return call

    def drop(self, call: int) -> None:
        """Whoever asked waits no more."""
        if self._calls.requests.pop(call, None) is not None:
            self.post(RequestDropped(call))

    async def request(self, sender: ReplicaKey, request: Request) -> Response:
        """As `ask`, for one who awaits. Cancel it if the replica does not wait any more."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        call = self.ask(sender, request, into(answer))
        try:
            return await answer
        finally:
            self.drop(call)

    def propose(
        self,
        epoch: Epoch,
        base_offset: Offset,
        records: tuple[NewRecord, ...],
        commit_ms: int | None = None,
    ) -> asyncio.Future[Offset]:
        """As `Quorum.propose`, or `Quorum.write`."""
        made, group = self.proposals.add(epoch, base_offset, records, self._next_call, commit_ms)
        if group is not None:
            self._asked.append(group)
            idle = self.state.high_watermark == self.state.log.end_offset
            (self._turn if idle and self.proposals.come_alone else self._turn_soon)()
        return made

    async def change_voters(self, change: VoterChange) -> Offset:
        """As `Quorum.change_voters`."""
        return await self._told(self._calls.changes, lambda call: VoterChangeAsked(call, change))

    async def wait_committed(self, epoch: Epoch, end_offset: Offset, timeout_ms: int) -> None:
        """As `Quorum.wait_committed`."""
        await self._applier.wait(epoch, end_offset, timeout_ms)

    async def read_index(self) -> Offset:
        """The leader's read index.

        Raises:
            NotControllerError: This voter does not lead, or did not to the end of the round.
            OverloadedError: Too much waits.
        """
        return await self._told(self._calls.reads, ReadRequested)

    async def transfer(self, epoch: Epoch, target: NodeId | None) -> NodeId | TransferRefusal:
        """Have the core hand over: who stands now, this voter having given up; or why not.

        Raises:
            OverloadedError: INBOX_MAX; or this node stops.
            CommitUnknownError: This node stops; it may have handed over.
        """
        return await self._told(
            self._calls.transfers, lambda call: TransferRequested(call, epoch, target)
        )

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        """Whole batches of the log."""
        return self._watch.read(start, max_bytes, up_to)

    def ends_batch(self, offset: Offset) -> bool:
        """Does a batch of the log end just before `offset`?"""
        return self._watch.ends_batch(offset)

    def read_chunk(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes:
        """Bytes of a snapshot; none if it is not there."""
        return self._store.read_chunk(snapshot_id, position, max_bytes)

    # One step after another.

    def _turn(self) -> None:
        """Step until there is nothing to do, or the disk must be waited for."""
        self._turn_due = False
        if self._stepping:
            return
        self._stepping = True
        try:
            for _ in range(STEPS_PER_TURN):
                event = self._next_event()
                if event is None:
                    break
                doing = self._go_on(self._begin(event))
                if doing is not None:
                    assert self._waited is not None
                    self._waited.set_result(doing)
                    return
            else:
                self._turn_soon()
            self._set_timer()
        except Exception as error:  # Of a broken disk, or a bug: not to be told to whoever posts.
            self._fail(error)
            return
        self._stepping = self._stopped

    def _turn_soon(self) -> None:
        """After everybody else in the process has had a turn."""
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _next_event(self) -> Event | None:
        if self._deadline_of is not self.state:
            self._deadline_of, self._deadline_ms = self.state, self.state.next_deadline_ms
        if self._deadline_ms <= self._clock.monotonic_ms():
            return TimePassed()  # Ahead of the inbox, which when busy would starve the timers.
        if self._facts:
            return self._facts.popleft()
        if not self._asked:
            return None
        asked = self._asked.popleft()
        return self.proposals.take(asked) if isinstance(asked, Group) else asked

    def _set_timer(self) -> None:
        """One that goes off too early does no harm; so it is seldom set anew."""
        if self._timer is not None:
            if self._timer_ms <= self._deadline_ms:
                return
            self._timer.cancel()
        now_ms = self._clock.monotonic_ms()
        wait_ms = min(max(self._deadline_ms - now_ms, 0), SLEEP_MS_MAX)
        self._timer_ms = now_ms + wait_ms
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait_ms / 1_000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()

    def _fail(self, error: BaseException) -> None:
        """Nothing goes on: the task ends, and all with it."""
        self._stepping = True
        self._flusher.failure = self._flusher.failure or error
        if self._waited is not None and not self._waited.done():
            self._waited.set_exception(self._flusher.failure)

    # What a step does.

    def _begin(self, event: Event) -> Doing:
        before = self.state
        moment = Moment(now_ms=self._clock.monotonic_ms(), draw=self._rng.random())
        self.state, effects = step(before, event, moment)
        return Doing(event, before, effects)

    def _go_on(self, doing: Doing) -> Doing | None:
        """Carry out effects, up to one that waits for the disk. None: all are."""
        try:
            while doing.at < len(doing.effects):
                effect = doing.effects[doing.at]
                if isinstance(effect, Slow):
                    return doing
                self._carry_out(effect)
                doing.at += 1
        except NoSpaceError as error:
            return self._go_on(self._undone(doing, error))
        self._stepped(doing.before, self.state)
        return None

    async def _wait_for_disk(self, doing: Doing) -> Doing | None:
        """As `_go_on`, from an effect that has to wait."""
        effect = doing.effects[doing.at]
        assert isinstance(effect, Slow)
        try:
            await self._carry_out_slowly(effect)
        except NoSpaceError as error:
            return self._go_on(self._undone(doing, error))
        if self._flusher.failure is not None:
            raise self._flusher.failure
        doing.at += 1
        return self._go_on(doing)

    def _undone(self, doing: Doing, error: NoSpaceError) -> Doing:
        """There was no room for it: the event did not happen, and another one did."""
        if not may_not_have_happened(doing.effects, doing.effects[doing.at]):
            raise error
        self.state = doing.before
        self._journal.no_room(error)
        self._calls.refuse_for_room(doing.event, error)
        return self._begin(NoRoomFound())

    def _stepped(self, before: RaftState, after: RaftState) -> None:
        if after is before:
            return
        self._applier.turn()
        if (
            after.voter_history is not before.voter_history
            or after.voters_committed != before.voters_committed
        ):
            self._peers.use(membership.reachable(after))
        if after.truncations != before.truncations or after.download is not before.download:
            self._journal.moved(before, after)
        if before.recovering is not None and after.recovering is None:
            self._beside(self._store.trust())
        self._journal.stepped(before, after)
        if (
            after.high_watermark != before.high_watermark
            or after.epoch != before.epoch
            or after.leader != before.leader
        ):
            self._change()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case SendRecords() | SendResponse() | SendChunk():
                self._calls.answer(effect, self.state.log.end_offset)
            case SendRequest():
                self._peers.send(effect)
            case AppendRecords():
                self._store.append_records(effect)
                metrics.RAFT_APPEND_RECORDS.inc(self.state.log.end_offset - effect.base_offset)
                self._flusher.appended()
            case AppendFetched(base_offset=base_offset, data=data):
                assert isinstance(data, bytes)
                self._store.append_fetched(base_offset, data)
                metrics.RAFT_FETCH_RECORDS.inc(self.state.log.end_offset - base_offset)
                self._flusher.appended()
            case AppendControl() | AppendVoters():
                self._store.append_control(effect)
                self._flusher.appended()
            case LoadSnapshot():
                self._applier.tell(effect)
            case Commit() | Claim() | Renounce():
                self._applier.tell(effect)
                self._calls.measure(effect)
            case AppendChunk():
                if not self._store.append_chunk(effect):
                    self.post(SnapshotDamaged(effect.snapshot_id))
            case AbandonDownload(snapshot_id):
                self._store.abandon(snapshot_id)
            case VerifySnapshot(snapshot_id):
                self._beside(self._verify(snapshot_id))
            case DeleteSnapshot(snapshot_id):
                self._store.delete(snapshot_id)
            case SaveQuorumState() | Truncate() | InstallSnapshot() | TrimLog():
                raise AssertionError("it waits for the disk")
            case _:
                self._calls.tell(effect, self.state)

    async def _carry_out_slowly(self, effect: Slow) -> None:
        match effect:
            case SaveQuorumState():
                await self._store.save(effect)
            case Truncate(to):
                async with self._flusher.still():
                    await self._store.truncate(to)
                    self._flusher.truncations += 1
            case InstallSnapshot(snapshot_id):
                async with self._flusher.still():
                    await self._store.install(snapshot_id)
                    self._flusher.truncations += 1
            case TrimLog(to):
                async with self._flusher.still():
                    self._store.trim(to)
            case _:
                assert_never(effect)

    def _beside(self, work: Coroutine[object, object, None]) -> None:
        """Not waited for; if it fails, all ends."""
        assert self._tasks is not None
        self._tasks.create_task(work)

    async def _verify(self, snapshot_id: OffsetAndEpoch) -> None:
        voters = await self._store.verify(snapshot_id)
        if voters is None:
            self._journal.damaged(snapshot_id)
            self.post(SnapshotDamaged(snapshot_id))
        else:
            self.post(SnapshotVerified(snapshot_id=snapshot_id, voters=voters))

    # Those that wait.

    def _change(self) -> None:
        """Who waits looks again, once: an event that stays set would have it look for ever."""
        self.changed.set()
        self.changed = asyncio.Event()

    def _next_call(self) -> int:
        if self._stopped:
            raise OverloadedError("the node stops")
        if len(self._asked) >= INBOX_MAX:
            raise OverloadedError(f"{INBOX_MAX} requests wait for the quorum's core")
        self._call += 1
        return self._call

    async def _told(
        self, calls: dict[int, asyncio.Future[_T]], asked: Callable[[int], Event]
    ) -> _T:
        call = self._next_call()
        told: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        calls[call] = told
        try:
            self._ask(asked(call))
            return await told
        finally:
            del calls[call]

    def _ask(self, event: Event) -> None:
        """Stepped after this turn of the loop, in which more may come (see `proposals`)."""
        self._asked.append(event)
        self._turn_soon()

    def _stop(self) -> None:
        self._stopped = self._stepping = True
        if self._timer is not None:
            self._timer.cancel()
        self._flusher.stop()
        self._calls.stop(self.state.epoch)
        self._applier.stop()
        self._change()
