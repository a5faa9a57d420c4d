"""One committed metadata write: what it costs, and how many there are a second; etcd beside it.

    python -m benchmarks.commit [--rounds 3] [-o json]

Three nodes of each on one machine, both with an fsync before every acknowledgement. The writes come
from h2load (Debian: nghttp2-client), a load generator in C that speaks HTTP/2 and so gRPC: what is
measured is the cluster and not a client in Python. It sends one body again and again:

    Klamm   ControllerService.AllocateProducerIds: every call commits one record
    etcd    KV.Put of 32 bytes: every call commits one revision

"Batched" is what one call may carry: on Klamm a config of each of many topics in one request, on
etcd a transaction of 128 puts (its default limit); both from the same client in Python, which sends
bytes that were made before the clock began, and looks at the answers when it has stopped. Once with
one value for all, another in each call, and once with a value of its own for each, which no other
has and which none had before.

Nobody follows either cluster meanwhile: no broker, no watch. Klamm's one broker is there to have
topics made, and is stopped before the clock begins; docs/performance.md says what one costs that
follows.
"""

import argparse
import asyncio
import shutil
import struct
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from rich.progress import Progress

from benchmarks.etcd import EtcdCluster, available
from benchmarks.figures import Figure, figure, show
from klamm.client.client import ControllerClient
from klamm.cluster.cluster import LocalCluster
from klamm.rpc.channel import Channel
from klamm.v1 import admin_pb2, controller_pb2, records_pb2

CLIENTS = {1: 1_000, 16: 10_000, 64: 20_000, 256: 40_000}
"""Clients with one call each under way, on a connection of its own → calls: a second or two, of
which the connecting is little."""

ETCD_TXN_OPS_MAX = 128
"""etcd's default --max-txn-ops."""

BATCH_TOPICS = 1_000
"""Topics whose configs one request of Klamm's changes."""

BATCHES = 400
BATCH_CLIENTS = 4
BROKER = "broker-1"
"""Topics need one to be made; while anything is measured it is stopped."""

FAKE_BROKER = 99

SHAPES = ("one value for all", "a value of its own for each")
"""Of what a call with many writes sets."""

Body = bytes
Unary = grpc.aio.UnaryUnaryMultiCallable[Body, Body]


@dataclass(frozen=True, slots=True)
class Call:
    """One unary call, as anybody may send it again and again."""

    address: str
    method: str
    body: Body


def load(call: Call, clients: int, calls: int) -> tuple[list[float], float]:
    """Seconds that each call took, and calls a second."""
    with tempfile.TemporaryDirectory(prefix="h2load-") as directory:
        data, log = Path(directory) / "body", Path(directory) / "log"
        data.write_bytes(b"\0" + struct.pack(">I", len(call.body)) + call.body)
        began = time.monotonic()
        subprocess.run(
            [
                *("h2load", "-n", str(calls), "-c", str(clients), "-m", "1", "-t", "1"),
                *("-d", str(data), f"--log-file={log}"),
                *("-H", "content-type: application/grpc", "-H", "te: trailers"),
                f"http://{call.address}/{call.method}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        took_s = time.monotonic() - began
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    assert len(rows) == calls, f"{calls - len(rows)} calls were never answered"
    assert all(status == "200" for _, status, _ in rows), "a call failed"
    return [int(micros) / 1e6 for _, _, micros in rows], calls / took_s


async def klamm_call(cluster: LocalCluster, client: ControllerClient) -> Call:
    """Registers a broker that nobody runs, and allocates producer ids in its name."""
    broker = controller_pb2.RegisterBrokerRequest(
        broker_id=FAKE_BROKER,
        incarnation_id=uuid.uuid4().bytes,
        cluster_id=cluster.layout.cluster_id,
        log_dirs=[uuid.uuid4().bytes],
    )
    broker.endpoints.add(name="PLAINTEXT", host="localhost", port=9)
    registered = await client.register_broker(broker)
    request = controller_pb2.AllocateProducerIdsRequest(
        broker_id=FAKE_BROKER, broker_epoch=registered.broker_epoch
    )
    leader = await client.controllers.find(10_000)
    return Call(
        leader.address,
        "klamm.v1.ControllerService/AllocateProducerIds",
        request.SerializeToString(),
    )


def etcd_call(cluster: EtcdCluster) -> Call:
    address = f"127.0.0.1:{cluster.clients[cluster.leader()]}"
    return Call(address, "etcdserverpb.KV/Put", _put(b"key-0", b"v" * 32))


def _put(key: bytes, value: bytes) -> Body:
    """etcdserverpb.PutRequest {bytes key = 1; bytes value = 2}."""
    return b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(value)]) + value


