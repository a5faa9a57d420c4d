"""Scenario 42: a flood of connections to nodes that may have few open files."""

import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from klamm.client.client import ControllerClient
from klamm.v1 import admin_pb2
from tests.process.running import Running, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MORE = 60
"""Open files that a node may have on top of what it has."""

FLOOD = 200
DEADLINE_S = 40.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("files") / "dir") as it:
        yield it


@contextmanager
def few_files(pid: int) -> Iterator[None]:
    """Of a process that runs."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    few = len(os.listdir(f"/proc/{pid}/fd")) + MORE
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def flood(address: str) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    host, _, port = address.rpartition(":")
    made = [socket.create_connection((host, int(port)), timeout=DEADLINE_S) for _ in range(FLOOD)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


def sent_away(connections: list[socket.socket]) -> int:
    """So many have been closed by the other side."""
    poll = select.poll()
    for each in connections:
        poll.register(each, select.POLLRDHUP)
    gone = select.POLLRDHUP | select.POLLHUP | select.POLLERR
    return sum(bool(events & gone) for _, events in poll.poll(0))


async def create(client: ControllerClient, name: str) -> bool:
    topic = admin_pb2.NewTopic(name=name, num_partitions=1, replication_factor=1)
    answer = await client.create_topics(admin_pb2.CreateTopicsRequest(topics=[topic]))
    return answer.results[0].error_code == 0


@pytest.mark.parametrize("kind", ["controller", "broker"])
def test_who_floods_is_sent_away_and_the_node_goes_on(cluster: Running, kind: str) -> None:
    """Whoever was connected before is served, and so is who comes after."""
    cluster.create_topic(f"{kind}-before", 3)
    victim = cluster.active_controller() if kind == "controller" else cluster.brokers[0]
    pid = cluster.cluster.node(victim).pid
    assert pid is not None

    async def connected() -> ControllerClient:
        client = ControllerClient(cluster.cluster.controller_addresses)
        assert await create(client, f"{kind}-connected")
        return client

    client = cluster.do(connected())
    with few_files(pid), flood(cluster.address(victim)) as connections:

        async def refused() -> bool:
            return sent_away(connections) >= FLOOD - MORE

        cluster.until(refused, "the flood to be sent away", DEADLINE_S)
        assert len(os.listdir(f"/proc/{pid}/fd")) < resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
        assert cluster.do(create(client, f"{kind}-meanwhile"))
    cluster.do(client.close())
    cluster.create_topic(f"{kind}-after", 3)
    cluster.wait_in_sync()
    assert cluster.cluster.node(victim).pid == pid, "it never ended"
    assert "no connection is accepted" not in cluster.log(victim), "some were left all the time"
