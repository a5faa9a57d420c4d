"""A cluster that an earlier version began gets what later ones write, once all nodes know it.

Scenario 63, row 182: rolled first, refused by name while one node is behind or not there, then
upgraded in one command; from then on the earlier version stops.
"""

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from klamm.cli.app import run
from klamm.client.client import ControllerClient
from klamm.cluster.cluster import LocalCluster
from klamm.cluster.layout import NodeKind
from klamm.errors import StartError
from klamm.ids import Offset
from klamm.metadata.features import METADATA_VERSION
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata
from klamm.v1 import records_pb2
from tests.process import other_version
from tests.process.test_versions import DEADLINE_S, Versions

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

TOPICS = 10
CALL_S = 30.0


class Cluster:
    """Commands as a person types them, and what stands in the log."""

    def __init__(self, directory: Path, cluster: LocalCluster) -> None:
        self.directory = directory
        self.cluster = cluster

    async def features(self, *words: str, status: int = 0) -> None:
        await self.command("features", *words, status=status)

    async def command(self, *words: str, status: int = 0) -> None:
        command = [*words, "--dir", str(self.directory), "--timeout", str(CALL_S)]
        assert await asyncio.to_thread(run, command) == status

    async def configure(self, value: str) -> set[str]:
        """One key is set on all topics; which records have said that in the log."""
        client = ControllerClient(self.cluster.controller_addresses)
        try:
            request = admin.IncrementalAlterConfigsRequest()
            for number in range(TOPICS):
                request.resources.add(
                    resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
                    resource_name=f"t{number}",
                    alterations=[
                        admin.AlterConfig(
                            key="retention.ms",
                            operation=admin.ALTER_CONFIG_OPERATION_SET,
                            value=value,
                        )
                    ],
                )
            before = await client.describe_features(metadata.DescribeFeaturesRequest())
            answer = await client.incremental_alter_configs(request)
            assert not any(each.error_code for each in answer.results)
            found: set[str | None] = set()
            async for each in client.watch(Offset(before.header.offset)):
                found |= {event.record.WhichOneof("record") for event in each.events}
                if each.header.offset >= answer.committed_offset:
                    return {each for each in found if each in ("config", "configs")}
        finally:
            await client.close()
        raise AssertionError("a watch does not end")

    async def broker_epoch(self) -> int:
        """Of the one that serves; -1 if none does."""
        client = ControllerClient(self.cluster.controller_addresses)
        try:
            answer = await client.describe_cluster(metadata.DescribeClusterRequest())
        finally:
            await client.close()
        active = [each for each in answer.brokers if each.state == metadata.BROKER_STATE_ACTIVE]
        return active[0].broker_epoch if active else -1

    async def create(self) -> None:
        client = ControllerClient(self.cluster.controller_addresses)
        try:
            topics = [
                admin.NewTopic(name=f"t{number}", num_partitions=1, replication_factor=1)
                for number in range(TOPICS)
            ]
            answer = await client.create_topics(admin.CreateTopicsRequest(topics=topics))
            assert not any(each.error_code for each in answer.results)
        finally:
            await client.close()


