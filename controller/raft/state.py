"""What a voter remembers, as one immutable value, and how it comes back from its disk.

                        ┌────────────────── higher epoch seen ──────────────────┐
                        ▼                                                       │
    Unattached ──▶ Prospective ──▶ Candidate ──▶ Leader ──▶ Resigned      (from any role)
        │  ▲            ▲  │           │                        │
        ▼  │            │  ▼           ▼                        │
      Follower ─────────┘  Follower, Unattached          Prospective, Follower

Durable are epoch and voted_for (quorum-state) and the log. Roles are memory; a voter that comes
back with a vote for itself may have led that epoch, so it never leads it again: it is Resigned.
"""

from dataclasses import dataclass
from functools import cached_property

from controller.raft.events import Moment
from controller.raft.messages import EndQuorumEpochRequest, FetchRequest, FetchSnapshotRequest
from controller.raft.voters import BOOTSTRAP, ReplicaKey, VoterHistory, VoterSet
from klamm.frozen import replace
from klamm.ids import (
    EPOCH_MAX,
    NO_EPOCH,
    NO_NODE,
    DirectoryId,
    Epoch,
    NodeId,
    Offset,
    OffsetAndEpoch,
)
from klamm.log.epochs import EpochChain
from klamm.metadata.records import Endpoint

NEVER_MS = 1 << 62
"""A deadline that does not come."""

END_UNKNOWN = Offset(-1)

STARTUP_JITTER_MS = 40
"""A voter that starts asks soon for pre-votes: they disturb nobody, and answers name the leader."""


