"""Clients as they are shipped, with their default settings: all records, once, in order.

Each is told one broker, and finds the others. Every partition is given ascending numbers, and
must return exactly them, in that order.
"""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from itertools import count

import aiokafka
import confluent_kafka
import kafka
import pytest
from aiokafka.errors import KafkaError as AiokafkaError
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient
from kafka.admin import NewTopic as KafkaNewTopic
from kafka.errors import UnsupportedVersionError

from tests.process.running import Running

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

RECORDS = 100_000
PARTITIONS = 3
DEADLINE_S = 60.0
CODECS = ("gzip", "snappy", "lz4", "zstd")
SENTENCE_MAX = 2_000

Read = list[tuple[int, int]]
"""(partition, value), as they came."""


def assert_whole(read: Iterable[tuple[int, int]], records: int = RECORDS) -> None:
    """0 … records - 1, each in partition value % PARTITIONS, ascending."""
    of: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
    for partition, value in read:
        of[partition].append(value)
    for partition, values in of.items():
        assert values == list(range(partition, records, PARTITIONS)), f"partition {partition}"


def confluent_send(bootstrap: str, topic: str, records: int = RECORDS, **config: str) -> None:
    failed: list[str] = []

    def answered(error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
        if error is not None:
            failed.append(str(error))

    keys = {each.replace("_", "."): text for each, text in config.items()}
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, **keys})
    for value in range(records):
        while True:
            try:
                producer.produce(
                    topic, b"%d" % value, partition=value % PARTITIONS, on_delivery=answered
                )
            except BufferError:
                producer.poll(0.05)
            else:
                break
    assert producer.flush(DEADLINE_S) == 0
    assert failed == []


def confluent_read(bootstrap: str, topic: str, records: int = RECORDS) -> Read:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "assigns"})
    consumer.assign([confluent_kafka.TopicPartition(topic, each, 0) for each in range(PARTITIONS)])
    read: Read = []
    try:
        deadline = time.monotonic() + DEADLINE_S
        while len(read) < records and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.2):
                assert message.error() is None, message.error()
                read.append((message.partition(), int(message.value())))
    finally:
        consumer.close()
    return read


@pytest.fixture
def one_broker(cluster: Running) -> Callable[[], str]:
    """Each call names another one of the brokers."""
    return lambda: cluster.address(cluster.brokers[next(_turn) % len(cluster.brokers)])


_turn = count()


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_confluent_kafka(one_broker: Callable[[], str], acks: str) -> None:
    topic = f"confluent-{acks}"
    admin = AdminClient({"bootstrap.servers": one_broker()})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS)]).values():
        made.result(DEADLINE_S)
    confluent_send(one_broker(), topic, acks=acks)
    assert_whole(confluent_read(one_broker(), topic))


@pytest.mark.parametrize("codec", CODECS)
def test_confluent_kafka_compressed(
    cluster: Running, one_broker: Callable[[], str], codec: str
) -> None:
    topic = f"confluent-{codec}"
    cluster.create_topic(topic, PARTITIONS)
    confluent_send(one_broker(), topic, 20_000, compression_type=codec)
    assert_whole(confluent_read(one_broker(), topic, 20_000), 20_000)


def test_confluent_kafka_idempotent(cluster: Running, one_broker: Callable[[], str]) -> None:
    cluster.create_topic("confluent-idempotent", PARTITIONS)
    confluent_send(one_broker(), "confluent-idempotent", enable_idempotence="true")
    assert_whole(confluent_read(one_broker(), "confluent-idempotent"))


def test_confluent_kafka_subscribing_is_told_that_there_are_no_groups(
    cluster: Running, one_broker: Callable[[], str]
) -> None:
    cluster.create_topic("subscribed", 1)
    consumer = confluent_kafka.Consumer({"bootstrap.servers": one_broker(), "group.id": "group"})
    consumer.subscribe(["subscribed"])
    try:
        message = consumer.poll(20.0)
        assert message is not None
        assert message.error() is not None
        assert "JoinGroup" in str(message.error())
    finally:
        consumer.close()


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_kafka_python(one_broker: Callable[[], str], acks: int | str) -> None:
    topic = f"kafka-python-{acks}"
    admin = KafkaAdminClient(bootstrap_servers=one_broker())
    admin.create_topics([KafkaNewTopic(topic, PARTITIONS, 3)])
    admin.close()
    kafka_python_send(one_broker(), topic, acks=acks)
    assert_whole(kafka_python_read(one_broker(), topic))


