"""`klamm features …`: which levels of features are in force, as Kafka's `kafka-features` (KIP-584).

A node of a later version works with a log of an earlier one and writes nothing into it that nodes
of the earlier version could not read, until somebody says that all have the later one.
"""

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
from klamm.metadata.features import METADATA_VERSION, RELEASES

if TYPE_CHECKING:
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import metadata_pb2 as metadata

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Which levels of features are in force."
)

COLUMNS = (
    "Feature",
    "SupportedMinVersion",
    "SupportedMaxVersion",
    "FinalizedVersionLevel",
    "Epoch",
)

UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3

MetadataOption = Annotated[
    str | None,
    typer.Option("--metadata", metavar="V", help="Of metadata.version: as 23, or as 4.0-IV1."),
]
FeatureOption = Annotated[
    list[str] | None,
    typer.Option("--feature", metavar="NAME=LEVEL", help="Of a feature; may be given repeatedly."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be, and change nothing.")
]


@app.callback()
def _features() -> None:
    """Which levels of features are in force."""


@app.command("describe")
def describe(
    context: typer.Context,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Describe the features: what is in force, and what the controller that answers supports.

    \b
    klamm features describe
    klamm features describe -o json
    """
    where = target.find(directory, controller, bootstrap_server)
    rows = target.ask(outside(context), where, lambda each: _rows(each, timeout), timeout)
    if format_ is Output.JSON:
        output.write_json(rows)
        return
    output.write_table(COLUMNS, [_cells(each) for each in rows])
    if any(_may_rise(each) for each in rows):
        output.note("When all nodes run a version that supports more: klamm features upgrade")


@app.command("upgrade")
def upgrade(
    context: typer.Context,
    metadata: MetadataOption = None,
    feature: FeatureOption = None,
    dry_run: DryRunOption = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Put higher levels of features in force, all that are named or none.

    Without --metadata and --feature: of each feature that is in force, the highest level that the
    controller supports that answers. Refused while a voter or a registered broker does not support
    it. There is no way back once it may have been made use of.

    \b
    klamm features upgrade --dry-run
    klamm features upgrade --metadata 23
    klamm features upgrade --feature metadata.version=23
    """
    where = target.find(directory, controller, bootstrap_server)
    named = _named(metadata, feature)

    async def question(controllers: Controllers) -> "admin.UpdateFeaturesResponse":
        levels = named or {
            each["feature"]: each["supported_max_version"]
            for each in await _rows(controllers, timeout)
            if each["finalized_version_level"]
        }
        return await _update(controllers, levels, UPGRADE, timeout, dry_run=dry_run)

    answer = target.ask(outside(context), where, question, timeout)
    _tell(answer, "upgraded", format_, dry_run=dry_run)


@app.command("downgrade")
def downgrade(
    context: typer.Context,
    metadata: MetadataOption = None,
    feature: FeatureOption = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Even if metadata may be lost by it.")
    ] = False,
    dry_run: DryRunOption = False,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Put lower levels of features in force, all that are named or none; level 0 removes one.

    Refused where the log may hold what a node of the lower level cannot read.

    \b
    klamm features downgrade --metadata 22 --dry-run
    """
    where = target.find(directory, controller, bootstrap_server)
    levels = _named(metadata, feature)
    if not levels:
        raise typer.BadParameter("give --metadata or --feature: what is to be lower")
    kind = UNSAFE_DOWNGRADE if unsafe else SAFE_DOWNGRADE

    async def question(controllers: Controllers) -> "admin.UpdateFeaturesResponse":
        return await _update(controllers, levels, kind, timeout, dry_run=dry_run)

    answer = target.ask(outside(context), where, question, timeout)
    _tell(answer, "downgraded", format_, dry_run=dry_run)


async def _rows(controllers: Controllers, timeout_s: float) -> list[dict[str, Any]]:
    from klamm.v1 import metadata_pb2 as metadata

    request = metadata.DescribeFeaturesRequest()
    answer = await controllers.describe_features(request, timeout_ms=round(timeout_s * 1_000))
    return [_row(each, answer.header.offset) for each in answer.features]


def _row(feature: "metadata.Feature", epoch: int) -> dict[str, Any]:
    return {
        "feature": feature.name,
        "supported_min_version": feature.min_level,
        "supported_max_version": feature.max_level,
        "finalized_version_level": feature.finalized_level,
        "epoch": epoch,
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    name, *levels, epoch = row.values()
    return (name, *(_told(name, each) for each in levels), epoch)


def _told(feature: str, level: int) -> str:
    """As Kafka's tools call it, with the number, which is what is written."""
    release = RELEASES.get(level) if feature == METADATA_VERSION else None
    return f"{level}" if release is None else f"{level} ({release})"


def _may_rise(row: dict[str, Any]) -> bool:
    level: int = row["finalized_version_level"]
    highest: int = row["supported_max_version"]
    return 0 < level < highest


def _named(metadata: str | None, feature: list[str] | None) -> dict[str, int]:
    """Feature → level, as the options name them. Raises: typer.BadParameter."""
    levels: dict[str, int] = {}
    given = [] if metadata is None else [f"{METADATA_VERSION}={_metadata_level(metadata)}"]
    for each in given + (feature or []):
        name, _, level = each.partition("=")
        if not name or not (level.isascii() and level.isdigit()):
            raise typer.BadParameter(f"--feature must be NAME=LEVEL, is {each!r}")
        if name in levels:
            raise typer.BadParameter(f"{name} is given twice")
        levels[name] = int(level)
    return levels


def _metadata_level(text: str) -> str:
    if text.isascii() and text.isdigit():
        return text
    for level, release in RELEASES.items():
        if text == release:
            return str(level)
    known = ", ".join(f"{level} ({release})" for level, release in RELEASES.items())
    raise typer.BadParameter(f"--metadata must be one of {known}, is {text!r}")


async def _update(
    controllers: Controllers, levels: dict[str, int], kind: int, timeout_s: float, *, dry_run: bool
) -> "admin.UpdateFeaturesResponse":
    from klamm.v1 import admin_pb2 as admin

    timeout_ms = round(timeout_s * 1_000)
    upgrade_type = admin.FeatureUpgradeType.ValueType(kind)
    request = admin.UpdateFeaturesRequest(
        updates=[
            admin.FeatureUpdate(feature=name, level=level, upgrade_type=upgrade_type)
            for name, level in levels.items()
        ],
        validate_only=dry_run,
        timeout_ms=timeout_ms,
    )
    return await controllers.update_features(request, timeout_ms=timeout_ms)


def _tell(
    answer: "admin.UpdateFeaturesResponse", what: str, format_: Output, *, dry_run: bool
) -> None:
    if format_ is Output.JSON:
        output.write_json(output.message_json(answer))
        return
    for each in answer.features:
        level = _told(each.feature, each.level)
        if each.level == each.level_before:
            typer.echo(f"{each.feature} is {level} already.")
        else:
            typer.echo(f"{each.feature} {'can be' if dry_run else 'was'} {what} to {level}.")
