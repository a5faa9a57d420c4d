"""Voters come and go under load: one to three to five to three to one, each step one command.

The leader is removed in between; who was removed is started again and stays out; a wiped disk is
replaced; another voter moves. Whatever was acknowledged is there at the end (rows 114, 116 and 118,
scenarios 17 to 19).
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from klamm.client.client import ControllerClient
from klamm.cluster.node_process import node_environment
from klamm.errors import ApiError, KlammError
from klamm.v1 import controller_pb2, metadata_pb2, records_pb2
from tests.process.running import not_ready

pytestmark = pytest.mark.process

COMMAND_S = 90.0
WAIT_S = 60.0
CALL_MS = 30_000


class Quorum:
    """Controllers made by commands, each in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.processes: dict[int, subprocess.Popen[bytes] | int] = {}
        self.addresses: dict[int, str] = {}

    def klamm(self, *words: str, fails: bool = False, typed: str = "") -> str:
        """One command; all that it wrote."""
        status, told = self._run(*words, typed=typed)
        assert (status != 0) is fails, f"klamm {' '.join(words)}: {told}"
        return told

    def _run(self, *words: str, typed: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "klamm.cli", *words],
            input=typed,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=node_environment(),
            check=False,
        )
        told = done.stdout + done.stderr
        assert "Traceback" not in told
        return done.returncode, told

    def first(self) -> None:
        self.klamm("format", "--dir", str(self.root / "1"), "--id", "1")
        self._found(1, self.root / "1")
        self.start(1, self.root / "1")

    def start(self, node: int, where: Path) -> None:
        """As an operator does, with what was written for the node."""
        with (where / "controller.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [sys.executable, "-m", "controller", str(where / "server.properties")],
                stdout=log,
                stderr=log,
                env=node_environment(),
            )

    def join(self, node: int, where: Path, *more: str) -> None:
        known = next(each for at, each in self.addresses.items() if at != node)
        told = self.klamm(
            *("join", "--detach", "--dir", str(where), "--id", str(node)),
            *("--controller", known, *more),
        )
        found = re.search(r"pid (\d+)", told)
        assert found is not None, told
        self.processes[node] = int(found[1])
        self._found(node, where)

    def change(self, what: str, node: int, *more: str, fails: bool = False) -> str:
        controllers = ",".join(self.addresses.values())
        words = ("quorum", what, "--id", str(node), "--controller", controllers)
        return self.klamm(*words, *more, fails=fails)

    def kill(self, node: int) -> None:
        process = self.processes.pop(node)
        if isinstance(process, int):
            os.kill(process, signal.SIGKILL)
            return
        process.kill()
        process.wait()

    def describe(self) -> dict[str, Any]:
        """As the leader says, once there is one."""
        controllers = ",".join(self.addresses.values())
        words = ("quorum", "describe", "-o", "json", "--controller", controllers)
        deadline = time.monotonic() + WAIT_S
        while True:  # Each look is a command by itself: no pause is needed.
            status, told = self._run(*words)
            if status == 0:
                described: dict[str, Any] = json.loads(told)
                return described
            assert time.monotonic() < deadline, f"waited for a leader, in vain: {told}"

    def voters(self) -> list[int]:
        return [each["id"] for each in self.describe()["current_voters"]]

    def leader(self) -> int:
        return int(self.describe()["leader_id"])

    def observers(self) -> list[int]:
        return [each["id"] for each in self.describe()["current_observers"]]

    def follows(self, node: int, *, since_ms: float) -> bool:
        """Has it fetched since then, without a vote? Who was removed is shown for minutes."""
        return any(
            each["node_id"] == node
            and each["status"] == "Observer"
            and each["last_fetch_timestamp"] >= since_ms
            for each in self.describe()["replicas"]
        )

    def has_all(self, node: int) -> bool:
        """As far as the leader knows. Who is killed before may not have what was acknowledged."""
        replicas = self.describe()["replicas"]
        return any(each["node_id"] == node and each["lag"] == 0 for each in replicas)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}, in vain"

    def close(self) -> None:
        for node in list(self.processes):
            self.kill(node)
        for log in self.root.glob("*/controller.log"):
            assert "Traceback" not in log.read_text(), log.read_text()

    def _found(self, node: int, where: Path) -> None:
        text = (where / "server.properties").read_text()
        found = re.search(r"^listeners=CONTROLLER://(.*)$", text, re.MULTILINE)
        assert found is not None
        self.addresses[node] = found[1]


