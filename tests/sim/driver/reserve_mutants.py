"""Planted bugs of zeros that a crash leaves: what was reserved, and what was not written."""

from typing import Any

from klamm.log import recovery
from klamm.log.recovery import Recoverer
from klamm.log.segment import Segment
from tests.sim.planting import Mutant, Patch


def _zeros_stay() -> list[Patch]:
    """What is appended next stands behind them."""
    real = Segment.cut_tail

    def cut_tail(self: Any, position: int) -> None:
        if not self.zeros_from(position):
            real(self, position)

    return [(Segment, "cut_tail", cut_tail)]


def _zeros_are_stripped() -> list[Patch]:
    """Those of the last batch too."""
    real = Segment.begin_indexes

    def begin_indexes(self: Any) -> None:
        data = self._file.read_at(0, self._file.size)
        self._file.truncate(len(data.rstrip(b"\0")))
        real(self)

    return [(Segment, "begin_indexes", begin_indexes)]


def _holes_are_damage() -> list[Patch]:
    return [(recovery, "was_not_written", lambda *_: False)]


def _holes_are_never_damage() -> list[Patch]:
    """Wherever they stand, and whatever is known of it."""

    def was_not_synced(self: Any, at: int, position: int, damaged: bytes) -> bool:
        return recovery.was_not_written(damaged, position, self._end)

    return [(Recoverer, "_was_not_synced", was_not_synced)]


MUTANTS = (
    Mutant("zeros stay", "a log ends where its file ends", _zeros_stay),
    Mutant("zeros are stripped", "no batch ends with a zero", _zeros_are_stripped),
    Mutant(
        "holes are damage",
        "whole batches behind it prove that a batch was durable",
        _holes_are_damage,
        "scatter",
    ),
    Mutant(
        "holes are never damage",
        "sectors of zeros are a torn end wherever they stand",
        _holes_are_never_damage,
        "rot",
    ),
)
