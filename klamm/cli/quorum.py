"""`klamm quorum …`: the fields of Kafka's `kafka-metadata-quorum describe`, and who leads."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klamm.cli import output, target
from klamm.cli.options import (
    TIMEOUT_S,
    BootstrapOption,
    ControllerOption,
    DirOption,
    Output,
    OutputOption,
    TimeoutOption,
)
from klamm.cli.outside import Controllers, outside
from klamm.clock import SystemClock
from klamm.config.listeners import format_address
from klamm.errors import UnreachableError

if TYPE_CHECKING:
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import metadata_pb2 as metadata
    from klamm.v1 import quorum_pb2 as quorum

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The controllers' quorum.")

REPLICATION_COLUMNS = (
    "NodeId",
    "DirectoryId",
    "LogEndOffset",
    "Lag",
    "LastFetchTimestamp",
    "LastCaughtUpTimestamp",
    "Status",
)


@app.callback()
def _quorum() -> None:
    """The controllers' quorum."""


@app.command("describe")
def describe(
    context: typer.Context,
    status: Annotated[bool, typer.Option("--status", help="Only the quorum.")] = False,
    replication: Annotated[bool, typer.Option("--replication", help="Only its replicas.")] = False,
    human_readable: Annotated[
        bool, typer.Option("--human-readable", help="Times as a time of day and an age.")
    ] = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Describe the quorum as its leader sees it, with the fields that Kafka's tool prints.

    \b
    klamm quorum describe --status
    klamm quorum describe --replication --human-readable
    klamm quorum describe -o json | jq .leader_id
    """

    async def question(
        controllers: Controllers,
    ) -> "metadata.MetadataServiceDescribeQuorumResponse":
        return await controllers.describe_quorum(timeout_ms=round(timeout * 1_000))

    where = target.find(directory, controller, bootstrap_server)
    answer = target.ask(outside(context), where, question, timeout).quorum
    described = {**status_json(answer), "replicas": replicas_json(answer)}
    if format_ is Output.JSON:
        output.write_json(described)
    else:
        if status or not replication:
            typer.echo(status_text(described))
        if not status and not replication:
            typer.echo()
        if replication or not status:
            typer.echo(replication_text(described["replicas"], human_readable=human_readable))
    if answer.leader_id < 0:
        raise UnreachableError("The quorum has no leader at present: `klamm status` says more.")


@app.command("transfer")
def transfer(
    context: typer.Context,
    to: Annotated[int, typer.Option("--to", min=0, help="The controller that is to lead.")],
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Hand the quorum's leadership to another controller: nothing is lost, no timeout passes.

    Refused, and the leader stays, if that controller is no voter, is silent, or is behind.

    \b
    klamm quorum transfer --to 2
    klamm quorum transfer --to 2 -o json | jq .took_ms
    """

    async def question(controllers: Controllers) -> "admin.TransferLeadershipResponse":
        from klamm.v1 import admin_pb2 as admin

        timeout_ms = round(timeout * 1_000)
        request = admin.TransferLeadershipRequest(voter_id=to, timeout_ms=timeout_ms)
        return await controllers.transfer_leadership(request, timeout_ms=timeout_ms)

    where = target.find(directory, controller, bootstrap_server)
    answer = target.ask(outside(context), where, question, timeout)
    if format_ is Output.JSON:
        output.write_json(output.message_json(answer))
    elif answer.former_leader_id == answer.leader_id:
        typer.echo(f"Controller {answer.leader_id} leads already, in epoch {answer.leader_epoch}.")
    else:
        typer.echo(
            f"Controller {answer.former_leader_id} led; controller {answer.leader_id} leads epoch "
            f"{answer.leader_epoch}, after {answer.took_ms} ms."
        )


def status_json(answer: "quorum.DescribeQuorumResponse") -> dict[str, Any]:
    """Kafka's `describe --status`, its fields in snake_case."""
    lag, lag_time_ms = _max_follower_lag(answer)
    return {
        "cluster_id": answer.cluster_id,
        "leader_id": answer.leader_id,
        "leader_epoch": answer.leader_epoch,
        "high_watermark": answer.high_watermark,
        "max_follower_lag": lag,
        "max_follower_lag_time_ms": lag_time_ms,
        "current_voters": _voters_json(answer),
        "current_observers": [
            {"id": each.node_id, "directory_id": output.uuid_text(each.directory_id)}
            for each in answer.observers
        ],
    }


def replicas_json(answer: "quorum.DescribeQuorumResponse") -> list[dict[str, Any]]:
    """Kafka's `describe --replication`: the leader first, then followers, then observers."""
    leader = _leader(answer)
    leader_end = leader.log_end_offset if leader is not None else answer.high_watermark
    followers = [each for each in answer.current_voters if each.node_id != answer.leader_id]
    rows = [("Leader", leader)] if leader is not None else []
    rows += [("Follower", each) for each in followers]
    rows += [("Observer", each) for each in answer.observers]
    return [
        {
            "node_id": each.node_id,
            "directory_id": output.uuid_text(each.directory_id),
            "log_end_offset": each.log_end_offset,
            "lag": leader_end - each.log_end_offset if each.log_end_offset >= 0 else -1,
            "last_fetch_timestamp": each.last_fetch_timestamp_ms,
            "last_caught_up_timestamp": each.last_caught_up_timestamp_ms,
            "status": role,
            "recovering": each.recovering,
        }
        for role, each in rows
    ]


def status_text(described: dict[str, Any]) -> str:
    """As Kafka prints it, to the column."""
    voters = [_kafka_spelling(each) for each in described["current_voters"]]
    observers = [_kafka_spelling(each) for each in described["current_observers"]]
    fields = {
        "ClusterId": described["cluster_id"],
        "LeaderId": described["leader_id"],
        "LeaderEpoch": described["leader_epoch"],
        "HighWatermark": described["high_watermark"],
        "MaxFollowerLag": described["max_follower_lag"],
        "MaxFollowerLagTimeMs": described["max_follower_lag_time_ms"],
        "CurrentVoters": json.dumps(voters),
        "CurrentObservers": json.dumps(observers),
    }
    return "\n".join(f"{name + ':':<23} {value}" for name, value in fields.items())


def replication_text(replicas: list[dict[str, Any]], *, human_readable: bool) -> str:
    """As Kafka prints it: columns as wide as their widest cell, parted by tabs."""
    show = _time_and_age if human_readable else str
    rows = [REPLICATION_COLUMNS] + [
        (
            str(each["node_id"]),
            each["directory_id"],
            str(each["log_end_offset"]),
            str(each["lag"]),
            show(each["last_fetch_timestamp"]),
            show(each["last_caught_up_timestamp"]),
            each["status"] + (" (recovering, no vote)" if each["recovering"] else ""),
        )
        for each in replicas
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(REPLICATION_COLUMNS))]
    return "\n".join(
        "\t".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\t"
        for row in rows
    )


