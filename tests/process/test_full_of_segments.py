"""Scenario 41: a disk full of old segments; they make way, and nobody has to come."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.config_writer import begins_at, create_topics, open_writer, values
from tests.process.running import Running, running
from tests.process.small_disks import fill, small_disk

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

KEYS = {
    "metadata.log.segment.bytes": "65536",
    "metadata.log.max.record.bytes.between.snapshots": "65536",
}
"""What is kept of old segments is limited by the disk alone: 100 MB are allowed, it has four."""

FULL = "the disk is full, or no open file is left"
ROOM_BYTES = 2 * 1024 * 1024
"""Twice what is fetched at once."""
DEADLINE_S = 90.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("segments") / "dir", KEYS) as it:
        create_topics(it)
        yield it


def data_of(cluster: Running, name: str) -> Path:
    return cluster.directory / name / "data"


def test_old_segments_make_way_on_a_full_disk(cluster: Running) -> None:
    """The log is full of what snapshots include: it begins later, and goes on."""
    active = cluster.active_controller()
    victim, other = (each for each in cluster.controllers if each != active)
    cluster.stop(victim)
    with small_disk(data_of(cluster, victim)):
        cluster.start(victim)
        lives = cluster.log(victim).count("quorum opened")
        fill(data_of(cluster, victim) / "ballast", but_bytes=ROOM_BYTES)
        writer = cluster.do(open_writer(cluster))

        async def full() -> bool:
            await writer.write(5)
            return FULL in cluster.log(victim)

        cluster.until(full, f"the disk of {victim} to be full", DEADLINE_S)

        async def later() -> bool:
            await writer.write(1)
            return begins_at(cluster, victim) > 0

        cluster.until(later, f"the log of {victim} to begin later", DEADLINE_S)
        # Each commit needs it now; what it did not write while the disk was full too.
        cluster.kill(other)

        async def written() -> bool:
            await writer.write(1)
            return True

        for _ in range(20):
            cluster.until(written, f"a write with {victim}", DEADLINE_S)
        cluster.do(writer.close())
        assert values(cluster) == {str(writer.value)}
        assert cluster.log(victim).count("quorum opened") == lives, "it never restarted"
        cluster.start(other)
        cluster.stop(victim)
