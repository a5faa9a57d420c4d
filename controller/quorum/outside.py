"""What the driver asks of its disk and of the network."""

from collections.abc import Callable
from typing import Protocol

from controller.raft.effects import (
    AppendChunk,
    AppendControl,
    AppendRecords,
    AppendVoters,
    SaveQuorumState,
    SendRequest,
)
from controller.raft.events import Event
from controller.raft.voters import VoterSet
from klamm.ids import Offset, OffsetAndEpoch
from klamm.log.files import Buffer
from klamm.log.snapshot import CorruptSnapshotError

Flushed = Callable[[Offset | BaseException], None]
"""Told the end of what was there when a flush began, once that is durable; or why it is not."""


class Store(Protocol):
    """The voter's disk. `flush` and `save` wait for it; the others write to the page cache."""

    async def save(self, effect: SaveQuorumState) -> None: ...

    def append_records(self, effect: AppendRecords) -> None: ...

    def append_control(self, effect: AppendControl | AppendVoters) -> None: ...

    def append_fetched(self, base_offset: Offset, data: Buffer) -> None: ...

    async def truncate(self, to: Offset) -> None: ...

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes: ...

    def ends_batch(self, offset: Offset) -> bool: ...

    def flush(self, done: Flushed) -> None:
        """Begins at once; `done` is called once, from the loop, and never within this call."""
        ...

    async def keep_bounds(self) -> None: ...

    async def scrub(self) -> None: ...

    async def scrub_snapshots(self, found: Callable[[CorruptSnapshotError], None]) -> None: ...

    async def trust(self) -> None: ...

    def append_chunk(self, effect: AppendChunk) -> bool:
        """False: there is no room for it, and the download is forgotten."""
        ...

    def abandon(self, snapshot_id: OffsetAndEpoch) -> None: ...

    async def verify(self, snapshot_id: OffsetAndEpoch) -> VoterSet | None:
        """Look at all of a download, and make it durable. None: it is damaged."""
        ...

    async def install(self, snapshot_id: OffsetAndEpoch) -> None: ...

    def trim(self, to: OffsetAndEpoch) -> None: ...

    def delete(self, snapshot_id: OffsetAndEpoch) -> None: ...

    def read_chunk(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes:
        """Empty if there is no such snapshot, or it ends there."""
        ...


class Peers(Protocol):
    """The other voters. What becomes of a request comes back as an event."""

    def bind(self, post: Callable[[Event], None]) -> None:
        """Whom to tell: ResponseReceived, RequestFailed, StreamLost."""
        ...

    def use(self, voters: VoterSet) -> None:
        """These are the voters from now on, and where they are."""
        ...

    def send(self, effect: SendRequest) -> None:
        """Does not wait."""
        ...
