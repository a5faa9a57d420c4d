"""Replicas agree on their state by a record in the log, and one that does not says so and stops.

Row 14 of kraft.md 7.2; scenarios 24 and 72.
"""

import asyncio
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.decisions import DecisionLog
from controller.snapshots import Snapshots
from controller.verification import Verification
from klamm.config.controller import ControllerConfig
from klamm.errors import StateDivergedError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch, iter_batches
from klamm.metadata.agreement import NOTHING_VERIFIED
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.codec import encode
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import (
    Cause,
    ConfigRecord,
    MetadataRecord,
    ResourceType,
    StateChecksumRecord,
)
from tests.unit.active.quorums import FakeClock, FakeQuorum
from tests.unit.active.test_active import Room, run_until, settle
from tests.unit.metadata.histories import history
from tests.unit.metadata.test_metadata_snapshot import snapshot_of

CAUSE = Cause(principal="Controller:1", request="Test")
WRONG = 1


class LoggedQuorum(FakeQuorum):
    """Serves a log, and snapshots, that the test writes."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[bytes] = []
        self.log_image = EMPTY
        self.held: dict[OffsetAndEpoch, bytes] = {}
        self.aside: list[OffsetAndEpoch] = []
        self.snapshot_files = SimpleNamespace(
            read=lambda name, at, size: self.held[name][at : at + size],
            set_aside=self.aside.append,
        )

    @property
    def snapshots(self) -> tuple[Any, ...]:
        return tuple(SimpleNamespace(snapshot_id=each) for each in self.held)

    def write(self, *records: MetadataRecord) -> None:
        """One batch."""
        base = self.log_image.provenance.offset
        data = build_batch(encode(records, CAUSE), base_offset=base, leader_epoch=1, timestamp_ms=1)
        delta = MetadataDelta(self.log_image)
        for index, record in enumerate(records):
            delta.replay(record, Offset(base + index))
        end = OffsetAndEpoch(Epoch(1), Offset(base + len(records)))
        self.log_image = delta.apply(end)
        self.log.append(data)

    def state(self, off_by: int = 0) -> None:
        """The leader states the checksum."""
        at = self.log_image.provenance.offset
        checksum = self.log_image.checksum + off_by
        self.write(StateChecksumRecord(offset=at, checksum=checksum, format=CHECKSUM_FORMAT))

    def snapshot(self) -> OffsetAndEpoch:
        name = self.log_image.provenance
        self.held[name] = snapshot_of(self.log_image)
        return name

    async def read_committed(self, start_offset: Offset, max_bytes: int) -> bytes:
        found = [
            data for data in self.log if next(iter_batches(data))[0].next_offset > start_offset
        ]
        return b"".join(found[:2])


class Standby:
    """A controller that follows the log, and may be wrong."""

    def __init__(self, seed: int = 1) -> None:
        self.quorum = LoggedQuorum()
        self.log = DecisionLog(cast("Any", self.quorum), FakeClock(), random.Random(1))
        self.verification = Verification(cast("Any", self.quorum), self.log)
        self._seen = 0
        self._rng = random.Random(seed)

    def grow(self, count: int = 30) -> None:
        found, _ = history(self._rng, count, self.quorum.log_image)
        for record in found:
            self.quorum.write(record)

    def follow(self) -> None:
        for data in self.quorum.log[self._seen :]:
            self.log.on_commit((memoryview(data),))
        self._seen = len(self.quorum.log)

    def damage(self) -> None:
        """A bit of its memory flips."""
        image = self.log.image
        self.believe(replace(image, checksum=(image.checksum + WRONG) % (1 << 128)))

    def believe(self, wrong: MetadataImage) -> None:
        self.log._loader.image = wrong
        ledger = self.log._ledger
        self.log._ledger = ledger._replace(committed=ledger.committed._replace(image=wrong))

    async def verify(self) -> None:
        """Let it look at what it doubts."""
        task = asyncio.ensure_future(self.verification.run())
        for _ in range(20):
            await settle()
        if task.done():
            await task
        task.cancel()


async def test_who_agrees_says_up_to_where() -> None:
    node = Standby()
    assert node.log.agreement.verified_offset == NOTHING_VERIFIED
    node.grow()
    node.quorum.state()
    at = node.quorum.log_image.provenance.offset - 1
    node.grow(5)
    node.follow()
    await node.verify()
    assert node.log.agreement.verified_offset == at
    assert node.log.agreement.why_not() == []


async def test_who_is_wrong_ends_and_says_both_values() -> None:
    node = Standby()
    node.grow()
    node.quorum.state()
    node.follow()
    agreed = node.log.agreement.verified_offset
    node.damage()
    node.grow(5)
    node.quorum.state()
    node.follow()
    assert f"agreed last at offset {agreed}" in node.log.agreement.why_not()[0]
    with pytest.raises(StateDivergedError, match=f"{node.quorum.log_image.checksum:032x}"):
        await node.verify()


async def test_a_snapshot_of_before_the_last_agreement_is_replayed_from_and_later_ones_not() -> (
    None
):
    """One of after the last agreement; what was agreed on is what is replayed from."""
    node = Standby()
    node.grow()
    kept = node.quorum.snapshot()
    node.quorum.state()
    node.follow()
    node.damage()
    node.grow(5)
    suspect = node.quorum.snapshot()
    node.quorum.state()
    node.quorum.log_start_offset = kept.offset
    node.quorum.log = node.quorum.log[30:]
    node._seen -= 30
    node.follow()
    with pytest.raises(StateDivergedError):
        await node.verify()
    assert node.quorum.aside == [suspect]


async def test_who_agreed_with_its_own_word_only_replays_from_further_back() -> None:
    """It led, was wrong, stated that and agreed with itself; then it wrote a snapshot of it."""
    node = Standby()
    node.grow()
    kept = node.quorum.snapshot()
    node.grow(5)
    node.follow()
    at = node.quorum.log_image.provenance
    delta = MetadataDelta(node.quorum.log_image)
    delta.replay(CONFIG, Offset(at.offset))
    wrong = delta.apply(at)
    node.believe(wrong)
    node.quorum.state(off_by=wrong.checksum - node.quorum.log_image.checksum)
    node.follow()
    assert node.log.agreement.verified_offset == at.offset
    node.quorum.held[at] = snapshot_of(wrong)
    node.grow(5)
    node.quorum.state()
    node.quorum.log_start_offset = kept.offset
    node.follow()
    with pytest.raises(StateDivergedError):
        await node.verify()
    assert node.quorum.aside == [at]


async def test_a_statement_that_is_wrong_takes_nobody_down() -> None:
    """The leader's memory is damaged: a follower replays, stays, is not ready until one agrees."""
    node = Standby()
    node.grow()
    node.quorum.state(off_by=WRONG)
    node.follow()
    await node.verify()
    assert node.log.agreement.disagreement is not None
    assert node.log.agreement.why_not()
    node.grow(5)
    node.quorum.state()
    node.follow()
    await node.verify()
    assert node.log.agreement.why_not() == []


