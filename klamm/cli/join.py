"""`klamm format` and `klamm join`: a controller's directory, and a controller that joins a quorum.

klamm format --dir DIR --id 1                     a new cluster of one; others join it
klamm join --dir DIR --id 2 --controller H:P      format, start, follow, ask to be added, vote
"""

import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klamm.cli import growth, own_process, target, voters
from klamm.cli.options import ControllerOption
from klamm.cli.outside import Controllers, Outside, outside
from klamm.cli.own_process import OwnProcess
from klamm.config.controller import ControllerConfig
from klamm.config.listeners import format_address, parse_addresses
from klamm.config.properties import read_properties
from klamm.config.sources import from_file
from klamm.directory import DataDirectory
from klamm.errors import ApiError, ErrorCode, KlammError, StartError
from klamm.ids import NodeId

if TYPE_CHECKING:
    from klamm.v1 import records_pb2 as records

PROPERTIES = "server.properties"
JOIN_S = 60.0

PathOption = Annotated[Path, typer.Option("--dir", help="The controller's directory.")]
NodeIdOption = Annotated[int, typer.Option("--id", min=0, help="The controller's node.id.")]
ListenOption = Annotated[
    str,
    typer.Option("--listen", metavar="HOST:PORT", help="Where it serves; port 0: any free one."),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option("--override", metavar="KEY=VALUE", help="A config key of this node."),
]


def add_to(app: typer.Typer) -> None:
    """Put the commands at the top."""
    app.command("format")(format_)
    app.command("join")(join)


def format_(
    directory: PathOption,
    id_: NodeIdOption = 1,
    listen: ListenOption = "127.0.0.1:0",
    voters_: Annotated[
        str | None,
        typer.Option(
            "--voters",
            metavar="ID@HOST:PORT,…",
            help="All controllers of the first start. [default: this one alone]",
        ),
    ] = None,
    cluster_id: Annotated[
        str | None,
        typer.Option("--cluster-id", help="The same for all of --voters. [default: a new one]"),
    ] = None,
    override: OverrideOption = None,
) -> None:
    """Write a controller's directory: its identity, and a configuration to start it with.

    One is enough: it is a cluster by itself, and others `klamm join` it.

    \b
    klamm format --dir one
    klamm format --dir a --id 1 --listen h1:9093 --voters 1@h1:9093,2@h2:9093,3@h3:9093 \\
        --cluster-id orders
    """
    from klamm.cluster.cluster import random_cluster_id

    cluster_id = cluster_id or random_cluster_id()
    typer.echo(format_directory(directory.absolute(), id_, listen, cluster_id, override, voters_))


def format_directory(
    where: Path,
    node_id: int,
    listen: str,
    cluster_id: str,
    override: list[str] | None,
    voters_: str | None = None,
) -> str:
    """A directory of a controller that votes from its first start on. Returns what to tell.

    Raises:
        StartError: It is not empty, or cannot be written.
    """
    address = _free(listen)
    keys = {
        **_keys(where, node_id, address, cluster_id),
        "controller.quorum.voters": voters_ or f"{node_id}@{address}",
        **_overrides(override or []),
    }
    if (where / PROPERTIES).exists():
        raise StartError(f"{where} is formatted already; choose another directory.")
    _write(where, keys)
    return (
        f"{where} is formatted: controller {node_id} of cluster {keys['cluster.id']}, at {address}."
        f"\nStart it:  python -m controller {where / PROPERTIES}\n"
        f"Join it:   klamm join --dir DIR --id N --controller {address}"
    )


def join(
    context: typer.Context,
    directory: PathOption,
    id_: NodeIdOption,
    controller: ControllerOption = None,
    listen: ListenOption = "127.0.0.1:0",
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of this id's voter, whose disk is gone.")
    ] = False,
    readmit: Annotated[
        bool, typer.Option("--readmit", help="Even if this disk was removed before.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it votes; it runs on.")
    ] = False,
    override: OverrideOption = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds until it votes.")
    ] = JOIN_S,
) -> None:
    """Start a controller that joins a quorum: formatted, followed, added; then keep it running.

    Again with the same directory, it starts that controller again.

    \b
    klamm join --dir two --id 2 --controller localhost:9093
    klamm join --dir new-disk --id 2 --controller localhost:9093 --replace
    """
    where = directory.absolute()
    world = outside(context)
    quorum = target.Target(controllers=_controllers(where, controller))
    _prepare(
        world,
        quorum,
        where,
        id_,
        listen,
        _overrides(override or []),
        timeout,
        replace=replace,
    )
    voter = _voter(where, id_)
    with own_process.started(where / PROPERTIES, keep=detach) as process:
        _admit(world, quorum, voter, process, timeout, replace=replace, readmit=readmit)
        typer.echo(f"Controller {id_} votes (pid {process.pid}).")
        if not detach:
            raise typer.Exit(0 if process.wait() in (0, -signal.SIGTERM) else 1)


def _controllers(where: Path, controller: str | None) -> tuple[str, ...]:
    """Those named, or those that the directory was joined with."""
    if controller is not None:
        return target.find(None, controller, None).controllers
    try:
        known = {each.key: each.value for each in read_properties((where / PROPERTIES).read_text())}
        return tuple(known["controller.quorum.bootstrap.servers"].split(","))
    except (OSError, KeyError):
        raise typer.BadParameter("--controller HOST:PORT is required") from None


