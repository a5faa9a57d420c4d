"""A broker whose state is another ends, and is whole after a restart (scenarios 24 and 72).

Row 14 of kraft.md 7.2; see also tests/unit/control/test_broker_verification.py.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from klamm.cluster.cluster import LocalCluster
from klamm.cluster.layout import NodeLayout
from klamm.cluster.node_process import python_module
from tests.process import wrong_memory
from tests.process.running import Running, running
from tests.process.test_state_agreement import DISAGREES, shown
from tests.process.test_state_rebuilt import hand_over

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

VICTIM = "broker-1"
WAIT_S = 60.0


def wrong(node: NodeLayout, properties: Path) -> Sequence[str]:
    del node
    return (sys.executable, wrong_memory.__file__, str(properties))


def plant(cluster: LocalCluster) -> None:
    cluster.node(VICTIM)._command = wrong


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("wrong") / "dir", prepare=plant) as it:
        yield it


def test_a_broker_that_is_wrong_ends_and_is_whole_after_a_restart(cluster: Running) -> None:
    victim = cluster.cluster.node(VICTIM)
    cluster.create_topic("orders", 3)
    cluster.create_topic(wrong_memory.MISREAD, 3, retention_ms="60000")
    leader = cluster.active_controller()
    # Who begins to lead states, within a second, what the state is.
    hand_over(cluster, next(each for each in cluster.controllers if each != leader))

    async def ended() -> bool:
        return not victim.running

    cluster.until(ended, f"{VICTIM} to end", WAIT_S)
    assert "the state of this broker is not the one of the log" in cluster.log(VICTIM)
    cluster.wait_fenced(1, WAIT_S)
    others = [each for each in (*cluster.controllers, *cluster.brokers) if each != VICTIM]
    assert [shown(cluster, each)[DISAGREES] for each in others] == [0.0] * len(others)

    victim._command = python_module
    cluster.start(VICTIM)
    cluster.wait_in_sync()
    assert shown(cluster, VICTIM)[DISAGREES] == 0
    assert cluster.tracebacks() == []
