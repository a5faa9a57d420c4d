"""Unmodified clients with default settings at one broker in this process.

The clients block, so each runs in a thread; the broker runs on the test's loop.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiokafka
import confluent_kafka
import confluent_kafka.admin
import kafka
import kafka.admin
import kafka.errors
import pytest

from tests.unit.api_admin.one_broker import OneBroker

COUNT = 500
WAIT_S = 10.0


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[OneBroker]:
    listeners = "PLAINTEXT://127.0.0.1:0,PLAINTEXT_HOST://127.0.0.1:0"
    protocols = "PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT"
    one = OneBroker(tmp_path, listeners=listeners, listener_security_protocol_map=protocols)
    async with one.serving():
        yield one


class TestConfluentKafka:
    async def test_topics(self, broker: OneBroker) -> None:
        def work() -> tuple[Any, Any]:
            admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.address})
            new = confluent_kafka.admin.NewTopic("orders", 3, 1)
            for future in admin.create_topics([new]).values():
                future.result(WAIT_S)
            described = admin.list_topics(timeout=WAIT_S)
            for future in admin.delete_topics(["orders"]).values():
                future.result(WAIT_S)
            return described, admin.list_topics(timeout=WAIT_S)

        before, after = await asyncio.to_thread(work)
        assert list(before.topics["orders"].partitions) == [0, 1, 2]
        assert (before.cluster_id, list(before.brokers)) == ("test-cluster", [1])
        assert "orders" not in after.topics

    async def test_configs(self, broker: OneBroker) -> None:
        def work() -> Any:
            admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.address})
            new = confluent_kafka.admin.NewTopic("orders", 1, 1)
            for created in admin.create_topics([new]).values():
                created.result(WAIT_S)
            topic = confluent_kafka.admin.ResourceType.TOPIC
            entry = confluent_kafka.admin.ConfigEntry(
                "retention.ms",
                "1000",
                incremental_operation=confluent_kafka.admin.AlterConfigOpType.SET,
            )
            change = confluent_kafka.admin.ConfigResource(
                topic, "orders", incremental_configs=[entry]
            )
            for altered in admin.incremental_alter_configs([change]).values():
                altered.result(WAIT_S)
            asked = confluent_kafka.admin.ConfigResource(topic, "orders")
            (described,) = admin.describe_configs([asked]).values()
            return described.result(WAIT_S)

        configs = await asyncio.to_thread(work)
        assert configs["retention.ms"].value == "1000"
        assert configs["segment.bytes"].is_default

    @pytest.mark.parametrize("idempotent", [False, True])
    async def test_records_with_and_without_a_group_id(
        self, broker: OneBroker, idempotent: bool
    ) -> None:
        def work() -> tuple[list[bytes], Any]:
            servers = {"bootstrap.servers": broker.address}
            producer = confluent_kafka.Producer({**servers, "enable.idempotence": idempotent})
            for number in range(COUNT):
                producer.produce("orders", str(number).encode(), partition=0)
            assert producer.flush(WAIT_S) == 0
            consumer = confluent_kafka.Consumer(
                {**servers, "group.id": "g", "auto.offset.reset": "earliest"}
            )
            consumer.assign([confluent_kafka.TopicPartition("orders", 0)])
            values: list[bytes] = []
            while len(values) < COUNT:
                for message in consumer.consume(COUNT, WAIT_S):
                    assert message.error() is None
                    values.append(message.value())
            try:
                consumer.commit(asynchronous=False)
            except confluent_kafka.KafkaException as error:
                refusal = error.args[0]
            consumer.close()
            return values, refusal

        values, refusal = await asyncio.to_thread(work)
        assert values == [str(number).encode() for number in range(COUNT)]
        assert refusal.code() == confluent_kafka.KafkaError.UNSUPPORTED_VERSION

    async def test_joining_a_group_says_that_it_cannot(self, broker: OneBroker) -> None:
        def work() -> Any:
            admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.address})
            new = confluent_kafka.admin.NewTopic("orders", 1, 1)
            for future in admin.create_topics([new]).values():
                future.result(WAIT_S)
            consumer = confluent_kafka.Consumer(
                {"bootstrap.servers": broker.address, "group.id": "g"}
            )
            consumer.subscribe(["orders"])
            message = consumer.poll(WAIT_S)
            consumer.close()
            return message

        message = await asyncio.to_thread(work)
        assert message.error().code() == confluent_kafka.KafkaError.UNSUPPORTED_VERSION
        assert "JoinGroup failed" in message.error().str()

    async def test_transactions_fail_at_once(self, broker: OneBroker) -> None:
        def work() -> Any:
            producer = confluent_kafka.Producer(
                {"bootstrap.servers": broker.address, "transactional.id": "t"}
            )
            with pytest.raises(confluent_kafka.KafkaException) as raised:
                producer.init_transactions(WAIT_S)
            return raised.value.args[0]

        error = await asyncio.to_thread(work)
        assert error.fatal()
        assert "transactions are not served" in error.str()


class TestKafkaPython:
    async def test_records_with_a_group_id(self, broker: OneBroker) -> None:
        def work() -> list[bytes]:
            producer = kafka.KafkaProducer(bootstrap_servers=broker.address)
            for number in range(COUNT):
                producer.send("orders", str(number).encode(), partition=0)
            producer.close(WAIT_S)
            consumer = kafka.KafkaConsumer(
                bootstrap_servers=broker.address,
                group_id="g",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                consumer_timeout_ms=WAIT_S * 1_000,
            )
            consumer.assign([kafka.TopicPartition("orders", 0)])
            values = [next(consumer).value for _ in range(COUNT)]
            with pytest.raises(kafka.errors.UnsupportedVersionError):
                consumer.commit()
            consumer.close()
            return values

        values = await asyncio.to_thread(work)
        assert values == [str(number).encode() for number in range(COUNT)]

    async def test_joining_a_group_says_that_it_cannot(self, broker: OneBroker) -> None:
        def work() -> None:
            consumer = kafka.KafkaConsumer(
                "orders", bootstrap_servers=broker.address, group_id="g", consumer_timeout_ms=5_000
            )
            with pytest.raises(kafka.errors.UnsupportedVersionError):
                next(consumer)
            consumer.close()

        await asyncio.to_thread(work)

    async def test_admin(self, broker: OneBroker) -> None:
        def work() -> tuple[Any, Any]:
            admin = kafka.admin.KafkaAdminClient(bootstrap_servers=broker.address)
            admin.create_topics([kafka.admin.NewTopic("orders", 2, 1)])
            cluster, groups = admin.describe_cluster(), admin.list_groups()
            admin.delete_topics(["orders"])
            admin.close()
            return cluster, groups

        cluster, groups = await asyncio.to_thread(work)
        assert cluster["cluster_id"] == "test-cluster"
        assert groups == []
        assert not broker.metadata.image.topics.by_name


class TestAiokafka:
    async def test_records_with_a_group_id(self, broker: OneBroker) -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=broker.address)
        await producer.start()
        for number in range(COUNT):
            await producer.send("orders", str(number).encode(), partition=0)
        await producer.stop()
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=broker.address,
            group_id="g",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        consumer.assign([aiokafka.TopicPartition("orders", 0)])
        await consumer.start()
        async with asyncio.timeout(WAIT_S):
            values = [(await consumer.getone()).value for _ in range(COUNT)]
        await consumer.stop()
        assert values == [str(number).encode() for number in range(COUNT)]

    async def test_joining_a_group_says_that_it_cannot(self, broker: OneBroker) -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            "orders", bootstrap_servers=broker.address, group_id="g"
        )
        with pytest.raises(aiokafka.errors.KafkaError, match="UnsupportedVersion"):
            async with asyncio.timeout(WAIT_S):
                await consumer.start()
        await consumer.stop()


async def test_clients_are_told_of_the_listener_that_they_came_in_on(broker: OneBroker) -> None:
    for name, port in broker.listeners.ports.items():
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
        described = await asyncio.to_thread(admin.list_topics, timeout=WAIT_S)
        assert [each.port for each in described.brokers.values()] == [port], name
