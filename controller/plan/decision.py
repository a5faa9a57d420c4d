"""What a decision is."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from klamm.metadata.records import MetadataRecord

Result = TypeVar("Result")

Draw = Callable[[int], int]
"""Chance: `draw(n)` is uniform in [0, n)."""


class Decision(NamedTuple, Generic[Result]):
    """Records to write as one atomic batch, and what to answer once they are committed."""

    records: tuple[MetadataRecord, ...]
    results: Result
    divisible: bool = False
    """May be written as several batches, should it be too large for one: whatever part of it is
    written, the same decision made again writes the rest."""
