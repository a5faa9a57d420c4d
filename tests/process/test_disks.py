"""Real disks that are damaged, or full, under a quorum that goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.quorum.quorum_config import PREALLOCATE_BYTES
from klamm.client.client import ControllerClient
from klamm.errors import ErrorCode
from klamm.v1 import admin_pb2
from tests.process.running import Running, running
from tests.process.small_disks import fill, small_disk

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

DEADLINE_S = 40.0
LOG = Path("__cluster_metadata-0") / "00000000000000000000.log"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("disks") / "dir") as it:
        yield it


def data_of(cluster: Running, name: str) -> Path:
    return cluster.directory / name / "data"


def wait_for_log(cluster: Running, name: str, other: str) -> None:
    """Until one controller's log has all that the other's has."""

    async def same() -> bool:
        theirs = (data_of(cluster, other) / LOG).read_bytes().rstrip(b"\0")  # What is reserved.
        return (data_of(cluster, name) / LOG).read_bytes().startswith(theirs)

    cluster.until(same, f"{name} to have the log of {other}", DEADLINE_S)


def test_a_bit_flipped_in_a_committed_log_is_fetched_again(cluster: Running) -> None:
    """Scenarios 29, 30: found at the start, never served, whole again, and said."""
    cluster.create_topic("before", 3)
    active = cluster.active_controller()
    victim, other = (each for each in cluster.controllers if each != active)
    wait_for_log(cluster, victim, other)
    cluster.stop(victim)
    path = data_of(cluster, victim) / LOG
    whole = path.read_bytes()
    at = len(whole) // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
    cluster.create_topic("meanwhile", 3)
    cluster.start(victim)
    wait_for_log(cluster, victim, other)
    assert path.read_bytes().startswith(whole)
    told = cluster.log(victim)
    assert "the metadata log was damaged" in told
    assert "no vote until it is whole" in told
    cluster.create_topic("after", 3)

    async def has_its_vote_back() -> bool:
        return "has its vote back" in cluster.log(victim)

    cluster.until(has_its_vote_back, f"{victim} to be whole", DEADLINE_S)
    # And it is a voter as any other: without it there is no majority now.
    cluster.kill(other)
    cluster.create_topic("needed", 3)
    assert {each.name for each in cluster.topics()} >= {"before", "meanwhile", "after", "needed"}
    cluster.start(other)
    wait_for_log(cluster, other, victim)


def test_what_a_killed_controller_had_reserved_is_no_torn_end(cluster: Running) -> None:
    """Scenario 38: its log's file is longer than its log, until it is closed."""
    cluster.create_topic("killed", 3)
    active = cluster.active_controller()
    victim, other = (each for each in cluster.controllers if each != active)
    wait_for_log(cluster, victim, other)
    cluster.kill(victim)
    path = data_of(cluster, victim) / LOG
    left = path.read_bytes()
    whole = left.rstrip(b"\0")
    assert len(left) - len(whole) > PREALLOCATE_BYTES // 2
    cluster.start(victim)
    cluster.create_topic("started", 3)
    wait_for_log(cluster, victim, other)
    cluster.stop(victim)
    assert path.stat().st_size < PREALLOCATE_BYTES // 2
    assert path.read_bytes().startswith(whole)
    assert "torn end" not in cluster.log(victim)
    cluster.start(victim)
    wait_for_log(cluster, victim, other)


def test_a_full_disk_under_the_active_controller(cluster: Running) -> None:
    """Scenario 34: it makes way, the quorum takes writes, and it comes back without a restart."""
    cluster.create_topic("roomy", 3)
    victim = cluster.controllers[0]
    cluster.stop(victim)
    data = data_of(cluster, victim)
    with small_disk(data):
        cluster.start(victim)
        for _ in range(10):
            active = cluster.active_controller()
            if active == victim:
                break
            other = next(each for each in cluster.controllers if each not in (active, victim))
            wait_for_log(cluster, victim, other)
            cluster.stop(active)
            cluster.wait_active_controller(active)
            cluster.start(active)
        lives = cluster.log(victim).count("quorum opened")
        fill(data / "ballast")
        for number in range(6):
            create_in_the_end(cluster, f"full-{number}")
        assert "the disk is full" in cluster.log(victim) or active != victim
        cluster.create_topic("full", 3)
        (data / "ballast").unlink()
        other = next(each for each in cluster.controllers if each != victim)
        wait_for_log(cluster, victim, other)
        assert cluster.log(victim).count("quorum opened") == lives, "it never restarted"
        cluster.create_topic("roomy-again", 3)
        cluster.stop(victim)


def create_in_the_end(cluster: Running, name: str) -> None:
    """Whatever finds no room is refused for certain; so it may be asked again."""
    topic = admin_pb2.NewTopic(name=name, num_partitions=50, replication_factor=3)
    request = admin_pb2.CreateTopicsRequest(topics=[topic])

    async def created() -> bool:
        client = ControllerClient(cluster.cluster.controller_addresses)
        try:
            answer = await client.create_topics(request)
        finally:
            await client.close()
        code = answer.results[0].error_code
        assert code in {0, ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.KAFKA_STORAGE_ERROR}, answer
        return code != ErrorCode.KAFKA_STORAGE_ERROR

    cluster.until(created, name, DEADLINE_S)