def test_kafka_python_idempotent(cluster: Running, one_broker: Callable[[], str]) -> None:
    cluster.create_topic("kafka-python-idempotent", PARTITIONS)
    kafka_python_send(one_broker(), "kafka-python-idempotent", 10_000, enable_idempotence=True)
    assert_whole(kafka_python_read(one_broker(), "kafka-python-idempotent", 10_000), 10_000)


@pytest.mark.parametrize("codec", CODECS)
def test_kafka_python_compressed(
    cluster: Running, one_broker: Callable[[], str], codec: str
) -> None:
    topic = f"kafka-python-{codec}"
    cluster.create_topic(topic, PARTITIONS)
    kafka_python_send(one_broker(), topic, 5_000, compression_type=codec)
    assert_whole(kafka_python_read(one_broker(), topic, 5_000), 5_000)


def kafka_python_send(
    bootstrap: str, topic: str, records: int = RECORDS, **config: int | str
) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, **config)
    try:
        sent = [
            producer.send(topic, b"%d" % value, partition=value % PARTITIONS)
            for value in range(records)
        ]
        producer.flush(DEADLINE_S)
        assert all(each.succeeded() for each in sent)
    finally:
        producer.close()


def kafka_python_read(bootstrap: str, topic: str, records: int = RECORDS) -> Read:
    consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    consumer.assign([kafka.TopicPartition(topic, each) for each in range(PARTITIONS)])
    read: Read = []
    try:
        deadline = time.monotonic() + DEADLINE_S
        while len(read) < records and time.monotonic() < deadline:
            for batch in consumer.poll(200, 20_000).values():
                read.extend((each.partition, int(each.value)) for each in batch)
    finally:
        consumer.close()
    return read


def test_kafka_python_subscribing_is_told_that_there_are_no_groups(
    cluster: Running, one_broker: Callable[[], str]
) -> None:
    consumer = kafka.KafkaConsumer(bootstrap_servers=one_broker(), group_id="group")
    consumer.subscribe(["kafka-python-1"])
    try:
        with pytest.raises(UnsupportedVersionError):
            consumer.poll(20_000)
    finally:
        consumer.close()


@pytest.mark.parametrize("acks", [0, 1, "all"])
async def test_aiokafka(cluster: Running, one_broker: Callable[[], str], acks: int | str) -> None:
    topic, records = f"aiokafka-{acks}", 20_000
    cluster.create_topic(topic, PARTITIONS)
    async with (
        asyncio.timeout(DEADLINE_S),
        aiokafka.AIOKafkaProducer(bootstrap_servers=one_broker(), acks=acks) as producer,
    ):
        sent = [
            await producer.send(topic, b"%d" % value, partition=value % PARTITIONS)
            for value in range(records)
        ]
        await asyncio.gather(*sent)
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=one_broker(), auto_offset_reset="earliest"
    )
    consumer.assign([aiokafka.TopicPartition(topic, each) for each in range(PARTITIONS)])
    read: Read = []
    async with asyncio.timeout(DEADLINE_S), consumer:
        while len(read) < records:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                read.extend((each.partition, int(each.value)) for each in batch)
    assert_whole(read, records)


async def test_aiokafka_subscribing_is_told_that_there_are_no_groups(
    cluster: Running, one_broker: Callable[[], str]
) -> None:
    consumer = aiokafka.AIOKafkaConsumer(
        "aiokafka-1", bootstrap_servers=one_broker(), group_id="group"
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(AiokafkaError, match="UnsupportedVersion"):
                await consumer.start()
    finally:
        await consumer.stop()


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_kcat(one_broker: Callable[[], str], acks: str) -> None:
    """kcat partitions by itself; the topic is made by asking for it, as Kafka's default is."""
    kcat = shutil.which("kcat") or shutil.which("kafkacat")
    if kcat is None:
        pytest.skip("kcat is not installed (Debian: apt-get install kcat)")
    topic = f"kcat-{acks}"
    lines = "".join(f"{value}\n" for value in range(RECORDS))
    type_kcat(kcat, "-b", one_broker(), "-P", "-t", topic, "-X", f"acks={acks}", stdin=lines)
    told = type_kcat(kcat, "-b", one_broker(), "-C", "-t", topic, "-o", "beginning", "-e", "-q")
    assert [int(each) for each in told.splitlines()] == list(range(RECORDS))


def type_kcat(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run(
        arguments, input=stdin, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-SENTENCE_MAX:]
    return done.stdout
