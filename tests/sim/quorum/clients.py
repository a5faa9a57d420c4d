"""Who proposes and reads, and what they were told: a history that must be linearizable.

propose   to whoever takes itself for the leader; its outcome is known, or not
read      linearizable, at any node: it asks the leader for a read index, and waits until it has
          applied so much
follow    a read at any node, not before it has applied up to some offset
look      what a node has, at once: old perhaps, and never older than what it showed before

Time is a count of what clients did and saw, so no two events are at one time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.raft.effects import (
    AcceptProposal,
    AnswerRead,
    HandOver,
    RefuseProposal,
    RefuseRead,
    RefuseTransfer,
)
from controller.raft.events import ProposalMade, ReadRequested, TransferRequested
from klamm.ids import NO_NODE, NodeId, Offset
from tests.sim.linearizability import Operation, agree_with_positions, linearizable_by_key
from tests.sim.quorum.machine import KEYS, Versions, payload

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node
    from tests.sim.quorum.world import World

Told = AcceptProposal | RefuseProposal | AnswerRead | RefuseRead


@dataclass(slots=True)
class Write:
    called: int
    key: str
    records: tuple[str, ...]
    base_offset: int

    @property
    def end_offset(self) -> int:
        return self.base_offset + len(self.records)


@dataclass(slots=True)
class Read:
    called: int
    key: str
    node: "Node"
    incarnation: int
    committed_before: int
    """What had been committed when it was asked."""
    is_over: bool = False


class Clients:
    """Records are numbered, so each is unique in the history."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.accepted = 0
        self.acknowledged = 0
        self.answered_reads = 0
        self.handed_over = 0
        self._transfers: set[tuple[int, int, int]] = set()
        self.operations: list[Operation] = []
        self.versions = Versions()
        self._now = 0
        self._call = 1_000_000
        self._commit_times: list[int] = []
        """By offset: when anybody first called it committed."""
        self._asked: dict[tuple[int, int, int], Write | Read] = {}
        self._open: dict[int, list[Write]] = {}
        """By node: accepted there, not committed yet."""
        self._unknown: list[Write] = []
        self._refused: list[Write] = []
        self._waiting: dict[int, list[tuple[int, Read, Callable[[Read], None]]]] = {}
        """By node: reads for which it has not applied enough."""
        self._acknowledged_end = 0

    def _tick(self) -> int:
        self._now += 1
        return self._now

    # ── what they ask ────────────────────────────────────────────────────────────────────────

    def propose(self, node: "Node", count: int) -> None:
        """To whoever takes itself for the leader, at the end that it claims."""
        state = node.state
        assert state is not None
        call = self._call = self._call + 1
        key = call % KEYS
        records = tuple(payload(key, f"{call}.{index}") for index in range(count))
        base_offset = state.log.end_offset
        write = Write(self._tick(), str(key), records, base_offset)
        self._asked[node.id, node.incarnation, call] = write
        node.happen(
            ProposalMade(
                call=call, epoch=state.epoch, base_offset=base_offset, count=count, records=records
            )
        )

    def read(self, node: "Node") -> None:
        """Linearizable, through any node that knows a leader."""
        assert node.state is not None
        leader = node.state.leader
        if leader == NO_NODE:
            return
        read = self._begin(node)
        if leader == node.id:
            self._ask(node, read)
            return
        there = self.world.nodes[leader]
        self.world.network.call(node.id, leader, lambda: self._ask(there, read))

    def follow(self, node: "Node") -> None:
        """A read that sees at least what some client was told is committed."""
        self._when_applied(self._begin(node), self._acknowledged_end, self._see)

    def look(self, node: "Node") -> None:
        self._see(self._begin(node))

    def transfer(self, node: "Node", target: NodeId | None) -> None:
        """Ask who leads to hand over."""
        assert node.state is not None
        call = self._call = self._call + 1
        self._transfers.add((node.id, node.incarnation, call))
        node.happen(TransferRequested(call, node.state.epoch, target))

    def _begin(self, node: "Node") -> Read:
        committed = len(self.world.invariants.committed)
        read = Read(self._tick(), "", node, node.incarnation, committed)
        read.key = str(read.called % KEYS)
        return read

    def _ask(self, leader: "Node", read: Read) -> None:
        if leader.state is not None:
            call = self._call = self._call + 1
            self._asked[leader.id, leader.incarnation, call] = read
            leader.happen(ReadRequested(call))

    # ── what they are told ───────────────────────────────────────────────────────────────────

    def told(self, node: "Node", effect: Told) -> None:
        asked = self._asked.pop((node.id, node.incarnation, effect.call))
        match effect, asked:
            case AcceptProposal(end_offset=end_offset), Write():
                assert end_offset == asked.end_offset, "not where foreseen"
                self.accepted += 1
                self._open.setdefault(node.id, []).append(asked)
            case RefuseProposal(), Write():
                self._refused.append(asked)
            case AnswerRead(index=index), Read():
                self._answered(node, asked, index)

    def _answered(self, leader: "Node", read: Read, index: Offset) -> None:
        assert index >= read.committed_before, (
            f"node {leader.id}: a stale read: up to {index}, "
            f"{read.committed_before} had been committed"
        )
        if read.node is leader:
            self._when_applied(read, index, self._finish)
            return
        self.world.network.call(
            leader.id, read.node.id, lambda: self._when_applied(read, index, self._finish)
        )

    def _when_applied(self, read: Read, index: int, then: Callable[[Read], None]) -> None:
        if read.is_over or read.incarnation != read.node.incarnation:
            return
        if read.node.machine.end >= index:
            then(read)
        else:
            self._waiting.setdefault(read.node.id, []).append((index, read, then))

    def _finish(self, read: Read) -> None:
        """A linearizable read ends."""
        self._see(read)
        self.answered_reads += 1
        self.operations.append(
            Operation(
                key=read.key,
                is_write=False,
                value=read.node.machine.values.get(read.key),
                called=read.called,
                returned=self._tick(),
                position=read.node.machine.end,
            )
        )

    def _see(self, read: Read) -> None:
        """Whatever a node shows is what the log says, as far as the node has come."""
        read.is_over = True
        machine = read.node.machine
        seen, true = machine.values.get(read.key), self.versions.value(read.key, machine.end)
        assert seen == true, f"node {read.node.id} shows {seen} at {machine.end}, it was {true}"

    def committed(self, node: "Node") -> None:
        """It was told of more that is committed."""
        committed = self.world.invariants.committed
        now = self._tick()
        while len(self._commit_times) < len(committed):
            self.versions.write(len(self._commit_times), committed[len(self._commit_times)][1])
            self._commit_times.append(now)
        end, open_ = node.machine.end, self._open.get(node.id)
        while open_ and open_[0].end_offset <= end:
            self._acknowledge(open_.pop(0))
        waiting = self._waiting.get(node.id)
        if waiting and any(index <= end for index, *_ in waiting):
            self._waiting[node.id] = []
            for index, read, then in waiting:
                self._when_applied(read, index, then)

    def _acknowledge(self, write: Write) -> None:
        self.acknowledged += 1
        self._acknowledged_end = max(self._acknowledged_end, write.end_offset)
        self.operations.append(self._operation(write, self._tick()))

    def renounced(self, node: "Node") -> None:
        """Nobody knows what becomes of what it had accepted."""
        self._unknown += self._open.pop(node.id, [])

    def crashed(self, node: "Node") -> None:
        self.renounced(node)
        for key in [key for key in self._asked if key[0] == node.id]:
            asked = self._asked.pop(key)
            if isinstance(asked, Write):
                self._unknown.append(asked)
        self._waiting.pop(node.id, None)

    def transferred(self, node: "Node", effect: HandOver | RefuseTransfer) -> None:
        """One answer each; and who gives up has committed all that it took."""
        self._transfers.remove((node.id, node.incarnation, effect.call))
        assert node.state is not None
        if isinstance(effect, HandOver):
            self.handed_over += 1
            open_ = node.state.log.end_offset - node.state.high_watermark
            assert open_ == 0, f"node {node.id} hands over with {open_} records not committed"
            successor = self.world.nodes[effect.successor].disk
            has = successor.durable_end
            assert successor.decay.ails or has >= node.state.log.end_offset, (
                f"node {node.id} hands over at {node.state.log.end_offset} to {effect.successor}, "
                f"which has the log to {has}"
            )

    # ── at the end ───────────────────────────────────────────────────────────────────────────

    def _operation(self, write: Write, returned: int) -> Operation:
        return Operation(
            key=write.key,
            is_write=True,
            value=write.records[-1],
            called=write.called,
            returned=returned,
            position=write.end_offset - 1,
        )

    def check(self) -> None:
        """Acknowledged is kept, refused is nowhere, and all of it happened in some order."""
        committed = self.world.invariants.committed
        places = {record: offset for offset, (_, record) in enumerate(committed)}
        for each in self.operations:
            if each.is_write:
                assert places.get(str(each.value)) == each.position, f"{each.value} is lost"
        for write in self._refused:
            assert write.records[0] not in places, f"{write.records[0]} was refused"
        history = list(self.operations)
        for write in [*self._unknown, *(each for some in self._open.values() for each in some)]:
            place = places.get(write.records[-1])
            if place is not None:
                # Nobody was told; it was done when it was committed, at the latest.
                history.append(self._operation(write, self._commit_times[place]))
        wrong = agree_with_positions(history) or linearizable_by_key(history)
        assert wrong is None, wrong
