"""The command line from its arguments to its output, against controllers that are not there."""

import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from fake_controllers import FakeControllers

from klamm.cli.app import run
from klamm.errors import ApiError, CommitUnknownError, ErrorCode
from klamm.ids import format_uuid
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import metadata_pb2 as metadata
from klamm.v1 import quorum_pb2 as quorum
from klamm.v1 import records_pb2 as records

TOPIC_ID = UUID(int=7)
HERE = ("--controller", "c1:9093,c2:9093")


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLAMM_STATE_DIR", str(tmp_path))


@pytest.fixture
def controllers() -> FakeControllers:
    partitions = [
        metadata.Partition(partition=0, leader_id=1, leader_epoch=4, replicas=[1, 2], isr=[1]),
        metadata.Partition(partition=1, leader_id=-1, leader_epoch=5, replicas=[2, 3], isr=[2, 3]),
    ]
    topic = metadata.Topic(
        topic_id=TOPIC_ID.bytes, name="orders", partitions=partitions, configs={"a.b": "c"}
    )
    broker = metadata.Broker(
        broker_id=1,
        broker_epoch=12,
        state=metadata.BROKER_STATE_ACTIVE,
        rack="r1",
        endpoints=[records.Endpoint(name="PLAINTEXT", host="::1", port=9092)],
        leader_count=2,
        replica_count=4,
    )
    return FakeControllers(topics=[topic], brokers=[broker])


def succeed(controllers: FakeControllers, *arguments: str) -> None:
    assert run([*arguments, *HERE], controllers.world()) == 0


def test_help_is_quick_to_import() -> None:
    """Nothing heavy is imported before a command runs: gRPC, clients, tables."""
    script = (
        "import sys, klamm.cli.app\n"
        "heavy = {'grpc', 'google.protobuf', 'confluent_kafka', 'rich', 'asyncio.subprocess',"
        " 'prometheus_client', 'klamm.v1'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in {"[]", "['asyncio.subprocess']"}


@pytest.mark.parametrize(
    "command",
    [
        "", "up", "down", "status", "kill", "stop", "pause", "resume", "start", "produce",
        "consume", "tour", "topics", "topics create", "topics list", "topics describe",
        "topics delete", "brokers list", "quorum describe", "quorum transfer",
        "roll", "metadata dump", "metadata backup", "metadata restore", "quorum recover",
        "config reference",
    ],
)  # fmt: skip
def test_every_command_helps_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Usage: klamm")
    assert command == "topics" or said.count(f"klamm {command}") >= 2, "the usage, and an example"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["topics", "create"],
        ["topics", "create", "a", "--partitions", "six"],
        ["topics", "create", "a", "--config", "novalue"],
        ["status", "--controller", "nowhere"],
        ["status", "--controller", ""],
        ["status", "--controller", "a:1", "--bootstrap-server", "b:2"],
        ["status", "-o", "xml"],
        ["up", "--override", "novalue"],
        ["up", "--base-port", "-1"],
        ["produce", "t", "--acks", "2", *HERE],
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str], controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, controllers.world()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err


