"""A controller whose state is another says so, stops serving, and is rebuilt (scenarios 24, 72).

Row 14 of kraft.md 7.2, and what docs/protocol.md tells an administrator to do about it.
"""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from klamm.client.client import ControllerClient
from klamm.cluster.node_process import node_environment
from klamm.v1 import admin_pb2, metadata_pb2
from klamm.v1.metadata_pb2_grpc import MetadataServiceStub
from tests.process.altered_snapshots import alter_snapshots
from tests.process.config_writer import ConfigWriter, begins_at, open_writer
from tests.process.running import Running, running
from tests.process.test_snapshots import SMALL
from tests.process.test_state_agreement import DISAGREES, VERIFIED

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

TOPICS = 100
BEGINS_AFTER = 400
WAIT_S = 120.0
CALL_MS = 30_000
LOG = Path("data") / "__cluster_metadata-0"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("rebuilt") / "dir", SMALL) as it:
        yield it


def asked(http_address: str, page: str) -> tuple[int, str]:
    """Status and body; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{http_address}/{page}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def figure(http_address: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", asked(http_address, "metrics")[1], re.MULTILINE)
    return float(found[1]) if found else -2.0


def health(address: str) -> int:
    """Of the service that reads metadata."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="klamm.v1.MetadataService")
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
    return int(answer.status)


def local_read(address: str) -> str:
    """What a controller says to who is content with whatever it has: nothing, or why not."""
    own = metadata_pb2.Consistency(level=metadata_pb2.CONSISTENCY_LEVEL_LOCAL)
    request = metadata_pb2.ListTopicsRequest(consistency=own, page_size=1)
    with grpc.insecure_channel(address) as channel:
        try:
            MetadataServiceStub(channel).ListTopics(request, timeout=30)
        except grpc.RpcError as error:
            return str(error)
    return ""


def hand_over(cluster: Running, to: str) -> None:
    """Who begins to lead states, within a second, what the state is."""

    async def transfer() -> bool:
        client = ControllerClient(cluster.cluster.controller_addresses)
        try:
            request = admin_pb2.TransferLeadershipRequest(voter_id=int(to.rpartition("-")[2]))
            await client.transfer_leadership(request, CALL_MS)
        finally:
            await client.close()
        return True

    cluster.do(transfer())


def write_until_trimmed(cluster: Running, name: str) -> None:
    """The node's log begins at a snapshot: nothing can be replayed from before it."""
    for each in range(TOPICS):
        cluster.create_topic(f"topic-{each}", 1, 1)
    writer: ConfigWriter = cluster.do(open_writer(cluster))

    async def trimmed() -> bool:
        await writer.write(5)
        return begins_at(cluster, name) > BEGINS_AFTER

    cluster.until(trimmed, f"the log of {name} to begin later", WAIT_S)
    cluster.do(writer.close())


def join_anew(cluster: Running, name: str, where: Path) -> int:
    """`klamm join --replace` on an empty disk; the process's id."""
    others = ",".join(cluster.address(each) for each in cluster.controllers if each != name)
    port = cluster.cluster.node(name).layout.http_port
    words = ("join", "--detach", "--replace", "--dir", str(where), "--controller", others)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "klamm.cli", *words, "--id", name.rpartition("-")[2]),
            *("--override", f"klamm.http.port={port}", "--override", "klamm.http.host=127.0.0.1"),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=node_environment(),
        check=False,
    )
    found = re.search(r"pid (\d+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return int(found[1])


def test_who_has_another_state_says_so_and_is_rebuilt_from_its_peers(
    cluster: Running, tmp_path: Path
) -> None:
    active = cluster.active_controller()
    victim, third = (each for each in cluster.controllers if each != active)
    http = cluster.cluster.node(victim).layout.http_address
    write_until_trimmed(cluster, victim)
    cluster.stop(victim)
    assert alter_snapshots(cluster.directory / victim / LOG, "topic-0") > 0
    # It knows no better until the next statement of the log, which may come before it is ready.
    cluster.do(cluster.cluster.node(victim).start())

    async def answers() -> bool:
        try:
            return asked(http, "readyz")[0] in (200, 503)
        except OSError:
            return False

    async def differs() -> bool:
        return figure(http, DISAGREES) == 1

    cluster.until(answers, f"{victim} to be up", WAIT_S)
    hand_over(cluster, third)
    cluster.until(differs, f"{victim} to find that its state is another", WAIT_S)
    status, why = asked(http, "readyz")
    assert status == 503
    assert "the state here is not the one of the log" in why

    async def serves_no_more() -> bool:  # Health is told a moment after readiness.
        return health(cluster.address(victim)) == health_pb2.HealthCheckResponse.NOT_SERVING

    cluster.until(serves_no_more, f"{victim} to say that it does not serve", WAIT_S)
    assert "the state here is not the one of the log" in local_read(cluster.address(victim))
    assert local_read(cluster.address(third)) == ""
    assert health(cluster.address(third)) == health_pb2.HealthCheckResponse.SERVING
    assert "the state here is not the one of the log" in cluster.log(victim)
    others = [each for each in (*cluster.controllers, *cluster.brokers) if each != victim]
    addresses = [cluster.cluster.node(each).layout.http_address for each in others]
    assert [figure(each, DISAGREES) for each in addresses] == [0.0] * len(others)

    cluster.stop(victim)
    process = join_anew(cluster, victim, tmp_path / "anew")
    try:
        hand_over(cluster, active)
        before = figure(addresses[0], VERIFIED)

        async def agrees() -> bool:
            verified = figure(http, VERIFIED)
            return verified >= before and verified > 0 and figure(http, DISAGREES) == 0

        cluster.until(agrees, f"the rebuilt {victim} to have the state of the log", WAIT_S)
        assert asked(http, "readyz")[0] == 200
    finally:
        os.kill(process, signal.SIGKILL)
