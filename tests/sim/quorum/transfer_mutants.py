"""Planted bugs of the hand-over of leadership."""

from dataclasses import replace
from typing import Any

from controller.raft import replication, transfer
from controller.raft.state import Leader
from klamm.ids import Offset
from tests.sim.planting import Mutant, Patch


def _in_doubt() -> list[Patch]:
    """Gives up once the target has everything, committed or not."""
    honest = transfer.proceed

    def proceed(now: Any, moment: Any) -> Any:
        after, effects = honest(replace(now, high_watermark=now.log.end_offset), moment)
        return replace(after, high_watermark=now.high_watermark), effects

    return [(transfer, "proceed", proceed)]


def _to_who_lags() -> list[Patch]:
    """Gives up once all is committed, whatever the target has."""
    honest = transfer.proceed

    def proceed(now: Any, moment: Any) -> Any:
        if not isinstance(now.role, Leader) or now.role.transfer is None:
            return now, ()
        end = Offset(now.log.end_offset)
        ahead = tuple(replace(each, end_offset=end) for each in now.role.progress)
        after, effects = honest(replace(now, role=replace(now.role, progress=ahead)), moment)
        return (after, effects) if effects else (now, ())

    return [(transfer, "proceed", proceed)]


def _proposals_go_on() -> list[Patch]:
    """Takes proposals while it hands over."""
    honest = replication.on_proposal

    def on_proposal(now: Any, event: Any, moment: Any) -> Any:
        if not isinstance(now.role, Leader) or now.role.transfer is None:
            return honest(now, event, moment)
        moving = now.role.transfer
        after, effects = honest(replace(now, role=replace(now.role, transfer=None)), event, moment)
        return replace(after, role=replace(after.role, transfer=moving)), effects

    return [(replication, "on_proposal", on_proposal)]


MUTANTS = (
    Mutant("handed over in doubt", "writes are open", _in_doubt, "transfers"),
    Mutant("handed over to who lags", "the target's log", _to_who_lags, "transfers"),
    Mutant("writes while handing over", "the end stays", _proposals_go_on, "transfers"),
)
