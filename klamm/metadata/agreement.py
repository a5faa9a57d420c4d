"""Whether this node's state is the one that the log says it is (row 14 of kraft.md 7.2).

StateChecksumRecord ─replay─▶ Statement ─publish─▶ equal: verified up to there
                                            └────▶ not:   said loudly, and by `disagreement`
"""

from collections.abc import Callable

from klamm.metadata.delta import MetadataDelta, Statement
from klamm.metadata.image import MetadataImage
from klamm.telemetry import metrics
from klamm.telemetry.logs import logger

_log = logger(__name__)

NOTHING_VERIFIED = -1


class Agreement:
    """The first publisher of a node's loader."""

    def __init__(self) -> None:
        self.verified_offset = NOTHING_VERIFIED
        """Of the last statement that was the same here."""
        self.disagreement: Statement | None = None
        """The last statement, if the state here was another."""
        self.on_disagreement: Callable[[Statement], None] = lambda _: None

    def publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        for each in delta.statements:
            if not each.comparable:
                _log.warning(
                    "the state is not compared: its checksum has a format of another version",
                    offset=each.record.offset,
                    format=each.record.format,
                )
            elif each.agrees:
                self._agree(each)
            else:
                self._disagree(each)

    def why_not(self) -> list[str]:
        """Why this node should not be asked; empty if nothing is known against its state."""
        if self.disagreement is None:
            return []
        why = f"the state here is not the one of the log: {told(self.disagreement)}"
        return [f"{why}; it agreed last at offset {self.verified_offset}"]

    def _agree(self, statement: Statement) -> None:
        if self.disagreement is not None:
            _log.warning("the state is the one of the log again", offset=statement.record.offset)
        self.disagreement = None
        self.verified_offset = statement.record.offset
        metrics.STATE_CHECKSUM_VERIFIED_OFFSET.set(self.verified_offset)
        metrics.STATE_CHECKSUM_DISAGREES.set(0)

    def _disagree(self, statement: Statement) -> None:
        self.disagreement = statement
        metrics.STATE_CHECKSUM_DISAGREES.set(1)
        _log.error(
            "the state here is not the one of the log",
            offset=statement.record.offset,
            stated=f"{statement.record.checksum:032x}",
            here=f"{statement.checksum:032x}",
            agreed_last_at=self.verified_offset,
        )
        self.on_disagreement(statement)


def told(statement: Statement) -> str:
    """The two of them, for a person."""
    return (
        f"offset {statement.record.offset} states {statement.record.checksum:032x}, "
        f"here it is {statement.checksum:032x}"
    )
