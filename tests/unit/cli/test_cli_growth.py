"""`klamm quorum add` and `remove` beside `klamm up`: processes and votes, in the right order."""

import json
from pathlib import Path

import pytest
from fake_controllers import FakeControllers

from klamm.cli.app import run
from klamm.cluster import cluster_file, keeper
from klamm.cluster.layout import new_layout
from klamm.errors import ApiError, ErrorCode, StartError
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import quorum_pb2 as quorum
from klamm.v1 import records_pb2 as records


class Kept:
    """A cluster of two controllers, and a keeper that does as it is told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told: list[tuple[str, str]] = []
        self.there = True
        self.layout = new_layout(
            directory=directory,
            cluster_id="c",
            controllers=2,
            ports=(9092, 9093, 9094, 9644, 9645, 9646),
            overrides={},
        )
        directory.mkdir()
        cluster_file.write(self.layout, {"controller-1": 4711})
        self.controllers = FakeControllers(
            results=[
                admin.ChangeVotersResponse(
                    before=admin.FaultTolerance(voters=2, healthy=2, can_lose=0),
                    after=admin.FaultTolerance(voters=3, healthy=3, can_lose=1),
                    voters=[records.Voter(voter_id=each) for each in (1, 2, 4)],
                    committed_offset=42,
                )
            ],
            quorum=quorum.DescribeQuorumResponse(
                voters=[records.Voter(voter_id=1), records.Voter(voter_id=2)]
            ),
        )

    def change(self, directory: Path, command: str, node: str) -> None:
        """Of the keeper."""
        assert directory == self.directory
        self.told.append((command, node))

    def run(self, *words: str) -> int:
        there = ("--dir", str(self.directory))
        return run(["quorum", *words, *there], self.controllers.world())

    @property
    def changes(self) -> list[admin.ChangeVotersRequest]:
        asked = self.controllers.asked
        return [each for each in asked if isinstance(each, admin.ChangeVotersRequest)]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    made = Kept(tmp_path / "cluster")
    monkeypatch.setattr(keeper, "change", made.change)
    monkeypatch.setattr(keeper, "keeps", lambda _: made.there)
    return made


def test_one_more_gets_an_id_that_nobody_had_and_a_vote(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept.directory / "controller-3").mkdir()
    assert kept.run("add", "-o", "json") == 0
    assert kept.told == [("add", "controller-4")]
    assert [each.add.voter_id for each in kept.changes] == [4]
    assert json.loads(capsys.readouterr().out)["after"]["healthy"] == 3


def test_one_that_is_not_let_in_is_told_of(
    kept: Kept, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> admin.ChangeVotersResponse:
        raise ApiError(ErrorCode.REQUEST_TIMED_OUT, "3 lacks 7 records.")

    monkeypatch.setattr(FakeControllers, "change_voters", refuse)
    assert kept.run("add") == 1
    told = capsys.readouterr().err
    assert "3 lacks 7 records. controller-3 runs, and has no vote" in told
    assert "`klamm quorum add --id 3` tries again" in told


def test_one_less_votes_no_more_and_is_stopped_then(kept: Kept) -> None:
    assert kept.run("remove", "--id", "2") == 0
    assert [each.remove.voter_id for each in kept.changes] == [2]
    assert kept.told == [("remove", "controller-2")]


def test_one_without_a_vote_is_stopped_all_the_same(kept: Kept) -> None:
    del kept.controllers.quorum.voters[1]
    assert kept.run("remove", "--id", "2") == 0
    assert not kept.changes
    assert kept.told == [("remove", "controller-2")]


def test_a_vote_that_cannot_be_taken_keeps_its_process(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> admin.ChangeVotersResponse:
        raise ApiError(ErrorCode.VOTER_NOT_FOUND, "2 is the only voter.")

    monkeypatch.setattr(FakeControllers, "change_voters", refuse)
    assert kept.run("remove", "--id", "2") == 1
    assert not kept.told


@pytest.mark.parametrize("words", [("--id", "7"), ("--id", "2", "--dry-run")])
def test_who_is_no_process_here_and_a_dry_run_are_about_votes_only(
    kept: Kept, words: tuple[str, ...]
) -> None:
    assert kept.run("remove", *words) == 0
    assert len(kept.changes) == 1
    assert not kept.told


def test_where_nobody_keeps_the_cluster_only_the_vote_is_taken(kept: Kept) -> None:
    kept.there = False
    assert kept.run("remove", "--id", "2") == 0
    assert len(kept.changes) == 1
    assert not kept.told


def test_a_process_that_does_not_come_up_changes_no_votes(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StartError("controller-3 ended as it started.")

    monkeypatch.setattr(keeper, "change", fail)
    assert kept.run("add") == 1
    assert not kept.changes


def test_elsewhere_an_id_is_needed(kept: Kept) -> None:
    words = ["quorum", "add", "--controller", "c1:9093"]
    assert run(words, kept.controllers.world()) == 2
    assert kept.run("add", "--dry-run") == 2
    assert not kept.told
