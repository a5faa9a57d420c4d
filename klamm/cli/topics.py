"""`klamm topics …`"""

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
from klamm.errors import ErrorCode, StartError

if TYPE_CHECKING:
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import metadata_pb2 as metadata

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Topics.")

PAGE_SIZE = 1_000


@app.command("create")
def create(
    context: typer.Context,
    name: str,
    partitions: Annotated[
        int, typer.Option("--partitions", "-p", help="How many; -1: the cluster's default.")
    ] = -1,
    replication_factor: Annotated[
        int, typer.Option("--replication-factor", "-r", help="Copies; -1: the cluster's default.")
    ] = -1,
    config: Annotated[
        list[str] | None, typer.Option("--config", "-c", metavar="KEY=VALUE", help="Topic configs.")
    ] = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="One that is there already is fine.")
    ] = False,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Decide, and create nothing.")
    ] = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Create a topic; done once it is committed.

    \b
    klamm topics create orders --partitions 6 --replication-factor 3
    klamm topics create audit -c min.insync.replicas=2 -c retention.ms=86400000
    """
    timeout_ms = round(timeout * 1_000)
    configs = _key_values(config or [])

    async def question(controllers: Controllers) -> "admin.CreateTopicsResponse":
        from klamm.v1 import admin_pb2 as admin

        topic = admin.NewTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=configs,
        )
        request = admin.CreateTopicsRequest(
            topics=[topic], timeout_ms=timeout_ms, validate_only=validate_only
        )
        return await controllers.create_topics(request, timeout_ms=timeout_ms)

    where = target.find(directory, controller, bootstrap_server)
    result = target.ask(outside(context), where, question, timeout).results[0]
    if if_not_exists and result.error_code == ErrorCode.TOPIC_ALREADY_EXISTS:
        output.note(f"{name} exists already.")
        return
    _check(result.name, result.error_code, result.error_message)
    _write([_created_json(result)], format_, single=True)


@app.command("list")
def list_(
    context: typer.Context,
    prefix: Annotated[str, typer.Option("--prefix", help="Only names that start so.")] = "",
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """List topics, by name.

    \b
    klamm topics list
    klamm topics list --prefix orders. -o json
    """

    async def question(controllers: Controllers) -> list[dict[str, Any]]:
        from klamm.v1 import metadata_pb2 as metadata

        topics: list[dict[str, Any]] = []
        token = ""
        while True:
            request = metadata.ListTopicsRequest(
                page_size=PAGE_SIZE, page_token=token, name_prefix=prefix
            )
            answer = await controllers.list_topics(request, timeout_ms=round(timeout * 1_000))
            topics.extend(_listing_json(each) for each in answer.topics)
            token = answer.next_page_token
            if not token:
                return topics

    where = target.find(directory, controller, bootstrap_server)
    _write(target.ask(outside(context), where, question, timeout), format_)


@app.command("describe")
def describe(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Names; none: all.")] = None,
    under_replicated: Annotated[
        bool,
        typer.Option("--under-replicated-partitions", help="Only those with too few in sync."),
    ] = False,
    unavailable: Annotated[
        bool, typer.Option("--unavailable-partitions", help="Only those without a leader.")
    ] = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Describe topics, partition by partition.

    \b
    klamm topics describe orders
    klamm topics describe --under-replicated-partitions
    """
    where = target.find(directory, controller, bootstrap_server)
    wanted = names or []

    async def question(controllers: Controllers) -> tuple[list[dict[str, Any]], list[str]]:
        return await _describe(controllers, wanted, round(timeout * 1_000))

    topics, unknown = target.ask(outside(context), where, question, timeout)
    for topic in topics:
        topic["partitions"] = [
            each
            for each in topic["partitions"]
            if (not under_replicated or len(each["isr"]) < len(each["replicas"]))
            and (not unavailable or each["leader_id"] == -1)
        ]
    if format_ is Output.JSON:
        output.write_json(topics)
    elif topics or not unknown:
        columns = ("TOPIC", "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR")
        output.write_table(columns, [row for each in topics for row in _rows(each)])
    if unknown:
        raise StartError(f"There is no topic {', '.join(unknown)}.")


