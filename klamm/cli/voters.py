"""`klamm quorum add|remove|replace|update`: who votes, changed by one voter at a time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klamm.cli import growth, output, target
from klamm.cli.growth import ask
from klamm.cli.options import (
    BootstrapOption,
    ControllerOption,
    DirOption,
    Output,
    OutputOption,
    TimeoutOption,
)
from klamm.cli.outside import outside
from klamm.config.listeners import parse_addresses

if TYPE_CHECKING:
    from klamm.v1 import admin_pb2 as admin

CHANGE_S = 30.0
"""A learner has so long to catch up."""

IdOption = Annotated[int, typer.Option("--id", min=0, help="The controller's node.id.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what the quorum bears before and after; no more.")
]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="HOST:PORT", help="Where it is reached."),
]


def add_to(app: typer.Typer) -> None:
    """Put the commands beside `klamm quorum describe`."""
    for command in (add, remove, replace, update):
        app.command(command.__name__)(command)


def add(
    context: typer.Context,
    id_: Annotated[
        int | None,
        typer.Option(
            "--id", min=0, help="The controller's node.id. [default: a new one, started here]"
        ),
    ] = None,
    readmit: Annotated[
        bool, typer.Option("--readmit", help="Even if this disk was removed before.")
    ] = False,
    dry_run: DryRunOption = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = CHANGE_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Start one controller more in a cluster of `klamm up`, and let it vote once it has caught up.

    With --id: let a controller vote that follows the quorum already. Its disk and its address are
    what it has told the leader itself. Elsewhere than beside `klamm up`, `klamm join` formats and
    starts such a controller, and adds it.

    \b
    klamm quorum add
    klamm quorum add --id 4
    klamm quorum add --id 4 --dry-run
    """
    where = target.find(directory, controller, bootstrap_server)
    if id_ is None:
        if where.directory is None or dry_run:
            raise typer.BadParameter("--id is required, but for one more of a `klamm up` cluster")
        growth.add(outside(context), where.directory, timeout, _writer(format_))
        return
    _run(context, where, timeout, format_, lambda: _request("add", id_, dry_run, readmit=readmit))


def remove(
    context: typer.Context,
    id_: IdOption,
    dry_run: DryRunOption = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = CHANGE_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Take a controller's vote. It goes on to follow until it is stopped, and stays out.

    One that `klamm up` started is stopped as well, and does not come again with the cluster. The
    leader may be removed too: it hands over once that is committed.

    \b
    klamm quorum remove --id 4
    klamm quorum remove --id 4 --dry-run -o json | jq .after
    """
    where = target.find(directory, controller, bootstrap_server)
    if where.directory is not None and not dry_run and growth.keeps(where.directory, id_):
        growth.remove(outside(context), where, id_, timeout, _writer(format_))
        return
    _run(context, where, timeout, format_, lambda: _request("remove", id_, dry_run))


def replace(
    context: typer.Context,
    id_: IdOption,
    dry_run: DryRunOption = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = CHANGE_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Let a controller's new disk vote in the place of its old one, once it has caught up.

    Two changes, one after the other: the old disk out, the new one in. Should the first be made
    and not the second, the same command goes on from there.

    \b
    klamm quorum replace --id 2
    """
    where = target.find(directory, controller, bootstrap_server)
    _run(context, where, timeout, format_, lambda: _request("replace", id_, dry_run))


def update(
    context: typer.Context,
    id_: IdOption,
    endpoint: EndpointOption = None,
    dry_run: DryRunOption = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = CHANGE_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Say where a voter is reached from now on, before it can say so itself.

    A controller that runs and finds the leader does so: with `advertised.listeners`, or else with
    its own entry in `controller.quorum.voters`, or else with `listeners`. The leader asks
    there first: refused if nobody answers, another controller, or one of another cluster.

    \b
    klamm quorum update --id 2 --endpoint controller-2.example:9093
    """
    if endpoint is None:
        raise typer.BadParameter("--endpoint HOST:PORT is required")
    address = endpoint
    where = target.find(directory, controller, bootstrap_server)
    _run(
        context,
        where,
        timeout,
        format_,
        lambda: _request("update", id_, dry_run, endpoint=address),
    )


def _request(
    change: str, node_id: int, dry_run: bool, *, readmit: bool = False, endpoint: str | None = None
) -> "admin.ChangeVotersRequest":
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import records_pb2 as records

    voter = records.Voter(voter_id=node_id)
    if endpoint is not None:
        voter.endpoint.CopyFrom(endpoint_of(endpoint))
    request = admin.ChangeVotersRequest(readmit=readmit, dry_run=dry_run)
    getattr(request, change).CopyFrom(voter)
    return request


def endpoint_of(address: str) -> Any:
    """`HOST:PORT` as the message; a BadParameter if it is none."""
    from klamm.v1 import records_pb2 as records

    try:
        (found,) = parse_addresses((address,))
    except ValueError as error:
        raise typer.BadParameter(f"--endpoint {error}") from error
    host, _, port = found.rpartition(":")
    return records.Endpoint(name="CONTROLLER", host=host.strip("[]"), port=int(port))


def _run(
    context: typer.Context,
    where: target.Target,
    timeout_s: float,
    format_: Output,
    request: "Callable[[], admin.ChangeVotersRequest]",
) -> None:
    asked = request()
    answer = ask(outside(context), where, asked, timeout_s)
    _writer(format_, dry_run=asked.dry_run)(answer)


def _writer(
    format_: Output, *, dry_run: bool = False
) -> "Callable[[admin.ChangeVotersResponse], None]":
    """What is done with an answer."""

    def write(answer: "admin.ChangeVotersResponse") -> None:
        if format_ is Output.JSON:
            output.write_json(output.message_json(answer))
        else:
            typer.echo(told(answer, dry_run=dry_run))

    return write


def told(answer: "admin.ChangeVotersResponse", *, dry_run: bool) -> str:
    """What was done, or would be, and what the quorum bears then."""
    voters = ", ".join(str(each.voter_id) for each in answer.voters)
    lines = [
        f"before: {_bears(answer.before)}",
        f"after:  {_bears(answer.after)}",
    ]
    if answer.refusal:
        lines.append(f"It would be refused: {answer.refusal}.")
    elif dry_run:
        lines.append(f"The voters would be {voters}. Nothing was changed.")
    else:
        lines.append(f"The voters are {voters}, as of offset {answer.committed_offset - 1}.")
    return "\n".join(lines)


def _bears(tolerance: "admin.FaultTolerance") -> str:
    voters = f"{tolerance.voters} voter{'s' if tolerance.voters != 1 else ''}"
    healthy = f"{voters}, {tolerance.healthy} healthy"
    if tolerance.can_lose < 0:
        return f"{healthy}: no majority"
    return f"{healthy}: {tolerance.can_lose} more may fail"
