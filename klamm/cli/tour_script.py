"""The tour, step by step: a cluster comes up, loses its leaders, and loses no record."""

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AdminClient,
    NewTopic,
)
from rich.console import Console

from klamm import names
from klamm.cli import kafka, output
from klamm.cli.tour_traffic import Traffic
from klamm.client.client import ControllerClient
from klamm.clock import SystemClock
from klamm.cluster import keeper, state
from klamm.cluster.cluster import LocalCluster
from klamm.cluster.supervisor import Supervisor
from klamm.errors import StartError
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata
from klamm.v1 import records_pb2 as records

TOPIC = "orders"
PARTITIONS = 6
REPLICATION_FACTOR = 3
STEP_TIMEOUT_S = 60.0
CALL_TIMEOUT_MS = 10_000
WARM_UP_RECORDS = 600
BEFORE_NEXT_KILL_RECORDS = 1_200
POLL_S = 0.005


class Tour:
    """One tour of one cluster."""

    def __init__(self, request: keeper.Request, *, leave: bool) -> None:
        self._request = request
        self._leave = leave
        self._console = Console(highlight=False)
        self._clock = SystemClock()

    def run(self) -> None:
        """The whole tour; returns on Ctrl-C, or after the tour if asked to leave.

        Raises:
            StartError: The cluster did not start, or did not keep its promise.
            TimeoutError: A step took too long.
        """
        names.run(self._run())

    async def _run(self) -> None:
        began_ms = self._clock.monotonic_ms()
        cluster = LocalCluster.open(
            self._request.directory,
            base_port=self._request.base_port,
            overrides=self._request.overrides,
        )
        supervisor = Supervisor(cluster)

        async def on_up() -> None:
            state.remember(self._request.directory)
            took_ms = self._clock.monotonic_ms() - began_ms
            self._say(f"3 controllers and 3 brokers are up, in {took_ms:,} ms.")
            await self._show(cluster)
            if self._leave:
                supervisor.stop()
            else:
                self._invite(cluster)

        self._console.print("[bold]Klamm[/bold]: starting three controllers and three brokers …")
        await supervisor.run(lambda node: keeper.say_ready(node, typer.echo), on_up)
        self._console.print("The cluster is down.")

    async def _show(self, cluster: LocalCluster) -> None:
        controllers = ControllerClient(cluster.controller_addresses)
        traffic = Traffic(cluster.bootstrap_servers, TOPIC, PARTITIONS, self._clock)
        try:
            await self._create_topic(cluster.bootstrap_servers)
            traffic.start()
            await self._until(
                lambda: traffic.books.consumed_count >= WARM_UP_RECORDS,
                "the first records to be produced and consumed",
            )
            self._say(
                f"A producer (acks=all, idempotent) and a consumer are at work: "
                f"{traffic.books.acknowledged_count:,} acknowledged."
            )
            await self._show_leaders(controllers)
            dead_controller = await self._kill_controller(cluster, controllers)
            await self._more_records(traffic)
            dead_broker = await self._kill_broker(cluster, controllers, traffic)
            await self._more_records(traffic)
            await self._bring_back(cluster, controllers, (dead_controller, dead_broker))
            await self._more_records(traffic)
            await self._prove(traffic)
        finally:
            await asyncio.to_thread(traffic.stop)
            await controllers.close()

    async def _create_topic(self, bootstrap_servers: str) -> None:
        client = AdminClient(kafka.client_config(bootstrap_servers))
        topic = NewTopic(TOPIC, PARTITIONS, REPLICATION_FACTOR, config={"min.insync.replicas": "2"})
        began_ms = self._clock.monotonic_ms()
        try:
            made = client.create_topics([topic], operation_timeout=10)[TOPIC]
            await asyncio.wrap_future(made)
        except KafkaException as error:
            raise kafka.failure(error.args[0]) from error
        self._say(
            f"Topic {TOPIC}: {PARTITIONS} partitions, {REPLICATION_FACTOR} replicas, "
            f"min.insync.replicas=2; created in {self._clock.monotonic_ms() - began_ms} ms."
        )

    async def _show_leaders(self, controllers: ControllerClient) -> None:
        cluster = await self._cluster(controllers)
        topic = await self._topic(controllers)
        self._say(
            f"Controller {cluster.header.leader_id} is active, in epoch {cluster.header.epoch}. "
            f"Who leads what:"
        )
        rows = [
            (f"{TOPIC}-{each.partition}", each.leader_id, list(each.replicas), list(each.isr))
            for each in topic.partitions
        ]
        output.write_table(("PARTITION", "LEADER", "REPLICAS", "IN SYNC"), rows)

    async def _kill_controller(self, cluster: LocalCluster, controllers: ControllerClient) -> str:
        """`kill -9` the active controller; how long until a change of metadata is committed?"""
        await self._commit_something(controllers)  # So that connections are warm, as in life.
        before = (await self._cluster(controllers)).header
        victim = f"controller-{before.leader_id}"
        killed_ms = self._clock.monotonic_ms()
        await cluster.kill(victim)
        await self._commit_something(controllers)
        took_ms = self._clock.monotonic_ms() - killed_ms
        after = (await self._cluster(controllers)).header
        self._say(
            f"kill -9 {victim}, the active controller: the next metadata write was committed "
            f"[bold]{took_ms} ms[/bold] later, by controller-{after.leader_id} in epoch "
            f"{after.epoch}."
        )
        return victim

    async def _commit_something(self, controllers: ControllerClient) -> None:
        alteration = admin.AlterConfig(
            key="retention.ms",
            operation=admin.ALTER_CONFIG_OPERATION_SET,
            value=str(604_800_000 + self._clock.monotonic_ms() % 1_000),
        )
        resource = admin.AlterConfigResource(
            resource_type=records.CONFIG_RESOURCE_TYPE_TOPIC,
            resource_name=TOPIC,
            alterations=[alteration],
        )
        request = admin.IncrementalAlterConfigsRequest(
            resources=[resource], timeout_ms=CALL_TIMEOUT_MS
        )
        answer = await controllers.incremental_alter_configs(request, timeout_ms=CALL_TIMEOUT_MS)
        if answer.results[0].error_code:
            raise StartError(f"{TOPIC} could not be altered: {answer.results[0].error_message}.")

    async def _kill_broker(
        self, cluster: LocalCluster, controllers: ControllerClient, traffic: Traffic
    ) -> str:
        """`kill -9` the broker that leads most; how long until every partition takes writes?"""
        topic = await self._topic(controllers)
        leading = Counter(each.leader_id for each in topic.partitions)
        leader, count = leading.most_common(1)[0]
        victim = f"broker-{leader}"
        killed_ms = self._clock.monotonic_ms()
        await cluster.kill(victim)
        await self._until(
            lambda: traffic.writable_since(killed_ms), "every partition to take writes again"
        )
        took_ms = max(traffic.books.acked_at_ms.values()) - killed_ms
        self._say(
            f"kill -9 {victim}, leader of {count} partitions: all {PARTITIONS} partitions had "
            f"acknowledged a new record [bold]{took_ms} ms[/bold] later."
        )
        return victim

    async def _bring_back(
        self, cluster: LocalCluster, controllers: ControllerClient, victims: tuple[str, ...]
    ) -> None:
        began_ms = self._clock.monotonic_ms()
        await asyncio.gather(*(cluster.start_node(each) for each in victims))

        async def all_in_sync() -> bool:
            topic = await self._topic(controllers)
            return all(len(each.isr) == REPLICATION_FACTOR for each in topic.partitions)

        await cluster.until(all_in_sync, "every replica to be in sync", STEP_TIMEOUT_S)
        self._say(
            f"{' and '.join(victims)} are back, and every replica is in sync, after "
            f"{self._clock.monotonic_ms() - began_ms:,} ms."
        )

    async def _prove(self, traffic: Traffic) -> None:
        await asyncio.to_thread(traffic.stop_producing, STEP_TIMEOUT_S)
        books = traffic.books
        await self._until(lambda: not books.missing(), "what was acknowledged to be consumed")
        if wrong := books.verdict():
            raise StartError("The cluster broke its promise: " + "; ".join(wrong) + ".")
        self._say(
            f"[bold green]Proven[/bold green]: all {books.acknowledged_count:,} acknowledged "
            f"records were consumed once, in order within each partition."
        )

    async def _more_records(self, traffic: Traffic) -> None:
        """Let the clients go on for a moment, so that there is something to lose."""
        wanted = traffic.books.acknowledged_count + BEFORE_NEXT_KILL_RECORDS
        await self._until(
            lambda: traffic.books.acknowledged_count >= wanted, "more records to be acknowledged"
        )

    async def _cluster(self, controllers: ControllerClient) -> metadata.DescribeClusterResponse:
        return await controllers.describe_cluster(
            metadata.DescribeClusterRequest(), timeout_ms=CALL_TIMEOUT_MS
        )

    async def _topic(self, controllers: ControllerClient) -> metadata.Topic:
        request = metadata.DescribeTopicsRequest(names=[TOPIC])
        answer = await controllers.describe_topics(request, timeout_ms=CALL_TIMEOUT_MS)
        if not answer.topics:
            raise StartError(f"Topic {TOPIC} is gone.")
        return answer.topics[0]

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                while not condition():  # noqa: ASYNC110 - the clients' threads set no Event
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise TimeoutError(f"waited {STEP_TIMEOUT_S:.0f} s for {what}, in vain.") from None

    def _say(self, sentence: str) -> None:
        self._console.print(f"[green]▸[/green] {sentence}", soft_wrap=True)

    def _invite(self, cluster: LocalCluster) -> None:
        self._console.print()
        for line in keeper.described(cluster):
            self._console.print(line, soft_wrap=True)
        klamm = _command()
        self._console.print(
            "\nIt stays up until Ctrl-C. Meanwhile, in another terminal:\n"
            f"  {klamm} status\n"
            f"  echo hello | {klamm} produce orders\n"
            f"  {klamm} kill broker-1    and then: {klamm} topics describe orders",
            soft_wrap=True,
        )


def _command() -> str:
    """What a shell in this directory takes for `klamm`: `make run` does not put it on the path."""
    called = sys.argv[0]
    if shutil.which("klamm") is not None or Path(called).name != "klamm":
        return "klamm"
    return called
