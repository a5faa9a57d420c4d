"""Three controllers' quorums in one process, over loopback, on temporary directories."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from controller.quorum.control import build_snapshot_footer, build_snapshot_header
from controller.quorum.node import SERVICE, QuorumNode
from controller.quorum.port import SnapshotPoint
from controller.quorum.quorum_config import QuorumConfig
from controller.raft.state import RaftConfig
from controller.raft.voters import Voter, VoterSet
from klamm.clock import SystemClock
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.files import SystemFiles
from klamm.log.record_batch import build_batch, iter_batches, read_records
from klamm.log.records import NewRecord
from klamm.log.snapshot import format_name
from klamm.metadata.records import Endpoint
from klamm.rpc.server import GrpcServer

CLUSTER = "quorum-test"
DEADLINE_S = 20.0
PATIENT_MS = 60_000
"""Who is gone is known by its connections. A machine that stands still changes nothing."""
SILENCE_MS = 600
"""For tests of what nobody's connections tell: they must not mind a change of leaders."""


class Machine:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.end = Offset(0)
        self.epoch: Epoch | None = None
        self.turns: list[str] = []
        self.changed = asyncio.Event()

    async def on_snapshot(
        self, snapshot_id: OffsetAndEpoch, pieces: Iterator[tuple[memoryview, ...]]
    ) -> None:
        assert self.epoch is None, "a leader never loads a snapshot"
        values = []
        for piece in pieces:
            for batch in piece:
                for header, data in iter_batches(batch):
                    if not header.is_control:
                        values += [record.value or b"" for record in read_records(data)]
            await asyncio.sleep(0)
        self.values, self.end = values, snapshot_id.offset
        self.turns.append(f"load {snapshot_id.offset}")
        self._wake()

    def on_commit(self, batches: tuple[memoryview, ...]) -> None:
        for batch in batches:
            for header, data in iter_batches(batch):
                assert header.base_offset == self.end, "each batch once, and no gap"
                self.end = Offset(header.next_offset)
                if not header.is_control:
                    self.values += [record.value or b"" for record in read_records(data)]
        self._wake()

    def on_claim(self, epoch: Epoch, end_offset: Offset) -> None:
        assert self.epoch is None, "renounced before the next claim"
        assert self.end == end_offset, "a claim comes when all is delivered"
        self.epoch = epoch
        self.turns.append(f"claim {epoch}")
        self._wake()

    def on_renounce(self, epoch: Epoch) -> None:
        assert self.epoch == epoch
        self.epoch = None
        self.turns.append(f"renounce {epoch}")
        self._wake()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.changed.wait()


def snapshot_bytes(point: SnapshotPoint, values: list[bytes]) -> bytes:
    """As a node writes one: what stands in it is a list of values."""
    epoch = point.snapshot_id.epoch
    batches = [
        build_snapshot_header(point.voters, epoch=epoch, last_timestamp_ms=1, timestamp_ms=2)
    ]
    offset = 2
    for first in range(0, len(values), 50):
        records = [NewRecord(value=each) for each in values[first : first + 50]]
        batches.append(
            build_batch(
                records,
                base_offset=Offset(offset),
                leader_epoch=epoch,
                timestamp_ms=2,
                base_sequence=epoch,
            )
        )
        offset += len(records)
    batches.append(build_snapshot_footer(Offset(offset), epoch=epoch, timestamp_ms=2))
    return b"".join(batches)


def place(port: int) -> Endpoint:
    return Endpoint(name="CONTROLLER", host="127.0.0.1", port=port)


