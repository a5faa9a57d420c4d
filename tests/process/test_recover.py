"""A majority of the voters is lost for good: the survivor goes on, old ones stay out (7.2)."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from klamm.client.client import ControllerClient
from klamm.v1 import records_pb2
from tests.process.test_members import CALL_MS, Quorum, _registration, registered
from tests.unit.recovery.test_restore import ID, SOURCE, prepare

pytestmark = pytest.mark.process


@pytest.fixture
def quorum(tmp_path: Path) -> Iterator[Quorum]:
    it = Quorum(tmp_path)
    try:
        it.first()
        yield it
    finally:
        it.close()


async def register(quorum: Quorum, *brokers: int, fat: bool = False) -> None:
    """Registrations of brokers that never were; fat ones fill the log, four kilobytes each."""
    client = ControllerClient(tuple(quorum.addresses.values()))
    try:
        cluster_id = quorum.describe()["cluster_id"]
        for broker in brokers:
            request = _registration(cluster_id, broker)
            if fat:
                endpoints = [
                    records_pb2.Endpoint(name=str(each), host="h" * 255, port=9_092)
                    for each in range(15)
                ]
                request.endpoints.extend(endpoints)
            await client.register_broker(request, timeout_ms=CALL_MS)
    finally:
        await client.close()


@pytest.mark.timeout(600)
def test_one_of_three_goes_on_and_an_old_one_with_a_longer_log_stays_out(
    quorum: Quorum, tmp_path: Path
) -> None:
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    for node in (2, 3):
        quorum.join(node, tmp_path / str(node))
    asyncio.run(register(quorum, 1_001))
    quorum.wait(lambda: quorum.has_all(3), "the survivor to have it")
    quorum.kill(3)
    asyncio.run(register(quorum, 1_002))  # The survivor will never have heard of it.
    quorum.kill(2)
    shutil.rmtree(tmp_path / "2")
    data = str(tmp_path / "3" / "data")
    recover = ("quorum", "recover", "--dir", data)
    quorum.wait(lambda: quorum._run(*recover, "--dry-run")[0] == 0, "the lock to be free")
    refused = ("quorum", "recover", "--dir", str(tmp_path / "1" / "data"), "--dry-run")
    assert "in use by another process" in quorum.klamm(*refused, fails=True)
    quorum.kill(1)
    told = json.loads(quorum.klamm(*recover, "--yes", "-o", "json"))
    assert told["chosen"] == 3
    account = json.loads(Path(told["account"]).read_text())
    assert {each["id"] for each in account["removed_voters"]} == {1, 2}
    del quorum.addresses[2]
    quorum.start(3, tmp_path / "3")
    quorum.wait(lambda: quorum.voters() == [3], "the survivor to lead")
    asyncio.run(register(quorum, 1_003))
    _the_old_one_stays_out(quorum, tmp_path)
    quorum.join(2, tmp_path / "2")
    assert quorum.voters() == [2, 3]
    there = asyncio.run(registered((quorum.addresses[3],)))
    assert {1_001, 1_003} <= there
    assert 1_002 not in there


def _the_old_one_stays_out(quorum: Quorum, root: Path) -> None:
    quorum.start(1, root / "1")
    quorum.wait(lambda: 1 in quorum.observers(), "the old one to follow")
    described = quorum.describe()
    assert described["leader_id"] == 3
    assert [each["id"] for each in described["current_voters"]] == [3]
    assert "removed" in quorum.change("add", 1, fails=True)


SMALL = {
    "metadata.log.segment.bytes": "65536",
    "metadata.log.max.record.bytes.between.snapshots": "32768",
    "metadata.max.retention.bytes": "131072",
}


@pytest.mark.timeout(600)
def test_it_asks_before_it_changes_anything_and_a_majority_needs_it_not(tmp_path: Path) -> None:
    """Survivors whose logs begin at a snapshot."""
    quorum = Quorum(tmp_path)
    try:
        _three_with_snapshots(quorum, tmp_path)
        brokers = asyncio.run(registered(tuple(quorum.addresses.values())))
        cluster_id = quorum.describe()["cluster_id"]
        for node in (1, 2, 3):
            quorum.kill(node)
        one, two, three = (str(tmp_path / each / "data") for each in "123")
        (tmp_path / "2" / "data" / ".lock").unlink()  # As in a copy of the directory.
        before = _everything(tmp_path)
        pair, alone = ("--dir", one, "--dir", two), ("--dir", three)
        recover = ("quorum", "recover")
        told = json.loads(quorum.klamm(*recover, *pair, "--dry-run", "-o", "json"))
        assert told["has_majority"]
        assert {each["log_start_offset"] > 0 for each in told["survivors"]} == {True}
        assert "A majority of the voters" in quorum.klamm(*recover, *pair, "--yes", fails=True)
        asked = quorum.klamm(*recover, *alone, typed="yes\n", fails=True)
        assert "Type the cluster's id to go on" in asked
        assert "That is not the cluster's id. Nothing was changed." in asked
        assert _everything(tmp_path) == before
        done = quorum.klamm(*recover, *alone, typed=f"{cluster_id}\n")
        assert "Node 3 is the only voter" in done
        del quorum.addresses[1], quorum.addresses[2]
        quorum.start(3, tmp_path / "3")
        quorum.wait(lambda: quorum.voters() == [3], "the survivor to lead")
        assert asyncio.run(registered((quorum.addresses[3],))) == brokers
    finally:
        quorum.close()


def _three_with_snapshots(quorum: Quorum, root: Path) -> None:
    more = [word for key, value in SMALL.items() for word in ("--override", f"{key}={value}")]
    quorum.klamm("format", "--dir", str(root / "1"), "--id", "1", *more)
    quorum._found(1, root / "1")
    quorum.start(1, root / "1")
    quorum.wait(lambda: quorum.leader() == 1, "the first leader")
    for node in (2, 3):
        quorum.join(node, root / str(node), *more)
    begun = 1_000

    def all_begin_later() -> bool:
        nonlocal begun
        asyncio.run(register(quorum, *range(begun, begun + 20), fat=True))
        begun += 20
        return all(_begins_at(root / each) > 0 for each in "123")

    quorum.wait(all_begin_later, "all three logs to begin at a snapshot")


def _begins_at(where: Path) -> int:
    """The first offset of the metadata log."""
    return min(int(each.stem) for each in where.glob("data/__cluster_metadata-0/*.log"))


def _everything(root: Path) -> dict[Path, tuple[int, bytes]]:
    """All files of all directories, with the time of their last change."""
    files = [each for each in root.rglob("data/**/*") if each.is_file()]
    return {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in files}


@pytest.mark.timeout(300)
def test_a_snapshot_is_restored_into_a_new_cluster(tmp_path: Path) -> None:
    _, data = prepare()
    source = tmp_path / SOURCE.name
    source.write_bytes(data)
    quorum = Quorum(tmp_path)
    try:
        where = tmp_path / "1"
        quorum.klamm("format", "--dir", str(where), "--id", "1", "--cluster-id", "another")
        restored = ("metadata", "restore", "--from", str(source), "--dir", str(where))
        source.write_bytes(data[:-1])
        assert SOURCE.name in quorum.klamm(*restored, fails=True)
        source.write_bytes(data)
        quorum.klamm(*restored)
        assert "already" in quorum.klamm(*restored, fails=True)
        quorum._found(1, where)
        quorum.start(1, where)
        quorum.wait(lambda: quorum.voters() == [1], "the only voter")
        described = quorum.describe()
        assert described["cluster_id"] == "another"
        assert described["high_watermark"] > ID.offset
    finally:
        quorum.close()
