"""A quorum of one, in memory, that commits when the test says so."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from controller.quorum.port import (
    PROPOSAL_BYTES_MAX,
    PROPOSAL_RECORDS_MAX,
    LogMovedError,
    Peer,
    StateMachine,
    Transferred,
)
from klamm.errors import CommitUnknownError, DefiniteError, NotControllerError
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.v1 import quorum_pb2

ME = NodeId(1)


class FakeQuorum:
    """Implements `controller.quorum.port.Quorum`."""

    def __init__(self) -> None:
        self.node_id = ME
        self.cluster_id = "c"
        self.leader = NO_NODE
        self.epoch = Epoch(0)
        self.high_watermark = Offset(0)
        self.log_start_offset = Offset(0)
        self.peers = (Peer(node_id=ME, address="h:1"),)
        self.machine: StateMachine | None = None
        self.refuse_next: DefiniteError | None = None
        self.refusals = 0
        self.proposals: list[tuple[Offset, tuple[NewRecord, ...]]] = []
        self._end = Offset(0)
        self._uncommitted: list[bytes] = []
        self._waiting: list[tuple[Epoch, Offset, asyncio.Future[None]]] = []

    @property
    def role(self) -> str:
        return "leader" if self.leader == ME else "follower"

    @property
    def log_end(self) -> OffsetAndEpoch:
        return OffsetAndEpoch(self.epoch, self._end)

    def elect(self) -> None:
        """Begin an epoch, with its LeaderChange committed."""
        self.epoch = Epoch(self.epoch + 1)
        self.leader = ME
        change = NewRecord(key=b"\0\0\0\2", value=b"")
        self._append([change], control=True)
        self.commit()
        assert self.machine is not None
        self.machine.on_claim(self.epoch, self._end)

    def depose(self) -> None:
        """Another leads; what was not committed is lost."""
        assert self.machine is not None
        self.leader = NodeId(2)
        self.machine.on_renounce(self.epoch)
        self.epoch = Epoch(self.epoch + 1)
        self._end = self.high_watermark
        self._uncommitted.clear()
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(CommitUnknownError("another leads"))
        self._waiting.clear()

    def commit(self) -> None:
        """All that was appended."""
        batches, self._uncommitted = self._uncommitted, []
        self.high_watermark = self._end
        assert self.machine is not None
        self.machine.on_commit(tuple(memoryview(each) for each in batches))
        for _, _, future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def foreign_append(self) -> None:
        """A record that the state machine did not propose."""
        self._append([NewRecord(key=b"\0\0\0\6", value=b"")], control=True)

    def _append(self, records: Sequence[NewRecord], *, control: bool = False) -> None:
        self._uncommitted.append(
            build_batch(
                records,
                base_offset=self._end,
                leader_epoch=self.epoch,
                timestamp_ms=1,
                control=control,
            )
        )
        self._end = Offset(self._end + len(records))

    async def propose(
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord]
    ) -> Offset:
        if self.refuse_next is not None:
            self.refusals += 1
            error, self.refuse_next = self.refuse_next, None
            raise error
        if self.leader != ME or epoch != self.epoch:
            raise NotControllerError(self.leader, self.epoch)
        if base_offset != self._end:
            self.refusals += 1
            raise LogMovedError(self._end)
        assert len(records) <= PROPOSAL_RECORDS_MAX, "the caller divides, or refuses"
        size_bytes = sum(len(each.value or b"") for each in records)
        assert size_bytes <= PROPOSAL_BYTES_MAX, "likewise"
        self.proposals.append((base_offset, tuple(records)))
        self._append(records)
        end = self._end
        await asyncio.sleep(0)
        return end

    async def write(
        self, epoch: Epoch, base_offset: Offset, records: Sequence[NewRecord], timeout_ms: int
    ) -> Offset:
        end = await self.propose(epoch, base_offset, records)
        await self.wait_committed(epoch, end, timeout_ms)
        return end

    async def wait_committed(self, epoch: Epoch, end_offset: Offset, timeout_ms: int) -> None:
        if end_offset <= self.high_watermark:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((epoch, end_offset, future))
        await future

    async def read_index(self, timeout_ms: int) -> Offset:
        return self.high_watermark

    async def read_committed(self, start_offset: Offset, max_bytes: int) -> bytes:
        return b""

    async def wait_high_watermark(self, above: Offset, timeout_ms: int) -> None: ...

    async def wait_leader(self, after_epoch: int, timeout_ms: int) -> None: ...

    async def describe(self, timeout_ms: int) -> quorum_pb2.DescribeQuorumResponse:
        return quorum_pb2.DescribeQuorumResponse()

    async def transfer(self, to: NodeId, timeout_ms: int) -> Transferred:
        raise NotControllerError(self.leader, self.epoch)

    async def resign(self, timeout_ms: int) -> None: ...


class FakeClock:
    """Goes when it is told."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ms


def incarnation(number: int) -> UUID:
    return UUID(int=number)