class Member:
    """One controller: its server, and its quorum while it runs."""

    def __init__(self, node_id: int, directory: Path) -> None:
        self.node_id = NodeId(node_id)
        self.directory = directory
        self.server = GrpcServer("127.0.0.1", 0)
        self.port = self.server.port
        self.machine = Machine()
        self.segment_bytes = 1024 * 1024
        self.fetch_timeout_ms = PATIENT_MS
        self.says_where = False
        """With each of its fetches, as nodes with a configuration do."""
        self.node: QuorumNode
        self._task: asyncio.Task[None] | None = None

    def config(self, ports: dict[NodeId, int], disk: int = 0) -> QuorumConfig:
        voters = (Voter(node_id=each, endpoint=place(port)) for each, port in ports.items())
        raft = RaftConfig(
            me=self.node_id,
            directory_id=DirectoryId(UUID(int=100 * disk + self.node_id)),
            voters=VoterSet(tuple(voters)),
            endpoint=place(self.port) if self.says_where else None,
            election_timeout_ms=300,
            fetch_timeout_ms=self.fetch_timeout_ms,
            election_backoff_max_ms=100,
        )
        return QuorumConfig(
            raft=raft,
            cluster_id=CLUSTER,
            metadata_log_dir=self.directory,
            segment_bytes=self.segment_bytes,
            request_timeout_ms=500,
        )

    def open(self, ports: dict[NodeId, int], disk: int = 0) -> QuorumNode:
        return QuorumNode.open(
            self.config(ports, disk),
            files=SystemFiles(),
            clock=SystemClock(),
            rng=random.Random(self.node_id),
        )

    async def start(self, ports: dict[NodeId, int], disk: int = 0) -> None:
        self.machine = Machine()
        self.node = self.open(ports, disk)
        self.server.add(SERVICE, self.node.register)
        await self.server.start()
        self._task = asyncio.create_task(self.node.run(self.machine))

    async def restart(self, ports: dict[NodeId, int], disk: int = 0) -> None:
        self.server = GrpcServer("127.0.0.1", self.port)
        await self.start(ports, disk)

    async def ended(self) -> None:
        """Wait for the quorum to end by itself, and raise what ended it."""
        assert self._task is not None
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.shield(self._task)

    async def kill(self) -> None:
        """As near to kill -9 as one process can come: connections break, nothing is said."""
        if self._task is None:
            return
        task, self._task = self._task, None
        server = asyncio.create_task(self.server.stop(grace_ms=0))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.node.close()
        await server

    async def snapshot(self) -> OffsetAndEpoch:
        """Write one of all that the machine has seen."""
        point = self.node.snapshot_point(self.machine.end)
        assert point is not None
        data = snapshot_bytes(point, self.machine.values)
        part = self.node.snapshot_files.create(point.snapshot_id)
        part.append(data)
        part.finish()
        self.node.snapshot_written(point.snapshot_id, len(data))
        async with asyncio.timeout(DEADLINE_S):
            while point.snapshot_id not in [each.snapshot_id for each in self.node.snapshots]:
                await asyncio.sleep(0)
        return point.snapshot_id

    async def trim(self, to: OffsetAndEpoch) -> None:
        """Have the log begin there, on the disk too."""
        assert self.node.trim(to)
        async with asyncio.timeout(DEADLINE_S):
            while self.node.log_start_offset < to.offset or self._older(to):
                await asyncio.sleep(0)

    def _older(self, than: OffsetAndEpoch) -> bool:
        """Is there a snapshot before it, or a segment all of which is?"""
        snapshots = self.directory.rglob("*.checkpoint")
        segments = sorted(int(path.stem) for path in self.directory.rglob("*.log"))
        older = any(path.name < format_name(than) for path in snapshots)
        return older or (len(segments) > 1 and segments[1] <= than.offset)

    @property
    def running(self) -> bool:
        return self._task is not None


class Members:
    def __init__(self, directory: Path, count: int = 3) -> None:
        self.all = [Member(each, directory / str(each)) for each in range(1, count + 1)]
        self.ports = {each.node_id: each.port for each in self.all}

    async def active(self, but: NodeId | None = None) -> Member:
        """The one that has claimed leadership."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for each in self.all:
                    if each.running and each.machine.epoch is not None and each.node_id != but:
                        return each
                waits = [asyncio.create_task(e.machine.changed.wait()) for e in self.all]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()

    async def write(self, member: Member, *values: bytes, timeout_ms: int = 5_000) -> Offset:
        """Commit one batch through the active member."""
        epoch = member.machine.epoch
        assert epoch is not None
        records = [NewRecord(value=each) for each in values]
        end = await member.node.propose(epoch, member.node.log_end.offset, records)
        await member.node.wait_committed(epoch, end, timeout_ms)
        return end


@asynccontextmanager
async def members(
    directory: Path, count: int = 3, *, fetch_timeout_ms: int = PATIENT_MS
) -> AsyncIterator[Members]:
    group = Members(directory, count)
    for each in group.all:
        each.fetch_timeout_ms = fetch_timeout_ms
        await each.start(group.ports)
    try:
        yield group
    finally:
        for each in group.all:
            await each.kill()
