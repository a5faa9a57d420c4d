"""From nothing to the first acknowledged record, and the memory that it takes; etcd beside it.

    python -m benchmarks.startup [--runs 5] [-o json]

1. `klamm up --detach` of three controllers and three brokers, then one acks=all record on a topic
   of replication factor 3 by a real client: the clock runs over all of it.
2. Three etcd nodes with their defaults, to the first committed write.
Memory is the resident set of each node, read after that first write.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.progress import Progress

from benchmarks.etcd import EtcdCluster, available, resident_bytes
from benchmarks.figures import Figure, figure, show
from klamm.cluster.cluster import LocalCluster

TOPIC = "first"
WRITE_DEADLINE_S = 30.0
MEGABYTE = 1024 * 1024


async def klamm_once(directory: Path) -> tuple[float, dict[str, int]]:
    """Seconds to the first acknowledged record, and bytes by node."""
    began = time.monotonic()
    async with LocalCluster.open(directory, base_port=0) as cluster:
        await cluster.start()
        await asyncio.to_thread(first_record, cluster.bootstrap_servers)
        took_s = time.monotonic() - began
        pids = {name: node.pid for name, node in cluster.nodes.items()}
        return took_s, {name: resident_bytes(pid) for name, pid in pids.items() if pid}


def first_record(bootstrap: str) -> None:
    """Create a topic and have one record of it acknowledged by every replica."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    created = admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=3)])
    created[TOPIC].result(WRITE_DEADLINE_S)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0})
    producer.produce(TOPIC, b"first")
    assert producer.flush(WRITE_DEADLINE_S) == 0, f"not acknowledged in {WRITE_DEADLINE_S} s"


def etcd_once() -> tuple[float, list[int]]:
    began = time.monotonic()
    with EtcdCluster() as cluster:
        cluster.put("first", "first", WRITE_DEADLINE_S)
        return time.monotonic() - began, cluster.memory_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--runs", type=int, default=5, help="of each (default 5), after one warm-up"
    )
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    notes: list[str] = []
    with Progress(transient=True, disable=arguments.output == "json") as progress:
        task = progress.add_task("Klamm", total=arguments.runs + 1)
        took: list[float] = []
        memory: dict[str, list[int]] = {}
        for run in range(arguments.runs + 1):
            with tempfile.TemporaryDirectory(prefix="klamm-startup-") as directory:
                once_s, nodes = asyncio.run(klamm_once(Path(directory)))
            progress.advance(task)
            if run == 0:
                continue  # the warm-up: bytecode and page cache
            took.append(once_s)
            for name, size in nodes.items():
                memory.setdefault(name.split("-")[0], []).append(size)
        figures.append(figure("Klamm 3+3 → first acks=all", took, "≤ 2,000 ms"))
        for kind, sizes in memory.items():
            median, most = statistics.median(sizes) / MEGABYTE, max(sizes) / MEGABYTE
            notes.append(f"{kind}: {median:.0f} MB a node, at most {most:.0f} MB (target ≤ 60 MB)")
        if available():
            runs = [etcd_once() for _ in range(arguments.runs)]
            figures.append(figure("etcd 3 → first write", [took_s for took_s, _ in runs]))
            sizes = [size for _, each in runs for size in each]
            notes.append(f"etcd: {statistics.median(sizes) / MEGABYTE:.0f} MB a node")
    show("Startup", figures, notes, as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
