"""What a stranger does wrong in the first minutes: one sentence, what it is about, what to do."""

import shutil
import sys
from pathlib import Path

import pytest
from fake_controllers import FakeControllers

from klamm.cli import kafka, tour_script
from klamm.cli.app import run
from klamm.errors import CommitUnknownError, StartError
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import records_pb2 as records
from klamm.v1.quorum_pb2 import DescribeQuorumResponse

MOCKED = {"test.mock.num.brokers": 1}
"""A broker within librdkafka, which knows no topic."""


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAMM_STATE_DIR", str(tmp_path / "state"))


@pytest.mark.parametrize("option", [["--controllers", "0"], ["--brokers", "101"]])
def test_too_few_and_too_many_nodes(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", *option]) == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--detach"]])
def test_a_file_in_the_place_of_a_directory(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    assert run(["up", "--dir", str(path), *more]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"klamm: Cannot use the directory {path}: Not a directory")
    assert said.endswith("Name another with --dir.\n")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("words", [["format"], ["join", "--id", "4", "--controller", "c:1"]])
def test_a_whole_clusters_directory_is_no_controllers(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "layout.json").write_text("{}")
    assert run([*words, "--dir", str(tmp_path)], FakeControllers().world()) == 1
    assert "the directory of a whole cluster" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["layout.json"]


def test_an_id_that_votes_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voters = [records.Voter(voter_id=each) for each in (1, 2, 3)]
    controllers = FakeControllers(quorum=DescribeQuorumResponse(voters=voters))
    where = tmp_path / "two"
    words = ["join", "--dir", str(where), "--id", "2", "--controller", "c:1"]
    assert run(words, controllers.world()) == 1
    said = capsys.readouterr().err
    assert "Controller 2 votes already" in said
    assert "--id" in said
    assert "--replace" in said
    assert not where.exists()


@pytest.mark.parametrize("words", [["roll"], ["kill", "broker-1"], ["start", "broker-1"]])
def test_nodes_of_a_cluster_that_nobody_keeps(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cluster.json").write_text(
        '{"cluster_id": "c", "controllers": [{"id": 1, "pid": null, "grpc": "a:1"}],'
        ' "brokers": [{"id": 1, "pid": null, "kafka": "b:1", "rack": "r"}]}'
    )
    assert run([*words, "--dir", str(tmp_path)], FakeControllers(down=True).world()) == 1
    assert capsys.readouterr().err == (
        f"klamm: No cluster is running in {tmp_path}: `klamm up --dir {tmp_path}` starts it.\n"
    )


def test_a_topic_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    config = kafka.client_config("nowhere:1", **MOCKED)
    sentence = "There is no topic nosuch .*: `klamm topics create nosuch` makes it"
    monkeypatch.setattr(kafka, "POLL_S", 0.01)
    with pytest.raises(StartError, match=sentence):
        kafka.produce(config, "nosuch", [(None, b"value")], None, 20)
    with pytest.raises(StartError, match=sentence):
        next(kafka.consume(config, "nosuch", None, from_beginning=True, timeout_s=20))


def test_a_refusal_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    results = [
        admin.CreateTopicResult(name="a", error_code=36, error_message="Topic 'a' already exists.")
    ]
    controllers = FakeControllers(results=results)
    words = ["topics", "create", "a", "--controller", "c:1"]
    assert run(words, controllers.world()) == 1
    assert capsys.readouterr().err == "klamm: a: Topic 'a' already exists (TOPIC_ALREADY_EXISTS).\n"


def test_what_may_have_happened_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    controllers = FakeControllers(refusal=CommitUnknownError("epoch 2 ended before it was known"))
    assert run(["quorum", "transfer", "--to", "3", "--controller", "c:1"], controllers.world()) == 1
    assert capsys.readouterr().err == (
        "klamm: epoch 2 ended before it was known. It may have happened, or may yet: look before "
        "you try again.\n"
    )


def test_the_tour_shows_commands_that_the_shell_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/klamm", "tour"])
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/klamm")
    assert tour_script._command() == "klamm"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert tour_script._command() == ".venv/bin/klamm"
