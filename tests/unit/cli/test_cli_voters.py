"""`klamm quorum add|remove|replace|update`, `klamm format`: from arguments to output."""

import json
from pathlib import Path

import pytest
from fake_controllers import FakeControllers

from klamm.cli.app import run
from klamm.cli.voters import told as shown
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import records_pb2 as records

HERE = ("--controller", "c1:9093")


@pytest.fixture
def controllers() -> FakeControllers:
    return FakeControllers(
        results=[
            admin.ChangeVotersResponse(
                before=admin.FaultTolerance(voters=3, healthy=3, can_lose=1),
                after=admin.FaultTolerance(voters=2, healthy=2, can_lose=0),
                voters=[records.Voter(voter_id=1), records.Voter(voter_id=2)],
                committed_offset=42,
            )
        ]
    )


def test_a_change_says_what_the_quorum_bears(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quorum", "remove", "--id", "3", *HERE], controllers.world()) == 0
    told = capsys.readouterr().out
    assert "before: 3 voters, 3 healthy: 1 more may fail" in told
    assert "The voters are 1, 2, as of offset 41." in told
    request = controllers.asked[0]
    assert request.remove.voter_id == 3
    assert not request.dry_run


def test_a_dry_run_is_one_and_json_is_the_answer(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quorum", "add", "--id", "4", "--dry-run", "-o", "json", *HERE]
    assert run(words, controllers.world()) == 0
    assert json.loads(capsys.readouterr().out)["after"]["healthy"] == 2
    assert controllers.asked[0].dry_run
    assert controllers.asked[0].add.voter_id == 4


def test_a_dry_run_that_would_be_refused_shows_what_it_would_leave() -> None:
    answer = admin.ChangeVotersResponse(refusal="of the 2 voters that there would be, 1 is heard")
    answer.before.CopyFrom(admin.FaultTolerance(voters=1, healthy=1, can_lose=0))
    answer.after.CopyFrom(admin.FaultTolerance(voters=2, healthy=1, can_lose=-1))
    assert shown(answer, dry_run=True).splitlines() == [
        "before: 1 voter, 1 healthy: 0 more may fail",
        "after:  2 voters, 1 healthy: no majority",
        "It would be refused: of the 2 voters that there would be, 1 is heard.",
    ]


def test_an_update_needs_an_address(controllers: FakeControllers) -> None:
    assert run(["quorum", "update", "--id", "4", *HERE], controllers.world()) == 2
    words = ["quorum", "update", "--id", "4", "--endpoint", "h:9093", *HERE]
    assert run(words, controllers.world()) == 0
    assert controllers.asked[0].update.endpoint.port == 9093


def test_format_writes_a_directory_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["format", "--dir", str(tmp_path / "one"), "--id", "7"]
    assert run(words) == 0
    text = (tmp_path / "one" / "server.properties").read_text()
    assert "node.id=7" in text
    assert "controller.quorum.voters=7@127.0.0.1:" in text
    assert (tmp_path / "one" / "data" / "meta.properties").exists()
    assert "klamm join" in capsys.readouterr().out
    assert run(words) == 1
    assert "formatted already" in capsys.readouterr().err
