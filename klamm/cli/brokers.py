"""`klamm brokers …`"""

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
from klamm.config.listeners import format_address

if TYPE_CHECKING:
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import metadata_pb2 as metadata

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Brokers.")

PAGE_SIZE = 1_000


@app.callback()
def _brokers() -> None:
    """Brokers."""


@app.command("list")
def list_(
    context: typer.Context,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """List registered brokers: how each stands, where it listens, what it holds.

    \b
    klamm brokers list
    klamm brokers list -o json --controller localhost:9093
    """

    async def question(controllers: Controllers) -> list[dict[str, Any]]:
        from klamm.v1 import metadata_pb2 as metadata

        brokers: list[dict[str, Any]] = []
        token = ""
        while True:
            request = metadata.ListBrokersRequest(page_size=PAGE_SIZE, page_token=token)
            answer = await controllers.list_brokers(request, timeout_ms=round(timeout * 1_000))
            brokers.extend(broker_json(each) for each in answer.brokers)
            token = answer.next_page_token
            if not token:
                return brokers

    where = target.find(directory, controller, bootstrap_server)
    brokers = target.ask(outside(context), where, question, timeout)
    if format_ is Output.JSON:
        output.write_json(brokers)
    else:
        write_brokers(brokers)


@app.command("unregister")
def unregister(
    context: typer.Context,
    id_: Annotated[int, typer.Option("--id", min=0, help="The broker's node.id.")],
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Forget a broker that will not come back, as kafka-cluster does. It stays a replica of what
    it holds, and in an ISR of which it was the last. One that runs registers again.

    \b
    klamm brokers unregister --id 3
    """

    async def question(controllers: Controllers) -> "admin.UnregisterBrokerResponse":
        from klamm.v1 import admin_pb2 as admin

        timeout_ms = round(timeout * 1_000)
        request = admin.UnregisterBrokerRequest(broker_id=id_, timeout_ms=timeout_ms)
        return await controllers.unregister_broker(request, timeout_ms=timeout_ms)

    where = target.find(directory, controller, bootstrap_server)
    answer = target.ask(outside(context), where, question, timeout)
    if format_ is Output.JSON:
        output.write_json(output.message_json(answer))
    else:
        typer.echo(f"Broker {id_} is no longer registered.")


def write_brokers(brokers: list[dict[str, Any]]) -> None:
    """As a table."""
    columns = ("BROKER", "STATE", "RACK", "LISTENERS", "LEADS", "HOLDS", "EPOCH")
    rows = [
        (
            each["id"],
            each["state"],
            each["rack"],
            [f"{name}://{address}" for name, address in each["listeners"].items()],
            each["leaders"],
            each["replicas"],
            each["broker_epoch"],
        )
        for each in brokers
    ]
    output.write_table(columns, rows)


def broker_json(broker: "metadata.Broker") -> dict[str, Any]:
    """One broker as the commands show it."""
    from klamm.v1 import metadata_pb2 as metadata

    state = metadata.BrokerState.Name(broker.state).removeprefix("BROKER_STATE_").lower()
    return {
        "id": broker.broker_id,
        "state": state,
        "rack": broker.rack if broker.HasField("rack") else None,
        "listeners": {each.name: format_address(each.host, each.port) for each in broker.endpoints},
        "leaders": broker.leader_count,
        "replicas": broker.replica_count,
        "broker_epoch": broker.broker_epoch,
    }
