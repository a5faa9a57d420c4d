"""A cluster of `klamm up` from one controller to three to five and back, under load, by commands.

The founder is the first to go; in the end one is left that was not there at the beginning. Brokers
serve all the way; every read is linearizable, and what was acknowledged is there after the cluster
was down and up again (rows 114 and 116, scenarios 17 and 18).
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import grpc.aio
import pytest

from klamm.client.node import Node
from klamm.cluster import keeper
from klamm.cluster.node_process import node_environment
from klamm.errors import DefiniteError
from klamm.rpc.status import from_call
from klamm.v1 import metadata_pb2 as metadata
from tests.process.namespaces.clients import CALL_DEADLINE_S, CONFIG, describe, set_config
from tests.process.namespaces.history import Entry, Kind, Outcome, Written, judge
from tests.process.workload import Workload

pytestmark = pytest.mark.process

COMMAND_S = 120.0
WAIT_S = 60.0
TOPIC = "orders"
PARTITIONS = 2
CLIENTS = 3
PAUSE_S = 0.01
WRITES_BETWEEN = 10
"""So many are acknowledged between two changes, or they would have nothing to spoil."""


class Cluster:
    """Made and changed by commands only."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "cluster"
        self._state = root / "state"

    def klamm(self, *words: str, controller: str = "") -> str:
        """Of this directory, or of the quorum that a controller's address leads to."""
        status, told, complaint = self._run(*words, controller=controller)
        assert status == 0, f"klamm {' '.join(words)}: {told}{complaint}"
        return told

    def change(self, *words: str, controller: str = "") -> None:
        """The voters. Refused, and tried again, while voters are not heard on a busy machine."""
        deadline = time.monotonic() + WAIT_S
        words = (*words, "--timeout", str(WAIT_S))
        while True:
            status, _, complaint = self._run(*words, controller=controller)
            if status == 0:
                return
            assert "nothing could be committed" in complaint, f"{words}: {complaint}"
            assert time.monotonic() < deadline, f"{words}, tried in vain: {complaint}"
            if (begun := re.search(r"`klamm (.*)` tries again", complaint)) is not None:
                words = (*begun[1].split(), "--timeout", str(WAIT_S))

    def _run(self, *words: str, controller: str) -> tuple[int, str, str]:
        where = ("--controller", controller) if controller else ("--dir", str(self.directory))
        done = subprocess.run(
            [sys.executable, "-m", "klamm.cli", *words, *where],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env={**node_environment(), "KLAMM_STATE_DIR": str(self._state)},
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def up(self, *words: str) -> None:
        self.klamm("up", "--detach", *words)

    def json(self, *words: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.klamm(*words, "-o", "json"))
        return told

    def processes(self) -> dict[int, str]:
        """Controllers' gRPC addresses, by id."""
        return {each["id"]: each["grpc"] for each in self._file()["controllers"]}

    def voters(self) -> list[int]:
        voters = self.json("quorum", "describe")["current_voters"]
        return sorted(each["id"] for each in voters)

    def kill(self, node_id: int) -> None:
        (pid,) = (each["pid"] for each in self._file()["controllers"] if each["id"] == node_id)
        os.kill(pid, signal.SIGKILL)

    @property
    def bootstrap(self) -> str:
        return ",".join(each["kafka"] for each in self._file()["brokers"])

    def _file(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.directory / "cluster.json").read_text())
        return told


class Clients:
    """Write one topic's config and read it, each call once, to whichever controllers there are."""

    def __init__(self, cluster: Cluster) -> None:
        self.history: list[Entry] = []
        self.acknowledged = 0
        self._cluster = cluster
        self._nodes: dict[str, Node] = {}
        self._next_value = 1_000_000
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="clients")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        assert not self._errors, self._errors

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:
            self._errors.append(error)

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as clients:
                for number in range(CLIENTS):
                    clients.create_task(self._go_on(number))
        finally:
            for node in self._nodes.values():
                await node.close()

    async def _go_on(self, number: int) -> None:
        chance = random.Random(number)
        while not self._over.is_set():
            node_id, address = chance.choice(sorted(self._cluster.processes().items()))
            if address not in self._nodes:
                self._nodes[address] = Node(address)
            work = self._write if chance.random() < 0.5 else self._read
            await work(node_id, self._nodes[address])
            await asyncio.sleep(PAUSE_S)

    async def _write(self, node_id: int, node: Node) -> None:
        self._next_value += 1
        value, called, offset, outcome = str(self._next_value), time.monotonic(), -1, Outcome.OK
        try:
            answer = await node.admin.IncrementalAlterConfigs(
                set_config(TOPIC, value), timeout=CALL_DEADLINE_S
            )
            assert [each.error_code for each in answer.results] == [0], answer
            offset = answer.committed_offset
            self.acknowledged += 1
        except grpc.aio.AioRpcError as error:
            definite = isinstance(from_call(error), DefiniteError)
            outcome = Outcome.FAILED if definite else Outcome.UNKNOWN
        self._note(Kind.WRITE, outcome, node_id, value, called, offset)

    async def _read(self, node_id: int, node: Node) -> None:
        called = time.monotonic()
        value, offset, outcome = None, -1, Outcome.OK
        try:
            answer = await describe(node, Kind.LINEARIZABLE, 0, [TOPIC])
            (topic,) = answer.topics
            value, offset = topic.configs.get(CONFIG), answer.header.offset
        except grpc.aio.AioRpcError:
            outcome = Outcome.FAILED
        self._note(Kind.LINEARIZABLE, outcome, node_id, value, called, offset)

    def _note(
        self,
        kind: Kind,
        outcome: Outcome,
        node_id: int,
        value: str | None,
        called: float,
        offset: int,
    ) -> None:
        self.history.append(
            Entry(
                kind=kind,
                outcome=outcome,
                node=node_id,
                life=0,
                key=TOPIC,
                value=value,
                called=called,
                returned=time.monotonic(),
                offset=offset,
            )
        )


