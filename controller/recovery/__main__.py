"""`python -m controller.recovery`: what `klamm quorum recover` and `klamm metadata restore` run."""

import argparse
import asyncio
import getpass
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from controller.recovery.compare import Comparison, compare
from controller.recovery.generation import begin, tail
from controller.recovery.raised import OFFSET_JUMP
from controller.recovery.restore import Restored, restore
from controller.recovery.survey import Survivor, locate, read_meta, records_from, survey
from klamm.clock import SystemClock
from klamm.directory import DataDirectory, held
from klamm.errors import KlammError, StartError
from klamm.ids import format_uuid
from klamm.log.files import SystemFiles

RECORDS_SHOWN_MAX = 10
"""Of each log, behind the point that all have in common."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 refused or failed."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as locks:
            if options.restore is None:
                _recover(options, locks)
            else:
                _restore(options, locks)
    except (KlammError, OSError) as error:
        sys.stderr.write(f"klamm: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="klamm quorum recover")
    parser.add_argument("--dir", action="append", required=True, type=Path)
    parser.add_argument("--restore", type=Path)
    parser.add_argument("--voter", type=int)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    return parser


def _recover(options: argparse.Namespace, locks: ExitStack) -> None:
    files = SystemFiles()
    paths = list(map(locate, options.dir))
    if len({each.resolve() for each in paths}) < len(paths):
        raise StartError("A directory is named twice.")
    locked = {each: locks.enter_context(held(each)) for each in paths}
    compared = compare([survey(files, each) for each in paths], options.voter)
    told = describe(files, compared)
    if options.output == "table":
        _say(_text(told))
    account = None
    if not options.dry_run:
        _confirm(compared, sure=options.yes)
        chosen = compared.chosen
        if not locked[chosen.path]:
            meta = chosen.meta
            directory = DataDirectory.open(chosen.path, meta.cluster_id, meta.node_id)
            locks.callback(directory.close)
        account = asyncio.run(begin(files, compared, SystemClock(), getpass.getuser()))
    if options.output == "json":
        _say(json.dumps({**told, "account": None if account is None else str(account)}, indent=2))
    elif account is None:
        _say("Nothing was changed.")
    else:
        _say(
            f"Node {compared.chosen.meta.node_id} is the only voter, from epoch "
            f"{compared.new_epoch} on, and its log goes on above offset {OFFSET_JUMP}. "
            f"The account: {account}"
        )


def _restore(options: argparse.Namespace, locks: ExitStack) -> None:
    files, path = SystemFiles(), locate(options.dir[0])
    meta = read_meta(files, path)
    directory = DataDirectory.open(path, meta.cluster_id, meta.node_id)
    locks.callback(directory.close)
    done = asyncio.run(restore(files, options.restore.absolute(), path, SystemClock()))
    if options.output == "json":
        _say(json.dumps(_restored(done), indent=2))
        return
    end, origin = done.backup.end, done.backup.origin
    of = "" if origin is None else f" as it was in cluster {origin.cluster_id}"
    _say(
        f"Node {meta.node_id} begins with the metadata up to offset {end.offset}{of}. It is the "
        f"only voter of {meta.cluster_id}, in epochs from {done.epoch + 1} on, and its log goes on "
        f"from offset {done.end.offset}."
    )


def _restored(done: Restored) -> dict[str, Any]:
    backup, origin = done.backup, done.backup.origin
    return {
        "cluster_id": done.meta.cluster_id,
        "node_id": done.meta.node_id,
        "offset": backup.end.offset,
        "epoch": backup.end.epoch,
        "new_offset": done.end.offset,
        "new_epoch": done.epoch + 1,
        "checksum": f"{backup.image.checksum:032x}",
        "from_cluster_id": None if origin is None else origin.cluster_id,
        "taken_timestamp_ms": None if origin is None else origin.taken_ms,
    }


def _confirm(compared: Comparison, *, sure: bool) -> None:
    if compared.has_majority:
        raise StartError(
            "A majority of the voters is among these directories: start them, and they elect a "
            "leader with nothing lost. Nothing was changed."
        )
    if not compared.chosen.whole:
        raise StartError(
            "Every surviving log is damaged, and no node can start on one. Nothing was changed. "
            "Begin with a backup, or with a snapshot that is whole: klamm metadata restore."
        )
    if sure:
        return
    sys.stderr.write("Type the cluster's id to go on: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != compared.chosen.meta.cluster_id:
        raise StartError("That is not the cluster's id. Nothing was changed.")


def describe(files: SystemFiles, compared: Comparison) -> dict[str, Any]:
    """All that a person must know before going on."""
    chosen = compared.chosen
    voters = compared.voters
    return {
        "cluster_id": chosen.meta.cluster_id,
        "voters": [] if voters is None else list(voters.ids),
        "has_majority": compared.has_majority,
        "chosen": chosen.meta.node_id,
        "chosen_votes": compared.chosen_votes,
        "unknown_from_offset": chosen.end_offset,
        "new_epoch": compared.new_epoch,
        "survivors": [_survivor(files, compared, each) for each in compared.survivors],
    }


def _survivor(files: SystemFiles, compared: Comparison, each: Survivor) -> dict[str, Any]:
    ends = [end for end in compared.common_ends.values() if end is not None]
    common = compared.common_ends.get(each.meta.node_id)
    begin_at = min(ends, default=None) if each is compared.chosen else common
    shown: list[str] = []
    if begin_at is not None:
        shown = records_from(files, each, begin_at, RECORDS_SHOWN_MAX)
    return {
        "node_id": each.meta.node_id,
        "directory_id": format_uuid(each.meta.directory_id),
        "path": str(each.path),
        "epoch": each.epoch,
        "last_epoch": each.last_epoch,
        "log_start_offset": each.start,
        **({} if each is compared.chosen else tail(compared, each.meta.node_id)),
        "end_offset": each.end_offset,
        "whole": each.whole,
        "notices": list(each.notices),
        "records_after_common_end": shown,
    }


def _text(told: dict[str, Any]) -> str:
    lines = [f"Cluster {told['cluster_id']}, voters {told['voters']} as the best log names them."]
    for each in told["survivors"]:
        lines.append(
            f"  node {each['node_id']}: epoch {each['epoch']}, log {each['log_start_offset']} to "
            f"{each['end_offset']}, last epoch {each['last_epoch']}  ({each['path']})"
        )
        lines += [f"    ! {notice}" for notice in each["notices"]]
        if each["node_id"] != told["chosen"]:
            common, dropped = each["common_end"], each["records_not_in_chosen"]
            where = "nowhere that can be told" if common is None else f"up to offset {common}"
            lines.append(f"    the same as the chosen log {where}; to be dropped: {dropped}")
        if each["records_after_common_end"] and each["node_id"] == told["chosen"]:
            lines.append("    kept, and not in all of the others:")
        lines += [f"    {record}" for record in each["records_after_common_end"]]
    lines.append(
        f"Chosen: node {told['chosen']}, which would go on alone in epoch {told['new_epoch']}."
    )
    if not told["chosen_votes"]:
        lines.append(
            f"  ! It has no vote by this log: it was removed, or only followed. Are voters "
            f"{told['voters']} lost for good?"
        )
    lines += [
        f"Unknown from offset {told['unknown_from_offset']} on: lost voters may have more.",
    ]
    return "\n".join(lines)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