class Load:
    """Writes that are told apart: registrations of brokers that never were."""

    def __init__(self, addresses: tuple[str, ...], cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self.acknowledged: list[int] = []
        self._addresses = addresses
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._write())
        except BaseException as error:
            self._error = error

    async def _write(self) -> None:
        client = ControllerClient(self._addresses)
        broker = 1_000
        try:
            while not self._over.is_set():
                broker += 1
                try:
                    await client.register_broker(
                        _registration(self._cluster_id, broker), timeout_ms=CALL_MS
                    )
                    self.acknowledged.append(broker)
                except ApiError:
                    raise
                except KlammError:
                    pass  # It may have happened, or not.
                await asyncio.sleep(0.02)
        finally:
            await client.close()


def _registration(cluster_id: str, broker: int) -> controller_pb2.RegisterBrokerRequest:
    return controller_pb2.RegisterBrokerRequest(
        cluster_id=cluster_id,
        broker_id=broker,
        incarnation_id=uuid4().bytes,
        endpoints=[records_pb2.Endpoint(name="PLAINTEXT", host="nowhere", port=9_092)],
    )


async def registered(addresses: tuple[str, ...]) -> set[int]:
    client = ControllerClient(addresses)
    try:
        found: set[int] = set()
        request = metadata_pb2.ListBrokersRequest()
        while True:
            answer = await client.list_brokers(request, timeout_ms=CALL_MS)
            found |= {each.broker_id for each in answer.brokers}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token
    finally:
        await client.close()


@pytest.fixture
def quorum(tmp_path: Path) -> Iterator[Quorum]:
    it = Quorum(tmp_path)
    try:
        it.first()
        yield it
    finally:
        it.close()


@pytest.mark.timeout(300)
def test_a_founder_whose_disk_is_gone_is_no_cluster_by_itself(
    quorum: Quorum, tmp_path: Path
) -> None:
    """Its configuration still names it as the only voter, as at its first start."""
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    for node in (2, 3):
        quorum.join(node, tmp_path / str(node))
    quorum.kill(1)
    shutil.rmtree(tmp_path / "1" / "data")
    quorum.start(1, tmp_path / "1")
    founder = quorum.processes.pop(1)
    assert isinstance(founder, subprocess.Popen)
    assert founder.wait(WAIT_S) == 1
    assert "would be a new cluster by itself" in (tmp_path / "1" / "controller.log").read_text()
    quorum.join(1, tmp_path / "1-new", "--replace")
    assert quorum.voters() == [1, 2, 3]


@pytest.mark.timeout(600)
def test_one_three_five_three_one_under_load(quorum: Quorum, tmp_path: Path) -> None:
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    for node in (2, 3):
        quorum.join(node, tmp_path / str(node))
    load = Load(tuple(quorum.addresses.values()), quorum.describe()["cluster_id"])
    try:
        for node in (4, 5):
            quorum.join(node, tmp_path / str(node))
        assert quorum.voters() == [1, 2, 3, 4, 5]
        _leader_leaves_and_stays_out(quorum, tmp_path)
        _another_leaves(quorum)
        _a_voter_moves(quorum, tmp_path)
        _a_wiped_disk_is_replaced(quorum, tmp_path)
        while len(quorum.voters()) > 1:
            _another_leaves(quorum)
        (last,) = quorum.voters()
        quorum.wait(lambda: quorum.leader() == last, "the last one to lead")
        count = len(load.acknowledged)
        quorum.wait(lambda: quorum.leader() == last and len(load.acknowledged) > count, "a write")
    finally:
        load.stop()
    there = asyncio.run(registered((quorum.addresses[last],)))
    assert set(load.acknowledged) <= there


def _leader_leaves_and_stays_out(quorum: Quorum, root: Path) -> None:
    leader = quorum.leader()
    assert "2 more may fail" in quorum.change("remove", leader, "--dry-run")
    assert leader in quorum.voters(), "a dry run changes nothing"
    quorum.change("remove", leader)
    assert leader not in quorum.voters()
    quorum.kill(leader)
    begun_ms = time.time() * 1_000
    quorum.start(leader, root / str(leader))
    quorum.wait(lambda: quorum.follows(leader, since_ms=begun_ms), "the removed to follow")
    assert "removed" in quorum.change("add", leader, fails=True)
    assert leader not in quorum.voters()


