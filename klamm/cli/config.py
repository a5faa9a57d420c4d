"""`klamm config …`"""

import typer

from klamm.cli import output
from klamm.cli.options import Output, OutputOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Configuration keys.")


@app.command("reference")
def reference(format_: OutputOption = Output.TABLE) -> None:
    """Print every configuration key: type, default, what is allowed. Markdown, or JSON.

    \b
    klamm config reference > docs/configuration.md
    """
    from klamm.config.reference import reference_json, reference_markdown

    if format_ is Output.JSON:
        output.write_json(reference_json())
    else:
        typer.echo(reference_markdown(), nl=False)


@app.command("random-id")
def random_id() -> None:
    """Print a new cluster id.

    \b
    CLUSTER_ID=$(klamm config random-id) docker-compose -f deploy/docker-compose.yml up
    """
    from klamm.cluster.cluster import random_cluster_id

    typer.echo(random_cluster_id())
