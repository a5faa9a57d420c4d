"""Who gets no answer is told what is known, and what to do next."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_controllers import FakeControllers

from klamm.cli.app import run
from klamm.cli.outside import Outside
from klamm.cluster import cluster_file
from klamm.cluster.layout import new_layout
from klamm.v1 import records_pb2 as records
from klamm.v1.quorum_pb2 import DescribeQuorumResponse


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAMM_STATE_DIR", str(tmp_path))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a cluster of three controllers, the first of which is down."""
    where = tmp_path / "cluster"
    where.mkdir()
    layout = new_layout(
        directory=where, cluster_id="c", controllers=3, ports=tuple(range(9092, 9104)), overrides={}
    )
    names = [each.name for each in (*layout.controllers, *layout.brokers)]
    pids = dict.fromkeys(names, 4711) | {"controller-1": None}
    cluster_file.write(layout, pids)
    return where


def world(*, up: int, leader: int = -1) -> Outside:
    """Three voters, of which so many say for themselves what they know; no question is answered."""
    asked: list[str] = []

    def connect(addresses: Sequence[str]) -> FakeControllers:
        if len(addresses) > 1:
            return FakeControllers(down=True)
        asked.extend(addresses)
        voters = [records.Voter(voter_id=each) for each in (1, 2, 3)]
        return FakeControllers(
            down=len(asked) > up,
            quorum=DescribeQuorumResponse(
                leader_id=leader, leader_epoch=4, voters=voters, responder_id=len(asked)
            ),
        )

    return Outside(connect=connect, find_controllers=lambda servers, timeout_s: ())


def said(capsys: pytest.CaptureFixture[str], it: Outside, *words: str) -> str:
    assert run([*words, "--timeout", "0.2"], it) == 3
    return capsys.readouterr().err


def test_a_lost_majority_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, world(up=1), "topics", "list", "--dir", str(directory))
    assert told == (
        "klamm: The quorum has no leader: of its 3 voters 1 (1) answered, and 2 are needed. "
        f"controller-1 down: `klamm start controller-1 --dir {directory}`. "
        "If too many are lost for good: `klamm quorum recover --help`.\n"
    )


def test_elsewhere_too(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, world(up=1), "topics", "list", "--controller", "a:1,b:2,c:3")
    assert "of its 3 voters 1 (1) answered, and 2 are needed. Start the others." in told


def test_a_leader_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, world(up=3, leader=2), "topics", "list", "--controller", "a:1,b:2,c:3")
    assert "Controller 2 leads, and did not answer within 0.2 s" in told
    assert "--timeout" in told


def test_nobody_at_all(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, world(up=0), "topics", "list", "--controller", "a:1,b:2")
    assert "No controller answered within 0.2 s; asked a:1, b:2. Are they controllers" in told
    told = said(capsys, world(up=0), "topics", "list", "--dir", str(directory))
    assert "`klamm start controller-1" in told


def test_a_cluster_that_is_down_is_not_waited_for(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = new_layout(
        directory=directory, cluster_id="c", controllers=2, ports=(1, 2, 3, 4, 5, 6), overrides={}
    )
    cluster_file.write(layout, {})
    asked: list[Sequence[str]] = []

    def connect(addresses: Sequence[str]) -> FakeControllers:
        asked.append(addresses)
        return FakeControllers(down=True)

    it = Outside(connect=connect, find_controllers=lambda servers, timeout_s: ())
    told = said(capsys, it, "topics", "list", "--dir", str(directory))
    assert told == (
        f"klamm: The cluster in {directory} is down: `klamm up --dir {directory}` starts it.\n"
    )
    assert all(len(each) == 1 for each in asked), "a look at each, and no question"


def test_controllers_that_are_down_beside_brokers_are_to_be_started(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`klamm up` would say that the cluster is running."""
    layout = new_layout(
        directory=directory, cluster_id="c", controllers=2, ports=(1, 2, 3, 4, 5, 6), overrides={}
    )
    cluster_file.write(layout, {"broker-1": 4711})
    told = said(capsys, world(up=0), "topics", "list", "--dir", str(directory))
    assert f"controller-1, controller-2 down: `klamm start controller-1 --dir {directory}`" in told
    assert "klamm up" not in told


def test_status_shows_the_processes_without_a_leader(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--dir", str(directory), "--timeout", "0.2"], world(up=2)) == 3
    out, err = capsys.readouterr()
    assert "The quorum has no leader" in err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["NODE", "PROCESS", "ADDRESS", "PID"]
    assert ["controller-1", "down"] in [each[:2] for each in rows]
    assert ["controller-2", "running"] in [each[:2] for each in rows]


def test_no_controller_is_added_to_a_quorum_without_a_leader(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started, so that nothing is left of it."""
    monkeypatch.setattr("klamm.cluster.keeper.change", None)
    monkeypatch.setattr("klamm.cluster.keeper.keeps", lambda directory: True)
    leaderless = FakeControllers(quorum=DescribeQuorumResponse(leader_id=-1))
    told = said(capsys, leaderless.world(), "quorum", "add", "--dir", str(directory))
    assert "The quorum has no leader" in told
