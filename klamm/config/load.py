"""Reads a node's configuration from the outside: its command line, file and environment.

    python -m broker [server.properties] [--override key=value]…

The file is optional; so everything can come from the environment, as in a container.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from klamm.config.broker import BrokerConfig
from klamm.config.controller import ControllerConfig
from klamm.config.sources import Given, from_environment, from_file, from_overrides
from klamm.errors import StartError

CONFIG_FILE_BYTES_MAX = 1_048_576


@dataclass(frozen=True, slots=True)
class Arguments:
    """A node's command line."""

    file: Path | None = None
    overrides: tuple[str, ...] = ()


def parse_arguments(role: str, argv: Sequence[str]) -> Arguments:
    """Read `argv`, without the program's name. Exits with status 2 and a usage line if bad."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {role}",
        description=f"Runs one Klamm {role} until SIGTERM.",
        epilog="Keys are Kafka's; KAFKA_* in the environment sets them too. See "
        "docs/configuration.md.",
    )
    parser.add_argument("file", nargs="?", type=Path, help="a Kafka .properties file")
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="sets one key, over file and environment; may be given again",
    )
    parsed = parser.parse_args(argv)
    return Arguments(parsed.file, tuple(parsed.override))


def load_broker(arguments: Arguments, environment: Mapping[str, str]) -> BrokerConfig:
    """A broker's configuration. Raises: StartError: With every problem there is."""
    return BrokerConfig.of(gather(arguments, environment))


def load_controller(arguments: Arguments, environment: Mapping[str, str]) -> ControllerConfig:
    """A controller's configuration. Raises: StartError: With every problem there is."""
    return ControllerConfig.of(gather(arguments, environment))


def gather(arguments: Arguments, environment: Mapping[str, str]) -> tuple[Given, ...]:
    """All that was given, weakest first.

    Raises:
        StartError: The file cannot be read.
    """
    file = () if arguments.file is None else _read(arguments.file)
    return (*file, *from_environment(environment), *from_overrides(arguments.overrides))


def _read(path: Path) -> tuple[Given, ...]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    if len(data) > CONFIG_FILE_BYTES_MAX:
        raise StartError(
            f"The configuration {path} has {len(data):,} bytes; at most "
            f"{CONFIG_FILE_BYTES_MAX:,} are read."
        )
    try:
        return from_file(path.name, data.decode())
    except UnicodeDecodeError as error:
        raise StartError(f"The configuration {path} is not UTF-8 at byte {error.start}.") from error
