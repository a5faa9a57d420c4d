"""Scenario 63: nodes of several versions in one cluster.

Rolled up and down under faults, they have one history and one state; a version that puts in force
what another does not know stops that one, by name.
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from klamm.cluster.cluster import LocalCluster
from klamm.cluster.layout import NodeKind, NodeLayout
from klamm.cluster.node_process import python_module
from klamm.errors import StartError
from klamm.ids import Epoch, Offset
from klamm.log.record_batch import build_batch, iter_batches
from klamm.metadata.codec import encode
from klamm.metadata.records import Cause, FeatureLevelRecord
from tests.process import other_version
from tests.process.namespaces.network import Unavailable, network
from tests.process.namespaces.trial import Trial

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

FAULT_S = 12.0
DEADLINE_S = 60.0
SAID = f"the feature {other_version.FEATURE} is in force, level 1, and this version does not know"


async def test_versions_are_mixed_and_rolled_under_faults(tmp_path: Path) -> None:
    """One history, one log and one state in the end, whoever led, and whoever wrote."""
    try:
        with network((1,)):
            pass
    except Unavailable as why:
        pytest.skip(str(why))
    seed = random.randrange(1 << 32)
    await Trial(tmp_path / "run", seed, FAULT_S, of_versions=True).run()


class Versions:
    """A cluster's nodes by kind, each kind of the version that is set."""

    def __init__(self) -> None:
        self.of = dict.fromkeys(NodeKind, other_version.PRESENT)

    def command(self, node: NodeLayout, properties: Path) -> Sequence[str]:
        version = self.of[node.kind]
        if version == other_version.PRESENT:
            return python_module(node, properties)
        return (sys.executable, other_version.__file__, version, node.kind.value, str(properties))


def put_in_force(log: Path, record: FeatureLevelRecord) -> None:
    """As the leader of a later version would write it; the node is down."""
    data = log.read_bytes()
    last = max((header for header, _ in iter_batches(data)), key=lambda each: each.last_offset)
    (written,) = [encode((record,), Cause(principal="User:later", request="UpdateFeatures"))]
    batch = build_batch(
        written,
        base_offset=Offset(last.next_offset),
        leader_epoch=Epoch(last.leader_epoch),
        timestamp_ms=last.max_timestamp_ms,
        base_sequence=last.leader_epoch,
    )
    log.write_bytes(data + batch)


async def test_who_does_not_know_a_feature_in_force_stops_and_says_so(tmp_path: Path) -> None:
    """A controller and a broker, and neither loses anything: the later version goes on."""
    versions = Versions()
    opened = LocalCluster.open(
        tmp_path / "dir", controllers=1, brokers=1, base_port=0, command=versions.command
    )
    async with opened as cluster:
        await cluster.start()
        await cluster.stop_node("controller-1")
        (log,) = (tmp_path / "dir" / "controller-1").rglob("__cluster_metadata-0/*.log")
        put_in_force(log, FeatureLevelRecord(name=other_version.FEATURE, level=1))
        with pytest.raises(StartError, match=SAID):
            await cluster.start_node("controller-1")
        written = log.read_bytes().rstrip(b"\0")
        versions.of[NodeKind.CONTROLLER] = other_version.LATER
        await cluster.start_node("controller-1")
        assert log.read_bytes().startswith(written), "whoever stopped has cut nothing"

        async def broker_ended() -> bool:
            return not cluster.node("broker-1").running

        await cluster.until(broker_ended, "the broker to stop", DEADLINE_S)
        assert SAID in cluster.node("broker-1").log_file.read_text()
        versions.of[NodeKind.BROKER] = other_version.LATER
        await cluster.start_node("broker-1")
        assert other_version.UNKNOWN_FIELDS in log.read_bytes()
    for each in (tmp_path / "dir" / "logs").glob("*.log"):
        assert "Traceback" not in each.read_text()
