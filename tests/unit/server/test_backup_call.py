"""MetadataService.Backup: all that was committed when the call began, as one file's bytes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from controller.server import backup as backup_module
from controller.server.backup import BACKUPS_MAX, Backups
from controller.server.freshness import Freshness
from controller.server.metadata_service import NAME, MetadataService
from klamm.clock import SystemClock
from klamm.errors import KlammError, OverloadedError, UnreachableError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.files import SystemFiles
from klamm.metadata import snapshot_batches
from klamm.metadata.backup import Backup, read
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.delta import MetadataDelta, Statement
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import ConfigRecord, StateChecksumRecord
from klamm.rpc.status import from_call
from klamm.v1 import metadata_pb2 as pb
from klamm.v1.metadata_pb2_grpc import MetadataServiceStub, add_MetadataServiceServicer_to_server
from tests.unit.metadata.histories import history
from tests.unit.server.fakes import FakeMetadata, FakeQuorum, serving

LOCAL = pb.Consistency(level=pb.CONSISTENCY_LEVEL_LOCAL)


class World:
    def __init__(self) -> None:
        self.quorum, self.data = FakeQuorum(), FakeMetadata()
        self.service = MetadataService(self.quorum, self.data, SystemClock())

    def commit(self, image: MetadataImage) -> None:
        self.data.publish(image)
        self.quorum.index = image.provenance.offset

    @asynccontextmanager
    async def served(self) -> AsyncIterator[MetadataServiceStub]:
        async with serving(
            NAME, lambda server: add_MetadataServiceServicer_to_server(self.service, server)
        ) as channel:
            yield MetadataServiceStub(channel)


@pytest.fixture
def world() -> World:
    return World()


def an_image(seed: int = 3, length: int = 400) -> MetadataImage:
    return history(random.Random(seed), length)[1]


async def taken(stub: MetadataServiceStub, path: Path) -> tuple[Backup, list[pb.BackupResponse]]:
    answers = [each async for each in stub.Backup(pb.BackupRequest())]
    return _read(path, b"".join(each.chunk for each in answers)), answers


def _read(path: Path, data: bytes) -> Backup:
    path.write_bytes(data)
    return read(SystemFiles(), path)


async def test_the_file_is_the_image_and_says_what_it_is_of(world: World, tmp_path: Path) -> None:
    image = an_image()
    world.commit(image)
    async with world.served() as stub:
        backup, answers = await taken(stub, tmp_path / "any.name")
    assert backup.image == image
    assert backup.origin is not None
    assert (backup.origin.cluster_id, backup.origin.taken_by) == ("abc", 1)
    assert backup.end == image.provenance == backup.origin.end
    assert backup.last_timestamp_ms == 77
    assert [each.last for each in answers] == [False] * (len(answers) - 1) + [True]
    assert answers[-1].record_count == backup.record_count
    assert {each.header.offset for each in answers} == {image.provenance.offset}


async def test_chunks_follow_each_other(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_batches, "BATCH_RECORDS_MAX", 5)
    monkeypatch.setattr(backup_module, "CHUNK_BYTES", 1_000)
    world.commit(an_image())
    async with world.served() as stub:
        _, answers = await taken(stub, tmp_path / "chunks")
    assert len(answers) > 5
    ends = [each.position + len(each.chunk) for each in answers]
    assert [each.position for each in answers] == [0, *ends[:-1]]


async def test_what_was_committed_when_it_began_is_in_it(world: World, tmp_path: Path) -> None:
    """Scenario 16: linearizable, however far behind this controller is."""
    _, before = history(random.Random(1), 50)
    _, after = history(random.Random(2), 50, before)
    world.data.publish(before)
    world.quorum.index = after.provenance.offset
    async with world.served() as stub:
        asked = asyncio.ensure_future(taken(stub, tmp_path / "later"))
        await stub.ListBrokers(pb.ListBrokersRequest(consistency=LOCAL))
        assert not asked.done()
        world.data.publish(after)
        backup, _ = await asked
    assert backup.image == after


async def refusal(stub: MetadataServiceStub) -> KlammError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Backup(pb.BackupRequest()).read()
    return from_call(caught.value)


async def test_without_a_leader_there_is_none(world: World) -> None:
    world.data.publish(an_image())
    async with world.served() as stub:
        assert isinstance(await refusal(stub), UnreachableError)


async def test_a_state_that_is_not_the_logs_is_not_backed_up(world: World) -> None:
    world.commit(an_image())
    record = StateChecksumRecord(offset=Offset(7), checksum=1, format=CHECKSUM_FORMAT)
    delta = MetadataDelta(EMPTY)
    delta.statements.append(Statement(record, 2))
    world.data.agreement.publish(delta, EMPTY)
    async with world.served() as stub:
        refused = await refusal(stub)
    assert isinstance(refused, UnreachableError)
    assert "not the one of the log" in str(refused)


def backups(world: World, stall_ms: int = 60_000) -> Backups:
    clock = SystemClock()
    fresh = Freshness(world.quorum, world.data, clock)
    return Backups(world.quorum, world.data, fresh, clock, stall_ms=stall_ms)


async def test_so_many_at_a_time_and_no_more(world: World) -> None:
    world.commit(an_image())
    them = backups(world)
    running = [them.run(LOCAL) for _ in range(BACKUPS_MAX)]
    for each in running:
        await anext(each)
    with pytest.raises(OverloadedError, match="BACKUPS_MAX"):
        await anext(them.run(LOCAL))
    await running.pop().aclose()
    one = them.run(LOCAL)
    assert (await anext(one)).data
    for each in (*running, one):
        await each.aclose()


async def test_a_caller_that_stops_reading_is_left(world: World) -> None:
    """What it holds is given back, though its call is still open at its own end."""
    world.commit(an_image())
    them = backups(world, stall_ms=20)
    took = asyncio.Event()

    async def stalls() -> None:
        async for _ in them.run(LOCAL):
            took.set()
            await asyncio.Event().wait()  # As a write does that nobody reads.

    callers = [asyncio.create_task(stalls()) for _ in range(BACKUPS_MAX)]
    await took.wait()
    done, _ = await asyncio.wait(callers, timeout=30)
    assert len(done) == BACKUPS_MAX
    assert all(each.cancelled() for each in done)


async def test_over_the_wire_a_caller_that_stops_reading_is_left(world: World) -> None:
    delta = MetadataDelta(EMPTY)
    for at in range(400):
        record = ConfigRecord(resource_type=4, resource_name="1", key=f"k{at}", value="v" * 30_000)
        delta.replay(record, Offset(at))
    world.commit(delta.apply(OffsetAndEpoch(epoch=Epoch(1), offset=Offset(400))))
    world.service._backups = backups(world, stall_ms=50)
    async with world.served() as stub:
        stalled = [stub.Backup(pb.BackupRequest()) for _ in range(BACKUPS_MAX)]
        for each in stalled:
            assert isinstance(await each.read(), pb.BackupResponse)
        async with asyncio.timeout(60):
            while not await _is_taken(stub):
                pass
        for each in stalled:
            each.cancel()


async def _is_taken(stub: MetadataServiceStub) -> bool:
    """Whether there is room for one more."""
    call = stub.Backup(pb.BackupRequest())
    try:
        return isinstance(await call.read(), pb.BackupResponse)
    except grpc.aio.AioRpcError as error:
        if not isinstance(from_call(error), OverloadedError):
            raise
        return False
    finally:
        call.cancel()
