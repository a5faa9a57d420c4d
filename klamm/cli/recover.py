"""`klamm quorum recover`, `klamm metadata restore`: a controller's files, by its own program."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from klamm.cli import join
from klamm.cli.options import Output, OutputOption
from klamm.directory import META_PROPERTIES
from klamm.errors import StartError
from klamm.log.files import SystemFiles


def add_to(quorum: typer.Typer, metadata: typer.Typer) -> None:
    """Put the commands there."""
    quorum.command("recover")(recover)
    metadata.command("restore")(restore)


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
    words = [word for each in directories for word in ("--dir", str(each))]
    if voter is not None:
        words += ["--voter", str(voter)]
    words += ["--dry-run"] * dry_run + ["--yes"] * yes + ["--output", format_.value]
    _run(words)


def restore(
    source: Annotated[
        Path,
        typer.Option("--from", help="A backup; or any controller's OFFSET-EPOCH.checkpoint."),
    ],
    directory: Annotated[
        Path, typer.Option("--dir", help="Empty, or formatted; no controller ever ran there.")
    ],
    id_: join.NodeIdOption = 1,
    listen: join.ListenOption = "127.0.0.1:0",
    override: join.OverrideOption = None,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Have a new controller begin with the metadata of a backup, as the only voter.

    An empty directory is formatted for the cluster that the backup is of, with --id, --listen and
    --override; one that was formatted before keeps what it says, another cluster's id as well.
    The file is verified, byte for byte, before anything is written. Others `klamm join` it then.

    \b
    klamm metadata restore --from monday.backup --dir new --id 1 --listen localhost:9093
    klamm format --dir new --cluster-id orders
    klamm metadata restore --from 00000000000000004711-0000000007.checkpoint --dir new
    """
    where = directory.absolute()
    if not any((each / META_PROPERTIES).is_file() for each in (where, where / "data")):
        told = join.format_directory(where, id_, listen, _cluster_of(source), override)
        if format_ is Output.TABLE:
            typer.echo(told)
    _run(["--restore", str(source), "--dir", str(directory), "--output", format_.value])


def _cluster_of(source: Path) -> str:
    """The cluster's id that a backup tells. Raises: StartError: It is none."""
    from klamm.log.snapshot import CorruptSnapshotError
    from klamm.metadata.backup import read

    try:
        origin = read(SystemFiles(), source.absolute()).origin
    except CorruptSnapshotError as error:
        raise StartError(f"{source} cannot be restored: {error}.") from error
    if origin is None:
        raise StartError(
            f"{source} does not say of which cluster it is. Format the directory first: "
            "klamm format --dir DIR --cluster-id ID"
        )
    return origin.cluster_id


def _run(words: list[str]) -> None:
    from klamm.cluster.node_process import node_environment

    done = subprocess.run(  # noqa: S603 - this interpreter, this package
        [sys.executable, "-m", "controller.recovery", *words],
        env=node_environment(),
        check=False,
    )
    if done.returncode:
        raise typer.Exit(1)
