"""Planted bugs of the shell's snapshots."""

from typing import Any

from controller.quorum.applier import Applier
from klamm.log.snapshot import PartFile
from tests.sim.planting import Mutant, Patch


def _named_before_it_is_durable() -> list[Patch]:
    def finish(self: Any) -> None:
        self._files.rename(self._path, self._path.with_suffix(""))
        self._files.sync_directory(self._path.parent)

    return [(PartFile, "finish", finish), (PartFile, "sync", lambda self: None)]


def _applied_stays() -> list[Patch]:
    """A loaded snapshot is followed by what it includes."""
    honest = Applier._load

    async def load(self: Any, machine: Any, snapshot_id: Any) -> None:
        applied = self.applied
        await honest(self, machine, snapshot_id)
        self.applied = applied

    return [(Applier, "_load", load)]


MUTANTS = (
    Mutant(
        "named before durable",
        "a snapshot's bytes get to the disk before its name",
        _named_before_it_is_durable,
    ),
    Mutant("applied stays", "a load says nothing of what comes next", _applied_stays),
)