def shown(address: str) -> float:
    """A node's own figure."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=CALL_S) as answer:
        found = re.search(r"^klamm_metadata_version (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def by_kafka(bootstrap_servers: str) -> int:
    """A client that knows nothing of Klamm is told which level is in force, and may ask for one."""
    client = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        told = client.describe_features()[METADATA_VERSION]
        assert told["supported"] == (22, 23)
        assert told["finalized_epoch"] > 0
        done = client.update_features({METADATA_VERSION: 23}, validate_only=True)
        assert done == {METADATA_VERSION: "OK"}
        with pytest.raises(KafkaError, match=r"only supports metadata\.version from 22 to 23"):
            client.update_features({METADATA_VERSION: 24})
        lowest, highest = told["finalized"]
        assert lowest == highest
        return int(highest)
    finally:
        client.close()


async def test_a_cluster_of_an_earlier_version_is_rolled_and_upgraded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    versions = Versions()
    versions.of = dict.fromkeys(NodeKind, other_version.FORMER)
    directory = tmp_path / "dir"
    opened = LocalCluster.open(
        directory, controllers=3, brokers=2, base_port=0, command=versions.command
    )
    async with opened as nodes:
        cluster = Cluster(directory, nodes)
        await nodes.start()
        await cluster.create()
        assert await cluster.configure("1000") == {"config"}
        await rolled(cluster, versions, capfd)
        await upgraded(cluster, capfd)
        await a_broker_that_runs_is_unregistered(cluster)
        versions.of[NodeKind.CONTROLLER] = other_version.FORMER
        await nodes.stop_node("controller-3")
        with pytest.raises(StartError, match=r"metadata\.version 23 is in force"):
            await nodes.start_node("controller-3")
        assert await cluster.configure("5000") == {"configs"}, "the others go on"
    for each in (directory / "logs").glob("*.log"):
        assert "Traceback" not in each.read_text()


async def rolled(cluster: Cluster, versions: Versions, capfd: pytest.CaptureFixture[str]) -> None:
    """One after the other; whoever is behind, or not there, is named. Broker 2 is gone for good."""
    nodes = cluster.cluster
    await cluster.features("upgrade", "--metadata", "23", status=1)
    assert "this controller only supports metadata.version from" in capfd.readouterr().err
    versions.of[NodeKind.CONTROLLER] = other_version.PRESENT
    for each in (1, 2, 3):
        await nodes.restart(f"controller-{each}")
    assert await cluster.configure("2000") == {"config"}, "rolled, and not upgraded"
    await cluster.features("upgrade", status=1)
    assert "broker 1 is of a version that does not say" in capfd.readouterr().err
    await nodes.stop_node("broker-2")
    versions.of[NodeKind.BROKER] = other_version.PRESENT
    await nodes.restart("broker-1")
    await cluster.features("upgrade", status=1)
    assert "broker 2 is of a version that does not say" in capfd.readouterr().err
    await cluster.command("brokers", "unregister", "--id", "2")
    assert capfd.readouterr().out == "Broker 2 is no longer registered.\n"
    await nodes.stop_node("controller-2")
    await cluster.features("upgrade", status=1)
    assert "controller 2 votes, and does not say" in capfd.readouterr().err
    await nodes.start_node("controller-2")


async def upgraded(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    nodes = cluster.cluster
    assert await asyncio.to_thread(by_kafka, nodes.bootstrap_servers) == 22
    await cluster.features("upgrade", "--dry-run")
    assert capfd.readouterr().out == "metadata.version can be upgraded to 23 (4.0-IV1).\n"
    assert await cluster.configure("3000") == {"config"}
    await cluster.features("upgrade")
    assert capfd.readouterr().out == "metadata.version was upgraded to 23 (4.0-IV1).\n"
    assert await cluster.configure("4000") == {"configs"}

    async def known() -> bool:
        running = [each for each in nodes.nodes.values() if each.running]
        addresses = [each.layout.http_address for each in running]
        levels = [await asyncio.to_thread(shown, each) for each in addresses]
        return set(levels) == {23}

    await nodes.until(known, "all to know of it", DEADLINE_S)
    assert await asyncio.to_thread(by_kafka, nodes.bootstrap_servers) == 23
    await cluster.features("downgrade", "--metadata", "22", status=1)
    assert "ConfigsRecord" in capfd.readouterr().err


async def a_broker_that_runs_is_unregistered(cluster: Cluster) -> None:
    """It registers again."""
    former = await cluster.broker_epoch()
    await cluster.command("brokers", "unregister", "--id", "1")

    async def back() -> bool:
        return await cluster.broker_epoch() > former

    await cluster.cluster.until(back, "the broker to be there again", DEADLINE_S)
