"""What must hold after every step, over all incarnations and all disks (reliability 2.1).

     1  at most one leader an epoch                    4  a leader's log only grows
     2  a leader has all that was committed            5  what is committed stays, at its offset
     3  a committed record is durable at a majority    6  (offset, epoch) names one record for ever,
     7  a vote is on disk before it is given, and         and one epoch before it: logs match
        one vote an epoch, over any crash; who         8  a follower acknowledges what is durable
        leads has such votes of a majority
     9  committed records are never truncated, nor    10  epochs and high watermarks never fall
        does any leader ask for it
    11  a claim comes when all that was committed is known, and the epoch's first batch with it
    12  a log begins at 0 or at the end of a snapshot that is held; none above a high watermark
    13  a leader never loads a snapshot; what one says is what was committed, voters too
    14  voters change one at a time: each change by a leader of its epoch, after the last one
    15  who has lost records neither votes nor stands before it has all again that counts
What clients may see is in clients.py.
"""

from typing import TYPE_CHECKING

from controller.raft.membership import known as known_voters
from controller.raft.messages import FetchRequest, Request, VoteRequest
from controller.raft.state import Leader, RaftState, SavedState
from controller.raft.voters import VoterSet, share_majority, voters_at
from klamm.ids import NodeId, OffsetAndEpoch
from tests.sim.quorum.disk import Batch, Disk, Entry

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node


