"""The metadata log, followed at one controller after another over real gRPC."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from broker.control import follower as subject
from broker.control.follower import MetadataFollower
from klamm.client.client import ControllerClient
from klamm.errors import StartError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import NewRecord
from klamm.metadata.image import MetadataImage
from klamm.metadata.snapshot_batches import SnapshotReader
from klamm.rpc.server import GrpcServer
from klamm.v1 import quorum_pb2 as pb
from klamm.v1.quorum_pb2_grpc import QuorumServiceServicer, add_QuorumServiceServicer_to_server
from tests.unit.metadata.histories import history
from tests.unit.metadata.test_metadata_snapshot import snapshot_of

CLUSTER = "abc"


class FakeLog:
    """What is committed; shared by the controllers below."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.end = 0
        self.changed = asyncio.Event()

    def commit(self, records: int = 1) -> None:
        new = [NewRecord(value=b"%d" % self.end)] * records
        self.batches.append(
            build_batch(new, base_offset=Offset(self.end), leader_epoch=Epoch(1), timestamp_ms=0)
        )
        self.end += records
        self.changed.set()
        self.changed = asyncio.Event()


class FakeController(QuorumServiceServicer):
    def __init__(self, log: FakeLog) -> None:
        self.log = log
        self.server = GrpcServer("127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.port}"
        self.server.add("Q", lambda server: add_QuorumServiceServicer_to_server(self, server))
        self.requests: list[pb.FetchRequest] = []
        self.error = pb.QUORUM_ERROR_UNSPECIFIED
        self.silent = False
        self.another = False
        """Its log is another one from offset 0 on."""
        self.snapshot = b""
        """Told to who is below `snapshot_end`."""
        self.snapshot_end = 0
        self.chunks: list[pb.FetchSnapshotRequest] = []
        self.breaks_at: int | None = None

    async def FetchSnapshot(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            self.chunks.append(request)
            if self.breaks_at is not None and request.position >= self.breaks_at:
                self.breaks_at = None
                return
            end = request.position + min(request.max_bytes, 1_000)
            yield pb.FetchSnapshotResponse(
                position=request.position,
                size_bytes=len(self.snapshot),
                chunk=self.snapshot[request.position : end],
            )

    async def Fetch(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            self.requests.append(request)
            if self.another and request.log_end.offset > 0:
                told = pb.OffsetAndEpoch(offset=0, epoch=0)
                yield pb.FetchResponse(epoch=9, leader_id=1, diverging=told)
                continue
            if request.log_end.offset < self.snapshot_end:
                told = pb.OffsetAndEpoch(offset=self.snapshot_end, epoch=1)
                yield pb.FetchResponse(epoch=4, leader_id=1, snapshot_id=told)
                continue
            while self.silent or request.log_end.offset >= self.log.end:
                changed = self.log.changed
                await changed.wait()
            data = b"".join(
                batch
                for batch in self.log.batches
                for header, _ in iter_batches(batch)
                if header.base_offset >= request.log_end.offset
            )
            yield pb.FetchResponse(
                error=self.error,
                epoch=4,
                leader_id=1,
                high_watermark=self.log.end,
                batches=b"" if self.error else data,
            )


class Loader:
    def __init__(self) -> None:
        self.end = OffsetAndEpoch(Epoch(0), Offset(0))
        self.loaded: list[int] = []
        self.images: list[MetadataImage] = []
        self.changed = asyncio.Event()

    def load(self, batches: bytes, high_watermark: Offset) -> None:
        for header, _ in iter_batches(batches):
            assert header.base_offset == self.end.offset, "each once, in order"
            assert header.next_offset <= high_watermark
            self.loaded.append(header.base_offset)
            self.end = OffsetAndEpoch(header.leader_epoch, header.next_offset)
        self.changed.set()
        self.changed = asyncio.Event()

    async def adopt(self, reader: SnapshotReader) -> None:
        self.images.append(reader.finish())
        self.end = self.images[-1].provenance
        self.changed.set()
        self.changed = asyncio.Event()

    async def reached(self, offset: int) -> None:
        async with asyncio.timeout(3):
            while self.end.offset < offset:
                await self.changed.wait()


class World:
    def __init__(self, controllers: list[FakeController], log: FakeLog) -> None:
        self.controllers = controllers
        self.log = log
        self.loader = Loader()
        self.client = ControllerClient([each.address for each in controllers])
        self.follower = MetadataFollower(
            self.client,
            self.loader,
            cluster_id=CLUSTER,
            node_id=NodeId(7),
            directory_id=UUID(int=7),
        )
        self.task = asyncio.create_task(self.follower.run())

    def feeding(self) -> FakeController:
        return max(self.controllers, key=lambda each: len(each.requests))


@asynccontextmanager
async def world(controllers: int = 2) -> AsyncIterator[World]:
    log = FakeLog()
    fakes = [FakeController(log) for _ in range(controllers)]
    for each in fakes:
        await each.server.start()
    world = World(fakes, log)
    try:
        yield world
    finally:
        world.task.cancel()
        await asyncio.gather(world.task, return_exceptions=True)
        await world.client.close()
        for each in fakes:
            await each.server.stop(grace_ms=0)


async def test_what_is_committed_arrives_once_and_in_order() -> None:
    async with world() as it:
        for _ in range(5):
            it.log.commit(3)
        await it.loader.reached(15)
        await it.follower.wait_caught_up()
        it.log.commit()
        await it.loader.reached(16)
        assert it.loader.loaded == [0, 3, 6, 9, 12, 15]
        assert it.follower.lag == 0
        request = it.feeding().requests[-1]
        assert request.observer
        assert (request.caller.cluster_id, request.caller.node_id) == (CLUSTER, 7)


async def test_a_killed_controller_is_left_for_another() -> None:
    async with world() as it:
        it.log.commit()
        await it.loader.reached(1)
        await it.feeding().server.stop(grace_ms=0)
        it.log.commit()
        await it.loader.reached(2)
        assert it.loader.loaded == [0, 1]


async def test_a_silent_controller_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "SILENCE_MS_MAX", 100)
    async with world() as it:
        it.log.commit()
        await it.loader.reached(1)
        it.feeding().silent = True
        it.log.commit()
        await it.loader.reached(2)


async def test_a_controller_that_refuses_is_left_for_another() -> None:
    async with world() as it:
        it.controllers[0].error = pb.QUORUM_ERROR_UNKNOWN_LEADER_EPOCH
        it.log.commit()
        await it.loader.reached(1)


async def test_the_epoch_of_the_controllers_is_taken_over() -> None:
    async with world() as it:
        it.log.commit()
        await it.loader.reached(1)
        it.log.commit()
        await it.loader.reached(2)
        assert it.feeding().requests[0].epoch == 0
        assert it.feeding().requests[1].epoch == 4


async def test_a_log_that_was_restored_needs_a_new_process_and_that_is_told() -> None:
    async with world() as it:
        it.log.commit(2)
        await it.loader.reached(2)
        assert it.follower.parted == ""
        for each in it.controllers:
            each.another = True
        it.log.commit()
        async with asyncio.timeout(30):
            while not it.follower.parted:
                await asyncio.sleep(0)
        assert "followed up to offset 2" in it.follower.parted
        assert "start the broker again" in it.follower.parted
        assert it.loader.end.offset == 2, "nothing of it is taken"
        it.controllers[0].another = False  # It was one controller that was wrong.
        it.controllers[1].another = False
        await it.loader.reached(3)
        assert it.follower.parted == ""


async def test_another_cluster_ends_the_broker() -> None:
    async with world(controllers=1) as it:
        it.controllers[0].error = pb.QUORUM_ERROR_INCONSISTENT_CLUSTER_ID
        it.log.commit()
        with pytest.raises(StartError, match="another cluster than 'abc'"):
            await it.task


@pytest.mark.parametrize("trouble", ["", "breaks", "damaged", "cut"])
async def test_a_log_that_begins_later_begins_with_its_snapshot(trouble: str) -> None:
    """Row 106, of a broker: chunks, one image, and the log from its end; anew if it breaks."""
    _, image = history(random.Random(1), 100)
    whole = snapshot_of(image)
    async with world(controllers=2) as it:
        it.log.commit(int(image.provenance.offset))
        del it.log.batches[:]
        for each in it.controllers:
            each.snapshot, each.snapshot_end = whole, image.provenance.offset
        first = it.controllers[0]
        match trouble:
            case "breaks":
                first.breaks_at = 2_000
            case "damaged":
                first.snapshot = whole[:2_500] + bytes([whole[2_500] ^ 8]) + whole[2_501:]
            case "cut":
                first.snapshot = whole[:-70]
        await it.loader.reached(image.provenance.offset)
        it.log.commit(2)
        await it.loader.reached(image.provenance.offset + 2)
        assert it.loader.images == [image]
        assert it.loader.loaded == [image.provenance.offset]
        assert sum(len(each.chunks) for each in it.controllers) >= len(whole) // 1_000
