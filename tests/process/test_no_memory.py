"""Scenario 61: a node that gets no more memory ends and says so; nothing acknowledged is lost.

The kernel's own OOM kill is a SIGKILL, as in test_kills.py. With RLIMIT_AS a process lives on and
gets no memory, in whichever line it is.
"""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from klamm.client.client import ControllerClient
from klamm.errors import ErrorCode, KlammError
from klamm.v1 import admin_pb2
from tests.process.running import Running, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MORE_BYTES = 512 * 1024
"""Of address space, on top of what it has."""

PARTITIONS = 200
DEADLINE_S = 90.0
CALL_MS = 5_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("memory") / "dir") as it:
        yield it


class Creator:
    """Makes the state larger, and knows which topics there must be."""

    def __init__(self, cluster: Running) -> None:
        self.acknowledged: list[str] = []
        self._client = ControllerClient(cluster.cluster.controller_addresses)
        self._made = 0

    async def create(self) -> bool:
        """One topic; whether it was acknowledged."""
        self._made += 1
        name = f"large-{self._made}"
        topic = admin_pb2.NewTopic(name=name, num_partitions=PARTITIONS, replication_factor=1)
        request = admin_pb2.CreateTopicsRequest(topics=[topic])
        try:
            answer = await self._client.create_topics(request, CALL_MS)
        except KlammError:
            return False
        if answer.results[0].error_code != ErrorCode.NONE:
            return False
        self.acknowledged.append(name)
        return True

    async def close(self) -> None:
        await self._client.close()


async def open_creator(cluster: Running) -> Creator:
    return Creator(cluster)  # Its client belongs to the loop that it is made in.


def limit_memory(pid: int) -> None:
    """It has what it has, and MORE_BYTES."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_BYTES
    resource.prlimit(pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def test_the_active_controller_without_memory(cluster: Running) -> None:
    load = cluster.do(open_creator(cluster))
    cluster.until(load.create, "a topic", DEADLINE_S)
    victim = cluster.active_controller()
    pid = cluster.cluster.node(victim).pid
    assert pid is not None
    told = len(cluster.log(victim))
    limit_memory(pid)

    async def ended() -> bool:
        await load.create()
        return not cluster.cluster.node(victim).running

    cluster.until(ended, f"{victim} to end", DEADLINE_S)
    last_words = cluster.log(victim)[told:]
    reasons = ("no memory is left", "Segmentation fault", "can't start new thread", "MemoryError")
    assert any(each in last_words for each in reasons), last_words
    # Where it ended was in the hands of the allocator: there may be a stack, and it is no bug.
    path = cluster.cluster.node(victim).log_file
    path.rename(path.with_suffix(".ended"))

    async def another_leads() -> bool:
        return await load.create() and await cluster._active_controller() != victim

    cluster.until(another_leads, "the others to go on", DEADLINE_S)
    cluster.start(victim)
    # Now each commit needs the one that had no memory, and what is on its disk.
    other = next(each for each in cluster.controllers if each != victim)
    cluster.kill(other)
    cluster.until(load.create, f"a topic with {victim}", DEADLINE_S)
    cluster.do(load.close())
    names = {each.name for each in cluster.topics()}
    assert names >= set(load.acknowledged)
    cluster.start(other)
    for each in cluster.brokers:
        cluster.kill(each)  # To close so many partitions in order takes its time.
