"""The shell that drives the core: one task steps it, and carries out its effects in order.

requests ─┐                                       ┌─▶ Store   quorum-state before what follows;
answers  ─┤                                       │           appends at once, fsync beside
streams  ─┼─▶ inbox ─▶ step(state, event, moment) ┼─▶ Peers   never waited for
fsyncs   ─┤      ▲                                ├─▶ those that asked: a future each
calls    ─┘      │ a due timer goes first         └─▶ Applier ─▶ StateMachine
"""

import asyncio
import random
from collections import deque
from functools import partial
from typing import TypeVar, assert_never

from controller.quorum.applier import Applier
from controller.quorum.disk_watch import DiskWatch
from controller.quorum.flusher import Flusher
from controller.quorum.journal import Journal
from controller.quorum.outside import Peers, Store
from controller.quorum.port import StateMachine
from controller.quorum.proposals import Group, Proposals
from controller.quorum.refused import (
    change_refused,
    fail,
    no_room,
    proposal_refused,
    refuse_for_room,
    resolve,
)
from controller.raft import membership
from controller.raft.effects import (
    AbandonDownload,
    AcceptChange,
    AcceptProposal,
    AnswerRead,
    AppendChunk,
    AppendControl,
    AppendFetched,
    AppendRecords,
    AppendVoters,
    Claim,
    Commit,
    DeleteSnapshot,
    Effect,
    HandOver,
    InstallSnapshot,
    LoadSnapshot,
    RefuseChange,
    RefuseProposal,
    RefuseRead,
    RefuseTransfer,
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
    ProposalMade,
    ReadRequested,
    RequestDropped,
    RequestReceived,
    SnapshotDamaged,
    SnapshotVerified,
    TimePassed,
    TransferRequested,
    VoterChangeAsked,
)
from controller.raft.messages import Refusal, Request, Response
from controller.raft.no_room import may_not_have_happened
from controller.raft.state import NEVER_MS, RaftState
from controller.raft.step import step
from controller.raft.voters import ReplicaKey, VoterChange
from klamm.clock import Clock
from klamm.errors import (
    CommitUnknownError,
    NoSpaceError,
    NotControllerError,
    OverloadedError,
)
from klamm.frozen import replace
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.records import NewRecord
from klamm.telemetry import metrics

INBOX_MAX = 1_024
"""Requests and calls that wait for the core; more are refused."""

STEPS_PER_TURN = 16
"""Then everybody else in the process gets a turn."""

SLEEP_MS_MAX = 60_000

PROPOSALS_TIMED_MAX = 4_096
"""Proposals whose time to commit is measured at once."""

SnapshotEffect = (
    AppendChunk | AbandonDownload | VerifySnapshot | InstallSnapshot | TrimLog | DeleteSnapshot
)

_T = TypeVar("_T")


