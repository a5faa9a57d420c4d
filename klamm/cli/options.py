"""Options that many commands share, spelt once."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Output(Enum):
    """How data is written."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to write data.")]

DirOption = Annotated[
    Path | None, typer.Option("--dir", help="The cluster that `klamm up` keeps in this directory.")
]

ControllerOption = Annotated[
    str | None,
    typer.Option("--controller", metavar="HOST:PORT,…", help="Controllers, by their gRPC address."),
]

BootstrapOption = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-server", metavar="HOST:PORT,…", help="Brokers, by their Kafka address."
    ),
]

TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an answer.")
]

TIMEOUT_S = 10.0
