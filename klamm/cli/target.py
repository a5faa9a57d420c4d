"""Which cluster a command is about, and how to ask it.

--dir DIR            DIR/cluster.json            ╮
--controller H:P     as they are                 ├─▶ Target ─▶ controllers (gRPC)
--bootstrap-server   asked over Kafka            │          └▶ bootstrap servers (Kafka)
none of them         the cluster started last    ╯
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from klamm import names
from klamm.cli import diagnosis
from klamm.cli.outside import Controllers, Outside
from klamm.cluster import cluster_file, state
from klamm.config.listeners import format_address, parse_addresses
from klamm.errors import StartError, UnreachableError

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    controllers: tuple[str, ...] = ()
    """host:port; empty: ask the brokers."""
    bootstrap_servers: str = ""
    """host:port,…; empty: ask the controllers."""
    directory: Path | None = None
    """Where `klamm up` keeps it; None: it is not a local cluster, as far as is known."""


def find(directory: Path | None, controller: str | None, bootstrap_server: str | None) -> Target:
    """The cluster that the options name.

    Raises:
        typer.BadParameter: More than one option is given, or an address is none.
        UnreachableError: There is no such cluster.
    """
    named = [each for each in (directory, controller, bootstrap_server) if each is not None]
    if len(named) > 1:
        raise typer.BadParameter("give one of --dir, --controller and --bootstrap-server")
    if controller is not None:
        return Target(controllers=_addresses("--controller", controller))
    if bootstrap_server is not None:
        servers = _addresses("--bootstrap-server", bootstrap_server)
        return Target(bootstrap_servers=",".join(servers))
    return in_directory(find_directory(directory))


def find_directory(directory: Path | None) -> Path:
    """The directory asked for, or that of the cluster started last.

    Raises:
        UnreachableError: None was started, or it is gone.
    """
    found = directory or state.last_directory()
    if found is None:
        raise UnreachableError(
            "No cluster is known here. Start one with `klamm up`, or name one with --dir, "
            "--controller or --bootstrap-server."
        )
    return found.absolute()


def in_directory(directory: Path) -> Target:
    """The cluster that DIR/cluster.json tells of. Raises: UnreachableError: There is none."""
    try:
        told = cluster_file.read(directory)
    except StartError as error:
        raise UnreachableError(str(error)) from error
    return Target(
        controllers=tuple(each.address for each in told.controllers),
        bootstrap_servers=told.bootstrap_servers,
        directory=directory,
    )


def ask(
    outside: Outside,
    target: Target,
    question: Callable[[Controllers], Awaitable[Answer]],
    timeout_s: float,
    *,
    at_most_s: float | None = None,
) -> Answer:
    """Ask the cluster's controllers.

    Args:
        outside: The world.
        target: Which cluster.
        question: What to ask.
        timeout_s: So long the question itself waits for an answer.
        at_most_s: All of it may take so long, if it has many answers; None: as one.

    Raises:
        UnreachableError: None of them answers in time.
    """
    addresses = target.controllers or tuple(
        outside.find_controllers(target.bootstrap_servers, timeout_s)
    )

    async def conversation() -> Answer:
        if target.directory is not None:
            await diagnosis.check_not_down(outside, addresses, target.directory)
        controllers = outside.connect(addresses)
        try:
            async with asyncio.timeout((at_most_s or timeout_s) + 1):  # Its own deadline says more.
                return await question(controllers)
        except (TimeoutError, UnreachableError):
            why = await diagnosis.explain(outside, addresses, target.directory, timeout_s)
            raise why from None
        finally:
            await controllers.close()

    return names.run(conversation())


def bootstrap_servers(outside: Outside, target: Target, timeout_s: float) -> str:
    """host:port,… of the cluster's brokers; the controllers are asked if need be."""
    if target.bootstrap_servers:
        return target.bootstrap_servers

    async def question(controllers: Controllers) -> str:
        from klamm.v1 import metadata_pb2 as pb

        answer = await controllers.list_brokers(
            pb.ListBrokersRequest(), timeout_ms=round(timeout_s * 1_000)
        )
        first = [each.endpoints[0] for each in answer.brokers if each.endpoints]
        return ",".join(format_address(each.host, each.port) for each in first)

    servers = ask(outside, target, question, timeout_s)
    if not servers:
        raise UnreachableError("The cluster has no brokers so far.")
    return servers


def _addresses(option: str, text: str) -> tuple[str, ...]:
    try:
        addresses = parse_addresses(tuple(each for each in text.split(",") if each.strip()))
    except ValueError as error:
        raise typer.BadParameter(f"{option} {error}") from error
    if not addresses:
        raise typer.BadParameter(f"{option} must be HOST:PORT, is empty")
    return addresses
