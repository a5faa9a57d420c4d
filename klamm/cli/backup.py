"""`klamm metadata backup`: all that the controllers know, in one file.

    controller ──chunks──▶ .FILE.PID.part ──every byte looked at, fsync──▶ rename ─▶ FILE

Whatever goes wrong, FILE is what it was before, or the whole backup.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
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
from klamm.errors import StartError
from klamm.log.files import File, Files, SystemFiles

if TYPE_CHECKING:
    from klamm.metadata.backup import Backup

BACKUP_S_MAX = 3_600.0
"""All of it; `--timeout` is for the silence in between."""

Progress = Callable[[int, int], None]
"""Told of (records, bytes) so far."""


def add_to(metadata: typer.Typer) -> None:
    """Put the command there."""
    metadata.command("backup")(backup)


def backup(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Write everything that is committed by now to one file: topics, configs, brokers, and so on.

    The cluster goes on meanwhile. FILE says of which cluster it is, up to which offset, and since
    when; it is checked byte for byte before it gets its name, and `klamm metadata restore` begins a
    new cluster with it. What topics hold is not in it: the brokers keep that.

    \b
    klamm metadata backup monday.backup
    klamm metadata backup --force /backups/klamm --controller localhost:9093 -o json
    klamm metadata dump --log-dir monday.backup
    """
    files, path = SystemFiles(), path.absolute()
    _check(path, force=force)
    where = target.find(directory, controller, bootstrap_server)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = files.open(part)
        try:

            async def question(controllers: Controllers) -> None:
                await receive(controllers, file, timeout, _progress())

            target.ask(outside(context), where, question, timeout, at_most_s=BACKUP_S_MAX)
            _check(path, force=force)
            taken = keep(files, file, part, path)
        finally:
            file.close()
    finally:
        part.unlink(missing_ok=True)
    _tell(path, taken, format_)


async def receive(
    controllers: Controllers, file: File, timeout_s: float, progress: Progress
) -> None:
    """The bytes of a backup. Not known to be sound, nor durable.

    Raises:
        UnreachableError: No controller sends any.
        StartError: One sends what nobody asked for.
        OSError: As the disk says.
    """
    async for answer in controllers.backup(timeout_ms=round(timeout_s * 1_000)):
        if answer.position == 0:
            file.truncate(0)  # Another controller begins anew.
        if answer.position != file.size:
            raise StartError(f"A controller sent byte {answer.position}, {file.size} is next.")
        file.append(answer.chunk)
        progress(answer.record_count, file.size)


def keep(files: Files, file: File, part: Path, path: Path) -> "Backup":
    """What was received gets its name, once it is durable and every byte of it was looked at.

    Raises:
        StartError: It is not what a controller sent.
        OSError: As the disk says. Either way `path` is what it was, or the whole backup.
    """
    file.sync()
    taken = _read(files, part)
    files.rename(part, path)
    files.sync_directory(path.parent)
    return taken


def _check(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise StartError(f"{path} is a directory; name a file.")
    if path.exists() and not force:
        raise StartError(f"{path} is there already. Choose another name, or replace it: --force.")
    if not path.parent.is_dir():
        raise StartError(f"There is no directory {path.parent}.")


def _read(files: Files, part: Path) -> "Backup":
    """What was received, from the disk. Raises: StartError: It is not what a controller sent."""
    from klamm.log.snapshot import CorruptSnapshotError
    from klamm.metadata.backup import read

    try:
        taken = read(files, part)
        if taken.origin is None:
            raise CorruptSnapshotError("it does not say of which cluster it is")
    except CorruptSnapshotError as error:
        raise StartError(f"What was received is damaged, and was thrown away: {error}.") from error
    return taken


def _progress() -> Progress:
    """A line that is written again and again, for a person who watches."""
    if not sys.stderr.isatty():
        return lambda *_: None

    def show(record_count: int, size_bytes: int) -> None:
        typer.echo(f"\r{record_count:,} records, {size_bytes:,} bytes ", err=True, nl=False)

    return show


def _tell(path: Path, taken: "Backup", format_: Output) -> None:
    told = _json(path, taken)
    if format_ is Output.JSON:
        output.write_json(told)
        return
    if sys.stderr.isatty():
        typer.echo("", err=True)
    typer.echo(
        f"{path}: the metadata of cluster {told['cluster_id']} up to offset {told['offset']} of "
        f"epoch {told['epoch']}; {told['topic_count']} topics, {told['partition_count']} "
        f"partitions, {told['broker_count']} brokers; {told['size_bytes']:,} bytes."
    )


def _json(path: Path, taken: "Backup") -> dict[str, Any]:
    assert taken.origin is not None, "looked at when it was read"
    topics = taken.image.topics.by_id
    return {
        "file": str(path),
        "size_bytes": len(taken.data),
        "record_count": taken.record_count,
        "cluster_id": taken.origin.cluster_id,
        "offset": taken.end.offset,
        "epoch": taken.end.epoch,
        "taken_timestamp_ms": taken.origin.taken_ms,
        "taken_by": taken.origin.taken_by,
        "checksum": f"{taken.image.checksum:032x}",
        "topic_count": len(topics),
        "partition_count": sum(len(each.partitions) for each in topics.values()),
        "broker_count": len(taken.image.brokers),
    }
