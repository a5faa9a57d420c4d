"""Processes killed, paused, stopped under a producer's hands: nothing acknowledged is lost.

The topics have three replicas and min.insync.replicas=2, the producer acks=all. What it was told,
and what is read back in the end, is held together by `workload.check`.
"""

from collections.abc import Iterator

import pytest

from tests.process.running import Running, running
from tests.process.workload import Report, Workload, check, read_back

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

PARTITIONS = 6
ROUNDS = 2
SESSION_TIMEOUT_MS = 2_000
GO_ON = 4 * PARTITIONS
"""So many more acknowledgements show that every partition goes on."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster to be ill-treated."""
    overrides = {
        "broker.session.timeout.ms": str(SESSION_TIMEOUT_MS),
        "broker.heartbeat.interval.ms": "300",
    }
    with running(tmp_path_factory.mktemp("kills") / "dir", overrides) as it:
        yield it


def workload(cluster: Running, topic: str, **config: str) -> Workload:
    """A producer on a new topic."""
    cluster.create_topic(topic, PARTITIONS, min_insync_replicas="2")
    return Workload(
        cluster.bootstrap,
        topic,
        PARTITIONS,
        {key.replace("_", "."): text for key, text in config.items()},
    )


def kill_each(cluster: Running, load: Workload) -> None:
    """Each node in turn, waiting until the cluster is whole again."""
    for name in (*cluster.controllers, *cluster.brokers):
        load.wait_acknowledged(GO_ON)
        cluster.kill(name)
        load.wait_acknowledged(GO_ON)
        cluster.start(name)
        cluster.wait_in_sync()


def assert_clean(report: Report) -> None:
    assert report.clean, report
    assert report.failed == []
    assert report.read >= report.acknowledged > 0


def test_each_node_killed_twice_round(cluster: Running) -> None:
    with workload(cluster, "killed") as load:
        for _ in range(ROUNDS):
            kill_each(cluster, load)
    assert_clean(load.report())


def test_each_node_killed_under_a_producer_without_idempotence(cluster: Running) -> None:
    """Its own retries may double a record, and only they may."""
    with workload(cluster, "plain", enable_idempotence="false") as load:
        kill_each(cluster, load)
    report = load.report()
    assert report.lost == report.moved == [], report
    assert report.failed == []


def test_the_active_controller_and_a_leader_killed_at_once(cluster: Running) -> None:
    with workload(cluster, "both") as load:
        load.wait_acknowledged(GO_ON)
        leader = f"broker-{cluster.topics('both')[0].partitions[0].leader_id}"
        controller = cluster.active_controller()
        cluster.kill(controller)
        cluster.kill(leader)
        load.wait_acknowledged(GO_ON)
        cluster.start(controller)
        cluster.start(leader)
        cluster.wait_in_sync()
        load.wait_acknowledged(GO_ON)
    assert_clean(load.report())


def test_a_broker_paused_for_longer_than_its_session(cluster: Running) -> None:
    with workload(cluster, "paused") as load:
        load.wait_acknowledged(GO_ON)
        leader = cluster.topics("paused")[0].partitions[0].leader_id
        cluster.pause(f"broker-{leader}")
        try:
            cluster.wait_fenced(leader, deadline_s=10 + SESSION_TIMEOUT_MS / 1000)
        finally:
            cluster.resume(f"broker-{leader}")
        cluster.wait_in_sync()
        load.wait_acknowledged(GO_ON)
    assert_clean(load.report())


def test_the_active_controller_paused_until_another_leads(cluster: Running) -> None:
    with workload(cluster, "paused-controller") as load:
        load.wait_acknowledged(GO_ON)
        former = cluster.active_controller()
        cluster.pause(former)
        try:
            cluster.wait_active_controller(other_than=former)
            load.wait_acknowledged(GO_ON)
        finally:
            cluster.resume(former)
        cluster.wait_in_sync()
        load.wait_acknowledged(GO_ON)
    assert_clean(load.report())


def test_brokers_told_to_stop_hand_over_first(cluster: Running) -> None:
    """A controlled shutdown: no produce fails, as far as a client with its default retries sees."""
    with workload(cluster, "stopped") as load:
        for name in cluster.brokers:
            load.wait_acknowledged(GO_ON)
            cluster.stop(name)
            load.wait_acknowledged(GO_ON)
            cluster.start(name)
            cluster.wait_in_sync()
    assert_clean(load.report())


def test_the_whole_cluster_stopped_and_started_again(cluster: Running) -> None:
    with workload(cluster, "kept") as load:
        load.wait_acknowledged(GO_ON)
    before = {each.name: each for each in cluster.topics()}
    cluster.do(cluster.cluster.stop())
    cluster.do(cluster.cluster.start())
    cluster.wait_in_sync()
    after = {each.name: each for each in cluster.topics()}
    assert {name: each.topic_id for name, each in after.items()} == {
        name: each.topic_id for name, each in before.items()
    }
    assert_clean(load.report())
    with Workload(cluster.bootstrap, "kept", PARTITIONS) as more:
        more.wait_acknowledged(GO_ON)


def test_all_killed_at_once(cluster: Running) -> None:
    """A power cut that spares the disks: what was acknowledged is there when they are back."""
    with workload(cluster, "cut") as load:
        load.wait_acknowledged(GO_ON)
    for name in (*cluster.controllers, *cluster.brokers):
        cluster.kill(name)
    cluster.do(cluster.cluster.start())
    cluster.wait_in_sync()
    read = read_back(cluster.bootstrap, "cut", PARTITIONS)
    assert_clean(check(load.acknowledged, read))
