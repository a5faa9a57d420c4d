"""A controller that was away while the log went on without its beginning (rows 106, 198)."""

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from tests.process.config_writer import KEY, begins_at, create_topics, open_writer, values
from tests.process.running import Running, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SMALL = {
    "metadata.log.segment.bytes": "65536",
    "metadata.log.max.record.bytes.between.snapshots": "32768",
    "metadata.max.retention.bytes": "131072",
}
INSTALLED = "snapshot installed"
LOADED = "a snapshot was loaded"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("snapshots") / "dir", SMALL) as it:
        create_topics(it)
        yield it


def config_at(address: str, topic: str) -> str | None:
    """As this broker alone knows it."""
    admin = AdminClient({"bootstrap.servers": address})
    asked = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)])
    (described,) = asked.values()
    value: str | None = described.result(30)[KEY].value
    return value


def produce_and_read(address: str, topic: str) -> None:
    """One record, to and from a partition that this broker leads."""
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": address, "message.timeout.ms": 60_000})
    producer.produce(topic, b"after", on_delivery=lambda error, _: failed.append(error))
    producer.flush(60)
    assert failed == [None]
    consumer = Consumer({"bootstrap.servers": address, "group.id": "alone"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(60)
        assert message is not None
        assert (message.error(), message.value()) == (None, b"after")
    finally:
        consumer.close()


def test_a_broker_starts_from_a_snapshot_and_serves(small: Running) -> None:
    """Decision 19: no controller has the log's beginning any more."""
    writer = small.do(open_writer(small))

    async def trimmed() -> bool:
        await writer.write(5)
        return all(begins_at(small, each) > 0 for each in small.controllers)

    small.until(trimmed, "every log to begin later", 120)
    small.do(writer.close())
    name = small.brokers[1]
    small.stop(name)
    told = small.log(name).count(LOADED)
    small.start(name)
    small.wait_in_sync()
    assert small.log(name).count(LOADED) > told
    me = small.cluster.node(name).layout.node_id
    led = [each.name for each in small.topics() if each.partitions[0].leader_id == me]
    assert led, "its partitions have one replica: itself"
    assert config_at(small.address(name), led[0]) == str(writer.value)
    produce_and_read(small.address(name), led[0])


def test_a_controller_that_was_away_catches_up_by_snapshot(small: Running) -> None:
    active = small.active_controller()
    laggard = next(each for each in small.controllers if each != active)
    writer = small.do(open_writer(small))
    small.stop(laggard)
    told = small.log(laggard).count(INSTALLED)
    has = small.do(writer.log_end())

    async def trimmed() -> bool:
        await writer.write(5)
        return begins_at(small, active) > has

    small.until(trimmed, "the active controller's log to begin later", 120)
    writing = asyncio.run_coroutine_threadsafe(writer.write(100_000), small._loop)
    small.start(laggard)

    async def installed() -> bool:
        return small.log(laggard).count(INSTALLED) > told

    small.until(installed, f"{laggard} to install a snapshot", 60)
    writer.ending = True
    writing.result(60)
    # The two others depend on it now, and it has what they have.
    small.kill(active)
    small.wait_active_controller(other_than=active)
    small.do(writer.close())
    assert values(small) == {str(writer.value)}
    small.start(active)