class Invariants:
    """Sees everything; knows no mercy."""

    def __init__(self) -> None:
        self.committed: list[tuple[int, str]] = []
        """(epoch, payload) by offset: what any voter has called committed."""
        self.commit_epochs: list[int] = []
        """In which epoch each was first called so."""
        self.voters: list[tuple[int, VoterSet]] = []
        """Where committed Voters records stand, and what they say."""
        self.last_voters: tuple[NodeId, ...] = ()
        """Of whom a majority made the last commit."""
        self.installs = 0
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        """(disk, epoch) → for whom."""
        self.looked_at: set[tuple[int, int, OffsetAndEpoch]] = set()
        """(disk, epoch, the log that the vote was given to)."""
        self.records: dict[tuple[int, int], tuple[int, str]] = {}
        self.applied: dict[int, int] = {}
        self.elections = 0
        self.changes = 0
        self.truncations = 0
        self.recoveries = 0

    def stepped(self, node: "Node", before: RaftState) -> None:
        state = node.state
        assert state is not None
        assert state.epoch >= before.epoch, f"node {node.id}: the epoch fell"
        assert state.high_watermark >= before.high_watermark, f"node {node.id}: committed less"
        assert state.refused_cut is None, f"node {node.id} is to cut what is committed"
        if isinstance(state.role, Leader):
            other = self.leaders.setdefault(state.epoch, node.id)
            assert other == node.id, f"{other} and {node.id} lead epoch {state.epoch}"
            if isinstance(before.role, Leader) and before.epoch == state.epoch:
                assert state.log.end_offset >= before.log.end_offset, "a leader's log shrank"

    def counted(self, node: "Node", epoch: int, granting: tuple[NodeId, ...]) -> None:
        """7. A majority of votes, each on a disk before now, and given to the log as it is."""
        assert node.state is not None
        if not node.world.look_at_votes:
            return
        log_end = node.disk.chain().end
        assert len(granting) >= node.state.voters.majority, f"node {node.id} leads by {granting}"
        for each in granting:
            voter = node.world.nodes[each]
            disk = _counted_disk(node, voter)
            if not voter.is_new_disk:
                given = self.votes.get((disk, epoch))
                assert given == node.id, f"node {node.id} counts {each}'s vote, which is {given}"
                assert each == node.id or (disk, epoch, log_end) in self.looked_at, (
                    f"node {node.id} counts {each}'s vote, which was given to another log"
                )

    def elected(self, node: "Node", epoch: int) -> None:
        """2. Leader completeness: before it appends, its log has all that was committed before.

        What a later epoch has committed says nothing of it: votes may be slow, and who is elected
        too late leads nobody.
        """
        self.elections += 1
        end = self._committed_before(epoch)
        assert node.disk.end_offset >= end, (
            f"node {node.id} leads epoch {epoch} with {node.disk.end_offset} of {end} records"
        )
        if end:
            assert node.disk.entries[end - 1] == self.committed[end - 1], (
                f"node {node.id} leads epoch {epoch} without the last committed record"
            )

    def _committed_before(self, epoch: int) -> int:
        """Below which offset was committed in epochs before this one."""
        end = len(self.committed)
        while end and self.commit_epochs[end - 1] >= epoch:
            end -= 1
        return end

    def appended(self, node: "Node", batch: Batch) -> None:
        """Log matching, by induction: the same (offset, epoch), the same record, and before it
        the same epoch (Raft 5.3)."""
        base = batch.base_offset
        before = node.disk.entries[base - 1][0] if base else 0
        for index, payload in enumerate(batch.payload):
            place, record = (base + index, batch.epoch), (before, payload)
            known = self.records.setdefault(place, record)
            assert known == record, f"node {node.id}: two records at {place}: {known}, {record}"
            before = batch.epoch

    def committed_to(self, node: "Node", high_watermark: int) -> None:
        """3 and 5. From where this incarnation had come to; all voters' disks are looked at."""
        begin = self.applied.get(node.id, 0)
        entries = node.disk.entries
        known = min(len(self.committed), high_watermark)
        if entries[begin:known] != self.committed[begin:known]:
            where = next(at for at in range(begin, known) if entries[at] != self.committed[at])
            raise AssertionError(
                f"node {node.id} commits {entries[where]} at {where}, "
                f"it was {self.committed[where]}"
            )
        assert node.state is not None
        if high_watermark > known:
            self.voters += [
                (each.end_offset - 1, each.voters)
                for each in node.disk.batches
                if each.voters is not None and known < each.end_offset <= high_watermark
            ]
            self.committed += entries[known:high_watermark]
            self.commit_epochs += [node.state.epoch] * (high_watermark - known)
        self.applied[node.id] = max(begin, high_watermark)
        if high_watermark == len(self.committed) and high_watermark > known:
            self.last_voters = node.state.voters.ids
        if high_watermark > known or not node.world.faults.change_every_ms:
            # A disk may have acknowledged it, and be wiped before that makes a majority.
            first = high_watermark > known and not node.world.faults.wiped_disk
            lost = 0 if first else self._disks_lost(node)
            self._durable_at_majority(node, high_watermark - 1, node.state.voters.ids, lost)

    def _disks_lost(self, node: "Node") -> int:
        return sum(each.is_new_disk for each in node.world.voters)

    def changing(self, node: "Node", voters: VoterSet) -> None:
        """14. One change at a time: by a leader that has committed in its epoch, when the last
        change is committed, and with a majority in common (before the record is on the disk).

        A later epoch may have committed by then: who is cut off and has not heard of it appends
        what nobody will have."""
        assert node.state is not None
        self.changes += 1
        end, before = [(-1, node.config.voters), *node.disk.voters()][-1]
        assert end < len(self.committed), f"node {node.id} changes {before.ids} at {end} too soon"
        assert node.state.epoch in self.commit_epochs, f"node {node.id} has committed nothing yet"
        assert share_majority(before, voters), f"{before.ids} and {voters.ids}"

    def _durable_at_majority(
        self, node: "Node", offset: int, ids: tuple[NodeId, ...], lost: int = 0
    ) -> None:
        """Of the voters that held where it was committed first, but for disks lost since.

        Who has lost records has them again before it has a say: a leader may learn late of what
        it acknowledged before.
        """
        entry = self.committed[offset]
        voters = [each for each in node.world.nodes if each.id in ids]
        holders = [
            each.id
            for each in voters
            if not each.is_new_disk and (each.disk.decay.ails or _holds(each.disk, offset, entry))
        ]
        assert len(holders) > len(voters) // 2 - lost, (
            f"node {node.id} commits {offset}, durable at {holders} only"
        )

    def claimed(self, node: "Node", end_offset: int) -> None:
        """11. Who claims an epoch knows everything that was committed before it."""
        assert node.state is not None
        assert node.machine.end == end_offset, f"node {node.id} claims before it has applied"
        end = self._committed_before(node.state.epoch)
        assert end_offset >= end, f"node {node.id} claims at {end_offset}, {end} are committed"

    def voters_below(self, end: int) -> VoterSet:
        """As the last Voters record below `end` has it, which is committed."""
        return [voters for offset, voters in self.voters if offset < end][-1]

    def loading(self, node: "Node", snapshot_id: OffsetAndEpoch) -> None:
        """13. The state machine is told that all up to there is as a snapshot says."""
        assert not node.leads, f"node {node.id} leads, and loads a snapshot"
        self.installs += 1
        self.committed_to(node, snapshot_id.offset)
        self.knows_voters(node)

    def knows_voters(self, node: "Node") -> None:
        """Who votes is what the log says, wherever it began to be read."""
        state = node.state
        assert state is not None
        if self.voters and state.high_watermark > self.voters[0][0]:
            known = voters_at(state.voter_history, state.high_watermark)
            said = self.voters_below(state.high_watermark)
            assert known == said, f"node {node.id} takes {known} for the voters, it is {said}"

    def on_disk(self, node: "Node") -> None:
        """12. When all that a step has ordered is done."""
        state, disk = node.state, node.disk
        assert state is not None
        assert disk.start == state.log.start, f"node {node.id}: another start on its disk"
        assert disk.start.offset == 0 or disk.start in disk.snapshots, (
            f"node {node.id}: no snapshot where its log begins, {disk.start}"
        )
        assert all(each.offset <= state.high_watermark for each in disk.snapshots), (
            f"node {node.id}: a snapshot of what is not committed"
        )

    def truncating(self, node: "Node", to: int) -> None:
        self.truncations += 1
        assert to >= self.applied.get(node.id, 0), f"node {node.id} truncates committed records"

    def truncated(self, node: "Node") -> None:
        """3 again: committed records stay on a majority of disks, whoever cuts its log."""
        if self.committed:
            end, lost = len(self.committed), self._disks_lost(node)
            self._durable_at_majority(node, end - 1, self.last_voters, lost)

    def whole_again(self, node: "Node") -> None:
        """15. What it lost, and had helped to commit, is on its disk again."""
        self.recoveries += 1
        assert node.state is not None
        if node.id < node.world.faults.voters and not node.state.admits(node.config.key):
            node.is_new_disk = True
        self.truncated(node)

    def crashed(self, node: "Node") -> None:
        self.applied.pop(node.id, None)

    def saved(self, node: "Node", saved: SavedState) -> None:
        """7. What is on the disk is a vote, whether anybody hears of it or not."""
        if saved.voted_for is not None:
            self._one_vote(node, saved.epoch, saved.voted_for.node_id)

    def voted(self, node: "Node", candidate: int, request: Request) -> None:
        """7. On the way out of a granted vote."""
        assert isinstance(request, VoteRequest)
        assert self._is_believed(node), f"node {node.id} votes, and is not whole"
        if request.pre_vote:
            return
        epoch = request.epoch
        self._one_vote(node, epoch, candidate)
        self.looked_at.add((node.config.directory_id.int, epoch, request.log_end))
        if not node.world.look_at_votes:
            return
        saved = node.disk.saved
        assert saved is not None, f"node {node.id} votes with nothing on its disk"
        assert saved.epoch >= epoch, f"node {node.id} votes in {epoch}, {saved.epoch} on disk"
        if saved.epoch == epoch:
            assert saved.voted_for is not None, f"node {node.id}: no vote on disk"
            assert saved.voted_for.node_id == candidate, f"node {node.id}: another on disk"

    def _is_believed(self, node: "Node") -> bool:
        return not (node.world.look_at_trust and node.disk.decay.distrust)

    def _one_vote(self, node: "Node", epoch: int, candidate: int) -> None:
        voter = node.config.directory_id.int
        other = self.votes.setdefault((voter, epoch), candidate)
        assert other == candidate, f"node {node.id} votes for {other} and {candidate} in {epoch}"

    def requesting(self, node: "Node", request: Request) -> None:
        match request:
            case VoteRequest(pre_vote=True, log_end=log_end) if log_end.offset == 0:
                pass  # Whose log is empty asks whether all others' are.
            case VoteRequest() if not self._is_believed(node):
                raise AssertionError(f"node {node.id} stands for election, and is not whole")
            case FetchRequest(log_end=log_end):
                assert log_end.offset <= node.disk.durable_end, (
                    f"node {node.id} acknowledges {log_end.offset}, "
                    f"durable is {node.disk.durable_end}"
                )
            case _:
                pass


def _counted_disk(node: "Node", voter: "Node") -> int:
    """The one that this node takes for the voter's."""
    assert node.state is not None
    known = known_voters(node.state).find(voter.config.me)
    disk_id = None if known is None else known.directory_id
    return (disk_id or voter.config.directory_id).int


def _holds(disk: Disk, offset: int, entry: Entry) -> bool:
    return disk.durable_end > offset and disk.entries[offset] == entry
