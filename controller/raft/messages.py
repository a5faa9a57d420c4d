"""What voters say to each other. Every answer carries the responder's epoch and a leader it hears.

    Vote                candidate → voters      also as a pre-vote, which changes nothing (KIP-996)
    BeginQuorumEpoch    leader → voters         I lead
    EndQuorumEpoch      leader → voters         I lead no more; these are my successors
    Fetch               follower → leader       replication by pull (KIP-595)
    FetchSnapshot       follower → leader       what the log does not reach back to (KIP-630)

Who asks, and whether it reached the right node of the right cluster, is the shell's to see to.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

from controller.raft.voters import VoterSet
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch


class Refusal(IntEnum):
    """Why a request was refused; the numbers are those of klamm.v1.QuorumError."""

    NONE = 0
    FENCED_LEADER_EPOCH = 1
    UNKNOWN_LEADER_EPOCH = 2
    NOT_LEADER_OR_FOLLOWER = 3
    INCONSISTENT_CLUSTER_ID = 4
    INVALID_VOTER_KEY = 5
    INVALID_REQUEST = 6
    SNAPSHOT_NOT_FOUND = 7
    POSITION_OUT_OF_RANGE = 8
    BROKER_NOT_AVAILABLE = 9
    OVERLOADED = 10
    DUPLICATE_VOTER = 20


STRANGE = frozenset(
    {Refusal.INCONSISTENT_CLUSTER_ID, Refusal.INVALID_VOTER_KEY, Refusal.DUPLICATE_VOTER}
)
"""Whoever answers so is not who was asked: another cluster, another node, or this node's double.
What else it says, epoch and leader, is not ours."""


@dataclass(frozen=True, kw_only=True)
class VoteRequest:
    epoch: Epoch
    """The epoch to be led; of a pre-vote, the epoch that the asker is in."""
    log_end: OffsetAndEpoch
    pre_vote: bool = False


@dataclass(frozen=True, kw_only=True)
class VoteResponse:
    refusal: Refusal = Refusal.NONE
    epoch: Epoch
    leader: NodeId
    vote_granted: bool = False
    directory_id: DirectoryId | None = None
    """The responder's disk."""
    log_is_empty: bool = False
    """The responder's log holds nothing at all."""


@dataclass(frozen=True, kw_only=True)
class BeginQuorumEpochRequest:
    epoch: Epoch


@dataclass(frozen=True, kw_only=True)
class BeginQuorumEpochResponse:
    refusal: Refusal = Refusal.NONE
    epoch: Epoch
    leader: NodeId


@dataclass(frozen=True, kw_only=True)
class EndQuorumEpochRequest:
    epoch: Epoch
    successors: tuple[NodeId, ...]
    """The most caught up first."""


@dataclass(frozen=True, kw_only=True)
class EndQuorumEpochResponse:
    refusal: Refusal = Refusal.NONE
    epoch: Epoch
    leader: NodeId


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    epoch: Epoch
    log_end: OffsetAndEpoch
    """All below is durable at the fetcher."""
    high_watermark: Offset
    max_bytes: int
    max_wait_ms: int
    read_round: int = 0
    """The last that this leader's answers named in this epoch."""
    recovering: bool = False
    """The fetcher has lost records, and does not vote."""


@dataclass(frozen=True, kw_only=True)
class FetchedBatch:
    """What consensus must know of a batch; its bytes are the shell's."""

    base_offset: Offset
    epoch: Epoch
    count: int
    voters: tuple[tuple[Offset, VoterSet], ...] = ()
    """Voters records in it, with their offsets."""


@dataclass(frozen=True, kw_only=True)
class FetchResponse:
    refusal: Refusal = Refusal.NONE
    epoch: Epoch
    leader: NodeId
    high_watermark: Offset = Offset(0)  # noqa: RUF009 - an int
    log_start_offset: Offset = Offset(0)  # noqa: RUF009
    log_end_offset: Offset = Offset(-1)  # noqa: RUF009
    """Where the leader's log ended when it answered; -1 if it did not say."""
    diverging: OffsetAndEpoch | None = None
    """The fetcher's log is no prefix of the leader's: cut it to here at the most."""
    snapshot_id: OffsetAndEpoch | None = None
    """The leader's log begins above the fetcher's end."""
    successors: tuple[NodeId, ...] = ()
    """Of a leader that has resigned, as in EndQuorumEpoch: who is to stand first."""
    read_round: int = 0
    batches: tuple[FetchedBatch, ...] = ()
    data: object = None
    """The batches' bytes, which go to the disk as they are."""


@dataclass(frozen=True, kw_only=True)
class FetchSnapshotRequest:
    """The next chunk of a snapshot, from a byte on."""

    epoch: Epoch
    snapshot_id: OffsetAndEpoch
    position: int
    max_bytes: int


@dataclass(frozen=True, kw_only=True)
class FetchSnapshotResponse:
    refusal: Refusal = Refusal.NONE
    epoch: Epoch
    leader: NodeId
    snapshot_id: OffsetAndEpoch
    size_bytes: int = 0
    """Of the whole snapshot."""
    position: int = 0
    length: int = 0
    """Bytes in this chunk."""
    data: object = None
    """The chunk, which goes to the disk as it is."""


def refused(request: "Request", refusal: Refusal, epoch: Epoch, leader: NodeId) -> "Response":
    """The answer to a request of any kind that is refused without a look at what it says."""
    match request:
        case VoteRequest():
            return VoteResponse(refusal=refusal, epoch=epoch, leader=leader)
        case BeginQuorumEpochRequest():
            return BeginQuorumEpochResponse(refusal=refusal, epoch=epoch, leader=leader)
        case EndQuorumEpochRequest():
            return EndQuorumEpochResponse(refusal=refusal, epoch=epoch, leader=leader)
        case FetchRequest():
            return FetchResponse(refusal=refusal, epoch=epoch, leader=leader)
        case FetchSnapshotRequest(snapshot_id=snapshot_id):
            return FetchSnapshotResponse(
                refusal=refusal, epoch=epoch, leader=leader, snapshot_id=snapshot_id
            )
    assert_never(request)


Request = (
    VoteRequest
    | BeginQuorumEpochRequest
    | EndQuorumEpochRequest
    | FetchRequest
    | FetchSnapshotRequest
)
Response = (
    VoteResponse
    | BeginQuorumEpochResponse
    | EndQuorumEpochResponse
    | FetchResponse
    | FetchSnapshotResponse
)
