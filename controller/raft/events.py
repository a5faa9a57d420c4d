"""What can happen to a voter. Facts, in the past tense."""

from dataclasses import dataclass

from controller.raft.messages import Request, Response
from controller.raft.voters import ReplicaKey, VoterChange, VoterSet
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class RequestReceived:
    call: int
    """Names the request within this process; a SendResponse or SendRecords answers to it."""
    sender: ReplicaKey
    request: Request


@dataclass(frozen=True, slots=True)
class RequestDropped:
    """The caller is gone, and with it the wish for an answer."""

    call: int


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    sender: NodeId
    request: Request
    """What it answers."""
    response: Response


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """No answer will come: refused connection, deadline, garbage. It may have been read."""

    to: NodeId
    request: Request


@dataclass(frozen=True, slots=True)
class StreamLost:
    """A stream of fetches with this peer broke, whichever side had opened it."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class TimePassed:
    """`next_deadline_ms` may have come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalMade:
    """Append these at exactly `base_offset`, as one batch."""

    call: int
    epoch: Epoch
    base_offset: Offset
    count: int
    records: object
    """Handed through to AppendRecords."""


@dataclass(frozen=True, slots=True)
class VoterChangeAsked:
    """Change the set, at once or not at all."""

    call: int
    change: VoterChange


@dataclass(frozen=True, slots=True)
class LogFlushed:
    """The log is durable up to `end_offset`."""

    end_offset: Offset
    truncations: int
    """How often this process had truncated the log when the fsync began."""


@dataclass(frozen=True, slots=True)
class ReadRequested:
    """Somebody wants to know up to where a linearizable read must see."""

    call: int


@dataclass(frozen=True, slots=True)
class ResignRequested:
    epoch: Epoch
    """Of the leadership to give up; of an earlier one, nothing happens."""


@dataclass(frozen=True, slots=True)
class TransferRequested:
    """Somebody wants this leader to hand over. Answered by one HandOver or RefuseTransfer."""

    call: int
    epoch: Epoch
    """Of the leadership to give up."""
    target: NodeId | None
    """None: the most caught up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotWritten:
    """This node's own, of its own state: whole, durable, and under its name."""

    snapshot_id: OffsetAndEpoch
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TrimRequested:
    """Retention has it that the log may begin at this snapshot."""

    to: OffsetAndEpoch


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotVerified:
    """A downloaded snapshot is whole, sound and durable, and bears no name yet."""

    snapshot_id: OffsetAndEpoch
    voters: VoterSet
    """As its header names them."""


@dataclass(frozen=True, slots=True)
class SnapshotDamaged:
    """A downloaded snapshot is not what it should be."""

    snapshot_id: OffsetAndEpoch


@dataclass(frozen=True, slots=True)
class NoRoomFound:
    """The disk is full, or no open file is left: an event was dropped, since its first write found
    no room."""


Event = (
    NoRoomFound
    | RequestReceived
    | RequestDropped
    | ResponseReceived
    | RequestFailed
    | StreamLost
    | TimePassed
    | ProposalMade
    | VoterChangeAsked
    | LogFlushed
    | ReadRequested
    | ResignRequested
    | TransferRequested
    | SnapshotWritten
    | TrimRequested
    | SnapshotVerified
    | SnapshotDamaged
)


@dataclass(frozen=True, slots=True)
class Moment:
    """All that a step may know of the world outside: the time, and one die."""

    now_ms: int
    """Monotonic milliseconds."""
    draw: float
    """Uniform in [0, 1), new for each step."""

    def within(self, low_ms: int, high_ms: int) -> int:
        """A random point of time, from `low_ms` up to `high_ms` (exclusive) from now."""
        return self.now_ms + low_ms + int(self.draw * max(0, high_ms - low_ms))
