"""Scenario 34, of a broker: its disk is full; it refuses, and goes on when there is room.

The partitions that it leads were offline until its next start.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest

from tests.process.running import Running, running
from tests.process.small_disks import fill, small_disk

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

VICTIM, VICTIM_ID = "broker-1", 1
TOPIC, PARTITIONS = "orders", 6
VALUE = b"v" * 100_000
DEADLINE_S = 60.0
REFUSED = "no room: what is to be stored is refused"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("full") / "dir") as it:
        yield it


def produced(cluster: Running, partition: int, timeout_s: float) -> str:
    """Send one record, and again until it is taken; why it was not, in time."""
    told: list[str] = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap, "message.timeout.ms": round(timeout_s * 1_000)}
    )

    def answered(error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
        told.append("" if error is None else str(error))

    producer.produce(TOPIC, VALUE, partition=partition, on_delivery=answered)
    assert producer.flush(timeout_s + DEADLINE_S) == 0
    return told[0]


def records(cluster: Running, partition: int) -> int:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": cluster.bootstrap, "group.id": "look", "enable.auto.commit": False}
    )
    try:
        at = confluent_kafka.TopicPartition(TOPIC, partition)
        return int(consumer.get_watermark_offsets(at, timeout=DEADLINE_S)[1])
    finally:
        consumer.close()


def test_a_full_broker_refuses_and_goes_on_when_there_is_room(cluster: Running) -> None:
    cluster.stop(VICTIM)
    data = Path(cluster.directory / VICTIM / "data")
    with small_disk(data):
        cluster.start(VICTIM)
        cluster.create_topic(TOPIC, PARTITIONS, 1)
        (topic,) = cluster.topics(TOPIC)
        led = next(each.partition for each in topic.partitions if each.leader_id == VICTIM_ID)
        assert produced(cluster, led, DEADLINE_S) == ""
        lives = cluster.log(VICTIM).count("Kafka Server started")
        fill(data / "ballast")
        deadline = time.monotonic() + DEADLINE_S
        while REFUSED not in cluster.log(VICTIM):
            assert time.monotonic() < deadline, "waited for it to say that it has no room"
            assert produced(cluster, led, 3.0) != ""
        (data / "ballast").unlink()
        assert produced(cluster, led, DEADLINE_S) == ""
        assert records(cluster, led) == 2
        assert cluster.log(VICTIM).count("Kafka Server started") == lives, "it never restarted"
        assert "partition offline" not in cluster.log(VICTIM)
        cluster.stop(VICTIM)
    assert cluster.tracebacks() == []