@dataclass(frozen=True, kw_only=True)
class RaftConfig:
    """Kafka's controller.quorum.* keys, and who this voter is."""

    me: NodeId
    directory_id: DirectoryId
    voters: VoterSet
    """As configured: the voters until the log names them, and where they are reached."""
    endpoint: Endpoint | None = None
    """Where this one is reached; what the log says of it is corrected when it leads."""
    bootstrap: tuple[NodeId, ...] = ()
    """Stand for addresses behind which some controller is, to be asked who leads; negative."""
    election_timeout_ms: int = 1_000
    fetch_timeout_ms: int = 2_000
    election_backoff_max_ms: int = 1_000
    retry_backoff_ms: int = 20
    fetch_bytes_max: int = 8 * 1024 * 1024
    fetch_wait_max_ms: int = 500

    @cached_property  # Asked for a dozen times a commit, and a configuration never changes.
    def key(self) -> ReplicaKey:
        return ReplicaKey(node_id=self.me, directory_id=self.directory_id)

    @property
    def fetch_wait_ms(self) -> int:
        """A parked fetch is answered well before either side takes the other for dead."""
        return min(self.fetch_wait_max_ms, self.fetch_timeout_ms // 2)

    @property
    def disk_timeout_ms(self) -> int:
        """A leader's own disk may be silent for as long as a leader may."""
        return self.fetch_timeout_ms

    @property
    def check_quorum_ms(self) -> int:
        return self.fetch_timeout_ms * 3 // 2


@dataclass(frozen=True, kw_only=True)
class Unattached:
    """Hears no leader. May have voted."""

    deadline_ms: int
    """When to ask for pre-votes."""
    leader: NodeId = NO_NODE
    """Of this epoch, if it was heard before: nobody else gets our vote in it."""


@dataclass(frozen=True, kw_only=True)
class Follower:
    leader: NodeId
    deadline_ms: int
    """When to ask for pre-votes, unless the leader is heard before."""
    lost: bool = False
    """The stream to the leader broke, or it said goodbye; it was not heard since."""
    steady_since_ms: int = 0
    """When the leader was first heard, without a loss since."""
    fetch: FetchRequest | FetchSnapshotRequest | None = None
    """The one that is out."""
    retry_ms: int = NEVER_MS
    """When to fetch again after a failure."""
    read_round: int = 0


@dataclass(frozen=True, kw_only=True)
class Prospective:
    """Asks who would vote for it (KIP-996). Nothing of this is durable."""

    leader: NodeId
    """The one it lost; NO_NODE if it had none."""
    deadline_ms: int
    granted: frozenset[NodeId]
    """These two are for membership and counting, never iterated."""
    refused: frozenset[NodeId] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    deadline_ms: int
    granted: frozenset[NodeId]
    refused: frozenset[NodeId] = frozenset()
    over: bool = False
    """Lost; waits out its backoff."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the leader knows of one other replica, from its requests in this epoch."""

    node_id: NodeId
    end_offset: Offset = END_UNKNOWN
    """It has everything below, durably, and the same as the leader."""
    fetched_ms: int
    """Last heard of; at first, when the epoch began."""
    caught_up_ms: int = -1
    """When it last had all that the leader had at that time; -1 if never."""
    leader_end_at_fetch: Offset = Offset(1 << 62)  # noqa: RUF009 - an int
    read_round: int = 0
    begin_ms: int
    """When to announce the epoch to it (again)."""
    begin_failures: int = 0
    recovering: bool = False
    """It has lost records, and can neither vote nor succeed."""

    @property
    def has_fetched(self) -> bool:
        return self.end_offset != END_UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A controller without a vote that follows this leader."""

    key: ReplicaKey
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class ParkedFetch:
    """Will be answered when there is something to say."""

    call: int
    sender: ReplicaKey
    log_end: OffsetAndEpoch
    high_watermark: Offset
    max_bytes: int
    deadline_ms: int
    rests_until_ms: int
    """It need not be told sooner; see `thrift`."""


@dataclass(frozen=True, kw_only=True)
class PendingRead:
    call: int
    index: Offset
    round: int
    """Confirmed once a majority has brought this round back."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Leadership is being handed over: nothing is appended until it is, or until that fails."""

    call: int
    target: NodeId | None
    """None: whoever has everything first."""
    deadline_ms: int


@dataclass(frozen=True, kw_only=True)
class Leader:
    epoch_start: Offset
    """Where this leader's LeaderChange stands."""
    first_end: Offset
    """End of the batch that begins the epoch."""
    progress: tuple[Progress, ...]
    """The other voters, by id."""
    learners: tuple[Learner, ...] = ()
    """Those that were heard of late, the last heard last."""
    claimed: bool = False
    parked: tuple[ParkedFetch, ...] = ()
    reads: tuple[PendingRead, ...] = ()
    read_round: int = 0
    """The last that was begun."""
    transfer: Transfer | None = None
    quick: frozenset[NodeId] = frozenset()
    """Told of records at once; if there are none, all are. See `thrift`."""
    quick_until_ms: int = 0
    flush_due_ms: int = NEVER_MS
    """When our own disk should have got on with what was appended; see `slow_disk`."""


@dataclass(frozen=True, kw_only=True)
class Resigned:
    """Led this epoch once, or may have."""

    deadline_ms: int
    unacked: tuple[NodeId, ...] = ()
    """Voters that have not answered `ending` yet."""
    ending: EndQuorumEpochRequest | None = None
    retry_ms: int = NEVER_MS


@dataclass(frozen=True, kw_only=True)
class Recovering:
    """The log has lost what this voter had acknowledged; see `trust`."""

    reason: str
    """In words, for people."""
    epoch: Epoch = NO_EPOCH
    """Whose leader has named the target; NO_EPOCH if none has."""
    target: Offset = END_UNKNOWN
    """Everything below must be here, durably."""
    empty: frozenset[NodeId] = frozenset()
    """Who has said since that its log holds nothing. For membership only, never iterated."""


Role = Unattached | Follower | Prospective | Candidate | Leader | Resigned


@dataclass(frozen=True, kw_only=True)
class HeldSnapshot:
    """On this replica's disk: the state when the log ended there."""

    snapshot_id: OffsetAndEpoch
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Download:
    """A snapshot on its way from the leader of `epoch`."""

    snapshot_id: OffsetAndEpoch
    epoch: Epoch
    chunk_bytes: int
    """To ask for next."""
    position: int = 0
    """All below is here."""
    size_bytes: int = 0
    """0 until the first chunk has said so."""
    asked_ms: int = 0
    complete: bool = False
    """All is here, and is being verified."""


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """What the quorum-state file says."""

    epoch: Epoch = Epoch(0)  # noqa: RUF009 - an int
    voted_for: ReplicaKey | None = None
    leader: NodeId = NO_NODE


@dataclass(frozen=True, kw_only=True)
class RaftState:
    config: RaftConfig
    epoch: Epoch
    voted_for: ReplicaKey | None
    log: EpochChain
    flushed: Offset
    """The log is durable up to here."""
    truncations: int = 0
    high_watermark: Offset
    voter_history: VoterHistory
    role: Role
    attempts: int = 0
    """Campaigns since a leader was last heard, and for long enough: each waits longer."""
    no_room_until_ms: int = 0
    """The disk was full of late; until then this voter does not stand."""
    recovering: Recovering | None = None
    """This voter has no say: it neither votes nor stands."""
    snapshots: tuple[HeldSnapshot, ...] = ()
    """By offset. The log begins at the first, or lower; all are of committed records."""
    download: Download | None = None
    refused_cut: OffsetAndEpoch | None = None
    """A leader says that the logs part there, below what is committed here; see `follow`."""
    disks: tuple[ReplicaKey, ...] = ()
    """Disks that the log does not name yet, for the next Voters record: the first that each voter
    has shown to this process. Another one of the same id is a stranger already."""

    @property
    def voters(self) -> VoterSet:
        return self.voter_history[-1][1]

    @property
    def is_voter(self) -> bool:
        return self.voters.admits(self.config.key)

    @property
    def voters_committed(self) -> bool:
        """Is the last change of the voters known to be committed?"""
        return self.voter_history[-1][0] < self.high_watermark

    @property
    def may_stand(self) -> bool:
        """A voter that has all that it acknowledged; and one whose removal may not be committed.

        It may be the only one with the log that the others need (Raft's thesis, 4.2.2): it leads,
        without counting itself, until the removal is committed. Nobody stands where no epoch is
        left: all would refuse it.
        """
        if self.recovering is not None or self.epoch >= EPOCH_MAX:
            return False
        if self.is_voter:
            return True
        leaves = len(self.voter_history) > 1 and not self.voters_committed
        return leaves and self.voter_history[-2][1].admits(self.config.key)

    @property
    def vote_of_its_own(self) -> frozenset[NodeId]:
        """What its own vote counts for."""
        weighs = self.is_voter and self.has_weight(self.config.me)
        return frozenset({self.config.me}) if weighs else frozenset()

    def has_weight(self, node_id: NodeId) -> bool:
        """Do this voter's votes, acknowledgements and read rounds count?

        Once the log names disks, only those of named ones do; see `voters`.
        """
        voters = self.voters
        return node_id in voters.named_ids or (not self.names_disks and node_id in voters.ids)

    @property
    def names_disks(self) -> bool:
        """Has a leader written down which disks the voters have, those that it knew?"""
        return len(self.voter_history) > 1

    def was_named(self, node_id: NodeId) -> bool:
        """Is this voter's disk named, by a record that is known to be committed or an older one?"""
        if self.voters_committed or not self.names_disks:
            return True
        before = self.voter_history[-2][1].find(node_id)
        return before is not None and before.directory_id is not None

    def admits(self, key: ReplicaKey) -> bool:
        """Is this replica the voter of its id, as far as is known?"""
        voter = self.voters.find(key.node_id)
        if voter is None or voter.directory_id is not None:
            return voter is not None and voter.directory_id == key.directory_id
        return all(each == key for each in self.disks if each.node_id == key.node_id)

    def acquainted(self, key: ReplicaKey) -> "RaftState":
        """Remember a voter's disk, if nobody has named it yet."""
        voter = self.voters.find(key.node_id)
        named = voter is None or voter.directory_id is not None
        if named or key.directory_id is None:
            return self
        if any(each.node_id == key.node_id for each in self.disks):
            return self
        return replace(self, disks=(*self.disks, key))

    @property
    def others(self) -> tuple[NodeId, ...]:
        """The other voters, by id."""
        return tuple(each for each in self.voters.ids if each != self.config.me)

    @property
    def leader(self) -> NodeId:
        """The leader that this voter is, or hears; NO_NODE if it does not."""
        match self.role:
            case Leader():
                return self.config.me
            case Follower(leader=leader, lost=False):
                return leader
        return NO_NODE

    @property
    def next_deadline_ms(self) -> int:
        """When to step TimePassed; NEVER_MS if nothing waits."""
        match self.role:
            case Leader():
                return _leader_deadline_ms(self, self.role)
            case Follower(deadline_ms=deadline_ms, retry_ms=retry_ms):
                return min(deadline_ms, retry_ms)
            case Resigned(deadline_ms=deadline_ms, retry_ms=retry_ms):
                return min(deadline_ms, retry_ms)
        return self.role.deadline_ms

    @property
    def role_name(self) -> str:
        return type(self.role).__name__.lower()


def _leader_deadline_ms(state: RaftState, role: Leader) -> int:
    return min(
        quorum_until_ms(state, role),
        role.flush_due_ms,
        NEVER_MS if role.transfer is None else role.transfer.deadline_ms,
        *[each.begin_ms for each in role.progress],
        *[each.deadline_ms for each in role.parked],
    )


def quorum_until_ms(state: RaftState, role: Leader) -> int:
    """Until when this leader may take itself for one, if it hears nothing more (KAFKA-15489)."""
    needed = state.voters.majority - (1 if state.is_voter else 0)
    if needed == 0:
        return NEVER_MS
    heard = sorted([each.fetched_ms for each in role.progress], reverse=True)
    return heard[needed - 1] + state.config.check_quorum_ms


def restore(
    config: RaftConfig,
    saved: SavedState,
    log: EpochChain,
    voters: VoterHistory,
    moment: Moment,
    *,
    snapshots: tuple[HeldSnapshot, ...] = (),
    distrust: str | None = None,
) -> RaftState:
    """The voter as it comes back from its disk. Its next_deadline_ms is near.

    Args:
        config: Who this is.
        saved: The quorum-state file; the default if there was none, and no log either.
        log: What stood in the log and is durable.
        voters: The Voters records in the latest snapshot, and in the log behind it.
        moment: Now.
        snapshots: What else stands there, by offset; the log has the end of each, or begins there.
        distrust: In words, if the log is known to have lost what this voter had acknowledged.
    """
    assert log.last_epoch <= saved.epoch, "the log is of a later epoch than the vote"
    ids = [each.snapshot_id for each in snapshots]
    assert log.start_offset == 0 or log.start in ids, f"no snapshot at {log.start}"
    assert not ids or ids[-1].offset <= log.end_offset, "a snapshot beyond the log's end"
    soon_ms = moment.within(1, 1 + STARTUP_JITTER_MS)
    if len(config.voters.voters) == 1 and not voters:
        soon_ms = moment.now_ms
    me = config.me
    voted_for_me = saved.voted_for is not None and saved.voted_for.node_id == me
    role: Role = Unattached(deadline_ms=soon_ms)
    if saved.leader == me or voted_for_me:
        role = Resigned(deadline_ms=soon_ms)
    elif saved.leader != NO_NODE:
        # Fetches at once; if nobody answers, a pre-vote follows soon.
        role = Follower(leader=saved.leader, lost=True, deadline_ms=soon_ms, retry_ms=moment.now_ms)
    return RaftState(
        config=config,
        epoch=saved.epoch,
        voted_for=saved.voted_for,
        log=log,
        flushed=log.end_offset,
        high_watermark=snapshots[-1].snapshot_id.offset if snapshots else log.start_offset,
        voter_history=((BOOTSTRAP, config.voters), *voters),
        role=role,
        snapshots=snapshots,
        recovering=None if distrust is None else Recovering(reason=distrust),
    )
