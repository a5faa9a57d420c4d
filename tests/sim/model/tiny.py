"""One real core in a world so small that all of it can be seen: its state and disk, and events.

Time stands still at 0 and every deadline is far away, so states that differ in times only are one;
whatever a timer would do is an event of its own, which may come at any moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from controller.raft import effects as ef
from controller.raft import events as ev
from controller.raft import messages as ms
from controller.raft.state import (
    NEVER_MS,
    Candidate,
    Follower,
    Leader,
    Prospective,
    RaftConfig,
    RaftState,
    Resigned,
    SavedState,
    Unattached,
    restore,
)
from controller.raft.step import step
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from klamm.ids import NO_NODE, DirectoryId, Epoch, NodeId, Offset
from klamm.log.epochs import EpochChain

NOW = ev.Moment(now_ms=0, draw=0.0)
FAR_MS = 1_000_000


class Batch(NamedTuple):
    """Records that stand or fall together."""

    epoch: int
    author: int
    """Who led when they were appended: by it two leaders of one epoch could be told apart."""
    size: int
    """In records."""
    voters: VoterSet | None = None


class Disk(NamedTuple):
    saved: SavedState = SavedState()
    log: tuple[Batch, ...] = ()
    durable: int = 0
    """Records that a power cut leaves."""


class Message(NamedTuple):
    sender: int
    to: int
    request: ms.Request
    """What is asked, or what is answered."""
    response: ms.Response | None = None


class Node(NamedTuple):
    """Between two steps."""

    state: RaftState
    disk: Disk


class Step(NamedTuple):
    """For whoever judges: one of the core's."""

    before: RaftState
    event: ev.Event
    after: RaftState
    effects: ef.Effects


@dataclass
class Calls:
    """Requests by number: equal ones have one."""

    numbers: dict[tuple[int, ms.Request], int]
    asked: list[tuple[int, ms.Request]]

    def number(self, sender: int, request: ms.Request) -> int:
        number = self.numbers.setdefault((sender, request), len(self.asked))
        if number == len(self.asked):
            self.asked.append((sender, request))
        return number


def key(node_id: int) -> ReplicaKey:
    return ReplicaKey(node_id=NodeId(node_id), directory_id=_disk(node_id))


def _disk(node_id: int) -> DirectoryId:
    return DirectoryId(UUID(int=node_id + 1))


def begin(node_id: int, nodes: int) -> Node:
    """With an empty disk."""
    voters = tuple(Voter(node_id=NodeId(each), directory_id=_disk(each)) for each in range(nodes))
    config = RaftConfig(me=NodeId(node_id), directory_id=_disk(node_id), voters=VoterSet(voters))
    return restart(config, Disk())


def restart(config: RaftConfig, disk: Disk) -> Node:
    """From what is on the disk, which is durable."""
    chain, end = EpochChain(), 0
    voters: tuple[tuple[Offset, VoterSet], ...] = ()
    for each in disk.log:
        chain = chain.append(Epoch(each.epoch), each.size)
        end += each.size
        if each.voters is not None:
            voters += ((Offset(end - 1), each.voters),)
    state = restore(config, disk.saved, chain, voters, NOW)
    return Node(timeless(state), disk._replace(durable=end))


def timeless(state: RaftState) -> RaftState:
    """The state without times, and without counters that only ever rise."""
    role = state.role
    match role:
        case Follower():
            retry_ms = role.retry_ms if role.retry_ms == NEVER_MS else FAR_MS
            role = replace(role, deadline_ms=FAR_MS, steady_since_ms=0, retry_ms=retry_ms)
        case Resigned():
            retry_ms = role.retry_ms if role.retry_ms == NEVER_MS else FAR_MS
            role = replace(role, deadline_ms=FAR_MS, retry_ms=retry_ms)
        case Leader():
            progress = tuple(
                replace(
                    each, fetched_ms=0, caught_up_ms=-1, begin_ms=FAR_MS, begin_failures=0,
                    leader_end_at_fetch=Offset(0),
                )
                for each in role.progress
            )  # fmt: skip
            parked = tuple(
                replace(each, deadline_ms=FAR_MS, rests_until_ms=FAR_MS) for each in role.parked
            )
            role = replace(
                role,
                progress=progress,
                parked=parked,
                flush_due_ms=NEVER_MS,
                quick_until_ms=FAR_MS,
            )
        case Unattached() | Prospective() | Candidate():
            role = replace(role, deadline_ms=FAR_MS)
    return replace(state, role=role, attempts=0, truncations=0)


