"""Who proposes and reads, and what they were told."""

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
from klamm.ids import NodeId, Offset

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node
    from tests.sim.quorum.world import World

Told = AcceptProposal | RefuseProposal | AnswerRead | RefuseRead


@dataclass(frozen=True, slots=True)
class Asked:
    """A read or a proposal on its way."""

    committed_before: int
    """What had been committed when it was asked."""
    records: tuple[str, ...] = ()
    base_offset: int = 0


class Clients:
    """Records are numbered, so each is unique in the history."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.accepted = 0
        self.answered_reads = 0
        self.handed_over = 0
        self._asked: dict[tuple[int, int, int], Asked] = {}
        self._transfers: set[tuple[int, int, int]] = set()
        self._call = 1_000_000

    def propose(self, node: "Node", count: int) -> None:
        """To whoever takes itself for the leader, at the end that it claims."""
        state = node.state
        assert state is not None
        call = self._call = self._call + 1
        records = tuple(f"{call}.{index}" for index in range(count))
        base_offset = state.log.end_offset
        key = (node.id, node.incarnation, call)
        self._asked[key] = Asked(len(self.world.invariants.committed), records, base_offset)
        node.happen(
            ProposalMade(
                call=call, epoch=state.epoch, base_offset=base_offset, count=count, records=records
            )
        )

    def read(self, node: "Node") -> None:
        call = self._call = self._call + 1
        asked = Asked(len(self.world.invariants.committed))
        self._asked[node.id, node.incarnation, call] = asked
        node.happen(ReadRequested(call))

    def transfer(self, node: "Node", target: NodeId | None) -> None:
        """Ask who leads to hand over."""
        assert node.state is not None
        call = self._call = self._call + 1
        self._transfers.add((node.id, node.incarnation, call))
        node.happen(TransferRequested(call, node.state.epoch, target))

    def transferred(self, node: "Node", effect: HandOver | RefuseTransfer) -> None:
        """One answer each; and who gives up has committed all that it took."""
        self._transfers.remove((node.id, node.incarnation, effect.call))
        assert node.state is not None
        if isinstance(effect, HandOver):
            self.handed_over += 1
            open_ = node.state.log.end_offset - node.state.high_watermark
            assert open_ == 0, f"node {node.id} hands over with {open_} records not committed"

    def told(self, node: "Node", effect: Told) -> None:
        asked = self._asked.pop((node.id, node.incarnation, effect.call))
        match effect:
            case AcceptProposal(end_offset=end_offset):
                assert end_offset == asked.base_offset + len(asked.records), "not where foreseen"
                self.accepted += 1
            case AnswerRead(index=index):
                assert index >= Offset(asked.committed_before), (
                    f"node {node.id}: a stale read: up to {index}, "
                    f"{asked.committed_before} had been committed"
                )
                self.answered_reads += 1
            case RefuseProposal() | RefuseRead():
                pass