def _prepare(
    world: Outside,
    quorum: target.Target,
    where: Path,
    node_id: int,
    listen: str,
    overrides: dict[str, str],
    timeout_s: float,
    *,
    replace: bool,
) -> None:
    """Format the directory for the quorum's cluster, unless it is already."""
    if (where / PROPERTIES).exists():
        return

    async def question(controllers: Controllers) -> tuple[str, tuple[str, ...]]:
        told = (await controllers.describe_quorum(timeout_ms=round(timeout_s * 1_000))).quorum
        if not replace and node_id in {each.voter_id for each in told.voters}:
            raise StartError(
                f"Controller {node_id} votes already, with another disk. Choose another --id; or "
                f"--replace: {where} takes the place of that disk, which is to be gone."
            )
        at = [each.endpoint for each in told.voters if each.HasField("endpoint")]
        return told.cluster_id, tuple(format_address(each.host, each.port) for each in at)

    cluster_id, addresses = target.ask(world, quorum, question, timeout_s)
    servers = dict.fromkeys((*quorum.controllers, *addresses))
    keys = {
        **_keys(where, node_id, _free(listen), cluster_id),
        "controller.quorum.bootstrap.servers": ",".join(servers),
        **overrides,
    }
    _write(where, keys)
    typer.echo(f"{where} is formatted: controller {node_id} of cluster {cluster_id}.")


def _voter(where: Path, node_id: int) -> "records.Voter":
    """The node and its disk, as its directory says; where it is reached, it says itself.

    Raises:
        StartError: The directory is another node's, or in use.
    """
    from klamm.v1 import records_pb2 as records

    path = where / PROPERTIES
    config = ControllerConfig.of(from_file(str(path), path.read_text()))
    if config.node_id != node_id:
        raise StartError(f"{where} is that of controller {config.node_id}, not of {node_id}.")
    directory = DataDirectory.open(Path(config.metadata_log_dir), config.cluster_id, config.node_id)
    directory.close()
    return records.Voter(voter_id=node_id, directory_id=directory.directory_id.bytes)


def _admit(
    world: Outside,
    quorum: target.Target,
    voter: "records.Voter",
    process: OwnProcess,
    timeout_s: float,
    *,
    replace: bool,
    readmit: bool,
) -> None:
    from klamm.v1 import admin_pb2 as admin

    request = admin.ChangeVotersRequest(readmit=readmit)
    (request.replace if replace else request.add).CopyFrom(voter)
    try:
        answer = growth.ask(world, quorum, request, timeout_s, process.check_runs)
    except ApiError as error:
        if error.code is ErrorCode.DUPLICATE_VOTER and "another disk" not in error.message:
            return  # It is one already: this is another start of the same node.
        raise _advised(error, voter.voter_id) from error
    typer.echo(voters.told(answer, dry_run=False))


def _advised(error: ApiError, node_id: int) -> KlammError:
    advice = {
        ErrorCode.DUPLICATE_VOTER: " With --replace this disk takes the other one's place.",
        ErrorCode.INVALID_VOTER_KEY: " With --readmit it votes again.",
        ErrorCode.REQUEST_TIMED_OUT: f" Is controller {node_id} able to reach the leader? See the "
        "log; the same command goes on from here.",
    }.get(error.code, "")
    return ApiError(error.code, error.message + advice)


def _keys(where: Path, node_id: int, address: str, cluster_id: str) -> dict[str, str]:
    return {
        "process.roles": "controller",
        "node.id": str(node_id),
        "cluster.id": cluster_id,
        "listeners": f"CONTROLLER://{address}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(where / "data"),
    }


def _write(where: Path, keys: dict[str, str]) -> None:
    """The configuration, checked, and the identity."""
    from klamm.cluster.cluster import LAYOUT_NAME
    from klamm.cluster.cluster_file import replace_file

    if (where / LAYOUT_NAME).exists():
        raise StartError(
            f"{where} is the directory of a whole cluster of `klamm up`; choose a new one."
        )
    path = where / PROPERTIES
    text = "# Written by `klamm`.\n" + "".join(f"{key}={each}\n" for key, each in keys.items())
    config = ControllerConfig.of(from_file(str(path), text))
    try:
        where.mkdir(parents=True, exist_ok=True)
        DataDirectory.open(
            Path(config.metadata_log_dir), config.cluster_id, NodeId(config.node_id)
        ).close()
        replace_file(path, text)
    except OSError as error:
        raise StartError(
            f"Cannot write to {where}: {error.strerror} ({error.filename})."
        ) from error


def _free(listen: str) -> str:
    """`HOST:PORT` with a port that is free, if it was 0."""
    try:
        (address,) = parse_addresses((listen,))
    except ValueError as error:
        raise typer.BadParameter(f"--listen {error}") from error
    host, _, port = address.rpartition(":")
    if int(port):
        return address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as free:
        try:
            free.bind((host.strip("[]"), 0))
        except OSError as error:
            raise StartError(f"Cannot listen on {listen}: {error.strerror}.") from error
        return format_address(host.strip("[]"), free.getsockname()[1])


def _overrides(texts: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in texts]
    if bad := [key for key, equals, _ in pairs if not equals or not key]:
        raise typer.BadParameter(f"--override takes KEY=VALUE, not {bad[0]!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}
