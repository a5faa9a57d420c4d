"""`klamm metadata backup`: FILE is what it was, or the whole backup; nothing else is left."""

import errno
import json
import os
import random
from pathlib import Path

import pytest
from fake_controllers import FakeControllers
from typer.testing import CliRunner

from klamm.cli.app import app, run
from klamm.cli.backup import keep
from klamm.log.checkpoint import write_atomically
from klamm.log.files import SystemFile, SystemFiles
from klamm.metadata.backup import read
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.metadata.histories import history
from tests.unit.metadata.test_backup_file import backup_of

HERE = ("--controller", "c1:9093")
IMAGE = history(random.Random(4), 120)[1]
DATA = backup_of(IMAGE)


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAMM_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups"


def back_up(path: Path, *more: str, sends: tuple[bytes, ...] = (DATA,)) -> int:
    controllers = FakeControllers(backups=list(sends))
    words = ["metadata", "backup", str(path), *more, *HERE]
    return run(words, controllers.world())


def test_it_says_what_it_has_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "monday.klamm"
    assert back_up(path, "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert path.read_bytes() == DATA
    assert told == {
        "file": str(path),
        "size_bytes": len(DATA),
        "record_count": read(SystemFiles(), path).record_count,
        "cluster_id": "orders",
        "offset": 120,
        "epoch": 1,
        "taken_timestamp_ms": 9,
        "taken_by": 2,
        "checksum": f"{IMAGE.checksum:032x}",
        "topic_count": len(IMAGE.topics.by_id),
        "partition_count": sum(len(each.partitions) for each in IMAGE.topics.by_id.values()),
        "broker_count": len(IMAGE.brokers),
    }
    assert back_up(path, "--force") == 0
    assert "the metadata of cluster orders up to offset 120 of epoch 1" in capsys.readouterr().out
    assert [each.name for each in folder.iterdir()] == ["monday.klamm"]


def test_what_begins_anew_at_another_controller_is_one_file(folder: Path) -> None:
    assert back_up(folder / "it", sends=(DATA[:-3], DATA)) == 0
    assert (folder / "it").read_bytes() == DATA


def test_a_file_that_is_there_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "monday.klamm"
    path.write_bytes(b"precious")
    assert back_up(path) == 1
    assert "is there already" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "sends", [(DATA[:-1],), (DATA[:100] + b"\1" + DATA[101:],), (backup_of(IMAGE, named=False),)]
)
def test_what_comes_damaged_gets_no_name(
    folder: Path, sends: tuple[bytes, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "monday.klamm"
    path.write_bytes(b"precious")
    assert back_up(path, "--force", sends=sends) == 1
    assert "What was received is damaged" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"
    assert [each.name for each in folder.iterdir()] == ["monday.klamm"]


def test_nobody_to_ask_is_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    controllers = FakeControllers(down=True)
    assert run(["metadata", "backup", str(folder / "it"), *HERE], controllers.world()) == 3
    assert "No controller answered" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_where_it_cannot_be_written_it_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert back_up(folder) == 1
    assert "is a directory" in capsys.readouterr().err
    assert back_up(folder / "nowhere" / "it") == 1
    assert f"There is no directory {folder / 'nowhere'}" in capsys.readouterr().err


@pytest.mark.parametrize("fails", ["append", "sync"])
def test_a_disk_that_is_full_leaves_what_was_there(
    folder: Path, fails: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SystemFile, fails, full)
    path = folder / "monday.klamm"
    path.write_bytes(b"precious")
    assert back_up(path, "--force") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"
    assert [each.name for each in folder.iterdir()] == ["monday.klamm"]


def test_a_power_cut_at_every_operation_leaves_the_old_one_or_the_new_one() -> None:
    path, part = Path("/backups/monday.klamm"), Path("/backups/.monday.klamm.7.part")
    olds = news = 0
    for operation in range(100):
        files = SimFiles()
        files.make_directory(path.parent)
        write_atomically(files, path, b"precious")
        file = files.open(part)
        file.append(DATA)
        files.crash_at_operation = files.operations + operation
        ended = True
        try:
            keep(files, file, part, path)
        except PowerCutError:
            ended = False
        files.crash(random.Random(operation))
        there = files.open(path)
        data = there.read_at(0, there.size)
        assert data in (b"precious", DATA)
        olds, news = olds + (data != DATA), news + (data == DATA)
        if ended:
            assert data == DATA, "it said that it was done"
            break
    assert olds > 1
    assert news > 0


def test_dump_reads_it_under_any_name(folder: Path) -> None:
    path = folder / "monday.klamm"
    path.write_bytes(DATA)
    shown = CliRunner().invoke(app, ["metadata", "dump", "--log-dir", str(path)])
    assert shown.exit_code == 0, shown.output
    lines = [json.loads(each) for each in shown.output.splitlines()]
    assert lines[0]["snapshot_header"]["backup"] == {
        "cluster_id": "orders",
        "end_offset": 120,
        "epoch": 1,
        "taken_timestamp_ms": 9,
        "taken_by": 2,
    }
    assert "snapshot_footer" in lines[-1]
    path.write_bytes(DATA[:-1])
    assert run(["metadata", "dump", "--log-dir", str(path)]) == 1
