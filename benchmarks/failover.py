"""How long a failure is felt: Klamm's controllers and brokers, and etcd beside them.

    python -m benchmarks.failover [--kills 20] [-o json]

1. The active controller gets SIGKILL; from then until the next metadata write has committed.
   Without a failure, leadership handed over: benchmarks/transfer.py.
2. The same of etcd's leader: three nodes, its defaults, the same machine, the same run.
3. The broker that leads most partitions gets SIGKILL; from then until a real client
   (librdkafka, its defaults but acks=all, which is one) has an acknowledged record on every
   partition that the broker led.
"""

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer
from rich.progress import Progress

from benchmarks.etcd import EtcdCluster, available
from benchmarks.figures import Figure, figure, show
from benchmarks.writes import PARTITIONS, TOPIC, WRITE_DEADLINE_S, prepare, write
from klamm.client.client import ControllerClient
from klamm.cluster.cluster import LocalCluster
from klamm.v1 import metadata_pb2

SETTLE_DEADLINE_S = 30.0

Advance = Callable[[], None]


async def kill_controllers(
    cluster: LocalCluster, client: ControllerClient, kills: int, advance: Advance
) -> list[float]:
    """Seconds from SIGKILL of the active controller to the next committed write, each time."""
    took: list[float] = []
    for number in range(kills):
        await write(client, f"{1_000_000 + number}")
        leader = (await client.describe_quorum()).quorum.leader_id
        began = time.monotonic()
        await cluster.kill(f"controller-{leader}")
        await write(client, f"{2_000_000 + number}")
        took.append(time.monotonic() - began)
        await cluster.start_node(f"controller-{leader}")
        advance()
    return took


async def kill_brokers(
    cluster: LocalCluster, client: ControllerClient, kills: int, advance: Advance
) -> list[float]:
    """Seconds from SIGKILL of a broker until all it led is writable again, each time."""
    took: list[float] = []
    for _ in range(kills):
        # A new client each time: one that has seen a broker go waits up to 10 s before it tries
        # that broker again (librdkafka's reconnect.backoff.max.ms), wherever the leader is by then.
        producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "acks": "all"})
        await asyncio.to_thread(produce_to, producer, list(range(PARTITIONS)))
        led = await leaders(client)
        victim = max(sorted(led), key=lambda broker: len(led[broker]))
        began = time.monotonic()
        await cluster.kill(f"broker-{victim}")
        await asyncio.to_thread(produce_to, producer, led[victim])
        took.append(time.monotonic() - began)
        await cluster.start_node(f"broker-{victim}")
        await in_sync(cluster, client)
        advance()
    return took


def produce_to(producer: Producer, partitions: list[int]) -> None:
    """One acknowledged record on each partition."""
    left = threading.Semaphore(0)

    def answered(error: KafkaError | None, _: Message) -> None:
        assert error is None, error
        left.release()

    for partition in partitions:
        producer.produce(TOPIC, b"x", partition=partition, on_delivery=answered)
    unanswered = producer.flush(WRITE_DEADLINE_S)
    assert unanswered == 0, f"{unanswered} records not acknowledged in {WRITE_DEADLINE_S} s"


async def leaders(client: ControllerClient) -> dict[int, list[int]]:
    """Broker → the partitions that it leads."""
    request = metadata_pb2.DescribeTopicsRequest(names=[TOPIC])
    led: dict[int, list[int]] = {}
    for partition in (await client.describe_topics(request)).topics[0].partitions:
        led.setdefault(partition.leader_id, []).append(partition.partition)
    return led


async def in_sync(cluster: LocalCluster, client: ControllerClient) -> None:
    """Wait until every partition has its full ISR again."""

    async def full() -> bool:
        answer = await client.describe_cluster(metadata_pb2.DescribeClusterRequest())
        return answer.under_replicated_partition_count == 0

    await cluster.until(full, "every replica in sync", SETTLE_DEADLINE_S)


async def klamm(kills: int, progress: Progress) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="klamm-failover-") as directory:
        async with LocalCluster.open(Path(directory), base_port=0) as cluster:
            await cluster.start()
            client = ControllerClient(cluster.controller_addresses)
            try:
                return await klamm_figures(cluster, client, kills, progress)
            finally:
                await client.close()


async def klamm_figures(
    cluster: LocalCluster, client: ControllerClient, kills: int, progress: Progress
) -> list[Figure]:
    await prepare(client)
    rows: list[tuple[str, str, Callable[..., Awaitable[list[float]]]]] = [
        ("Klamm: controller killed → committed", "≤ 100 ms, p99 ≤ 300 ms", kill_controllers),
        ("Klamm: broker killed → all writable", "≤ 400 ms", kill_brokers),
    ]
    figures: list[Figure] = []
    for what, goal, measure in rows:
        task = progress.add_task(what, total=kills)
        took = await measure(cluster, client, kills, lambda task=task: progress.advance(task))
        figures.append(figure(what, took, goal))
    return figures


def etcd(kills: int, progress: Progress) -> Figure:
    what = "etcd: leader killed → committed"
    task = progress.add_task(what, total=kills)
    took: list[float] = []
    with EtcdCluster() as cluster:
        cluster.put("failover", "begin", WRITE_DEADLINE_S)
        for number in range(kills):
            leader = cluster.leader()
            began = time.monotonic()
            cluster.kill(leader)
            cluster.put("failover", str(number), WRITE_DEADLINE_S)
            took.append(time.monotonic() - began)
            cluster.start(leader)
            cluster.wait_healthy(leader, SETTLE_DEADLINE_S)
            progress.advance(task)
    return figure(what, took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20, help="of each kind (default 20)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    with Progress(transient=True, disable=arguments.output == "json") as progress:
        figures = asyncio.run(klamm(arguments.kills, progress))
        notes = ["etcd is not installed: no peer in this run (Debian: etcd-server)"]
        if available():
            figures.insert(1, etcd(arguments.kills, progress))
            ratio = figures[1].median_s / figures[0].median_s
            notes = [f"etcd's median is {ratio:.1f} times Klamm's (goal: at least 10)"]
    show("Failover", figures, notes, as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
