"""A broker whose state is another finds out whether it is wrong, and ends if so (scenarios 24, 72).

Row 14 of kraft.md 7.2; over real gRPC, with a log of real records.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import pytest

from broker.control.follower import Loader, MetadataFollower
from broker.control.verification import Verification
from klamm.client.client import ControllerClient
from klamm.errors import StateDivergedError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch
from klamm.metadata.agreement import Agreement
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.codec import encode
from klamm.metadata.delta import replay
from klamm.metadata.image import EMPTY
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import Cause, MetadataRecord, NoOpRecord, StateChecksumRecord
from tests.unit.control.test_metadata_follower import CLUSTER, FakeController, FakeLog
from tests.unit.metadata.histories import history
from tests.unit.metadata.test_metadata_snapshot import snapshot_of

DEADLINE_S = 20.0
CAUSE = Cause(principal="Controller:1", request="Test")


class World:
    """Two controllers with one log, and a broker's metadata rooms."""

    def __init__(self, controllers: list[FakeController], log: FakeLog) -> None:
        self.controllers = controllers
        self.log = log
        self.image = EMPTY
        """As the log has it."""
        self.client = ControllerClient([each.address for each in controllers])
        self.agreement = Agreement()
        self.loader = MetadataLoader((self.agreement,))
        self.subject = Verification(self.loader, self.agreement, self.follower)
        self.feed = asyncio.create_task(self.follower(self.loader).run())
        self.verification = asyncio.create_task(self.subject.run())

    def follower(self, loader: Loader) -> MetadataFollower:
        return MetadataFollower(
            self.client, loader, cluster_id=CLUSTER, node_id=NodeId(7), directory_id=UUID(int=7)
        )

    def commit(self, *records: MetadataRecord) -> None:
        base = Offset(self.log.end)
        data = build_batch(
            encode(records, CAUSE), base_offset=base, leader_epoch=Epoch(1), timestamp_ms=1
        )
        end = OffsetAndEpoch(Epoch(1), Offset(base + len(records)))
        self.image = replay(self.image, records, end)
        self.log.batches.append(data)
        self.log.end = end.offset
        self.log.changed.set()
        self.log.changed = asyncio.Event()

    def state(self, off_by: int = 0) -> None:
        """The leader says what the state is."""
        checksum = self.image.checksum + off_by
        at = Offset(self.log.end)
        self.commit(StateChecksumRecord(offset=at, checksum=checksum, format=CHECKSUM_FORMAT))

    async def caught_up(self) -> None:
        await self.loader.wait_for(Offset(self.log.end), round(DEADLINE_S * 1_000))

    async def looked(self, again: int) -> None:
        """The log was fetched from its start once more."""
        async with asyncio.timeout(DEADLINE_S):
            while self.from_start() < again:
                await asyncio.sleep(0.001)

    def from_start(self) -> int:
        asked = [each for one in self.controllers for each in one.requests]
        return sum(each.log_end.offset == 0 for each in asked)


@asynccontextmanager
async def world(seed: int = 1) -> AsyncIterator[World]:
    log = FakeLog()
    fakes = [FakeController(log) for _ in range(2)]
    for each in fakes:
        await each.server.start()
    it = World(fakes, log)
    records, _ = history(random.Random(seed), 60)
    for each in records:
        it.commit(each)
    it.state()
    await it.caught_up()
    try:
        yield it
    finally:
        for task in (it.feed, it.verification):
            task.cancel()
        await asyncio.gather(it.feed, it.verification, return_exceptions=True)
        await it.client.close()
        for each in fakes:
            await each.server.stop(grace_ms=0)


def believe_another_state(it: World) -> None:
    """As a damaged memory would."""
    image = it.loader.image
    it.loader.image = replace(
        image, next_producer_id=image.next_producer_id + 1, checksum=image.checksum + 1
    )


async def test_a_broker_that_is_wrong_ends() -> None:
    async with world() as it:
        believe_another_state(it)
        it.state()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(StateDivergedError, match="the log: offset 61 states"):
                await it.verification


async def test_a_broker_that_began_at_another_snapshot_ends() -> None:
    """Of a controller whose state was another; the one that is asked now has a sound one."""
    async with world() as it:
        believe_another_state(it)
        for each in it.controllers:
            each.snapshot, each.snapshot_end = snapshot_of(it.image), it.image.provenance.offset
        it.state()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(StateDivergedError):
                await it.verification


async def test_the_log_may_begin_behind_what_the_broker_has_by_then() -> None:
    """Both go on from a snapshot that is later; they are compared where both are."""
    async with world() as it:
        it.feed.cancel()
        await asyncio.gather(it.feed, return_exceptions=True)
        it.commit(NoOpRecord(), NoOpRecord())
        for each in it.controllers:
            each.snapshot, each.snapshot_end = snapshot_of(it.image), it.image.provenance.offset
        looks = asyncio.create_task(it.subject._replay_beside())
        async with asyncio.timeout(DEADLINE_S):
            while not any(each.chunks for each in it.controllers):
                await asyncio.sleep(0.001)
            it.feed = asyncio.create_task(it.follower(it.loader).run())
            assert await looks == (it.log.end, it.image.checksum, it.image.checksum)


async def test_one_wrong_leader_does_not_stop_the_brokers() -> None:
    """They are not ready, and look again with each statement; one that agrees ends it."""
    async with world() as it:
        fetched = it.from_start()
        it.state(off_by=1)
        await it.caught_up()
        assert it.agreement.why_not()
        await it.looked(fetched + 1)
        it.commit(NoOpRecord())
        it.state(off_by=2)
        await it.looked(fetched + 2)
        it.state()
        await it.caught_up()
        assert not it.agreement.why_not()
        assert not it.verification.done()
