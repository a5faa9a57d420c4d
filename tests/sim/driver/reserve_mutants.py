"""Planted bugs of what a log has reserved behind its end, and leaves as zeros at a crash."""

from typing import Any

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


MUTANTS = (
    Mutant("zeros stay", "a log ends where its file ends", _zeros_stay),
    Mutant("zeros are stripped", "no batch ends with a zero", _zeros_are_stripped),
)