@app.command("delete")
def delete(
    context: typer.Context,
    names: list[str],
    if_exists: Annotated[
        bool, typer.Option("--if-exists", help="One that is not there is fine.")
    ] = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Delete topics and all that is in them; done once it is committed.

    \b
    klamm topics delete orders
    """
    timeout_ms = round(timeout * 1_000)

    async def question(controllers: Controllers) -> "admin.DeleteTopicsResponse":
        from klamm.v1 import admin_pb2 as admin

        topics = [admin.TopicReference(name=name) for name in names]
        request = admin.DeleteTopicsRequest(topics=topics, timeout_ms=timeout_ms)
        return await controllers.delete_topics(request, timeout_ms=timeout_ms)

    where = target.find(directory, controller, bootstrap_server)
    results = target.ask(outside(context), where, question, timeout).results
    deleted: list[dict[str, Any]] = []
    for result in results:
        missing = result.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if missing and if_exists:
            output.note(f"{result.name} is not there.")
            continue
        _check(result.name, result.error_code, result.error_message)
        deleted.append({"name": result.name, "topic_id": output.uuid_text(result.topic_id)})
    _write(deleted, format_)


async def _describe(
    controllers: Controllers, names: list[str], timeout_ms: int
) -> tuple[list[dict[str, Any]], list[str]]:
    from klamm.v1 import metadata_pb2 as metadata

    topics: list[dict[str, Any]] = []
    unknown: list[str] = []
    token = ""
    while True:
        request = metadata.DescribeTopicsRequest(names=names, page_size=PAGE_SIZE, page_token=token)
        answer = await controllers.describe_topics(request, timeout_ms=timeout_ms)
        topics.extend(output.message_json(each) for each in answer.topics)
        unknown.extend(each for each in answer.unknown_names if each not in unknown)
        token = answer.next_page_token
        if not token:
            return topics, unknown


def _rows(topic: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            topic["name"],
            each["partition"],
            "none" if each["leader_id"] == -1 else each["leader_id"],
            each["leader_epoch"],
            each["replicas"],
            each["isr"],
        )
        for each in topic["partitions"]
    ]


def _created_json(topic: "admin.CreateTopicResult") -> dict[str, Any]:
    return {
        "name": topic.name,
        "topic_id": output.uuid_text(topic.topic_id),
        "partitions": topic.num_partitions,
        "replication_factor": topic.replication_factor,
        "configs": dict(topic.configs),
    }


def _listing_json(topic: "metadata.TopicListing") -> dict[str, Any]:
    return {
        "name": topic.name,
        "topic_id": output.uuid_text(topic.topic_id),
        "partitions": topic.partition_count,
        "replication_factor": topic.replication_factor,
    }


def _write(rows: list[dict[str, Any]], format_: Output, *, single: bool = False) -> None:
    if format_ is Output.JSON:
        output.write_json(rows[0] if single else rows)
        return
    columns = [key for key in rows[0] if key != "configs"] if rows else ["name"]
    heads = [each.replace("_", " ").upper() for each in columns]
    output.write_table(heads, [[row[key] for key in columns] for row in rows])


def _check(name: str, code: int, message: str) -> None:
    if code != ErrorCode.NONE:
        known = code in ErrorCode.__members__.values()
        word = ErrorCode(code).name if known else f"error {code}"
        raise StartError(f"{name}: {(message or 'refused').rstrip('.')} ({word}).")


def _key_values(texts: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in texts]
    if bad := [key for key, equals, _ in pairs if not equals or not key]:
        raise typer.BadParameter(f"--config takes KEY=VALUE, not {bad[0]!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}
