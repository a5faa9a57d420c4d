"""What the services need of the rooms below, and no more."""

from typing import Protocol

from controller.quorum.port import Peer, Transferred
from controller.raft.voters import VoterSet
from klamm.ids import Epoch, NodeId, Offset
from klamm.metadata.agreement import Agreement
from klamm.metadata.image import MetadataImage
from klamm.v1 import quorum_pb2


class QuorumView(Protocol):
    """The quorum as this controller sees it."""

    @property
    def node_id(self) -> NodeId: ...

    @property
    def cluster_id(self) -> str: ...

    @property
    def leader(self) -> NodeId:
        """NO_NODE while none is known."""
        ...

    @property
    def epoch(self) -> Epoch: ...

    @property
    def high_watermark(self) -> Offset: ...

    @property
    def peers(self) -> tuple[Peer, ...]:
        """All voters, this one among them, by id."""
        ...

    @property
    def unreachable(self) -> tuple[Peer, ...]:
        """Those of `peers` to whom this controller has no connection at this moment."""
        ...

    @property
    def led_before(self) -> tuple[NodeId, Epoch] | None:
        """Whom the others follow in an earlier epoch than this controller's, if it has no leader
        itself: a moment later they follow it there, if they take it for a voter."""
        ...

    @property
    def voters(self) -> VoterSet:
        """Who votes, as this controller's log says, and with which disks."""
        ...

    async def wait_leader(self, after_epoch: int, timeout_ms: int) -> None:
        """Returns once a leader of a later epoch is known, or the time is over."""
        ...

    async def read_index(self, timeout_ms: int) -> Offset:
        """What was committed at the leader when it last knew that it leads.

        Raises:
            UnreachableError: No leader answered in time.
        """
        ...

    async def wait_high_watermark(self, above: Offset, timeout_ms: int) -> None:
        """Returns once the high watermark is above `above`, or the time is over."""
        ...

    async def read_committed(self, start_offset: Offset, max_bytes: int) -> bytes:
        """Whole batches from the one that holds `start_offset`, below the high watermark.

        Raises:
            CompactedError: The log begins above `start_offset`.
        """
        ...

    async def describe(self, timeout_ms: int) -> quorum_pb2.DescribeQuorumResponse:
        """The quorum as its leader sees it; a standby asks the leader, and else says its own."""
        ...

    async def transfer(self, to: NodeId, timeout_ms: int) -> Transferred:
        """See `controller.quorum.port.Quorum`."""
        ...


class SnapshotsView(Protocol):
    """What this controller has done with snapshots."""

    @property
    def age_ms(self) -> int:
        """Since the last one was written here, or since the start."""
        ...

    @property
    def loaded(self) -> int: ...


class Metadata(Protocol):
    """The committed metadata of this controller."""

    @property
    def image(self) -> MetadataImage: ...

    @property
    def agreement(self) -> Agreement:
        """Whether the image is the one that the log states."""
        ...

    @property
    def last_timestamp_ms(self) -> int:
        """Of the last record that the image includes; the leader's clock."""
        ...

    async def wait_applied(self, offset: Offset, timeout_ms: int) -> None:
        """Returns once the image includes the log up to `offset` (exclusive), or time is over."""
        ...