class Turn:
    """What one event makes of one node: steps, writes, messages."""

    def __init__(self, node: Node, calls: Calls) -> None:
        self.state, self.disk = node
        self.calls = calls
        self.steps: list[Step] = []
        self.sent: list[Message] = []
        self.sent_before_saving: list[Message] = []
        """That went out before the vote was on the disk: a crash may come in between."""

    @property
    def node(self) -> Node:
        return Node(timeless(self.state), self.disk)

    def happen(self, event: ev.Event) -> None:
        """Step the core, and carry out what it orders."""
        before = self.state
        self.state, effects = step(before, event, NOW)
        self.steps.append(Step(before, event, self.state, effects))
        self.sent, self.sent_before_saving = [], []
        for effect in effects:
            self._carry_out(effect)

    def time_passes(self) -> None:
        """A deadline has come, whichever it is."""
        role = self.state.role
        if isinstance(role, Leader):
            progress = tuple(replace(each, begin_ms=0) for each in role.progress)
            parked = tuple(replace(each, deadline_ms=0) for each in role.parked)
            self._as_if(replace(role, progress=progress, parked=parked))
        else:
            self._as_if(replace(role, deadline_ms=0))
        self.happen(ev.TimePassed())

    def _as_if(self, role: object) -> None:
        self.state = replace(self.state, role=role)  # type: ignore[arg-type]

    def _carry_out(self, effect: ef.Effect) -> None:
        disk, me = self.disk, self.state.config.me
        match effect:
            case ef.SaveQuorumState(epoch=epoch, voted_for=voted_for, leader=leader):
                saved = SavedState(epoch=epoch, voted_for=voted_for, leader=leader)
                self.disk = disk._replace(saved=saved)
                self.sent_before_saving = list(self.sent)
            case ef.AppendRecords(epoch=epoch):
                self._append(Batch(epoch, me, 1))
            case ef.AppendControl(epoch=epoch, voters=voters):
                self._append(Batch(epoch, me, 1 if voters is None else 2, voters))
            case ef.AppendFetched(data=data):
                assert isinstance(data, tuple)
                for each in data:
                    self._append(each)
            case ef.Truncate(to):
                log = disk.log
                while log and sum(each.size for each in log) > to:
                    log = log[:-1]
                assert sum(each.size for each in log) == to, "a cut within a batch"
                self.disk = disk._replace(log=log, durable=min(disk.durable, to))
            case ef.SendRequest(to, request):
                self.sent.append(Message(me, to, request))
            case ef.SendResponse(call, response):
                sender, request = self.calls.asked[call]
                self.sent.append(Message(me, sender, request, response))
            case ef.SendRecords():
                sender, request = self.calls.asked[effect.call]
                response = _records(effect, self.disk)
                self.sent.append(Message(me, sender, request, response))

    def _append(self, batch: Batch) -> None:
        self.disk = self.disk._replace(log=(*self.disk.log, batch))


def _records(effect: ef.SendRecords, disk: Disk) -> ms.FetchResponse:
    """With all that stands there."""
    offset, batches, data = 0, [], []
    for each in disk.log:
        if offset >= effect.start_offset:
            voters = () if each.voters is None else ((Offset(offset + 1), each.voters),)
            batches.append(
                ms.FetchedBatch(
                    base_offset=Offset(offset), epoch=Epoch(each.epoch), count=each.size,
                    voters=voters,
                )
            )  # fmt: skip
            data.append(each)
        offset += each.size
    return replace(effect.response, batches=tuple(batches), data=tuple(data))