def _voters_json(answer: "quorum.DescribeQuorumResponse") -> list[dict[str, Any]]:
    voters = {each.voter_id: each for each in answer.voters}
    shown: list[dict[str, Any]] = []
    for each in answer.current_voters:
        row: dict[str, Any] = {
            "id": each.node_id,
            "directory_id": output.uuid_text(each.directory_id),
            "endpoints": [],
        }
        if each.node_id in voters and voters[each.node_id].HasField("endpoint"):
            at = voters[each.node_id].endpoint
            name = at.name or "CONTROLLER"
            row["endpoints"] = [f"{name}://{format_address(at.host, at.port)}"]
        shown.append(row)
    return shown


def _kafka_spelling(node: dict[str, Any]) -> dict[str, Any]:
    """Kafka prints `directoryId` there."""
    return {("directoryId" if key == "directory_id" else key): v for key, v in node.items()}


def _leader(answer: "quorum.DescribeQuorumResponse") -> "quorum.ReplicaState | None":
    voters = answer.current_voters
    return next((each for each in voters if each.node_id == answer.leader_id), None)


def _max_follower_lag(answer: "quorum.DescribeQuorumResponse") -> tuple[int, int]:
    """How far, in records and in ms, the last voter is behind; -1 for what is not known."""
    leader = _leader(answer)
    if leader is None:
        return -1, -1
    last = min(answer.current_voters, key=lambda each: each.log_end_offset)
    lag = leader.log_end_offset - last.log_end_offset
    if last is leader or lag == 0:
        return lag, 0
    known = leader.last_caught_up_timestamp_ms >= 0 and last.last_caught_up_timestamp_ms >= 0
    behind_ms = leader.last_caught_up_timestamp_ms - last.last_caught_up_timestamp_ms
    return lag, behind_ms if known else -1


def _time_and_age(timestamp_ms: int) -> str:
    if timestamp_ms < 0:
        return "unknown"
    at = datetime.fromtimestamp(timestamp_ms / 1_000, UTC).astimezone()
    age_ms = max(0, SystemClock().wall_ms() - timestamp_ms)
    return f"{age_ms} ms ago ({at:%H:%M:%S})"