def test_nobody_to_talk_to_is_status_3(
    controllers: FakeControllers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status"], controllers.world()) == 3
    assert "No cluster is known here" in capsys.readouterr().err
    assert run(["status", "--dir", str(tmp_path)], controllers.world()) == 3
    assert "holds no cluster" in capsys.readouterr().err
    controllers.down = True
    assert run(["topics", "list", *HERE, "--timeout", "0.5"], controllers.world()) == 3
    assert capsys.readouterr().err.startswith(
        "klamm: No controller answered within 0.5 s; asked c1:9093, c2:9093. Are they "
    )


def test_which_controllers_are_asked(controllers: FakeControllers, tmp_path: Path) -> None:
    succeed(controllers, "topics", "list")
    assert controllers.addresses == ("c1:9093", "c2:9093")
    assert run(["topics", "list", "--bootstrap-server", "b:1,[::1]:2"], controllers.world()) == 0
    assert controllers.addresses == ("controller-of-b:1,[::1]:2",)
    told = {
        "cluster_id": "c",
        "controllers": [{"id": 1, "pid": 5, "grpc": "127.0.0.1:9093"}],
        "brokers": [],
    }
    (tmp_path / "cluster.json").write_text(json.dumps(told))
    assert run(["topics", "list", "--dir", str(tmp_path)], controllers.world()) == 0
    assert controllers.addresses == ("127.0.0.1:9093",)
    (tmp_path / "last-cluster").write_text(f"{tmp_path}\n")
    controllers.addresses = ()
    assert run(["topics", "list"], controllers.world()) == 0
    assert controllers.addresses == ("127.0.0.1:9093",)
    assert controllers.asked[-1] == "close"


def test_create_a_topic(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    controllers.results = [
        admin.CreateTopicResult(
            name="a", topic_id=TOPIC_ID.bytes, num_partitions=6, replication_factor=3
        )
    ]
    succeed(controllers, "topics", "create", "a", "-p", "6", "-c", "x.y=1=2", "-o", "json")
    request = controllers.asked[0]
    assert (request.topics[0].num_partitions, request.topics[0].replication_factor) == (6, -1)
    assert dict(request.topics[0].configs) == {"x.y": "1=2"}
    assert json.loads(capsys.readouterr().out) == {
        "name": "a",
        "topic_id": format_uuid(TOPIC_ID),
        "partitions": 6,
        "replication_factor": 3,
        "configs": {},
    }


def test_a_refusal_is_a_sentence_and_status_1(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    code = ErrorCode.TOPIC_ALREADY_EXISTS
    controllers.results = [
        admin.CreateTopicResult(name="a", error_code=code, error_message="it is there")
    ]
    assert run(["topics", "create", "a", *HERE], controllers.world()) == 1
    assert capsys.readouterr().err == "klamm: a: it is there (TOPIC_ALREADY_EXISTS).\n"
    succeed(controllers, "topics", "create", "a", "--if-not-exists")


def test_delete_topics(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    controllers.results = [
        admin.DeleteTopicResult(name="a", topic_id=TOPIC_ID.bytes),
        admin.DeleteTopicResult(name="b", error_code=unknown),
    ]
    succeed(controllers, "topics", "delete", "a", "b", "--if-exists", "-o", "json")
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "topic_id": format_uuid(TOPIC_ID)}]
    assert run(["topics", "delete", "a", "b", *HERE], controllers.world()) == 1
    assert "b: refused (UNKNOWN_TOPIC_OR_PARTITION)" in capsys.readouterr().err


def test_list_topics_page_by_page(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.topics = [metadata.Topic(name=f"t{each}") for each in range(5)]
    controllers.page = 2
    succeed(controllers, "topics", "list", "-o", "json")
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == [
        "t0", "t1", "t2", "t3", "t4",
    ]  # fmt: skip
    succeed(controllers, "topics", "list")
    assert capsys.readouterr().out.split()[:2] == ["NAME", "TOPIC"]


def test_describe_topics(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    succeed(controllers, "topics", "describe", "orders", "-o", "json")
    topic = json.loads(capsys.readouterr().out)[0]
    assert topic["topic_id"] == format_uuid(TOPIC_ID)
    assert topic["configs"] == {"a.b": "c"}
    assert topic["partitions"][1] == {
        "partition": 1,
        "leader_id": -1,
        "leader_epoch": 5,
        "partition_epoch": 0,
        "replicas": [2, 3],
        "isr": [2, 3],
    }
    succeed(controllers, "topics", "describe", "--unavailable-partitions")
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split() == ["orders", "1", "none", "5", "2,3", "2,3"]
    succeed(controllers, "topics", "describe", "--under-replicated-partitions")
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["orders", "0"]
    assert run(["topics", "describe", "nope", *HERE], controllers.world()) == 1
    said = capsys.readouterr()
    assert said.out == "", "no table of nothing"
    assert "There is no topic nope." in said.err


def test_brokers(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    succeed(controllers, "brokers", "list", "-o", "json")
    assert json.loads(capsys.readouterr().out) == [
        {
            "id": 1,
            "state": "active",
            "rack": "r1",
            "listeners": {"PLAINTEXT": "[::1]:9092"},
            "leaders": 2,
            "replicas": 4,
            "broker_epoch": 12,
        }
    ]
    succeed(controllers, "brokers", "list")
    assert "PLAINTEXT://[::1]:9092" in capsys.readouterr().out


def test_status(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    succeed(controllers, "status", "-o", "json")
    told = json.loads(capsys.readouterr().out)
    assert (told["leader_id"], told["epoch"], told["offset"]) == (2, 3, 42)
    succeed(controllers, "status")
    said = capsys.readouterr().out
    assert "controller 2 leads epoch 3" in said
    assert "controller-2" in said


def test_status_calls_nobody_down_that_others_keep(
    controllers: FakeControllers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that joined a cluster of `klamm up` is no process of it, and votes all the same."""

    def row(kept: int) -> list[str]:
        nodes = [{"id": kept, "pid": None, "grpc": "127.0.0.1:9093"}]
        told = {"cluster_id": "c", "controllers": nodes, "brokers": []}
        (tmp_path / "cluster.json").write_text(json.dumps(told))
        assert run(["status", "--dir", str(tmp_path)], controllers.world()) == 0
        return capsys.readouterr().out.partition("controller-2")[2].splitlines()[0].split()

    assert row(kept=2) == ["down", "c2:9093", "-", "-"]
    assert row(kept=1) == ["active", "c2:9093", "-", "-"]


def the_quorum() -> quorum.DescribeQuorumResponse:
    def replica(node_id: int, end: int, caught_up_ms: int) -> quorum.ReplicaState:
        return quorum.ReplicaState(
            node_id=node_id,
            directory_id=UUID(int=node_id).bytes,
            log_end_offset=end,
            last_fetch_timestamp_ms=caught_up_ms,
            last_caught_up_timestamp_ms=caught_up_ms,
        )

    return quorum.DescribeQuorumResponse(
        cluster_id="the-cluster",
        leader_id=2,
        leader_epoch=3,
        high_watermark=99,
        current_voters=[replica(1, 100, 1_000), replica(2, 100, 1_000), replica(3, 90, 400)],
        observers=[replica(1, 99, 900)],
        voters=[
            records.Voter(
                voter_id=each,
                endpoint=records.Endpoint(name="CONTROLLER", host=f"c{each}", port=9093),
            )
            for each in (1, 2, 3)
        ],
    )


def test_leadership_is_transferred(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    succeed(controllers, "quorum", "transfer", "--to", "3")
    assert capsys.readouterr().out == "Controller 2 led; controller 3 leads epoch 4, after 7 ms.\n"
    succeed(controllers, "quorum", "transfer", "--to", "2")
    assert capsys.readouterr().out == "Controller 2 leads already, in epoch 4.\n"
    succeed(controllers, "quorum", "transfer", "--to", "3", "-o", "json")
    assert json.loads(capsys.readouterr().out) == {
        "former_leader_id": 2,
        "leader_id": 3,
        "leader_epoch": 4,
        "took_ms": 7,
    }


def test_a_transfer_that_fails_says_why(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    transfer = ["quorum", "transfer", "--to", "9", *HERE]
    controllers.refusal = ApiError(ErrorCode.VOTER_NOT_FOUND, "controller 9 is no voter; 1, 2 are")
    assert run(transfer, controllers.world()) == 1
    assert "controller 9 is no voter; 1, 2 are" in capsys.readouterr().err
    controllers.refusal = CommitUnknownError("it is not known who leads")
    assert run(transfer, controllers.world()) == 1
    controllers.down = True
    assert run(transfer, controllers.world()) == 3
    assert run(["quorum", "transfer", *HERE], controllers.world()) == 2


def test_quorum_status_as_kafka_prints_it(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.quorum = the_quorum()
    succeed(controllers, "quorum", "describe", "--status")
    ids = [format_uuid(UUID(int=each)) for each in (1, 2, 3)]
    voters = ", ".join(
        f'{{"id": {node}, "directoryId": "{directory}", "endpoints": ["CONTROLLER://c{node}:9093"]}}'
        for node, directory in zip((1, 2, 3), ids, strict=True)
    )
    assert capsys.readouterr().out == (
        "ClusterId:              the-cluster\n"
        "LeaderId:               2\n"
        "LeaderEpoch:            3\n"
        "HighWatermark:          99\n"
        "MaxFollowerLag:         10\n"
        "MaxFollowerLagTimeMs:   600\n"
        f"CurrentVoters:          [{voters}]\n"
        f'CurrentObservers:       [{{"id": 1, "directoryId": "{ids[0]}"}}]\n'
    )


def test_quorum_replication_as_kafka_prints_it(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.quorum = the_quorum()
    succeed(controllers, "quorum", "describe", "--replication")
    rows = [row.split("\t") for row in capsys.readouterr().out.splitlines()]
    assert [cell.strip() for cell in rows[0]] == [
        "NodeId", "DirectoryId", "LogEndOffset", "Lag", "LastFetchTimestamp",
        "LastCaughtUpTimestamp", "Status", "",
    ]  # fmt: skip
    assert [(row[0].strip(), row[3].strip(), row[6].strip()) for row in rows[1:]] == [
        ("2", "0", "Leader"),
        ("1", "0", "Follower"),
        ("3", "10", "Follower"),
        ("1", "1", "Observer"),
    ]
    assert len({len(row) for row in rows}) == 1


def test_quorum_as_json(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    controllers.quorum = the_quorum()
    succeed(controllers, "quorum", "describe", "-o", "json")
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [
        "cluster_id", "leader_id", "leader_epoch", "high_watermark", "max_follower_lag",
        "max_follower_lag_time_ms", "current_voters", "current_observers", "replicas",
    ]  # fmt: skip
    assert told["leader_id"] == 2
    assert told["replicas"][0]["status"] == "Leader"


def test_a_quorum_without_a_leader_is_status_3(
    controllers: FakeControllers, capsys: pytest.CaptureFixture[str]
) -> None:
    controllers.quorum = the_quorum()
    controllers.quorum.leader_id = -1
    assert run(["quorum", "describe", *HERE], controllers.world()) == 3
    assert "MaxFollowerLag:         -1" in capsys.readouterr().out


def test_dump_the_log(controllers: FakeControllers, capsys: pytest.CaptureFixture[str]) -> None:
    topic = records.TopicRecord(topic_id=TOPIC_ID.bytes, name="orders")
    change = records.LeaderChangeRecord(leader_id=2, voters=[1, 2, 3])
    controllers.events = [
        metadata.WatchEvent(offset=0, epoch=3, leader_change=change),
        metadata.WatchEvent(
            offset=41,
            epoch=3,
            timestamp_ms=1_700_000_000_000,
            principal="User:ANONYMOUS",
            record=records.MetadataRecord(topic=topic),
        ),
    ]
    succeed(controllers, "metadata", "dump")
    first, second = (json.loads(each) for each in capsys.readouterr().out.splitlines())
    assert first["leader_change"]["voters"] == [1, 2, 3]
    assert second["record"] == {"topic": {"topic_id": format_uuid(TOPIC_ID), "name": "orders"}}
    assert (second["offset"], second["timestamp_ms"]) == (41, 1_700_000_000_000)
    succeed(controllers, "metadata", "dump", "--from-offset", "1", "-o", "table")
    assert capsys.readouterr().out.splitlines() == [
        f"        41 epoch 3     topic topic_id={format_uuid(TOPIC_ID)} name=orders"
    ]
    succeed(controllers, "metadata", "dump", "--image")
    assert json.loads(capsys.readouterr().out)["topics"][0]["name"] == "orders"


def test_dump_a_directory_without_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["metadata", "dump", "--log-dir", str(tmp_path)]) == 1
    assert "no segment of a log" in capsys.readouterr().err


def test_random_ids_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "random-id"]) == 0
    assert run(["config", "random-id"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    assert len(first) == 22
