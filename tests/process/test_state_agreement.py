"""Controllers and brokers agree on one state, by a record in the log (scenarios 24 and 72)."""

import re
import urllib.request
from collections.abc import Iterator

import pytest

from tests.process.running import Running, running

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

VERIFIED = "klamm_state_checksum_verified_offset"
DISAGREES = "klamm_state_checksum_disagrees"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("agreement") / "dir") as it:
        yield it


def shown(cluster: Running, name: str) -> dict[str, float]:
    """A node's figures of the state; none while it does not answer."""
    url = f"http://{cluster.cluster.node(name).layout.http_address}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            page = answer.read().decode()
    except OSError:
        return {}
    lines = re.findall(rf"^({VERIFIED}|{DISAGREES}) (\S+)$", page, re.MULTILINE)
    return {key: float(value) for key, value in lines}


def test_all_nodes_verify_what_the_leader_states(cluster: Running) -> None:
    """A leader states soon after it claims: all have verified an offset behind the topic's."""
    cluster.create_topic("orders", 12)
    leader = cluster.active_controller()
    before = shown(cluster, leader)[VERIFIED]
    cluster.stop(leader)
    cluster.start(leader)
    names = [*cluster.controllers, *cluster.brokers]

    async def verified() -> bool:
        return all(shown(cluster, name).get(VERIFIED, -1) > max(before, 0) for name in names)

    cluster.until(verified, "all nodes verify the state", 60)
    assert [shown(cluster, name)[DISAGREES] for name in names] == [0.0] * len(names)