# ── what may befall a node of itself ─────────────────────────────────────────────────────────────


def deliver(node: Node, message: Message, calls: Calls) -> Turn:
    turn = Turn(node, calls)
    if message.response is None:
        number = calls.number(message.sender, message.request)
        turn.happen(ev.RequestReceived(number, key(message.sender), message.request))
    else:
        sender = NodeId(message.sender)
        turn.happen(ev.ResponseReceived(sender, message.request, message.response))
    return turn


def campaign(node: Node, calls: Calls, epoch_max: int) -> Turn | None:
    """It stands. Pre-votes change nothing, so they are taken as granted: that is all there is."""
    state = node.state
    if isinstance(state.role, Leader) or state.epoch >= epoch_max:
        return None
    turn = Turn(node, calls)
    if isinstance(state.role, Follower):
        turn.happen(ev.StreamLost(state.role.leader))
    turn.time_passes()
    for each in state.others:
        if isinstance(turn.state.role, Prospective):
            end = turn.state.log.end
            asked = ms.VoteRequest(epoch=turn.state.epoch, log_end=end, pre_vote=True)
            told = ms.VoteResponse(
                epoch=turn.state.epoch, leader=NO_NODE, vote_granted=True, directory_id=_disk(each)
            )
            turn.happen(ev.ResponseReceived(each, asked, told))
    return turn if isinstance(turn.state.role, Candidate | Leader) else None


def fetch_again(node: Node, calls: Calls) -> Turn | None:
    """Its fetch was lost, and the stream with it."""
    role = node.state.role
    if not isinstance(role, Follower):
        return None
    turn = Turn(node, calls)
    turn.happen(ev.StreamLost(role.leader))
    assert isinstance(turn.state.role, Follower)
    turn._as_if(replace(turn.state.role, retry_ms=0, deadline_ms=FAR_MS))
    turn.happen(ev.TimePassed())
    return turn


def tell(node: Node, calls: Calls) -> Turn | None:
    """A leader announces itself again, and answers who waits."""
    role = node.state.role
    if not isinstance(role, Leader):
        return None
    turn = Turn(node, calls)
    turn.time_passes()
    return turn if turn.sent else None


def propose(node: Node, calls: Calls) -> Turn | None:
    state = node.state
    if not isinstance(state.role, Leader) or not state.role.claimed:
        return None
    turn = Turn(node, calls)
    turn.happen(
        ev.ProposalMade(
            call=-1, epoch=state.epoch, base_offset=state.log.end_offset, count=1, records=None
        )
    )
    return turn


def resign(node: Node, calls: Calls) -> Turn | None:
    """A leader that hears no majority, or is asked to."""
    if not isinstance(node.state.role, Leader):
        return None
    turn = Turn(node, calls)
    turn.happen(ev.ResignRequested(node.state.epoch))
    return turn


def flush(node: Node, calls: Calls) -> Turn | None:
    """An fsync finishes."""
    state, disk = node
    if state.flushed == state.log.end_offset:
        return None
    turn = Turn(Node(state, disk._replace(durable=state.log.end_offset)), calls)
    turn.happen(ev.LogFlushed(state.log.end_offset, state.truncations))
    return turn


def crashes(node: Node) -> Iterator[Node]:
    """A power cut, and a start: with what was durable, and with all."""
    state, disk = node
    end = 0
    kept: list[Batch] = []
    for each in disk.log:
        end += each.size
        if end <= disk.durable:
            kept.append(each)
    yield restart(state.config, disk._replace(log=tuple(kept)))
    if len(kept) < len(disk.log):
        yield restart(state.config, disk)
