"""Planted bugs of snapshots: each is one that somebody has made, and each must be caught."""

from dataclasses import replace
from typing import Any

from controller.raft import download, snapshots
from controller.raft.effects import TrimLog
from controller.raft.snapshots import Creation
from klamm.ids import Offset, OffsetAndEpoch
from tests.sim.planting import Mutant, Patch
from tests.sim.quorum import snapshots as shell
from tests.sim.quorum.disk import Disk
from tests.sim.quorum.node import Node


def _install_without_fsync() -> list[Patch]:
    """Renamed, and the log gone; a power cut leaves neither."""
    honest = Disk.install

    def install(self: Disk, snapshot_id: Any, voters: Any) -> None:
        self.durable_parts.discard(snapshot_id)
        honest(self, snapshot_id, voters)

    return [(Disk, "install", install)]


def _high_watermark_stays() -> list[Patch]:
    honest = download.on_verified

    def on_verified(now: Any, event: Any, moment: Any) -> Any:
        after, effects = honest(now, event, moment)
        return replace(after, high_watermark=now.high_watermark), effects

    return [(download, "on_verified", on_verified)]


def _trim_to_no_snapshot() -> list[Patch]:
    """The log begins where everybody has it by now, and nothing says what was before."""

    def on_trim(now: Any, event: Any) -> Any:
        end = now.high_watermark
        if end <= now.log.start_offset:
            return now, ()
        to = OffsetAndEpoch(epoch=now.log.epoch_at(Offset(end - 1)), offset=end)
        return replace(now, log=now.log.start_at(to)), (TrimLog(to),)

    return [(snapshots, "on_trim", on_trim)]


def _resume_with_another() -> list[Patch]:
    """What one leader began, the next one goes on with."""

    def drop(now: Any) -> Any:
        if now.download is None:
            return now, ()
        return replace(now, download=replace(now.download, epoch=now.epoch)), ()

    return [(download, "drop", drop)]


def _voters_as_configured() -> list[Patch]:
    honest = download.on_verified

    def on_verified(now: Any, event: Any, moment: Any) -> Any:
        return honest(now, replace(event, voters=now.config.voters), moment)

    return [(download, "on_verified", on_verified)]


def _snapshot_of_the_logs_end() -> list[Patch]:
    """Whatever stands in the log is written, committed or not."""
    honest = snapshots.may_create

    def may_create(now: Any, snapshot_id: Any) -> Any:
        said = honest(replace(now, high_watermark=now.log.end_offset), snapshot_id)
        return said if said is Creation.NEEDLESS else Creation.ALLOWED

    end = property(lambda self: 0 if self.state is None else self.disk.end_offset)
    return [
        (snapshots, "may_create", may_create),
        (shell, "may_create", may_create),
        (Node, "applied", end),
    ]


def _laggards_get_records() -> list[Patch]:
    """The leader answers from where its log begins, and tells nobody of a snapshot."""
    return [(snapshots, "needed", lambda *_: None)]


def _damage_unseen() -> list[Patch]:
    """Chunks are believed as they come."""
    return [(shell, "_sound", lambda _: True)]


MUTANTS = (
    Mutant("install without fsync", "a rename is enough", _install_without_fsync, "laggards"),
    Mutant(
        "installed, not committed",
        "the high watermark comes with the next fetch",
        _high_watermark_stays,
        "laggards",
    ),
    Mutant(
        "trim to no snapshot",
        "what all have applied nobody needs",
        _trim_to_no_snapshot,
        "laggards",
    ),
    Mutant(
        "resume with another",
        "one id, the same bytes on every node",
        _resume_with_another,
        "laggards",
    ),
    Mutant(
        "voters as configured",
        "who votes stands in the configuration",
        _voters_as_configured,
        "laggards",
    ),
    Mutant(
        "snapshot of the log's end",
        "what is in the log will be committed",
        _snapshot_of_the_logs_end,
        "laggards",
    ),
    Mutant(
        "laggards get records", "a log reaches back far enough", _laggards_get_records, "laggards"
    ),
    Mutant("damage unseen", "what comes over TCP is right", _damage_unseen, "laggards"),
)