async def test_a_leader_that_decides_on_another_state_than_is_committed_ends() -> None:
    """Its pending view is damaged, and what it has replayed is not."""
    node = Standby()
    node.grow()
    node.follow()
    node.log.on_claim(Epoch(1), node.log.image.provenance.offset)
    node.quorum.state(off_by=WRONG)
    node.follow()
    with pytest.raises(StateDivergedError):
        await node.verify()
    assert node.quorum.aside == []


async def test_a_snapshot_that_loads_to_another_state_is_set_aside() -> None:
    """Its bytes are sound: whoever wrote it was not. The next process begins without it."""
    node = Standby()
    node.grow()
    wrong = replace(node.quorum.log_image, checksum=WRONG)
    pieces = iter([tuple(view for _, view in iter_batches(snapshot_of(wrong)))])
    with pytest.raises(StateDivergedError, match="set aside"):
        await node.log.on_snapshot(wrong.provenance, pieces)
    assert node.quorum.aside == [wrong.provenance]
    assert node.log.image is EMPTY


async def test_a_log_that_cannot_be_replayed_beside_settles_nothing() -> None:
    node = Standby()
    node.grow()
    node.quorum.state(off_by=WRONG)
    node.follow()
    node.quorum.held[OffsetAndEpoch(Epoch(1), Offset(5))] = b"no snapshot"
    node.quorum.log_start_offset = Offset(5)
    await node.verify()
    assert node.log.agreement.why_not()


CONFIG = ConfigRecord(
    resource_type=ResourceType.BROKER, resource_name="1", key="log.retention.ms", value="1"
)


async def test_a_replica_that_drops_one_config_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug: its image is whole in every other respect, and a replay heals it."""
    node = Standby()
    node.grow()
    node.quorum.write(CONFIG)
    with monkeypatch.context() as planted:
        planted.setattr(MetadataDelta, "_configure", lambda self, record: None)
        node.follow()
    node.quorum.state()
    node.follow()
    with pytest.raises(StateDivergedError, match="is not the one of its log"):
        await node.verify()
    again = Standby()
    again.quorum = node.quorum
    again.follow()
    assert again.log.agreement.why_not() == []


async def test_a_version_that_drops_configs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so each time: the log is not in doubt, and it does not end again and again."""
    node = Standby()
    node.quorum.write(CONFIG)
    node.quorum.state()
    monkeypatch.setattr(MetadataDelta, "_configure", lambda self, record: None)
    node.follow()
    await node.verify()
    assert node.log.agreement.why_not()


async def test_what_is_doubted_is_not_written_down() -> None:
    node = Standby()
    node.grow()
    node.quorum.state(off_by=WRONG)
    node.follow()
    config = ControllerConfig.for_tests()
    quorum = cast("Any", node.quorum)
    snapshots = Snapshots(quorum, node.log, config, FakeClock(), random.Random(1))
    with pytest.raises(StateDivergedError, match="not written"):
        await snapshots.write()


# ── the leader's part ────────────────────────────────────────────────────────────────────────


def stated(room: Room) -> list[Offset]:
    return [
        base
        for base, records in room.quorum.proposals
        if dict(records[0].headers).get("request") == b"StateChecksum"
    ]


async def test_a_leader_states_soon_after_it_claims_and_then_every_minute() -> None:
    room = Room()
    room.lead()
    await run_until(room, lambda: "metadata.version" in room.active.log.image.features)
    assert stated(room) == []
    room.clock.now_ms += 1_001
    await run_until(room, lambda: len(stated(room)) == 1)
    assert room.active.log.agreement.verified_offset == stated(room)[0]
    room.clock.now_ms += 60_001
    await run_until(room, lambda: len(stated(room)) == 2)
    assert room.active.log.agreement.verified_offset == stated(room)[1]


async def test_a_leader_states_after_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.upkeep.STATE_RECORDS_MAX", 3)
    room = Room()
    room.lead()
    for number in range(1, 5):
        await room.register(number)
    await run_until(room, lambda: len(stated(room)) > 0)
    assert room.active.log.agreement.verified_offset == stated(room)[0]
