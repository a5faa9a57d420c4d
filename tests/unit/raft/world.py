"""A few voters on a bench: the core alone, a network that loses and reorders, disks that forget.

Small on purpose: it finds a broken core within a second. tests/sim is the real simulator.
"""

import heapq
import random
from dataclasses import dataclass, field, replace
from uuid import UUID

from controller.raft import effects as fx
from controller.raft import events as ev
from controller.raft.messages import FetchedBatch, FetchRequest, FetchResponse, Request, Response
from controller.raft.state import Leader, RaftConfig, RaftState, SavedState, restore
from controller.raft.step import step
from controller.raft.voters import ReplicaKey, Voter, VoterChange, VoterHistory, VoterSet
from klamm.ids import DirectoryId, Epoch, NodeId, Offset
from klamm.log.epochs import EpochChain


def voter_set(size: int) -> VoterSet:
    return VoterSet(tuple(Voter(node_id=NodeId(each)) for each in range(1, size + 1)))


def config(node: int, size: int = 3) -> RaftConfig:
    return RaftConfig(
        me=NodeId(node),
        directory_id=DirectoryId(UUID(int=node)),
        voters=voter_set(size),
        election_timeout_ms=300,
        fetch_timeout_ms=600,
        election_backoff_max_ms=100,
    )


@dataclass(frozen=True)
class Batch:
    base: Offset
    epoch: Epoch
    values: tuple[object, ...]
    voters: VoterHistory = ()

    @property
    def end(self) -> Offset:
        return Offset(self.base + len(self.values))


@dataclass
class Disk:
    saved: SavedState = field(default_factory=SavedState)
    batches: list[Batch] = field(default_factory=list)
    durable: list[Batch] = field(default_factory=list)

    def chain(self) -> EpochChain:
        chain = EpochChain()
        for batch in self.batches:
            chain = chain.append(batch.epoch, len(batch.values))
        return chain