def _txn(puts: list[Body]) -> Body:
    """etcdserverpb.TxnRequest {repeated RequestOp success = 2 {PutRequest request_put = 2}}."""
    ops = (b"\x12" + bytes([len(put)]) + put for put in puts)
    return b"".join(b"\x12" + bytes([len(op)]) + op for op in ops)


async def batched(call: Call, bodies: list[Body], writes: int) -> tuple[float, list[Body]]:
    """Writes a second, of calls with `writes` writes each, some at a time; and their answers.

    The load is not what is measured: requests are bytes before the clock starts, and answers are
    read when it has stopped.
    """
    waiting = iter(bodies)
    answers: list[Body] = []
    async with Channel(call.address) as channel:
        method: Unary = channel.unary_unary(f"/{call.method}")
        answers.append(await method(call.body))  # It is connected, and has done this once.

        async def one_client() -> None:
            answers.extend([await method(body) for body in waiting])

        began = time.monotonic()
        await asyncio.gather(*(one_client() for _ in range(BATCH_CLIENTS)))
        took_s = time.monotonic() - began
    return len(bodies) * writes / took_s, answers


def values(shape: str, call: int, count: int) -> list[int]:
    """Of one call: none of them was there before, for what is the same already writes nothing."""
    first = 10_000_000 * (1 + SHAPES.index(shape)) + call * count
    return [first] * count if shape == SHAPES[0] else list(range(first, first + count))


async def create_topics(client: ControllerClient) -> list[str]:
    names = [f"batch-{number}" for number in range(BATCH_TOPICS)]
    topics = [
        admin_pb2.NewTopic(name=name, num_partitions=1, replication_factor=1) for name in names
    ]
    created = await client.create_topics(admin_pb2.CreateTopicsRequest(topics=topics))
    assert all(each.error_code == 0 for each in created.results), created.results[0].error_message
    return names


async def klamm_batched(client: ControllerClient, names: list[str], shape: str) -> float:
    first, *bodies = (
        _alter_all(names, values(shape, call, len(names))) for call in range(1 + BATCHES)
    )
    leader = await client.controllers.find(10_000)
    call = Call(leader.address, "klamm.v1.AdminService/IncrementalAlterConfigs", first)
    rate, answers = await batched(call, bodies, len(names))
    for each in map(admin_pb2.IncrementalAlterConfigsResponse.FromString, answers):
        assert len(each.results) == len(names)
        assert not any(row.error_code for row in each.results), "a config was not altered"
    return rate


def _alter_all(names: list[str], wanted: list[int]) -> Body:
    return admin_pb2.IncrementalAlterConfigsRequest(
        resources=[
            admin_pb2.AlterConfigResource(
                resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
                resource_name=name,
                alterations=[
                    admin_pb2.AlterConfig(
                        key="retention.ms",
                        operation=admin_pb2.ALTER_CONFIG_OPERATION_SET,
                        value=str(value),
                    )
                ],
            )
            for name, value in zip(names, wanted, strict=True)
        ]
    ).SerializeToString()


async def etcd_batched(address: str, shape: str) -> float:
    keys = [f"key-{each}".encode() for each in range(ETCD_TXN_OPS_MAX)]

    def puts(call: int) -> list[Body]:
        wanted = values(shape, call, len(keys))
        return [_put(key, b"%032d" % value) for key, value in zip(keys, wanted, strict=True)]

    first, *bodies = (_txn(puts(call)) for call in range(1 + BATCHES))
    rate, answers = await batched(Call(address, "etcdserverpb.KV/Txn", first), bodies, len(keys))
    assert all(answers), "a transaction was not carried out"
    return rate


