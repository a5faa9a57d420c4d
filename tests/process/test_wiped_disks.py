"""Most of a static quorum's disks are wiped at once: nothing acknowledged is lost (KAFKA-14077).

Scenario 19, kraft.md 7.2 (10). The controllers are configured by `controller.quorum.voters`, and
nobody has formatted their directories: the wiped ones come back as new as they once were. They must
not begin a second history, and the one that has kept its disk cannot go on without a majority. So
all stop, say what to do, and go on with what was kept once an administrator has said so.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from klamm.cluster.cluster import LocalCluster
from klamm.cluster.node_process import node_environment
from tests.process.running import Running, not_ready, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

DEADLINE_S = 60.0
NOBODY_LEADS = "no active controller is known"
NEW = "the disk is new"
SAYS = "no leader for long: most of the voters must be there"
TOPICS = [f"kept-{each}" for each in range(5)]


def unformat(cluster: LocalCluster) -> None:
    """As directories are that nobody has made with `klamm format`."""
    for each in cluster.layout.controllers:
        shutil.rmtree(cluster.layout.directory / each.name / "data")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("wiped") / "dir", prepare=unformat) as it:
        yield it


def port_of(cluster: Running, name: str) -> int:
    """Where it says whether it is ready."""
    return cluster.cluster.node(name).layout.http_port


def start(cluster: Running, name: str) -> None:
    """And do not wait until it is ready: that need not come."""
    cluster.do(cluster.cluster.node(name).start())


def recover(directory: Path) -> str:
    """What it says; an assertion that it was done."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "klamm.cli"),
            *("quorum", "recover", "--dir", str(directory), "--yes"),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=node_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_of_three_disks_are_wiped_and_nothing_acknowledged_is_lost(cluster: Running) -> None:
    for name in TOPICS:
        cluster.create_topic(name, 1)
    kept = cluster.active_controller()
    wiped = [each for each in cluster.controllers if each != kept]
    for name in cluster.controllers:
        cluster.kill(name)
    for name in wiped:
        shutil.rmtree(cluster.directory / name / "data")
        start(cluster, name)

    async def the_wiped_wait() -> bool:
        return all(NEW in not_ready(port_of(cluster, each)) for each in wiped)

    async def say_what_to_do(names: list[str]) -> bool:
        return all(SAYS in cluster.log(each) for each in names)

    # They are a majority, and meet each other: without a doubt they would begin anew.
    cluster.until(the_wiped_wait, "the wiped ones to say that they have no vote", DEADLINE_S)
    cluster.until(lambda: say_what_to_do(wiped), "them to say what is to be done", DEADLINE_S)
    start(cluster, kept)
    cluster.until(lambda: say_what_to_do([kept]), "the kept one to say so too", DEADLINE_S)
    for name in cluster.controllers:
        assert NOBODY_LEADS in not_ready(port_of(cluster, name))
    assert all(NEW in not_ready(port_of(cluster, each)) for each in wiped)

    for name in cluster.controllers:
        cluster.stop(name)
    recover(cluster.directory / kept / "data")
    cluster.start(kept)
    assert {each.name for each in cluster.topics()} == set(TOPICS)
    cluster.create_topic("after", 1)