def _another_leaves(quorum: Quorum) -> None:
    before = quorum.voters()
    gone = before[0]
    quorum.change("remove", gone)
    quorum.wait(lambda: quorum.voters() == before[1:], f"{gone} to be gone")


def _a_voter_moves(quorum: Quorum, root: Path) -> None:
    """Row 118: it says so itself, with another port in its own configuration."""
    described = quorum.describe()
    voters = (each["id"] for each in described["current_voters"])
    mover = next(each for each in voters if each != described["leader_id"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    quorum.kill(mover)
    path = root / str(mover) / "server.properties"
    path.write_text(path.read_text().replace(quorum.addresses[mover], address))
    quorum.addresses[mover] = address
    quorum.start(mover, root / str(mover))

    def found() -> bool:
        voters = {each["id"]: each["endpoints"] for each in quorum.describe()["current_voters"]}
        return voters[mover] == [f"CONTROLLER://{address}"]

    quorum.wait(found, f"{mover} to be known at {address}")


def _a_wiped_disk_is_replaced(quorum: Quorum, root: Path) -> None:
    described = quorum.describe()
    disks = {each["id"]: each["directory_id"] for each in described["current_voters"]}
    victim = next(each for each in disks if each != described["leader_id"])
    quorum.kill(victim)
    quorum.join(victim, root / f"{victim}-new", "--replace")
    after = {each["id"]: each["directory_id"] for each in quorum.describe()["current_voters"]}
    assert sorted(after) == sorted(disks)
    assert after[victim] != disks[victim]


@pytest.mark.timeout(300)
def test_who_does_not_know_that_it_was_removed_and_loses_its_vote_file_says_what_to_do(
    quorum: Quorum, tmp_path: Path
) -> None:
    """By its own log it votes, so it goes on above the epochs of the others, who refuse it."""
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    quorum.join(2, tmp_path / "2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quorum.join(3, tmp_path / "3", "--override", f"klamm.http.port={port}")
    quorum.kill(3)
    quorum.change("remove", 3)
    (tmp_path / "3" / "data" / "__cluster_metadata-0" / "quorum-state").unlink()
    quorum.start(3, tmp_path / "3")
    says = "if it was removed, empty its directory and start it again"
    quorum.wait(lambda: says in not_ready(port), "it to say so")
    quorum.kill(3)
    shutil.rmtree(tmp_path / "3" / "data")
    begun_ms = time.time() * 1_000
    quorum.start(3, tmp_path / "3")
    quorum.wait(lambda: quorum.follows(3, since_ms=begun_ms), "it to follow")


def test_who_was_removed_and_loses_its_vote_file_follows_again_by_itself(
    quorum: Quorum, tmp_path: Path
) -> None:
    """As another replica: it waited in an epoch of its own until somebody emptied its disk."""
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    quorum.join(2, tmp_path / "2")
    quorum.change("remove", 2)
    quorum.wait(lambda: quorum.has_all(2), "the removed to hear of it")
    quorum.kill(2)
    meta = tmp_path / "2" / "data" / "meta.properties"
    before = meta.read_text()
    (tmp_path / "2" / "data" / "__cluster_metadata-0" / "quorum-state").unlink()
    (said,) = quorum.describe()["current_observers"]
    quorum.start(2, tmp_path / "2")

    def follows() -> bool:
        found = quorum.describe()["current_observers"]
        return any(each["directory_id"] != said["directory_id"] for each in found)

    quorum.wait(follows, "it to follow with another directory id")
    assert meta.read_text() != before
    assert "goes on as a new replica" in (tmp_path / "2" / "controller.log").read_text()
    assert quorum.voters() == [1]


def test_a_controller_that_cannot_start_is_not_waited_for(quorum: Quorum, tmp_path: Path) -> None:
    """What it says is said; once it can, the same command goes on."""
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = ("join", "--detach", "--dir", str(tmp_path / "2"), "--id", "2")
        override = ("--override", f"klamm.http.port={port}")
        told = quorum.klamm(*words, "--controller", quorum.addresses[1], *override, fails=True)
    assert "The controller ended (status 1) before it was known to vote" in told
    assert f"klamm.http.port={port}: cannot listen" in told
    assert quorum.voters() == [1]
    quorum.join(2, tmp_path / "2")
    assert quorum.voters() == [1, 2]
