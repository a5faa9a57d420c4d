"""`klamm tour`: a cluster, shown. What `make run` does."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from klamm.errors import StartError


def add_to(app: typer.Typer) -> None:
    """Put the command where it belongs: at the top."""
    app.command("tour")(tour)


def tour(
    no_tour: Annotated[
        bool, typer.Option("--no-tour", help="Only start the cluster, and keep it.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the cluster lives. [default: a new one]")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option("--base-port", min=0, max=60_000, help="As for `klamm up`."),
    ] = None,
    leave: Annotated[
        bool, typer.Option("--leave", help="End after the tour instead of waiting for Ctrl-C.")
    ] = False,
) -> None:
    """Start a cluster, send records through it, kill its leaders, and prove that nothing is lost.

    \b
    klamm tour
    klamm tour --no-tour
    """
    from klamm.cli.tour_script import Tour
    from klamm.cluster import keeper

    where = directory or Path(tempfile.mkdtemp(prefix="klamm-tour-"))
    request = keeper.Request(directory=where.absolute(), base_port=base_port)
    try:
        if no_tour:
            keeper.run(request, typer.echo)
        else:
            Tour(request, leave=leave).run()
    except TimeoutError as error:
        raise StartError(f"The tour ended early: {error}") from error
    finally:
        if directory is None:
            shutil.rmtree(where, ignore_errors=True)