class Measured:
    """One cluster's figures, gathered over the rounds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.latencies_s: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        self.rates: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
        self.batched: dict[str, list[float]] = {shape: [] for shape in SHAPES}

    def figures(self) -> list[Figure]:
        return [
            figure(f"{self.name}: commit, {clients} clients", taken)
            for clients, taken in self.latencies_s.items()
        ]

    def rate(self, clients: int) -> float:
        return max(self.rates[clients])


async def measure(measured: Measured, call: Call, progress: Progress) -> None:
    for clients, calls in CLIENTS.items():
        task = progress.add_task(f"{measured.name}, {clients} clients", total=1)
        taken, rate = await asyncio.to_thread(load, call, clients, calls)
        measured.latencies_s[clients] += taken
        measured.rates[clients].append(rate)
        progress.advance(task)


async def klamm_round(measured: Measured, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="klamm-commit-") as directory:
        async with LocalCluster.open(Path(directory), brokers=1, base_port=0) as cluster:
            await cluster.start()
            client = ControllerClient(cluster.controller_addresses)
            try:
                await cluster.stop_node(BROKER)
                call = await klamm_call(cluster, client)
                before = (await client.describe_quorum()).quorum.high_watermark
                await measure(measured, call, progress)
                wrote = (await client.describe_quorum()).quorum.high_watermark - before
                assert wrote >= sum(CLIENTS.values()), "a call was answered and wrote nothing"
                await cluster.start_node(BROKER)
                names = await create_topics(client)
                await cluster.stop_node(BROKER)
                for shape, rates in measured.batched.items():
                    rates.append(await klamm_batched(client, names, shape))
            finally:
                await client.close()


async def etcd_round(measured: Measured, progress: Progress) -> None:
    with EtcdCluster() as cluster:
        call = await asyncio.to_thread(etcd_call, cluster)
        await measure(measured, call, progress)
        for shape, rates in measured.batched.items():
            rates.append(await etcd_batched(call.address, shape))


def ratios(klamm: Measured, etcd: Measured | None) -> list[str]:
    notes = []
    for each in filter(None, (klamm, etcd)):
        rates = ", ".join(f"{clients}: {each.rate(clients):,.0f}" for clients in CLIENTS)
        many = "; ".join(f"{shape}: {max(best):,.0f}" for shape, best in each.batched.items())
        notes.append(f"{each.name}, writes/s by clients: {rates}; batched, {many}")
    if etcd is None:
        return [*notes, "etcd is not installed: no peer in this run (Debian: etcd-server)"]
    mine, theirs = klamm.figures()[0], etcd.figures()[0]
    best = max(etcd.rate(clients) for clients in CLIENTS)
    return [
        *notes,
        f"p50 of 1 client: {mine.median_s / theirs.median_s:.1f} times etcd's (goal: at most 1.5)",
        f"p99 of 1 client: {mine.p99_s / theirs.p99_s:.1f} times etcd's",
        f"unary: {max(map(klamm.rate, CLIENTS)) / best:.2f} times etcd's (goal: at least 1)",
        *(_many(shape, klamm, etcd) for shape in SHAPES),
    ]


def _many(shape: str, klamm: Measured, etcd: Measured) -> str:
    mine, theirs = max(klamm.batched[shape]), max(etcd.batched[shape])
    unary = max(map(etcd.rate, CLIENTS))
    return (
        f"batched, {shape}: {mine / unary:.1f} times etcd's unary (goal: at least 10), "
        f"{mine / theirs:.1f} times its transactions of {ETCD_TXN_OPS_MAX}"
    )


async def run(rounds: int, progress: Progress) -> tuple[list[Figure], list[str]]:
    klamm, etcd = Measured("Klamm"), Measured("etcd") if available() else None
    for _ in range(rounds):
        await klamm_round(klamm, progress)
        if etcd is not None:
            await etcd_round(etcd, progress)
    figures = klamm.figures() + (etcd.figures() if etcd else [])
    return figures, ratios(klamm, etcd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn (default 3)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        parser.exit(1, "h2load is not installed (Debian: nghttp2-client)\n")
    with Progress(transient=True, disable=arguments.output == "json") as progress:
        figures, notes = asyncio.run(run(arguments.rounds, progress))
    show("Commit", figures, notes, as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
