"""`klamm metadata …`"""

from collections.abc import Awaitable, Callable, Iterable
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
from klamm.ids import Offset

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The cluster's metadata.")

PROGRESS_INTERVAL_MS = 100
PAGE_SIZE = 1_000
FOREVER_S = 10.0**6
"""A person who follows stops by Ctrl-C."""


CONTROL_RECORDS = ("leader_change", "voters", "snapshot_header", "snapshot_footer")


@app.callback()
def _metadata() -> None:
    """The cluster's metadata."""


@app.command("dump")
def dump(
    context: typer.Context,
    from_offset: Annotated[int, typer.Option("--from-offset", min=0, help="The first record.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    image: Annotated[
        bool, typer.Option("--image", help="What the records come to, instead of the records.")
    ] = False,
    log_dir: Annotated[
        Path | None,
        typer.Option(
            "--log-dir", help="Read a node's files, or one .checkpoint or backup; ask nobody."
        ),
    ] = None,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.JSON,
) -> None:
    """Print the metadata log, record by record, one JSON object a line; or the image, as one.

    \b
    klamm metadata dump
    klamm metadata dump --follow --from-offset 100
    klamm metadata dump --image
    klamm metadata dump --log-dir DIR/controller-1/data
    klamm metadata dump --log-dir DIR/controller-1/data/__cluster_metadata-0/….checkpoint
    klamm metadata dump --log-dir monday.backup
    """
    if log_dir is not None:
        from klamm.cli.log_files import read_metadata_log

        _write_events(read_metadata_log(log_dir, from_offset), format_)
        return
    where = target.find(directory, controller, bootstrap_server)
    if image:
        output.write_json(target.ask(outside(context), where, _image(timeout), timeout))
        return

    async def question(controllers: Controllers) -> None:
        end = await _end_offset(controllers, timeout)
        async for answer in controllers.watch(
            Offset(from_offset),
            progress_interval_ms=PROGRESS_INTERVAL_MS,
            timeout_ms=round(timeout * 1_000),
        ):
            _write_events((output.message_json(each) for each in answer.events), format_)
            if not follow and answer.header.offset >= end:
                return

    target.ask(outside(context), where, question, FOREVER_S if follow else timeout)


def _image(timeout_s: float) -> Callable[[Controllers], Awaitable[dict[str, Any]]]:
    """The cluster as its records make it, asked for in parts that are all of the same time."""
    timeout_ms = round(timeout_s * 1_000)

    async def question(controllers: Controllers) -> dict[str, Any]:
        from klamm.v1 import metadata_pb2 as metadata

        cluster = await controllers.describe_cluster(
            metadata.DescribeClusterRequest(), timeout_ms=timeout_ms
        )
        topics: list[dict[str, Any]] = []
        token = ""
        while True:
            request = metadata.DescribeTopicsRequest(page_size=PAGE_SIZE, page_token=token)
            answer = await controllers.describe_topics(request, timeout_ms=timeout_ms)
            topics.extend(output.message_json(each) for each in answer.topics)
            token = answer.next_page_token
            if not token:
                break
        return {
            "offset": answer.header.offset,
            "epoch": answer.header.epoch,
            "leader_id": answer.header.leader_id,
            "cluster_id": answer.header.cluster_id,
            "brokers": [broker_json(each) for each in cluster.brokers],
            "topics": topics,
        }

    return question


async def _end_offset(controllers: Controllers, timeout_s: float) -> int:
    """Up to where a dump goes: everything that is committed as it begins."""
    from klamm.v1 import metadata_pb2 as metadata

    request = metadata.DescribeClusterRequest()
    answer = await controllers.describe_cluster(request, timeout_ms=round(timeout_s * 1_000))
    return answer.header.offset


def _write_events(events: Iterable[dict[str, Any]], format_: Output) -> None:
    for event in events:
        if format_ is Output.JSON:
            output.write_json_line(event)
        else:
            typer.echo(_line(event))


def _line(event: dict[str, Any]) -> str:
    """One record for people: where it stands, and what it says."""
    body = event.get("record") or {key: event[key] for key in CONTROL_RECORDS if key in event}
    said = " ".join(f"{kind} {_brief(value)}" for kind, value in body.items())
    return f"{event['offset']:>10} epoch {event['epoch']:<5} {said}"


def _brief(value: Any) -> str:
    match value:
        case dict():
            return " ".join(f"{key}={_brief(each)}" for key, each in value.items())
        case list():
            return "[" + ", ".join(_brief(each) for each in value) + "]"
    return str(value)
