"""Health tells the truth: nobody is sent where nothing can be done."""

from controller.server.serving import ADMIN, CONTROLLER, METADATA, QUORUM, Serving
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.metadata.agreement import Agreement
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.delta import Statement
from klamm.metadata.records import StateChecksumRecord
from tests.unit.server.fakes import FakeMetadata, FakeQuorum, an_image


class Health:
    def __init__(self) -> None:
        self.said: dict[str, bool] = {}
        self.times = 0

    async def set_serving(self, service: str, *, serving: bool) -> None:
        self.said[service] = serving
        self.times += 1


async def test_a_service_serves_once_it_can() -> None:
    quorum, data, health = FakeQuorum(), FakeMetadata(), Health()
    serving = Serving(quorum, data, health, Agreement())

    await serving._look()
    assert health.said == {QUORUM: True, METADATA: False, ADMIN: False, CONTROLLER: False}
    assert len(serving.not_ready()) == 2

    # A leader is known, and this controller is behind it.
    quorum.elect(2)
    quorum.high_watermark = Offset(10)
    await serving._look()
    assert not health.said[METADATA]
    assert serving.not_ready() == ["the metadata is not caught up: applied 0 of 10"]

    data.publish(an_image(10))
    await serving._look()
    assert health.said == {QUORUM: True, METADATA: True, ADMIN: True, CONTROLLER: True}
    assert serving.not_ready() == []

    # The leader is gone: reads go on, changes have nowhere to go.
    quorum.leader = NO_NODE
    await serving._look()
    assert health.said == {QUORUM: True, METADATA: True, ADMIN: False, CONTROLLER: False}
    assert serving.not_ready() == ["no active controller is known in epoch 1"]


async def test_who_is_alone_says_whom_it_does_not_reach_and_how_many_it_needs() -> None:
    quorum = FakeQuorum()
    serving = Serving(quorum, FakeMetadata(), Health(), Agreement())
    quorum.unreachable = quorum.peers[1:]
    why = "of 3 voters 2 are needed; not reached: 2 at c2:9093, 3 at c3:9093"
    assert why in serving.not_ready()
    quorum.elect(3)  # Somebody leads: who is missing is no reason any more.
    assert why not in serving.not_ready()


async def test_who_is_above_the_quorums_epochs_says_why_nobody_follows_it() -> None:
    """It was removed, has not heard so, and has lost its vote file: it waited without a word."""
    quorum = FakeQuorum()
    serving = Serving(quorum, FakeMetadata(), Health(), Agreement())
    quorum.led_before = (NodeId(2), Epoch(7))
    why = "the others follow controller 2 in epoch 7, and do not take this one for a voter"
    assert any(each.startswith(why) for each in serving.not_ready())
    quorum.elect(3)
    assert not any(each.startswith(why) for each in serving.not_ready())


async def test_what_has_not_changed_is_not_said_again() -> None:
    quorum, data, health = FakeQuorum(), FakeMetadata(), Health()
    serving = Serving(quorum, data, health, Agreement())
    await serving._look()
    said = health.times
    await serving._look()
    assert health.times == said


async def test_whose_state_is_not_the_log_s_serves_no_metadata() -> None:
    """Row 14 of kraft.md 7.2: it says so, stops serving, and goes on replicating."""
    quorum, data, health, agreement = FakeQuorum(), FakeMetadata(), Health(), Agreement()
    serving = Serving(quorum, data, health, agreement)
    quorum.elect(2)
    quorum.high_watermark = Offset(10)
    data.publish(an_image(10))
    await serving._look()
    assert all(health.said.values())
    record = StateChecksumRecord(offset=Offset(9), checksum=1, format=CHECKSUM_FORMAT)
    agreement.disagreement = Statement(record, 2)
    await serving._look()
    assert health.said == {QUORUM: True, METADATA: False, ADMIN: False, CONTROLLER: False}
    assert "offset 9 states 00000000000000000000000000000001" in serving.not_ready()[0]
