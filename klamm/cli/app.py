"""The command tree, and what becomes of failures."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from klamm.cli import (
    backup,
    brokers,
    cluster,
    config,
    features,
    join,
    metadata,
    quorum,
    records,
    recover,
    roll,
    topics,
    tour,
    voters,
)
from klamm.cli.outside import Outside
from klamm.errors import CommitUnknownError, KlammError, UnreachableError

FAILED, UNREACHABLE, INTERRUPTED = 1, 3, 130

app = typer.Typer(
    name="klamm",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""A Kafka cluster with a quorum of controllers, on this machine or elsewhere.

    \b
    klamm up                        start three controllers and three brokers
    klamm status                    who leads, who serves
    klamm topics create orders -p 6
    echo hello | klamm produce orders
    klamm consume orders --from-beginning
    klamm kill broker-1             and watch: nothing acknowledged is lost
    klamm down

    Commands find a cluster by --dir, --controller or --bootstrap-server, else take the one that
    was started last. Exit status: 0 done, 1 failed, 2 wrong usage, 3 nobody to talk to.""",
)
cluster.add_to(app)
roll.add_to(app)
join.add_to(app)
voters.add_to(quorum.app)
recover.add_to(quorum.app, metadata.app)
backup.add_to(metadata.app)
app.add_typer(topics.app, name="topics")
app.add_typer(brokers.app, name="brokers")
app.add_typer(quorum.app, name="quorum")
app.add_typer(metadata.app, name="metadata")
app.add_typer(features.app, name="features")
records.add_to(app)
app.add_typer(config.app, name="config")
tour.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"klamm {version('klamm')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options before any command."""


def main() -> None:
    """The `klamm` command. Never shows a traceback."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None, world: Outside | None = None) -> int:
    """Run the command line and say how it ended, as an exit status.

    Args:
        arguments: Without the program's name; None: the process's own.
        world: Stands in for the real one, in tests.
    """
    try:
        app(args=arguments, obj=world, prog_name="klamm")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else FAILED
    except UnreachableError as error:
        return _say(error, UNREACHABLE)
    except CommitUnknownError as error:
        return _say(
            f"{error}. It may have happened, or may yet: look before you try again.", FAILED
        )
    except KlammError as error:
        return _say(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _say(error, FAILED)
    return 0


def _say(error: Exception | str, status: int) -> int:
    typer.echo(f"klamm: {error}", err=True)
    return status
