"""A snapshot of very many partitions: what writing one costs those who write, and installing it.

    python -m benchmarks.snapshot [--topics 10000] [--partitions 100] [--seconds 30] [-o json]

Three controllers begin with a snapshot of all those partitions, and no broker. One client commits
one record after another. After a while each controller writes a snapshot; commits meanwhile are
held against those before, of the same run. Then one controller's disk is emptied: from its start
until it answers with all topics.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from immutables import Map
from rich.progress import Progress

from benchmarks.etcd import resident_bytes
from benchmarks.figures import Figure, figure, show
from controller.quorum.control import build_snapshot_footer, build_snapshot_header
from controller.raft.voters import Voter, VoterSet
from controller.recovery.survey import read_meta
from klamm.client.client import ControllerClient
from klamm.cluster.cluster import LocalCluster
from klamm.errors import KlammError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.log.files import SystemFiles
from klamm.log.snapshot import format_name
from klamm.metadata.checksum import checksum_of, partitions_digest
from klamm.metadata.features import METADATA_VERSION, METADATA_VERSION_LEVEL
from klamm.metadata.image import (
    BrokerImage,
    MetadataImage,
    PartitionImage,
    TopicImage,
    TopicsImage,
)
from klamm.metadata.records import Endpoint
from klamm.metadata.snapshot_batches import image_batches
from klamm.v1 import admin_pb2, metadata_pb2, records_pb2

START_S = 120.0
INSTALL_S = 120.0
EPOCH = Epoch(1)
END = Offset(1_000_000)
TOPIC = "topic-0"
HEADER_RECORDS = Offset(2)
MEGABYTE = 1024 * 1024


def image_of(topics: int, partitions: int) -> MetadataImage:
    """Three brokers, and topics of three replicas each."""
    nodes = [NodeId(each) for each in (1, 2, 3)]
    sets = [tuple(nodes[first:] + nodes[:first]) for first in range(3)]
    by_id = {}
    for number in range(topics):
        topic_id = TopicId(UUID(int=number + 1))
        all_of_it = tuple(
            PartitionImage(
                partition=each,
                replicas=sets[each % 3],
                isr=sets[each % 3],
                leader=sets[each % 3][0],
                leader_epoch=Epoch(3),
                partition_epoch=9,
            )
            for each in range(partitions)
        )
        by_id[topic_id] = TopicImage(
            topic_id=topic_id,
            name=f"topic-{number}",
            partitions=all_of_it,
            partitions_checksum=partitions_digest(topic_id, all_of_it),
        )
    brokers = {
        each: BrokerImage(
            broker_id=each,
            broker_epoch=Offset(each),
            incarnation_id=UUID(int=each),
            endpoints=(Endpoint(name="PLAINTEXT", host="localhost", port=9_092),),
        )
        for each in nodes
    }
    image = MetadataImage(
        provenance=OffsetAndEpoch(EPOCH, END),
        brokers=Map(brokers),
        topics=TopicsImage(Map(by_id), Map({each.name: key for key, each in by_id.items()})),
        features=Map({METADATA_VERSION: METADATA_VERSION_LEVEL}),
    )
    return replace(image, checksum=checksum_of(image))


def snapshot_pieces(image: MetadataImage, voters: VoterSet) -> Iterator[bytes]:
    now_ms = time.time_ns() // 1_000_000
    yield build_snapshot_header(voters, epoch=EPOCH, last_timestamp_ms=now_ms, timestamp_ms=now_ms)
    end = HEADER_RECORDS
    for data, end_of_data in image_batches(image, base_offset=end, timestamp_ms=now_ms):
        yield data
        end = end_of_data
    yield build_snapshot_footer(end, epoch=EPOCH, timestamp_ms=now_ms)


async def start(cluster: LocalCluster) -> None:
    """The controllers; no broker is to hold so many partitions."""
    nodes = [cluster.nodes[each.name] for each in cluster.layout.controllers]
    for each in nodes:
        await each.start()
    for each in nodes:
        await each.wait_ready(START_S)


def log_directory(cluster: LocalCluster, node_id: int) -> Path:
    return cluster.layout.directory / f"controller-{node_id}" / "data" / "__cluster_metadata-0"


def _disk(cluster: LocalCluster, node_id: int) -> DirectoryId:
    """A voter that the log does not name by its disk has no weight."""
    return read_meta(SystemFiles(), log_directory(cluster, node_id).parent).directory_id


def plant(cluster: LocalCluster, image: MetadataImage) -> int:
    """Put a snapshot onto each disk; its size in bytes."""
    voters = VoterSet(
        tuple(
            Voter(
                node_id=NodeId(each.node_id),
                directory_id=_disk(cluster, each.node_id),
                endpoint=Endpoint(name="CONTROLLER", host="127.0.0.1", port=each.port),
            )
            for each in cluster.layout.controllers
        )
    )
    data = b"".join(snapshot_pieces(image, voters))
    for each in cluster.layout.controllers:
        (log_directory(cluster, each.node_id) / format_name(image.provenance)).write_bytes(data)
    return len(data)


def is_writing(cluster: LocalCluster) -> bool:
    """Does any controller write a snapshot just now?"""
    return any(
        name.name.endswith(".part")
        for each in cluster.layout.controllers
        for name in log_directory(cluster, each.node_id).iterdir()
    )


async def write(client: ControllerClient, value: str) -> None:
    resource = admin_pb2.AlterConfigResource(
        resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
        resource_name=TOPIC,
        alterations=[
            admin_pb2.AlterConfig(
                key="retention.ms",
                operation=admin_pb2.ALTER_CONFIG_OPERATION_SET,
                value=value,
            )
        ],
    )
    request = admin_pb2.IncrementalAlterConfigsRequest(resources=[resource])
    answer = await client.incremental_alter_configs(request)
    assert answer.results[0].error_code == 0, answer.results[0].error_message


async def commits(cluster: LocalCluster, seconds: float) -> tuple[list[float], list[float], float]:
    """Seconds that each commit took: usually, and while snapshots were written; and how long."""
    usual: list[float] = []
    during: list[float] = []
    writing_s = 0.0
    client = ControllerClient(cluster.controller_addresses)
    try:
        for each in range(100):
            await write(client, str(each + 1_000))  # the warm-up
        end = last = time.monotonic() + 4 * seconds
        while time.monotonic() < min(end, last + seconds / 2):
            before = is_writing(cluster)
            began = time.monotonic()
            last = began if before else last
            await write(client, str(round(began * 1_000)))
            took = time.monotonic() - began
            if before:
                during.append(took)
                writing_s += took
            else:
                usual.append(took)
    finally:
        await client.close()
    return usual, during, writing_s


async def install(cluster: LocalCluster, topics: int) -> float:
    """Seconds from the start of a controller with an empty disk until it knows all."""
    client = ControllerClient(cluster.controller_addresses)
    try:
        leader = (await client.describe_quorum()).quorum.leader_id
    finally:
        await client.close()
    node = next(each for each in cluster.layout.controllers if each.node_id != leader)
    await cluster.stop_node(node.name)
    await asyncio.to_thread(shutil.rmtree, cluster.layout.directory / node.name / "data")
    client = ControllerClient([node.address])
    began = time.monotonic()
    await cluster.nodes[node.name].start()
    request = metadata_pb2.DescribeClusterRequest(
        consistency=metadata_pb2.Consistency(level=metadata_pb2.CONSISTENCY_LEVEL_LOCAL)
    )
    try:
        async with asyncio.timeout(INSTALL_S):
            while True:
                try:
                    answer = await client.describe_cluster(request)
                    if answer.topic_count == topics:
                        return time.monotonic() - began
                except KlammError:
                    pass
                await asyncio.sleep(0.02)
    finally:
        await client.close()


async def measure(
    directory: Path, topics: int, partitions: int, seconds: float, progress: Progress
) -> tuple[list[Figure], list[str]]:
    keys = {
        "metadata.log.max.snapshot.interval.ms": str(round(seconds * 1_000)),
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
    }
    task = progress.add_task("starting", total=4)
    notes: list[str] = []

    def memory(stage: str) -> None:
        sizes = [resident_bytes(each.pid) for each in cluster.nodes.values() if each.pid]
        notes.append(f"{stage}: at most {max(sizes) / MEGABYTE:.0f} MB a controller")

    async with LocalCluster.open(
        directory, controllers=3, brokers=1, base_port=0, overrides=keys
    ) as cluster:
        await start(cluster)
        await cluster.stop()
        size = await asyncio.to_thread(plant, cluster, image_of(topics, partitions))
        progress.update(task, advance=1, description="loading the snapshot")
        began = time.monotonic()
        await start(cluster)
        notes.append(
            f"{topics * partitions:,} partitions, {size / MEGABYTE:.1f} MB; three controllers that "
            f"share the machine loaded it from their disks in {time.monotonic() - began:.1f} s"
        )
        memory("loaded")
        progress.update(task, advance=1, description="committing while snapshots are written")
        usual, during, writing_s = await commits(cluster, seconds)
        memory("written")
        progress.update(task, advance=1, description="installing on an empty disk")
        installed = await install(cluster, topics)
        memory("installed")
        progress.update(task, advance=1)
    assert during, "no snapshot was seen to be written"
    figures = [
        figure("commit, usually", usual),
        figure("commit, while snapshots are written", during, "p99 at most twice the usual"),
        figure("empty disk → all known", [installed], "≤ 10 s"),
    ]
    ratio = figures[1].p99_s / figures[0].p99_s
    notes.append(f"snapshots were written for {writing_s:.1f} s; p99 {ratio:.2f} times the usual")
    return figures, notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--partitions", type=int, default=100, help="of each topic")
    parser.add_argument("--seconds", type=float, default=30.0, help="until snapshots begin")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    with (
        Progress(transient=True, disable=arguments.output == "json") as progress,
        tempfile.TemporaryDirectory(prefix="klamm-snapshot-") as directory,
    ):
        figures, notes = asyncio.run(
            measure(
                Path(directory),
                arguments.topics,
                arguments.partitions,
                arguments.seconds,
                progress,
            )
        )
    show("Snapshot", figures, notes, as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