class World:
    """Steps voters through simulated time, and holds safety against each step."""

    def __init__(self, seed: int, size: int = 3, spares: int = 0) -> None:
        """`spares` follow without a vote, until they are added."""
        self.rng = random.Random(seed)
        self.size = size
        self.now_ms = 0
        self.disks = {NodeId(each): Disk() for each in range(1, size + spares + 1)}
        self.states: dict[NodeId, RaftState] = {}
        self.lives = dict.fromkeys(self.disks, 0)
        self.distrust: dict[NodeId, str] = {}
        """Whose disk lost records, until its core says that it is whole."""
        self.leaders: dict[Epoch, NodeId] = {}
        self.committed: list[tuple[Epoch, object]] = []
        self.applied: dict[NodeId, Offset] = {}
        self.reads: dict[int, tuple[NodeId, int]] = {}
        self.reads_done = 0
        self.transfers: set[int] = set()
        """Asked for and not answered."""
        self.handed_over = 0
        self.claims: list[tuple[int, NodeId, Epoch]] = []
        self.paused: dict[NodeId, list[ev.Event | _Flush]] = {}
        """What waits for those that are stopped."""
        self.armed: dict[NodeId, tuple[int, int]] = {}
        self.loss = 0.0
        self.batches_max = 3
        """In one answer."""
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.told: fx.RefuseChange | fx.AcceptChange | None = None
        self.queue: list[tuple[int, int, object]] = []
        self.count = 0
        self.calls: dict[int, tuple[NodeId, NodeId, int, Request]] = {}
        for node in self.disks:
            self.start(node)

    # Faults.

    def start(self, node: NodeId) -> None:
        disk = self.disks[node]
        history: VoterHistory = tuple(each for batch in disk.batches for each in batch.voters)
        self.applied[node] = Offset(0)
        self.states[node] = restore(
            self.config(node),
            disk.saved,
            disk.chain(),
            history,
            self._moment(),
            distrust=self.distrust.get(node),
        )
        self._arm(node)

    def config(self, node: NodeId) -> RaftConfig:
        return config(node, self.size)

    def crash(self, node: NodeId) -> None:
        """What was not fsynced is lost; peers notice their broken streams."""
        self.lives[node] += 1
        del self.states[node]
        disk = self.disks[node]
        disk.batches = list(disk.durable)
        for other in list(self.states):
            self._at(self.rng.randint(0, 3), (other, self.lives[other], ev.StreamLost(node)))

    # Time.

    def run(self, until_ms: int) -> None:
        while self.queue and self.queue[0][0] <= until_ms:
            self.now_ms, _, what = heapq.heappop(self.queue)
            node, life, event = what  # type: ignore[misc]  # see `_at`
            if node in self.states and self.lives[node] == life:
                if node in self.paused:
                    self.paused[node].append(event)
                else:
                    self._step(node, event)
        self.now_ms = until_ms

    def leader(self) -> NodeId | None:
        """Who leads the latest epoch, has claimed it, and is alive."""
        claimed = [
            (state.epoch, node)
            for node, state in self.states.items()
            if isinstance(state.role, Leader) and state.role.claimed
        ]
        return max(claimed)[1] if claimed else None

    def pause(self, node: NodeId) -> None:
        """SIGSTOP: its sockets stay open, and silent."""
        self.paused[node] = []

    def resume(self, node: NodeId) -> None:
        """SIGCONT: what came in the meantime comes now."""
        for event in self.paused.pop(node):
            self._step(node, event)
        self._arm(node)

    def propose(self, value: object) -> bool:
        node = self.leader()
        if node is None:
            return False
        state = self.states[node]
        event = ev.ProposalMade(
            call=0,
            epoch=state.epoch,
            base_offset=state.log.end_offset,
            count=1,
            records=(value,),
        )
        self._step(node, event)
        return True

    def change(self, change: VoterChange) -> fx.RefuseChange | fx.AcceptChange | None:
        """What the leader says to it; None if there is none."""
        node = self.leader()
        if node is None:
            return None
        self.told = None
        self._step(node, ev.VoterChangeAsked(0, change))
        return self.told

    def read(self) -> None:
        """Ask anybody who takes itself for a leader."""
        for node, state in list(self.states.items()):
            if isinstance(state.role, Leader):
                self.count += 1
                call = self.count
                self.reads[call] = (node, len(self.committed))
                self._step(node, ev.ReadRequested(call))

    def transfer(self, target: NodeId | None) -> None:
        """Ask whoever leads to hand over."""
        node = self.leader()
        if node is None:
            return
        self.count += 1
        self.transfers.add(self.count)
        self._step(node, ev.TransferRequested(self.count, self.states[node].epoch, target))

    # One step, and what it orders.

    def _step(self, node: NodeId, event: "ev.Event | _Flush") -> None:
        if isinstance(event, _Flush):
            disk = self.disks[node]
            # Two may be out, and the later one be done first.
            longer = len(event.batches) > len(disk.durable)
            if longer and event.truncations == self.states[node].truncations:
                disk.durable = event.batches
            event = ev.LogFlushed(event.end, event.truncations)
        if not isinstance(event, ev.TimePassed) and self.states[node].next_deadline_ms <= (
            self.now_ms
        ):
            self._step(node, ev.TimePassed())
        if node not in self.states:
            return
        self.states[node], effects = step(self.states[node], event, self._moment())
        for effect in effects:
            self._carry_out(node, effect)
        if self.states[node].recovering is None:
            self.distrust.pop(node, None)
        if effects:
            self._check(node)
        self._arm(node)

    def _carry_out(self, node: NodeId, effect: fx.Effect) -> None:
        disk, state = self.disks[node], self.states[node]
        match effect:
            case fx.SaveQuorumState():
                disk.saved = SavedState(
                    epoch=effect.epoch, voted_for=effect.voted_for, leader=effect.leader
                )
            case fx.AppendRecords(base_offset=base, epoch=epoch, records=records):
                self._append(node, (Batch(base, epoch, tuple(records)),))  # type: ignore[arg-type]
            case fx.AppendControl():
                values: tuple[object, ...] = (f"leader {effect.leader}",)
                voters: VoterHistory = ()
                if effect.voters is not None:
                    values += ("voters",)
                    voters = ((Offset(effect.base_offset + 1), effect.voters),)
                self._append(node, (Batch(effect.base_offset, effect.epoch, values, voters),))
            case fx.AppendVoters(base_offset=base, epoch=epoch, voters=changed):
                self._append(node, (Batch(base, epoch, ("voters",), ((base, changed),)),))
            case fx.AppendFetched(data=data):
                self._append(node, data)  # type: ignore[arg-type]
            case fx.Truncate(to):
                disk.batches = [each for each in disk.batches if each.end <= to]
                disk.durable = [each for each in disk.durable if each.end <= to]
            case fx.SendRequest(to, request):
                self._send(node, to, request)
            case fx.SendResponse(call, response):
                self._answer(call, response)
            case fx.SendRecords(call=call, response=response, start_offset=start):
                batches = tuple(each for each in disk.batches if each.base >= start)
                batches = batches[: self.batches_max]
                infos = tuple(
                    FetchedBatch(
                        base_offset=each.base,
                        epoch=each.epoch,
                        count=len(each.values),
                        voters=each.voters,
                    )
                    for each in batches
                )
                self._answer(call, replace(response, batches=infos, data=batches))
            case fx.RefuseChange() | fx.AcceptChange():
                self.told = effect
            case fx.Commit(high_watermark):
                self._commit(node, high_watermark)
            case fx.Claim(epoch, end_offset):
                assert self.applied[node] == end_offset == state.log.end_offset
                self.claims.append((self.now_ms, node, epoch))
            case fx.AnswerRead(call, index):
                _, known = self.reads.pop(call)
                assert index >= known, f"a stale read: {index}, {known} were committed before"
                self.reads_done += 1
            case fx.RefuseTransfer(call):
                self.transfers.remove(call)
            case fx.HandOver(call):
                self.transfers.remove(call)
                self.handed_over += 1
                assert state.high_watermark == state.log.end_offset, "given up with writes open"
            case _:
                self._carry_out_snapshot(node, effect)

    def _carry_out_snapshot(self, node: NodeId, effect: fx.Effect) -> None:
        disk = self.disks[node]
        match effect:
            case fx.SendChunk(call=call, response=chunk, max_bytes=max_bytes):
                length = min(max_bytes, chunk.size_bytes - chunk.position)
                self._answer(call, replace(chunk, length=length))
            case fx.VerifySnapshot(snapshot_id):
                voters = self.states[node].config.voters
                verified = ev.SnapshotVerified(snapshot_id=snapshot_id, voters=voters)
                self._at(self.rng.randint(0, 4), (node, self.lives[node], verified))
            case fx.InstallSnapshot(snapshot_id):
                # What a snapshot stands for is kept as the records that led to it.
                disk.batches = self._snapshot_of(snapshot_id.offset)
                disk.durable = list(disk.batches)
            case fx.LoadSnapshot(snapshot_id):
                self._commit(node, snapshot_id.offset)
            case _:
                pass

    def _snapshot_of(self, end: Offset) -> list[Batch]:
        """The batches below `end`, as some log still has them all."""
        logs = [[each for each in disk.batches if each.end <= end] for disk in self.disks.values()]
        return max(logs, key=lambda log: log[-1].end if log else 0)

    def _append(self, node: NodeId, batches: tuple[Batch, ...]) -> None:
        disk = self.disks[node]
        for batch in batches:
            end = disk.batches[-1].end if disk.batches else 0
            assert batch.base == end, f"{node} would append at {batch.base}, its log ends at {end}"
            disk.batches.append(batch)
        self._at(self.rng.randint(0, 4), (node, self.lives[node], "flush"))

    def _send(self, node: NodeId, to: NodeId, request: Request) -> None:
        if to not in self.states:
            failed: ev.Event = ev.RequestFailed(to, request)
            if isinstance(request, FetchRequest):
                failed = ev.StreamLost(to)
            self._at(self.rng.randint(0, 2), (node, self.lives[node], failed))
            return
        self.count += 1
        call = self.count
        self.calls[call] = (node, to, self.lives[node], request)
        sender = ReplicaKey(node_id=node, directory_id=DirectoryId(UUID(int=node)))
        for _ in range(2 if self.rng.random() < self.loss / 2 else 1):
            if not self._lost(node, to):
                received = ev.RequestReceived(call, sender, request)
                self._at(self._delay_ms(), (to, self.lives[to], received))

    def _answer(self, call: int, response: Response | FetchResponse) -> None:
        asker, asked, life, request = self.calls[call]
        if not self._lost(asked, asker):
            received = ev.ResponseReceived(asked, request, response)
            self._at(self._delay_ms(), (asker, life, received))

    def _lost(self, sender: NodeId, to: NodeId) -> bool:
        return (sender, to) in self.cut or self.rng.random() < self.loss

    def _delay_ms(self) -> int:
        return self.rng.randint(0, 1) if self.rng.random() > self.loss else self.rng.randint(0, 400)

    def _moment(self) -> ev.Moment:
        return ev.Moment(now_ms=self.now_ms, draw=self.rng.random())

    def _arm(self, node: NodeId) -> None:
        due_ms = self.states[node].next_deadline_ms
        life, armed_ms = self.armed.get(node, (0, -1))
        if due_ms < 1 << 60 and (life != self.lives[node] or not self.now_ms < armed_ms <= due_ms):
            self.armed[node] = self.lives[node], due_ms
            wait_ms = max(0, due_ms - self.now_ms)
            self._at(wait_ms, (node, self.lives[node], ev.TimePassed()))

    def _at(self, wait_ms: int, what: object) -> None:
        self.count += 1
        if isinstance(what, tuple) and what[2] == "flush":
            node, life, _ = what
            disk = self.disks[node]
            end = disk.batches[-1].end
            truncations = self.states[node].truncations
            snapshot = list(disk.batches)
            event = _Flush(end, truncations, snapshot)
            heapq.heappush(self.queue, (self.now_ms + wait_ms, self.count, (node, life, event)))
            return
        heapq.heappush(self.queue, (self.now_ms + wait_ms, self.count, what))

    # Safety.

    def _commit(self, node: NodeId, high_watermark: Offset) -> None:
        records = [
            (each.epoch, value) for each in self.disks[node].batches for value in each.values
        ]
        for offset in range(self.applied[node], high_watermark):
            if offset < len(self.committed):
                assert self.committed[offset] == records[offset], f"{node} differs at {offset}"
            else:
                voters = self.states[node].voters
                holders = sum(
                    # Who lost it gets it back before it has a say: a leader may learn late of
                    # what it acknowledged before.
                    each in self.distrust or offset < (disk.durable[-1].end if disk.durable else 0)
                    for each, disk in self.disks.items()
                    if each in voters.ids
                )
                assert holders >= voters.majority, f"{offset} is committed, on {holders} disks"
                self.committed.append(records[offset])
        self.applied[node] = high_watermark

    def _check(self, node: NodeId) -> None:
        state = self.states[node]
        if isinstance(state.role, Leader):
            first = self.leaders.setdefault(state.epoch, node)
            assert first == node, f"{first} and {node} lead epoch {state.epoch}"
        batches = self.disks[node].batches
        assert (batches[-1].end if batches else 0) == state.log.end_offset


@dataclass(frozen=True)
class _Flush:
    end: Offset
    truncations: int
    batches: list[Batch]
