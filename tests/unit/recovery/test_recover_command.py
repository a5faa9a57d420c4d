"""`klamm quorum recover` as a program: what it asks, what it refuses, and what it leaves alone.

kraft.md 7.2, 12. The directories stand on the real file system, as there is a lock in each.
"""

import asyncio
import io
import json
from pathlib import Path
from uuid import UUID

import pytest

from controller.recovery.__main__ import main
from controller.recovery.survey import _control, _told
from klamm.directory import LOCK, DataDirectory
from klamm.ids import NodeId
from klamm.log.files import SystemFiles
from klamm.v1 import records_pb2 as pb
from tests.unit.recovery.test_generation import CLUSTER, SNAPSHOT, node, path

Told = pytest.CaptureFixture[str]


@pytest.fixture
async def three(tmp_path: Path) -> dict[int, Path]:
    """Voters 1 to 3, the third with a snapshot in the place of its log's beginning."""
    files = SystemFiles()
    await node(files, 1, ((1, 30),), root=tmp_path)
    await node(files, 2, ((1, 39), (2, 3)), root=tmp_path)
    await node(files, 3, ((2, 5),), root=tmp_path, snapshot=SNAPSHOT)
    where = {each: path(each, tmp_path) for each in (1, 2, 3)}
    for each in (1, 2):
        DataDirectory.open(where[each], CLUSTER, NodeId(each)).close()
    return where


def everything(where: dict[int, Path]) -> dict[Path, tuple[int, bytes]]:
    """All files, with the time of their last change."""
    files = [each for root in where.values() for each in root.rglob("*") if each.is_file()]
    return {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in files}


def words(where: dict[int, Path], *nodes: int) -> list[str]:
    return [word for each in nodes for word in ("--dir", str(where[each]))]


def test_a_dry_run_changes_no_byte_and_makes_no_lock(three: dict[int, Path], capsys: Told) -> None:
    before = everything(three)
    assert (three[1] / LOCK) in before
    assert main([*words(three, 1, 2, 3), "--dry-run"]) == 0
    assert "Chosen: node 3, which would go on alone" in capsys.readouterr().out
    assert main([*words(three, 3), "--dry-run", "--output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["chosen"], told["has_majority"], told["account"]) == (3, False, None)
    assert told["unknown_from_offset"] == 45
    assert everything(three) == before
    assert not (three[3] / LOCK).exists()


async def test_a_survivor_that_has_no_vote_is_told(tmp_path: Path, capsys: Told) -> None:
    """Removed, or a standby: the voters of its log may all be well."""
    await node(SystemFiles(), 7, ((1, 3),), root=tmp_path)
    DataDirectory.open(path(7, tmp_path), CLUSTER, NodeId(7)).close()
    command = ["--dir", str(path(7, tmp_path)), "--dry-run"]
    assert await asyncio.to_thread(main, command) == 0
    told = capsys.readouterr().out
    assert "It has no vote by this log" in told
    assert "Are voters [1, 2, 3] lost for good?" in told


def test_a_voter_is_not_told_that_it_is_none(three: dict[int, Path], capsys: Told) -> None:
    assert main([*words(three, 1), "--dry-run"]) == 0
    assert "no vote" not in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "yes\n", f"{CLUSTER}x\n", f"not {CLUSTER}\n"])
def test_who_does_not_type_the_clusters_id_changes_nothing(
    three: dict[int, Path], typed: str, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(three)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(words(three, 3)) == 1
    told = capsys.readouterr()
    assert "Type the cluster's id to go on" in told.err
    assert "That is not the cluster's id. Nothing was changed." in told.err
    assert "Unknown from offset 45 on" in told.out, "it is told before it is asked"
    assert everything(three) == before


def test_who_does_begins_a_new_generation(
    three: dict[int, Path], capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {each: three[each] for each in (1, 2)}
    before = everything(others)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CLUSTER}\n"))
    assert main(words(three, 3)) == 0
    assert "Node 3 is the only voter, from epoch 1000002 on" in capsys.readouterr().out
    assert everything(others) == before
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main([*words(three, 3), "--yes"]) == 1, "alone, it is a majority now"
    assert "A majority of the voters is among" in capsys.readouterr().err


def test_a_majority_is_refused_whoever_insists(three: dict[int, Path], capsys: Told) -> None:
    before = everything(three)
    for nodes in ((1, 2), (1, 2, 3)):
        assert main([*words(three, *nodes), "--yes"]) == 1
        assert "start them, and they elect a leader with nothing lost" in capsys.readouterr().err
    assert everything(three) == before


def test_a_directory_in_use_is_refused(three: dict[int, Path], capsys: Told) -> None:
    used = DataDirectory.open(three[1], CLUSTER, NodeId(1))
    assert main([*words(three, 1, 3), "--dry-run"]) == 1
    used.close()
    assert "in use by another process" in capsys.readouterr().err
    assert main([*words(three, 1, 1), "--dry-run"]) == 1
    assert "A directory is named twice" in capsys.readouterr().err


def test_where_all_is_damaged_a_backup_is_the_way(three: dict[int, Path], capsys: Told) -> None:
    (log,) = three[3].glob("*/*.log")
    data = bytearray(log.read_bytes())
    data[80] ^= 1
    log.write_bytes(data)
    before = everything(three)
    assert main([*words(three, 3), "--yes"]) == 1
    told = capsys.readouterr()
    assert "! damaged, and not counted from there on" in told.out
    assert "klamm metadata restore" in told.err
    assert everything(three) == before


def test_records_are_told_as_ids_and_names_are_spelled_everywhere() -> None:
    """Who decides what may be lost reads it: no bytes, no numbers of kinds."""
    record = pb.MetadataRecord()
    record.topic.topic_id = UUID(int=5).bytes
    record.topic.name = "orders"
    assert (
        _told(record.SerializeToString()) == "topic(topic_id=AAAAAAAAAAAAAAAAAAAABQ, name=orders)"
    )
    several = pb.MetadataRecord()
    several.partition.topic_id = UUID(int=5).bytes
    several.partition.partitions.add(partition=1, replicas=[1, 2], leader=2)
    assert _told(several.SerializeToString()) == (
        "partition(topic_id=AAAAAAAAAAAAAAAAAAAABQ, "
        "partitions(partition=1, replicas=1, replicas=2, leader=2))"
    )
    assert _told(b"\xff") == "a record that cannot be read"
    assert (_control(2), _control(6), _control(99)) == (
        "leader_change",
        "voters",
        "control record 99",
    )
