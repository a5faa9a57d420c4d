"""`klamm quorum recover`: a program of the controller's, whose files it reads and writes."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from klamm.cli.options import Output, OutputOption


def add_to(app: typer.Typer) -> None:
    """Put the command there."""
    app.command("recover")(recover)


def recover(
    directories: Annotated[
        list[Path], typer.Option("--dir", help="A survivor's data directory; one or more times.")
    ],
    voter: Annotated[
        int | None, typer.Option("--voter", min=0, help="Who goes on; else the best log's node.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Begin anew with one survivor, once a majority of the voters is lost for good.

    Offline: all controllers are stopped. Compares the logs and says what may be lost; then the
    best one's node is the only voter, in an epoch that fences all others. They come back with
    `klamm join`, on empty directories.

    \b
    klamm quorum recover --dir DIR/controller-3/data --dry-run
    klamm quorum recover --dir DIR/controller-3/data
    """
    from klamm.cluster.node_process import node_environment

    words = [word for each in directories for word in ("--dir", str(each))]
    if voter is not None:
        words += ["--voter", str(voter)]
    words += ["--dry-run"] * dry_run + ["--yes"] * yes + ["--output", format_.value]
    done = subprocess.run(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-m", "controller.recovery", *words],
        env=node_environment(),
        check=False,
    )
    if done.returncode:
        raise typer.Exit(1)
