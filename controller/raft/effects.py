"""What a voter orders its shell to do, grouped by addressee. The order of a tuple is a contract:

(SaveQuorumState, SendResponse)    the vote cannot leak before it is durable
"""

from dataclasses import dataclass
from enum import Enum

from controller.raft.messages import FetchResponse, FetchSnapshotResponse, Request, Response
from controller.raft.voters import ReplicaKey, VoterSet
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveQuorumState:
    """Durable before the next effect."""

    epoch: Epoch
    voted_for: ReplicaKey | None
    leader: NodeId
    """As far as was known then; for people who read the file. Safety rests on the other two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendRecords:
    """A proposal, as one batch."""

    base_offset: Offset
    epoch: Epoch
    records: object


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendControl:
    """One control batch: LeaderChange, and the voters if they are new."""

    base_offset: Offset
    epoch: Epoch
    leader: NodeId
    voter_ids: tuple[NodeId, ...]
    granting_voters: tuple[NodeId, ...]
    voters: VoterSet | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendVoters:
    """One control batch with one record: these vote from here on."""

    base_offset: Offset
    epoch: Epoch
    voters: VoterSet


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendFetched:
    """Batches as the leader sent them."""

    base_offset: Offset
    data: object


@dataclass(frozen=True, slots=True)
class Truncate:
    """Remove the records at `to` and after it."""

    to: Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendChunk:
    """Of a snapshot that is being downloaded; at position 0 the download begins (again)."""

    snapshot_id: OffsetAndEpoch
    position: int
    data: object


@dataclass(frozen=True, slots=True)
class AbandonDownload:
    """Forget the chunks of this snapshot, and a check of them that is under way."""

    snapshot_id: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class VerifySnapshot:
    """All chunks are there: look at each byte, make them durable, and say what is so. Beside."""

    snapshot_id: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """Durably and at once: the downloaded snapshot has its name, and the log is empty behind it.

    A crash on the way leaves the old log and snapshots, or this one; never a part of each.
    """

    snapshot_id: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class TrimLog:
    """The log begins at this snapshot from now on; older snapshots and segments may go."""

    to: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class DeleteSnapshot:
    """Nobody will ask for it."""

    snapshot_id: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class SendRequest:
    to: NodeId
    request: Request


@dataclass(frozen=True, slots=True)
class SendResponse:
    call: int
    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRecords:
    """Answer with `response`, and in it the log from `start_offset` on."""

    call: int
    response: FetchResponse
    start_offset: Offset
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendChunk:
    """Answer with `response`, and in it the snapshot's bytes from its position on."""

    call: int
    response: FetchSnapshotResponse
    max_bytes: int


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """The state is what this snapshot says; commits go on from its end. Never to a leader."""

    snapshot_id: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class Commit:
    """All below is committed. Grows."""

    high_watermark: Offset


@dataclass(frozen=True, slots=True)
class Claim:
    """This voter leads, and all up to `end_offset` is committed: Commit said so before."""

    epoch: Epoch
    end_offset: Offset


@dataclass(frozen=True, slots=True)
class Renounce:
    """This voter leads `epoch` no more, whether it had claimed it or not."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class AcceptProposal:
    """It is in the log, and will be committed or be lost with this leader's epoch."""

    call: int
    end_offset: Offset


class ProposalRefusal(Enum):
    NOT_LEADER = "not leader"
    LOG_MOVED = "log moved"
    OVERLOADED = "overloaded"
    HANDING_OVER = "handing over"


@dataclass(frozen=True, slots=True)
class RefuseProposal:
    """Nothing was appended."""

    call: int
    why: ProposalRefusal
    end_offset: Offset


class ChangeRefusal(Enum):
    """Why the voters stay as they are; in words for people. Definite: nothing was appended."""

    NOT_LEADER = "this controller does not lead"
    NOT_CLAIMED = "the leader has committed nothing in its epoch yet"
    HANDING_OVER = "leadership is being handed over"
    CHANGE_UNDER_WAY = "the last change of the voters is not committed yet"
    INVALID = "the request makes no sense"
    DUPLICATE_VOTER = "a voter has this id already"
    VOTER_NOT_FOUND = "no voter has this id and disk"
    LAST_VOTER = "it is the only voter"
    TOO_MANY_VOTERS = "there are as many voters as there may be"
    REMOVED_BEFORE = "this disk was a voter and was removed"
    NOT_FOLLOWING = "this disk does not follow the leader"
    LAGGING = "its log is behind the leader's"
    UNHEALTHY = "the voters that are heard would be no majority"


@dataclass(frozen=True, slots=True)
class AcceptChange:
    """The voters are as was asked; committed, or lost with this leader's epoch."""

    call: int
    end_offset: Offset
    """Of the record that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseChange:
    """The voters stay as they are."""

    call: int
    why: ChangeRefusal
    told: str
    """A sentence with the ids and numbers."""


@dataclass(frozen=True, slots=True)
class AnswerRead:
    """A read that sees the log up to `index` is linearizable."""

    call: int
    index: Offset


@dataclass(frozen=True, slots=True)
class RefuseRead:
    """This voter does not lead, or too many reads wait."""

    call: int


class TransferRefusal(Enum):
    NOT_LEADER = "this controller does not lead"
    UNDER_WAY = "another transfer is under way"
    NOT_A_VOTER = "there is no such voter to hand over to"
    SILENT = "it has not been heard of"
    RECOVERING = "its log is not whole again yet"
    LAGGING = "it is behind the log"
    TIMED_OUT = "it did not catch up in time"


@dataclass(frozen=True, slots=True)
class RefuseTransfer:
    """Leadership was not handed over. If this voter led, it goes on, but for NOT_LEADER."""

    call: int
    why: TransferRefusal


@dataclass(frozen=True, slots=True)
class HandOver:
    """This voter leads no more; `successor` has all of the log, and stands. It may yet fail."""

    call: int
    successor: NodeId


Write = (
    SaveQuorumState
    | AppendRecords
    | AppendControl
    | AppendVoters
    | AppendFetched
    | Truncate
    | AppendChunk
    | AbandonDownload
    | VerifySnapshot
    | InstallSnapshot
    | TrimLog
    | DeleteSnapshot
)
"""To this voter's disk."""

Send = SendRequest | SendResponse | SendRecords | SendChunk
"""To another voter."""

Told = (
    AcceptProposal
    | RefuseProposal
    | AcceptChange
    | RefuseChange
    | AnswerRead
    | RefuseRead
    | RefuseTransfer
    | HandOver
)
"""To those that wait."""

Tell = LoadSnapshot | Commit | Claim | Renounce | Told
"""To the state machine above, and to those that wait."""

Effect = Write | Send | Tell
Effects = tuple[Effect, ...]
