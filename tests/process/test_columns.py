"""One key of many topics is one record, and does all that a record for each would do (KIP-339).

An unmodified client alters ten topics in one call; the partitions' leader goes by it, and so do a
broker and a controller that come back.
"""

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from klamm.client.client import ControllerClient
from klamm.ids import Offset
from klamm.v1 import metadata_pb2 as metadata
from tests.process.running import Running, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

TOPICS = tuple(f"t{number}" for number in range(10))
KEY = "min.insync.replicas"
CALL_S = 60.0
REFUSED = KafkaError.NOT_ENOUGH_REPLICAS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("columns") / "dir"
    with running(directory) as it:
        for each in TOPICS:
            it.create_topic(each, 1)
        yield it


def asked(topic: str, value: str | None) -> ConfigResource:
    """None: its default again."""
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(KEY, value or "", incremental_operation=operation)
    return ConfigResource("TOPIC", topic, incremental_configs=[entry])


def altered(cluster: Running, resources: list[ConfigResource]) -> dict[str, int | None]:
    """In one call; the error of each, or None."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    codes: dict[str, int | None] = {}
    done = admin.incremental_alter_configs(resources, request_timeout=CALL_S)
    for resource, future in done.items():
        try:
            future.result(CALL_S)
            codes[resource.name] = None
        except KafkaException as error:
            codes[resource.name] = error.args[0].code()
    return codes


def alter(cluster: Running, *values: str | None) -> None:
    """One value a topic."""
    rows = [asked(*row) for row in zip(TOPICS, values, strict=True)]
    assert set(altered(cluster, rows).values()) == {None}


def refusals(cluster: Running) -> list[int | None]:
    """What a record to each topic is answered; None: acknowledged."""
    found: dict[str, int | None] = {}

    def told(error: KafkaError | None, message: Message) -> None:
        found[str(message.topic())] = None if error is None else error.code()

    config = {"acks": "all", "retries": 0, "message.timeout.ms": 10_000}
    producer = Producer({"bootstrap.servers": cluster.bootstrap, **config})
    for each in TOPICS:
        producer.produce(each, b"a", on_delivery=told)
    assert producer.flush(CALL_S) == 0
    return [found[each] for each in TOPICS]


async def columns(addresses: list[str]) -> list[metadata.WatchEvent]:
    """The records in the log that are columns."""
    client = ControllerClient(addresses)
    try:
        end = (await client.describe_cluster(metadata.DescribeClusterRequest())).header.offset
        found: list[metadata.WatchEvent] = []
        async for each in client.watch(Offset(0)):
            found += [one for one in each.events if one.record.HasField("configs")]
            if each.header.offset >= end:
                break
        return found
    finally:
        await client.close()


def settle(cluster: Running, expected: list[int | None]) -> None:
    """All leaders know of the last change, and answer so."""

    async def so() -> bool:
        return await asyncio.to_thread(refusals, cluster) == expected

    cluster.until(so, "the records to be answered as they should", CALL_S)


def test_leaders_go_by_it_and_so_does_who_comes_back(cluster: Running) -> None:
    """Two of three brokers are there: with a minimum of three, nothing is acknowledged."""
    alter(cluster, *["1"] * 10)
    cluster.stop("broker-3")
    settle(cluster, [None] * 10)
    alter(cluster, *["3"] * 10)
    settle(cluster, [REFUSED] * 10)
    alter(cluster, *["1", "3"] * 5)
    settle(cluster, [None, REFUSED] * 5)
    for name in (*cluster.controllers, "broker-1", "broker-2"):
        cluster.kill(name)
        cluster.start(name)
    settle(cluster, [None, REFUSED] * 5)
    alter(cluster, *["1", "2"] * 5)
    settle(cluster, [None] * 10)
    alter(cluster, *[None] * 10)
    found = cluster.do(columns(list(cluster.cluster.controller_addresses)))
    said = [each.record.configs for each in found]
    # Five at a time, the third and fourth are not worth a column.
    assert [list(each.values) for each in said] == [["1"], ["3"], []]
    assert {each.key for each in said} == {KEY}
    assert all(set(each.resource_names) == set(TOPICS) for each in said)
    assert not any(each.configs for each in cluster.topics(*TOPICS))


def test_one_wrong_row_spoils_no_other(cluster: Running) -> None:
    alter(cluster, *[None] * 10)
    rows = [asked(each, "1") for each in TOPICS]
    rows[5] = asked(TOPICS[5], "0")
    assert altered(cluster, [*rows, asked("nobody", "1")]) == {
        **dict.fromkeys(TOPICS),
        TOPICS[5]: KafkaError.INVALID_CONFIG,
        "nobody": KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
    assert [dict(each.configs) for each in cluster.topics(*TOPICS)] == [
        {} if each == TOPICS[5] else {KEY: "1"} for each in sorted(TOPICS)
    ]