class QuorumDriver:
    """Owns one voter's state. Stepped between awaits only, so it needs no lock."""

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
        self._sleeper: asyncio.Future[None] | None = None
        self._call = 0
        self._requests: dict[int, asyncio.Future[Response]] = {}
        self._proposals = Proposals()
        self._changes: dict[int, asyncio.Future[Offset]] = {}
        self._reads: dict[int, asyncio.Future[Offset]] = {}
        self._transfers: dict[int, asyncio.Future[NodeId | TransferRefusal]] = {}
        self._timed: deque[tuple[Offset, int]] = deque()
        self._flusher = Flusher(store, self.post, self._wake)
        self._stopped = False
        peers.bind(self.post)
        peers.use(membership.reachable(state))

    async def run(self, machine: StateMachine) -> None:
        """Step until cancelled. An exception means a broken disk or a bug; it ends the process."""
        self._journal.opened(self.state)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._applier.run(machine))
                tasks.create_task(self._watch.run(lambda: bool(self.state.others)))
                await self._run(tasks)
        except BaseExceptionGroup as group:
            self._journal.ended(group.exceptions[0])
            raise group.exceptions[0] from None
        finally:
            self._stop()

    async def _run(self, tasks: asyncio.TaskGroup) -> None:
        turn = 0
        while True:
            if self._flusher.failure is not None:
                raise self._flusher.failure
            event = self._next_event()
            if event is None:
                turn = 0
                await self._sleep()
                continue
            await self._step(event, tasks)
            turn += 1
            if turn >= STEPS_PER_TURN:
                turn = 0
                await asyncio.sleep(0)

    # What others do to it.

    def post(self, event: Event) -> None:
        """Something has happened. Never refused."""
        self._facts.append(event)
        self._wake()

    async def request(self, sender: ReplicaKey, request: Request) -> Response:
        """Have the core answer another voter. Cancel it if the voter does not wait any more.

        Raises:
            OverloadedError: INBOX_MAX; or this node stops.
        """
        call, answer = self._new_call(self._requests)
        try:
            self._ask(RequestReceived(call, sender, request))
            return await answer
        finally:
            del self._requests[call]
            if not answer.done() or answer.cancelled():
                self.post(RequestDropped(call))

    async def propose(
        self, epoch: Epoch, base_offset: Offset, records: tuple[NewRecord, ...]
    ) -> Offset:
        """As `Quorum.propose`; the sizes are checked before."""
        accepted, group = self._proposals.add(epoch, base_offset, records, self._next_call)
        if group is not None:
            self._ask(group)
        return await accepted

    async def change_voters(self, change: VoterChange) -> Offset:
        """As `Quorum.change_voters`."""
        call, accepted = self._new_call(self._changes)
        try:
            self._ask(VoterChangeAsked(call, change))
            return await accepted
        finally:
            del self._changes[call]

    async def wait_committed(self, epoch: Epoch, end_offset: Offset, timeout_ms: int) -> None:
        """As `Quorum.wait_committed`."""
        await self._applier.wait(epoch, end_offset, timeout_ms)

    async def read_index(self) -> Offset:
        """The leader's read index.

        Raises:
            NotControllerError: This voter does not lead, or did not to the end of the round.
            OverloadedError: Too much waits.
        """
        call, answered = self._new_call(self._reads)
        try:
            self._ask(ReadRequested(call))
            return await answered
        finally:
            del self._reads[call]

    async def transfer(self, epoch: Epoch, target: NodeId | None) -> NodeId | TransferRefusal:
        """Have the core hand over: who stands now, this voter having given up; or why not.

        Raises:
            OverloadedError: INBOX_MAX; or this node stops.
            CommitUnknownError: This node stops; it may have handed over.
        """
        call, answered = self._new_call(self._transfers)
        try:
            self._ask(TransferRequested(call, epoch, target))
            return await answered
        finally:
            del self._transfers[call]

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        """Whole batches of the log."""
        return self._watch.read(start, max_bytes, up_to)

    def ends_batch(self, offset: Offset) -> bool:
        """Does a batch of the log end just before `offset`?"""
        return self._watch.ends_batch(offset)

    def read_chunk(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes:
        """Bytes of a snapshot; none if it is not there."""
        return self._store.read_chunk(snapshot_id, position, max_bytes)

    # The turn of one event.

    def _next_event(self) -> Event | None:
        if self.state.next_deadline_ms <= self._clock.monotonic_ms():
            return TimePassed()  # Ahead of the inbox, which when busy would starve the timers.
        if self._facts:
            return self._facts.popleft()
        if not self._asked:
            return None
        asked = self._asked.popleft()
        return self._proposals.take(asked) if isinstance(asked, Group) else asked

    async def _sleep(self) -> None:
        """Until something is posted, or the next deadline comes."""
        loop = asyncio.get_running_loop()
        self._sleeper = loop.create_future()
        timer: asyncio.TimerHandle | None = None
        deadline_ms = self.state.next_deadline_ms
        if deadline_ms != NEVER_MS:
            wait_ms = deadline_ms - self._clock.monotonic_ms()
            timer = loop.call_later(min(max(wait_ms, 0), SLEEP_MS_MAX) / 1_000, self._wake)
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _step(self, event: Event, tasks: asyncio.TaskGroup) -> None:
        before = self.state
        moment = Moment(now_ms=self._clock.monotonic_ms(), draw=self._rng.random())
        after, effects = step(before, event, moment)
        self.state = after
        try:
            for effect in effects:
                await self._carry_out(effect, tasks)
        except NoSpaceError as error:
            if not may_not_have_happened(effects, effect):
                raise
            self.state = before  # The event did not happen.
            self._journal.no_room(error)
            if isinstance(event, ProposalMade):
                self._proposals.refuse(event.call, partial(no_room, error))
            refuse_for_room(event, error, self._changes, self._requests)
            await self._step(NoRoomFound(), tasks)
            return
        if after is before:
            return
        if (
            after.voter_history is not before.voter_history
            or after.voters_committed != before.voters_committed
        ):
            self._peers.use(membership.reachable(after))
        if after.truncations != before.truncations or after.download is not before.download:
            self._journal.moved(before, after)
        if before.recovering is not None and after.recovering is None:
            tasks.create_task(self._store.trust())
        self._journal.stepped(before, after)
        if (
            after.high_watermark != before.high_watermark
            or after.epoch != before.epoch
            or after.leader != before.leader
        ):
            self._change()

    async def _carry_out(self, effect: Effect, tasks: asyncio.TaskGroup) -> None:
        match effect:
            case SendRecords() | SendResponse() | SendChunk():
                self._answer(effect)
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
            case SaveQuorumState():
                await self._store.save(effect)
            case Truncate(to):
                await self._flusher.idle()
                await self._store.truncate(to)
                self._flusher.truncations += 1
            case LoadSnapshot():
                self._applier.tell(effect)
            case Commit() | Claim() | Renounce():
                self._applier.tell(effect)
                self._measure(effect)
            case AcceptChange(call, end_offset):
                resolve(self._changes.get(call), end_offset)
            case RefuseChange(call=call):
                fail(self._changes.get(call), change_refused(self.state, effect))
            case AcceptProposal() | RefuseProposal() | AnswerRead() | RefuseRead():
                self._tell_caller(effect)
            case RefuseTransfer(call, why):
                resolve(self._transfers.get(call), why)
            case HandOver(call, successor):
                resolve(self._transfers.get(call), successor)
            case _:
                await self._carry_out_snapshot(effect, tasks)

    async def _carry_out_snapshot(self, effect: SnapshotEffect, tasks: asyncio.TaskGroup) -> None:
        match effect:
            case AppendChunk():
                if not self._store.append_chunk(effect):
                    self.post(SnapshotDamaged(effect.snapshot_id))
            case AbandonDownload(snapshot_id):
                self._store.abandon(snapshot_id)
            case VerifySnapshot(snapshot_id):
                tasks.create_task(self._verify(snapshot_id))
            case InstallSnapshot(snapshot_id):
                await self._flusher.idle()
                await self._store.install(snapshot_id)
                self._flusher.truncations += 1
            case TrimLog(to):
                await self._flusher.idle()
                self._store.trim(to)
            case DeleteSnapshot(snapshot_id):
                self._store.delete(snapshot_id)
            case _:
                assert_never(effect)

    async def _verify(self, snapshot_id: OffsetAndEpoch) -> None:
        voters = await self._store.verify(snapshot_id)
        if voters is None:
            self._journal.damaged(snapshot_id)
            self.post(SnapshotDamaged(snapshot_id))
        else:
            self.post(SnapshotVerified(snapshot_id=snapshot_id, voters=voters))

    def _answer(self, effect: SendRecords | SendResponse | SendChunk) -> None:
        future = self._requests.get(effect.call)
        if future is None or future.done():
            return
        if isinstance(effect, SendResponse):
            future.set_result(effect.response)
            return
        if isinstance(effect, SendChunk):
            answer = effect.response
            chunk = self._store.read_chunk(answer.snapshot_id, answer.position, effect.max_bytes)
            refusal = Refusal.NONE if chunk else Refusal.SNAPSHOT_NOT_FOUND
            future.set_result(replace(answer, refusal=refusal, data=chunk, length=len(chunk)))
            return
        end = self.state.log.end_offset
        data = self._store.read(effect.start_offset, effect.max_bytes, end)
        future.set_result(replace(effect.response, data=data))

    def _tell_caller(
        self, effect: AcceptProposal | RefuseProposal | AnswerRead | RefuseRead
    ) -> None:
        match effect:
            case AcceptProposal(call, end_offset):
                if len(self._timed) < PROPOSALS_TIMED_MAX:
                    self._timed.append((end_offset, self._clock.monotonic_ms()))
                self._proposals.accept(call)
            case RefuseProposal(call):
                self._proposals.refuse(call, lambda: proposal_refused(self.state, effect))
            case AnswerRead(call, index):
                resolve(self._reads.get(call), index)
            case RefuseRead(call):
                refused = NotControllerError(self.state.leader, self.state.epoch)
                fail(self._reads.get(call), refused)

    def _measure(self, effect: Commit | Claim | Renounce) -> None:
        if not isinstance(effect, Commit):
            self._timed.clear()
            return
        now_ms = self._clock.monotonic_ms()
        while self._timed and self._timed[0][0] <= effect.high_watermark:
            _, since_ms = self._timed.popleft()
            metrics.RAFT_COMMIT_LATENCY.observe((now_ms - since_ms) / 1_000)

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

    def _new_call(self, calls: dict[int, asyncio.Future[_T]]) -> tuple[int, asyncio.Future[_T]]:
        call = self._next_call()
        calls[call] = future = asyncio.get_running_loop().create_future()
        return call, future

    def _ask(self, event: Event | Group) -> None:
        self._asked.append(event)
        self._wake()

    def _stop(self) -> None:
        self._stopped = True
        self._flusher.stop()
        for request in self._requests.values():
            fail(request, OverloadedError("the node stops"))
        for read in self._reads.values():
            fail(read, NotControllerError(NO_NODE, self.state.epoch))
        self._proposals.refuse_all(lambda: CommitUnknownError("the node stops"))
        for change in self._changes.values():
            fail(change, CommitUnknownError("the node stops"))
        for transfer in self._transfers.values():
            fail(transfer, CommitUnknownError("the node stops"))
        self._applier.stop()
        self._change()
