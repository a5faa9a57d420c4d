"""What the quorum offers to the rooms above it, and what it asks of the state machine there.

    active controller ──propose(epoch, base_offset, records)──▶ Quorum ──▶ the log, on a majority
                      ◀──on_commit, on_claim, on_renounce──────        StateMachine

    load     on_snapshot(id, …)      instead of all batches below its end: at the start, or if this
                                     controller was away for too long
    follow   on_commit(batches)      every controller, all committed batches, in order, once each
    claim    on_claim(epoch, end)    this controller leads, and has seen all that is committed
    renounce on_renounce(epoch)      it does not lead any more

Every failure is definite (nothing was appended) or indefinite (it may commit yet): klamm/errors.
"""

from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.quorum.introductions import Introductions
from controller.raft.effects import ChangeRefusal
from controller.raft.membership import Preview, Refused
from controller.raft.state import HeldSnapshot
from controller.raft.voters import ReplicaKey, VoterChange, VoterSet
from klamm.errors import DefiniteError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.records import NewRecord
from klamm.log.snapshot import SnapshotFiles
from klamm.metadata.features import Supported
from klamm.metadata.records import Endpoint
from klamm.v1 import quorum_pb2

PROPOSAL_BYTES_MAX = 8 * 1024 * 1024
"""Of one proposal: it is one batch, and must fit into one fetch."""

PROPOSAL_RECORDS_MAX = 10_000
"""Of one proposal."""


class LogMovedError(DefiniteError):
    """The log does not end where the proposal was made for; nothing was appended.

    Decide again on the present state, and propose at `end_offset`.
    """

    def __init__(self, end_offset: Offset) -> None:
        super().__init__(f"the log ends at {end_offset}, and not where the proposal was made for")
        self.end_offset = end_offset


