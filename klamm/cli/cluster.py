"""`klamm up`, `down`, `status`, and what is done to one node: a cluster of local processes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from klamm.cli import output, target
from klamm.cli.brokers import broker_json
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
from klamm.cluster import cluster_file, state
from klamm.cluster.layout import BROKERS_MAX, CONTROLLERS_MAX
from klamm.errors import UnreachableError

NODE_COMMANDS = {
    "kill": "Kill a node as `kill -9` does: no word to anyone.",
    "stop": "Stop a node in order: a broker first hands over what it leads.",
    "pause": "Stop a node's process where it stands (SIGSTOP): its sockets stay open, and silent.",
    "resume": "Let a paused node go on (SIGCONT).",
    "start": "Start a node that is down, and wait until it serves.",
}

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="controller-1, broker-2, …")]


def add_to(app: typer.Typer) -> None:
    """Put the commands where they belong: at the top."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    for name, sentence in NODE_COMMANDS.items():
        example = f"\b\nklamm {name} broker-1\nklamm {name} controller-2 --dir DIR"
        app.command(name, help=f"{sentence}\n\n{example}")(_node_command(name))


def up(
    controllers: Annotated[
        int | None,
        typer.Option("--controllers", min=1, max=CONTROLLERS_MAX, help="How many. [default: 3]"),
    ] = None,
    brokers: Annotated[
        int | None,
        typer.Option("--brokers", min=1, max=BROKERS_MAX, help="How many. [default: 3]"),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the cluster lives; kept when it stops.")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            "--base-port",
            min=0,
            max=60_000,
            help="The first port; 0: any free. [default: 9092, or any free if that is taken]",
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", metavar="KEY=VALUE", help="A config key for every node."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is up; it runs on.")
    ] = False,
) -> None:
    """Start a cluster on this machine, and keep it until Ctrl-C.

    \b
    klamm up
    klamm up --controllers 5 --brokers 4 --base-port 0
    klamm up --detach --dir /tmp/one && klamm status && klamm down
    """
    from klamm.cluster import keeper

    where = (directory or state.default_directory()).absolute()
    request = keeper.Request(
        directory=where,
        controllers=controllers,
        brokers=brokers,
        base_port=base_port,
        overrides=_overrides(override or []),
    )
    if detach:
        keeper.start_detached(request, typer.echo)
    else:
        keeper.run(request, typer.echo)


def down(directory: DirOption = None) -> None:
    """Stop the cluster: brokers in order, then controllers. Its data is kept.

    \b
    klamm down
    klamm down --dir /tmp/one
    """
    from klamm.cluster import keeper

    where = target.find_directory(directory)
    if keeper.stop(where):
        typer.echo(f"The cluster in {where} is down.")
    else:
        typer.echo(f"No cluster was running in {where}.")


def _node_command(command: str) -> Callable[[str, Path | None], None]:
    def run(node: NodeArgument, directory: DirOption = None) -> None:
        from klamm.cluster import keeper

        where = target.find_directory(directory)
        keeper.tell(where, command, node, partial(typer.echo, err=True))
        done = {"kill": "killed", "stop": "stopped", "pause": "paused", "resume": "resumed"}
        typer.echo(f"{node} {done.get(command, 'started')}")

    return run


def status(
    context: typer.Context,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Say who leads, who serves, and what is amiss.

    \b
    klamm status
    klamm status --bootstrap-server localhost:9092 -o json
    """
    where = target.find(directory, controller, bootstrap_server)

    async def question(controllers: Controllers) -> dict[str, Any]:
        return await _status(controllers, round(timeout * 1_000))

    try:
        told = target.ask(outside(context), where, question, timeout)
    except UnreachableError:
        if where.directory is not None and format_ is Output.TABLE:
            _write_processes(where.directory)  # The reason is said behind them.
        raise
    if where.directory is not None:
        told = _with_processes(told, where.directory)
    if format_ is Output.JSON:
        output.write_json(told)
    else:
        _write_status(told)


async def _status(controllers: Controllers, timeout_ms: int) -> dict[str, Any]:
    from klamm.v1 import metadata_pb2 as pb

    answer = await controllers.describe_cluster(pb.DescribeClusterRequest(), timeout_ms=timeout_ms)
    return {
        "cluster_id": answer.header.cluster_id,
        "leader_id": answer.header.leader_id,
        "epoch": answer.header.epoch,
        "offset": answer.header.offset,
        "controllers": [
            {"id": each.node_id, "grpc": each.grpc, "active": each.active}
            for each in answer.controllers
        ],
        "brokers": [broker_json(each) for each in answer.brokers],
        "topics": answer.topic_count,
        "partitions": answer.partition_count,
        "offline_partitions": answer.offline_partition_count,
        "under_replicated_partitions": answer.under_replicated_partition_count,
    }


def _with_processes(told: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The same with each node's pid; null for one that is down, none if it is kept elsewhere."""
    nodes = cluster_file.read(directory)
    for kind, rows in (("controllers", nodes.controllers), ("brokers", nodes.brokers)):
        pids = {each.node_id: each.pid for each in rows}
        for node in told[kind]:
            if node["id"] in pids:
                node["pid"] = pids[node["id"]]
    return {**told, "dir": str(directory)}


def _write_processes(directory: Path) -> None:
    """What is known without the controllers."""
    rows = [
        (each.name, "down" if each.pid is None else "running", each.address, each.pid)
        for each in cluster_file.read(directory).nodes
    ]
    output.write_table(["NODE", "PROCESS", "ADDRESS", "PID"], rows)


def _write_status(told: dict[str, Any]) -> None:
    local = "dir" in told
    typer.echo(
        f"Cluster {told['cluster_id']}: controller {told['leader_id']} leads epoch "
        f"{told['epoch']}, metadata up to offset {told['offset']}."
    )
    typer.echo(
        f"{told['topics']} topics, {told['partitions']} partitions, "
        f"{told['offline_partitions']} offline, "
        f"{told['under_replicated_partitions']} under-replicated."
    )
    rows: list[tuple[object, ...]] = []
    for each in told["controllers"]:
        standing = "active" if each["active"] else "standby"
        rows.append(_status_row(each, "controller", standing, each["grpc"], None, local))
    for each in told["brokers"]:
        address = ",".join(each["listeners"].values())
        leads = f"{each['leaders']} of {each['replicas']}"
        rows.append(_status_row(each, "broker", each["state"], address, leads, local))
    columns = ["NODE", "STATE", "ADDRESS", "LEADS", *(["PID"] if local else [])]
    output.write_table(columns, rows)


def _status_row(
    node: dict[str, Any], kind: str, standing: str, address: str, leads: str | None, local: bool
) -> tuple[object, ...]:
    if local and node.get("pid", 0) is None:
        standing = "down"
    row = (f"{kind}-{node['id']}", standing, address, leads)
    return (*row, node.get("pid")) if local else row


def _overrides(texts: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in texts]
    if bad := [key for key, equals, _ in pairs if not equals or not key]:
        raise typer.BadParameter(f"--override takes KEY=VALUE, not {bad[0]!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}
