"""One voter: a disk, and while it lives the core's state. Carries out effects as a shell must."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from controller.raft.effects import (
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
    Effect,
    HandOver,
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
    Truncate,
)
from controller.raft.events import (
    Event,
    LogFlushed,
    Moment,
    RequestFailed,
    RequestReceived,
    ResponseReceived,
    StreamLost,
    TimePassed,
)
from controller.raft.messages import (
    FetchRequest,
    Request,
    Response,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import Leader, RaftConfig, RaftState, SavedState, restore
from controller.raft.step import step
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from klamm.ids import DirectoryId, NodeId
from tests.sim.model.witness import Witness
from tests.sim.quorum import decay
from tests.sim.quorum.contact import Contact
from tests.sim.quorum.disk import Batch, Disk
from tests.sim.quorum.machine import Machine
from tests.sim.quorum.network import DEATH_HEARD_MS
from tests.sim.quorum.snapshots import carry_out, chunk

if TYPE_CHECKING:
    from tests.sim.quorum.world import World

CLOCK_GRAIN_MS = 0.001
"""No timer is finer, so that none fires before its time."""

STEPS_WITHOUT_TIME_MAX = 100
"""A deadline that has come must move when TimePassed is stepped."""

NEEDS_ROOM = (
    AppendChunk,
    SaveQuorumState,
    AppendRecords,
    AppendControl,
    AppendVoters,
    AppendFetched,
)
"""On the disk; who finds none there ends, and says nothing of what it could not write."""


class Node:
    """Alive while `state` is not None."""

    def __init__(self, world: "World", node_id: int, voters: int) -> None:
        self.world = world
        self.id = node_id
        self.given_up: set[ReplicaKey] = set()
        """What it was when it lost a vote, and was no voter by its own log; for membership only."""
        self.disk = Disk()
        self.is_new_disk = False
        """It has lost the one that it began with."""
        if world.faults.wiped_disk:
            decay.doubt_new_disk(self.disk)
            self.disk.decay.is_first = True
        self.machine = Machine()
        self.contact = Contact()
        self.witness = Witness() if world.is_judged else None
        self.state: RaftState | None = None
        self.incarnation = 0
        self.paused = False
        self.flushing = False
        self.fsync_ms = world.faults.fsync_ms
        self.clock_base_ms = 0.0
        self.clock_rate = 1.0
        self._waiting: list[Event] = []
        self._calls: dict[int, tuple[int, Request]] = {}
        """Requests received and not answered: who asked what."""
        self._next_call = 0
        self._timer_ms = -1
        self._deadline_ms = -1
        """That of the state, found once a step."""
        ids = [NodeId(each) for each in range(voters)]
        self.config = RaftConfig(
            me=NodeId(node_id),
            directory_id=DirectoryId(UUID(int=1_000 + node_id)),
            voters=VoterSet(tuple(Voter(node_id=each) for each in ids)),
            election_timeout_ms=world.faults.election_timeout_ms,
            fetch_timeout_ms=world.faults.fetch_timeout_ms,
            fetch_bytes_max=world.faults.fetch_bytes_max,
        )

    @property
    def now_ms(self) -> float:
        """By this machine's monotonic clock, which agrees with no other's."""
        return self.clock_base_ms + self.world.now_ms * self.clock_rate

    # ── life ─────────────────────────────────────────────────────────────────────────────────

    @property
    def is_voter_by_its_log(self) -> bool:
        named = [self.config.voters, *(voters for _, voters in self.disk.voters())]
        return named[-1].admits(self.config.key)

    def start(self) -> None:
        """From what is on the disk."""
        assert self.state is None, "already running"
        saved = decay.open_disk(self.disk, self.config)
        if self.disk.decay.is_anothers:
            self.disk.decay.is_anothers = False
            if not self.is_voter_by_its_log:
                self.given_up.add(self.config.key)
            self._draw_id()
        self.disk.decay.tears = self.world.faults.torn
        self.paused = False
        self.machine = Machine()
        self.contact = Contact()
        for held in self.disk.held()[-1:]:
            self.machine.load(self.disk.entries[: held.snapshot_id.offset])
        self.state = restore(
            self.config,
            saved,
            self.disk.chain(),
            self.disk.voters(),
            self._moment(),
            snapshots=self.disk.held(),
            distrust=self.disk.decay.distrust,
        )
        self.world.invariants.on_disk(self)
        self.world.invariants.knows_voters(self)
        if self.witness is not None:
            self.witness.started(self.state)
        self._deadline_ms = self.state.next_deadline_ms
        self._set_timer()

    def crash(self) -> None:
        """Power cut. Peers hear of it from their kernels, unless the link is cut."""
        if self.state is None:
            return
        self.state = None
        self.incarnation += 1
        self.flushing = False
        self._waiting.clear()
        self._calls.clear()
        self._timer_ms = -1
        self.world.troubles.set_clock(self)
        self.disk.crash(self.world.rng)
        self.world.invariants.crashed(self)
        self.world.clients.crashed(self)
        self.world.peer_died(self.id)

    def replace_disk(self) -> None:
        """Another one, with an id of its own and nothing on it."""
        assert self.state is None, "not while it runs"
        self.disk = Disk()
        self.is_new_disk = True
        self._draw_id()

    def _draw_id(self) -> None:
        """It is another replica now."""
        self.witness = Witness() if self.world.is_judged else None
        directory_id = DirectoryId(UUID(int=self.config.directory_id.int + 1_000))
        self.config = replace(self.config, directory_id=directory_id)

    def wipe_disk(self) -> None:
        """As above; but nobody has formatted it, so the node has doubts (controller/beginning)."""
        self.replace_disk()
        self.is_new_disk = False  # It may be a voter again; if not, `whole_again` finds out.
        decay.doubt_new_disk(self.disk)
        self.disk.decay.ails = True

    def resume(self) -> None:
        """Go on after a pause: everything that came in the meantime comes now."""
        if not self.paused:
            return
        self.paused = False
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self.happen(event)
        self.wake()

    # ── events ───────────────────────────────────────────────────────────────────────────────

    def happen(self, event: Event) -> None:
        """Step the core; a deadline that has come goes first."""
        if self.state is None:
            return
        if self.paused:
            self._waiting.append(event)
            return
        if not isinstance(event, TimePassed):
            self.wake()
        self._step(event)
        self._set_timer()

    def wake(self) -> None:
        """Step TimePassed while a deadline has come."""
        for _ in range(STEPS_WITHOUT_TIME_MAX):
            if self.state is None or self.paused:
                return
            if self._deadline_ms > self.now_ms:
                self._set_timer()
                return
            self._step(TimePassed())
        raise AssertionError(f"node {self.id}: a deadline that never moves: {self.state}")

    def receive(
        self, sender: ReplicaKey, request: Request, answer: Callable[[Response], None]
    ) -> None:
        call = self._next_call = self._next_call + 1
        if self.state is None:
            return
        self._calls[call] = (sender.node_id, request)
        self.world.answers[self.id, self.incarnation, call] = answer
        self.happen(RequestReceived(call, sender, request))

    def _step(self, event: Event) -> None:
        if self.state is None:
            return
        before = self.state
        try:
            self.state, effects = step(before, event, self._moment())
        except Exception:
            self.world.note(self.id, event, ())
            raise
        self._deadline_ms = self.state.next_deadline_ms
        self.world.note(self.id, event, effects)
        if self.witness is not None:
            self.witness.stepped(before, event, self.state, effects)
        self.world.invariants.stepped(self, before)
        self.contact.stepped(self, event)
        incarnation = self.incarnation
        for effect in effects:
            if self.incarnation != incarnation:
                return
            self._carry_out(effect)
            self.world.troubles.after_effect(self, effect)
        if self.incarnation == incarnation:
            if self.witness is not None:
                self.witness.finished()
            self._keep_bounds(before)
            self.world.invariants.on_disk(self)

    def _keep_bounds(self, before: RaftState) -> None:
        """As the driver and its store do."""
        assert self.state is not None
        if before.recovering is not None and self.state.recovering is None:
            self.disk.decay.is_whole(self.disk.durable_end)
            self.world.invariants.whole_again(self)
        self.disk.decay.keep(self.world.now_ms, self.disk.durable_end)

    def _set_timer(self) -> None:
        if self.state is None or self._timer_ms == self._deadline_ms:
            return
        self._timer_ms = at_ms = self._deadline_ms
        incarnation = self.incarnation

        def due() -> None:
            if self.incarnation == incarnation and self._timer_ms == at_ms:
                self._timer_ms = -1
                self.wake()

        self.world.after(max(0.0, at_ms - self.now_ms) / self.clock_rate + CLOCK_GRAIN_MS, due)

    def _moment(self) -> Moment:
        return Moment(now_ms=int(self.now_ms), draw=self.world.rng.random())

    # ── effects ──────────────────────────────────────────────────────────────────────────────

    def _carry_out(self, effect: Effect) -> None:
        if self.disk.is_full and isinstance(effect, NEEDS_ROOM):
            self.world.troubles.crash(self)
            return
        match effect:
            case SaveQuorumState(epoch=epoch, voted_for=voted_for, leader=leader):
                saved = SavedState(epoch=epoch, voted_for=voted_for, leader=leader)
                self.disk.decay.save(saved)
                self.world.save(self, saved)
            case AppendRecords() | AppendControl() | AppendVoters() | AppendFetched():
                self._append(effect)
            case Truncate(to):
                self.world.invariants.truncating(self, to)
                self.disk.truncate(to)
                self.world.invariants.truncated(self)
            case SendRequest(to, request):
                self._send_request(int(to), request)
            case SendResponse(call, response):
                self._answer(call, response)
            case SendRecords():
                self._answer_with_records(effect)
            case SendChunk():
                self._answer(effect.call, chunk(self, effect))
            case Commit(high_watermark):
                self.world.invariants.committed_to(self, high_watermark)
                self._apply(high_watermark)
            case Claim(end_offset=end_offset):
                self.world.invariants.claimed(self, end_offset)
            case Renounce():
                self.world.clients.renounced(self)
            case AcceptChange() | RefuseChange():
                pass
            case AcceptProposal() | RefuseProposal() | AnswerRead() | RefuseRead():
                self.world.clients.told(self, effect)
            case RefuseTransfer() | HandOver():
                self.world.clients.transferred(self, effect)
            case _:
                carry_out(self, effect)

    def _apply(self, high_watermark: int) -> None:
        """Read from the log; who finds damage there ends."""
        base = self.machine.end
        if not self._is_sound(self.disk.between(base, high_watermark)):
            self.world.troubles.crash(self)
            return
        self.machine.apply(self.disk.entries[base:high_watermark], base)
        self.world.clients.committed(self)

    def _is_sound(self, batches: list[Batch]) -> bool:
        return not self.disk.decay.flipped or all(
            decay.is_sound(self.disk, each) for each in batches
        )

    def _append(self, effect: AppendRecords | AppendControl | AppendVoters | AppendFetched) -> None:
        match effect:
            case AppendRecords(base_offset=base_offset, epoch=epoch, records=records):
                assert isinstance(records, tuple)
                batches = [Batch(base_offset=base_offset, epoch=epoch, payload=records)]
            case AppendControl(base_offset=base_offset, epoch=epoch, leader=leader, voters=voters):
                self.world.invariants.counted(self, epoch, effect.granting_voters)
                payload = (f"leader {leader}",) + (() if voters is None else ("voters",))
                batches = [
                    Batch(base_offset=base_offset, epoch=epoch, payload=payload, voters=voters)
                ]
                self.world.invariants.elected(self, epoch)
            case AppendVoters(base_offset=base_offset, epoch=epoch, voters=voters):
                self.world.invariants.changing(self, voters)
                ids = ",".join(map(str, voters.ids))
                batches = [
                    Batch(
                        base_offset=base_offset,
                        epoch=epoch,
                        payload=(f"voters {ids}",),
                        voters=voters,
                    )
                ]
            case AppendFetched(data=data):
                assert isinstance(data, list)
                batches = data
        for batch in batches:
            self.disk.append(batch)
            self.world.invariants.appended(self, batch)
        self._flush()

    def _flush(self) -> None:
        """One fsync at a time; it covers what was there when it began."""
        if self.flushing or self.state is None or self.disk.durable_end >= self.disk.end_offset:
            return
        self.flushing = True
        incarnation, end_offset = self.incarnation, self.disk.end_offset
        truncations = self.state.truncations

        def done() -> None:
            if self.incarnation != incarnation or self.state is None:
                return
            self.flushing = False
            if truncations == self.state.truncations:
                self.world.flush(self, end_offset)
            self.happen(
                LogFlushed(end_offset=self.world.offset(end_offset), truncations=truncations)
            )
            self._flush()

        self.world.after(self.world.rng.uniform(*self.fsync_ms), done)

    def _answer_with_records(self, effect: SendRecords) -> None:
        """As they stand in the log; who finds damage there ends, and sends none of it."""
        found = self.disk.read(effect.start_offset, effect.max_bytes)
        if not self._is_sound(found):
            self.world.troubles.crash(self)
            return
        batches = tuple(each.fetched() for each in found)
        self._answer(effect.call, replace(effect.response, batches=batches, data=found))

    def _send_request(self, to: int, request: Request) -> None:
        world, me, incarnation = self.world, self.id, self.incarnation
        key = self.config.key
        world.invariants.requesting(self, request)
        world.troubles.after_request(self, to, request)
        fetch = isinstance(request, FetchRequest)
        outlives = world.faults.old_answers and isinstance(request, VoteRequest)

        def answered(response: Response) -> None:
            def deliver() -> None:
                if self.incarnation == incarnation or outlives:
                    self.happen(ResponseReceived(NodeId(to), request, response))

            if fetch:
                world.stream(me, to, upward=False, deliver=deliver)
            else:
                world.network.call(to, me, deliver)

        def refused() -> None:
            """Nobody listens there: the kernel says so at once."""
            if self.incarnation == incarnation:
                lost = StreamLost(NodeId(to)) if fetch else RequestFailed(NodeId(to), request)
                self.happen(lost)

        def deliver_request() -> None:
            if world.nodes[to].state is not None:
                world.nodes[to].receive(key, request, answered)
            elif (to, me) not in world.network.cut:
                world.after(world.rng.uniform(*DEATH_HEARD_MS), refused)

        if fetch:
            world.stream(me, to, upward=True, deliver=deliver_request)
        else:
            world.network.call(me, to, deliver_request)

    def _answer(self, call: int, response: Response) -> None:
        sender, request = self._calls.pop(call)
        if isinstance(response, VoteResponse) and response.vote_granted:
            self.world.invariants.voted(self, sender, request)
        self.world.answers.pop((self.id, self.incarnation, call))(response)

    @property
    def applied(self) -> int:
        """The state machine is taken to keep up."""
        return 0 if self.state is None else self.state.high_watermark

    @property
    def leads(self) -> bool:
        return self.state is not None and isinstance(self.state.role, Leader)

    def stream_lost(self, peer: int) -> None:
        self.happen(StreamLost(NodeId(peer)))