class VotersUnchangedError(DefiniteError):
    """The voters stay as they are; nothing was appended."""

    def __init__(self, why: ChangeRefusal, told: str) -> None:
        super().__init__(told)
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One voter, as the configuration and the log name it."""

    node_id: NodeId
    address: str
    """`host:port` of its gRPC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """Who leads after a transfer, and what it took."""

    former: NodeId
    leader: NodeId
    epoch: Epoch
    took_ms: int
    """From the request until the new leader's first record was committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPoint:
    """Where a snapshot may be written."""

    snapshot_id: OffsetAndEpoch
    voters: VoterSet
    """As of there; they stand in the header."""


class StateMachine(Protocol):
    """The active controller. Called from one task, in the order of the log; must not block."""

    async def on_snapshot(
        self, snapshot_id: OffsetAndEpoch, pieces: Iterator[tuple[memoryview, ...]]
    ) -> None:
        """The state is from now on what this snapshot says, and on_commit goes on at its end.

        Never while this controller leads. It replaces the state as a whole, at the end of
        `pieces`; until then, and if they raise, what was before stands.

        Args:
            snapshot_id: What it includes.
            pieces: Its batches, header and footer among them; checksums are right. Reads the
                disk, so let others have their turn between two of them.
        """
        ...

    def on_commit(self, batches: tuple[memoryview, ...]) -> None:
        """Whole batches that are committed, control batches among them; each once, no gap."""
        ...

    def on_claim(self, epoch: Epoch, end_offset: Offset) -> None:
        """This controller leads `epoch`, and on_commit has seen the log to its end, `end_offset`.

        The first proposal of the epoch has `end_offset` as its base.
        """
        ...

    def on_renounce(self, epoch: Epoch) -> None:
        """This controller leads `epoch` no more. Once for each on_claim, and before the next."""
        ...


class Quorum(Protocol):
    """One controller's part in the quorum."""

    @property
    def node_id(self) -> NodeId: ...

    @property
    def cluster_id(self) -> str: ...

    @property
    def leader(self) -> NodeId:
        """NO_NODE while none is known, or the one that was known is not heard any more."""
        ...

    @property
    def epoch(self) -> Epoch: ...

    @property
    def role(self) -> str:
        """unattached, follower, prospective, candidate, leader or resigned (RAFT_STATES)."""
        ...

    @property
    def high_watermark(self) -> Offset:
        """End of what this controller knows to be committed, exclusive."""
        ...

    @property
    def log_start_offset(self) -> Offset: ...

    @property
    def log_end(self) -> OffsetAndEpoch: ...

    @property
    def log_bytes(self) -> int:
        """What the log takes on this disk, without snapshots."""
        ...

    def is_full(self) -> bool:
        """The disk has no room for more of the log. Raises: StorageError."""
        ...

    @property
    def snapshots(self) -> tuple[HeldSnapshot, ...]:
        """What is held, the oldest first."""
        ...

    @property
    def damaged_snapshots(self) -> frozenset[OffsetAndEpoch]:
        """Of those that are held: found not to be what was written. A later one is wanted."""
        ...

    @property
    def snapshot_files(self) -> SnapshotFiles:
        """Where to write one: `create`, batches from header to footer, `finish`; in a thread."""
        ...

    def snapshot_point(self, end_offset: Offset) -> SnapshotPoint | None:
        """What a snapshot of all below `end_offset` has to say; None if none is needed there.

        Raises:
            ValueError: That is not committed, or lies within a batch.
        """
        ...

    def snapshot_written(self, snapshot_id: OffsetAndEpoch, size_bytes: int) -> None:
        """One is whole, durable and under its name in the log's directory."""
        ...

    def trim(self, to: OffsetAndEpoch) -> bool:
        """Let the log begin at this snapshot; older ones, and whole segments, go soon.

        False if somebody downloads an older one: later, then.
        """
        ...

    @property
    def peers(self) -> tuple[Peer, ...]:
        """All voters, this one among them, by id."""
        ...

    async def propose(
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord]
    ) -> Offset:
        """Append the records as one atomic batch at exactly `base_offset`; its end offset.

        They are in the log when this returns, and not yet committed. Proposals are taken in the
        order of the calls, so several may be on their way, each at the end of the one before.

        Raises:
            NotControllerError: This controller does not lead `epoch`, or has not claimed it yet.
            LogMovedError: The log ends elsewhere.
            OverloadedError: Too many events wait, or too much is appended and not committed.
            ApiError: Too large (PROPOSAL_BYTES_MAX, PROPOSAL_RECORDS_MAX).
        """
        ...

    def write(
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord], timeout_ms: int
    ) -> Awaitable[Offset]:
        """As `propose` and, once it is appended, `wait_committed`: who waits is woken once.

        It is proposed when this returns, before it is awaited.
        """
        ...

    @property
    def refusals(self) -> int:
        """How often proposals were refused so far: known here before those who made them hear it.

        Whoever has decided on what it had proposed has decided on what is not there; and the log
        may end there all the same, by a record of the quorum's own.
        """
        ...

    async def wait_committed(self, epoch: Epoch, end_offset: Offset, timeout_ms: int) -> None:
        """Returns once what was proposed in `epoch` below `end_offset` is committed.

        By then on_commit has seen it.

        Raises:
            CommitUnknownError: The epoch ended or the time is over; it may have committed, or may.
        """
        ...

    async def read_index(self, timeout_ms: int) -> Offset:
        """A high watermark of the leader's, at a moment after this call began when it did lead.

        A standby asks the leader. A state that includes the log up to there is linearizable.

        Raises:
            UnreachableError: No leader confirmed in time.
        """
        ...

    async def read_committed(self, start_offset: Offset, max_bytes: int) -> bytes:
        """Whole batches from the one that holds `start_offset`, below the high watermark.

        Raises:
            CompactedError: The log begins above `start_offset`.
        """
        ...

    async def wait_high_watermark(self, above: Offset, timeout_ms: int) -> None:
        """Returns once the high watermark is above `above`, or the time is over."""
        ...

    async def wait_leader(self, after_epoch: int, timeout_ms: int) -> None:
        """Returns once a leader of a later epoch is known, or the time is over."""
        ...

    async def describe(self, timeout_ms: int) -> quorum_pb2.DescribeQuorumResponse:
        """The quorum as its leader sees it; a standby asks the leader, and else says its own."""
        ...

    async def transfer(self, to: NodeId, timeout_ms: int) -> Transferred:
        """Hand leadership over, and return once `to` leads and has committed its first record.

        Proposals are refused (OverloadedError) until it is over; those that were taken before are
        committed before leadership is given up. Without effect if `to` leads already.

        Raises:
            NotControllerError: This controller does not lead.
            ApiError: VOTER_NOT_FOUND: `to` is no voter. PREFERRED_LEADER_NOT_AVAILABLE: it is
                silent, or behind; this controller goes on to lead. REASSIGNMENT_IN_PROGRESS:
                another transfer is under way. NEW_LEADER_ELECTED: leadership was given up, and
                yet another controller leads.
            IndefiniteError: It is not known in time who leads.
        """
        ...

    async def resign(self, timeout_ms: int) -> None:
        """Hand over to the most caught up voter, and return once another leads or time is over.

        If nobody can take over in order, leadership is given up all the same. At once if this
        controller does not lead. It goes on to follow and to vote.
        """
        ...


class VoterQuorum(Quorum, Protocol):
    """What of the quorum concerns its voters."""

    @property
    def voters(self) -> VoterSet:
        """The latest set in this controller's log, committed or not."""
        ...

    def preview_voters(self, change: VoterChange) -> Preview:
        """What the change would do, as this controller sees it."""
        ...

    def not_ready(self, key: ReplicaKey) -> Refused | None:
        """Why this replica cannot become a voter at this moment; None if it can."""
        ...

    @property
    def introductions(self) -> Introductions:
        """Disks and endpoints that controllers have said are theirs."""
        ...

    async def check_endpoint(self, voter: NodeId, endpoint: Endpoint, timeout_ms: int) -> None:
        """Returns if this node of this cluster answers there.

        Raises:
            ApiError: Nobody, or somebody else; it says who.
        """
        ...

    async def supported_by(self, voter: Peer, timeout_ms: int) -> Supported:
        """What a voter can work with, as it says when it is asked; empty if it does not say.

        Raises:
            ApiError: It does not answer in time, or somebody else does.
        """
        ...

    async def change_voters(self, change: VoterChange) -> Offset:
        """Append the changed set of voters; the end offset of the record that says it.

        It holds from then on, and is not yet committed. What is so already is accepted.

        Raises:
            NotControllerError: This controller does not lead.
            VotersUnchangedError: Refused; `why` and the sentence say it.
            OverloadedError: Too many events wait.
        """
        ...
