"""Planted bugs of replicas that must agree on one state (tests/sim/driver/states)."""

from typing import Any

from controller import upkeep
from controller.plan.decision import Decision
from controller.upkeep import Upkeep
from controller.verification import Verification
from klamm.ids import Offset
from klamm.metadata import checksum
from klamm.metadata.agreement import Agreement
from klamm.metadata.checksum import CHECKSUM_FORMAT as FORMAT
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.doubts import Doubts
from klamm.metadata.records import ConfigRecord, ConfigsRecord, StateChecksumRecord
from tests.sim.driver.states import STATES
from tests.sim.loop import NODE
from tests.sim.planting import Mutant, Patch


def _one_replays_otherwise() -> list[Patch]:
    """Node 2 takes some records for others: code that is not deterministic."""
    honest = MetadataDelta._configure

    def configure(self: Any, record: ConfigRecord) -> None:
        if not (NODE.get().startswith("2.") and (record.value or "").endswith("7")):
            honest(self, record)

    return [(MetadataDelta, "_configure", configure)]


def _columns_are_shifted() -> list[Patch]:
    """Node 2 gives each resource its neighbour's value: the same names, and the same values."""
    honest = MetadataDelta._configure_many

    def configure_many(self: Any, record: ConfigsRecord) -> None:
        names = record.resource_names
        if NODE.get().startswith("2."):
            record = record._replace(resource_names=(*names[1:], names[0]))
        honest(self, record)

    return [(MetadataDelta, "_configure_many", configure_many)]


def _nobody_compares() -> list[Patch]:
    return [(Agreement, "publish", lambda *_: None)]


def _nobody_states() -> list[Patch]:
    return [(Upkeep, "on_leading", lambda *_: None)]


def _doubts_and_goes_on() -> list[Patch]:
    return [(Doubts, "_on_disagreement", lambda *_: None)]


def _agrees_with_itself() -> list[Patch]:
    """Whoever has replayed from what it wrote itself is right."""
    return [(Verification, "_bases", lambda self: [_latest(self)])]


def _latest(verification: Any) -> Any:
    held = [each.snapshot_id for each in verification._quorum.snapshots]
    return held[-1] if held else None


def _values_are_not_hashed() -> list[Patch]:
    """A config is there or not there."""
    return [
        (checksum, "value_number", lambda _: 1),
        (checksum, "value_numbers", lambda values: [1] * len(values)),
    ]


def _states_what_is_committed() -> list[Patch]:
    """And not what it decides on, behind which the statement stands."""

    async def state(self: Any) -> None:
        self._state_due_ms = self._clock.monotonic_ms() + upkeep.STATE_INTERVAL_MS

        def decide(view: Any, end: Offset) -> Decision[None]:
            checksum = self._log.image.checksum
            return Decision(
                (StateChecksumRecord(offset=end, checksum=checksum, format=FORMAT),), None
            )

        await self._decide("StateChecksum", decide)

    return [(Upkeep, "_state", state)]


MUTANTS = (
    Mutant("one replays otherwise", "a replay is a replay", _one_replays_otherwise, STATES),
    Mutant("columns are shifted", "all values are there", _columns_are_shifted, STATES),
    Mutant("nobody compares", "a statement is a record like others", _nobody_compares, STATES),
    Mutant("nobody states", "the log says it all", _nobody_states, STATES),
    Mutant("doubts and goes on", "to be not ready is enough", _doubts_and_goes_on, STATES),
    Mutant("agrees with itself", "the latest snapshot is right", _agrees_with_itself, STATES),
    Mutant("values are not hashed", "a config is there or not", _values_are_not_hashed, STATES),
    Mutant("states the committed", "and not what it decides on", _states_what_is_committed, STATES),
)