async def written(address: str) -> list[Written]:
    """What the log of the controller there says of the topic's configs."""
    node = Node(address)
    try:
        answer = await describe(node, Kind.LINEARIZABLE, 0, [TOPIC])
        found: list[Written] = []
        async for each in node.metadata.Watch(metadata.WatchRequest(from_offset=0), timeout=WAIT_S):
            found += [
                Written(event.offset, TOPIC, event.record.config.value)
                for event in each.events
                if event.record.WhichOneof("record") == "config"
            ]
            if each.header.offset >= answer.header.offset:
                return found
        raise AssertionError("the watch ended")
    finally:
        await node.close()


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline, never = time.monotonic() + WAIT_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}, in vain"
        never.wait(PAUSE_S)


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[Cluster]:
    it = Cluster(tmp_path)
    it.up("--controllers", "1", "--brokers", "1", "--base-port", "0")
    try:
        yield it
    finally:
        it.klamm("down")
    for log in (it.directory / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.timeout(600)
def test_row_114_and_116_one_three_five_one_by_commands(growing: Cluster) -> None:
    words = ("--partitions", str(PARTITIONS), "--replication-factor", "1")
    growing.klamm("topics", "create", TOPIC, *words)
    load = Workload(growing.bootstrap, TOPIC, PARTITIONS)
    with load, Clients(growing) as clients:

        def writes_go_on() -> None:
            before = clients.acknowledged
            wait(lambda: clients.acknowledged >= before + WRITES_BETWEEN, "writes")

        for there in (2, 3, 4, 5):
            growing.change("quorum", "add")
            assert len(growing.voters()) == there
            writes_go_on()
        for gone in (1, 3, 2, 4):
            growing.change("quorum", "remove", "--id", str(gone))
            assert gone not in growing.processes()
            assert gone not in growing.voters()
            writes_go_on()
        assert growing.voters() == list(growing.processes()) == [5]
    report = load.report()
    assert report.clean, report
    _judge(growing, clients.history)
    growing.klamm("down")
    growing.up()
    assert growing.voters() == list(growing.processes()) == [5]
    growing.change("quorum", "add")
    assert growing.voters() == list(growing.processes()) == [5, 6]
    _judge(growing, clients.history)


def _judge(cluster: Cluster, history: list[Entry]) -> None:
    for address in cluster.processes().values():
        assert judge(history, asyncio.run(written(address))) == []


@pytest.mark.timeout(300)
def test_a_change_that_was_cut_short_is_gone_on_with(growing: Cluster) -> None:
    """Between the process and its vote, or between the vote and the process."""
    keeper.change(growing.directory, "add", "controller-2")
    assert list(growing.processes()) == [1, 2]
    assert growing.voters() == [1]
    growing.change("quorum", "add", "--id", "2")
    assert growing.voters() == [1, 2]
    growing.change("quorum", "remove", "--id", "2", controller=growing.processes()[1])
    assert growing.voters() == [1]
    assert list(growing.processes()) == [1, 2]
    growing.change("quorum", "remove", "--id", "2")
    assert list(growing.processes()) == [1]
    assert growing.voters() == [1]


@pytest.mark.timeout(300)
def test_a_broker_finds_controllers_that_came_after_it(growing: Cluster) -> None:
    """It was told of one controller when it began; that one is killed, and stays away."""
    growing.change("quorum", "add")
    growing.change("quorum", "add")
    log = growing.directory / "logs" / "broker-1.log"
    later = [address for node_id, address in growing.processes().items() if node_id != 1]
    wait(lambda: all(each in log.read_text() for each in later), "the broker to know them all")
    growing.kill(1)
    growing.klamm("topics", "create", TOPIC, "--partitions", "1", "--replication-factor", "1")
    load = Workload(growing.bootstrap, TOPIC, 1)
    with load:
        wait(lambda: len(load.acknowledged) > WRITES_BETWEEN, "records to be acknowledged")
    assert load.report().clean
