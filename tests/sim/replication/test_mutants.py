"""Planted bugs: each must be caught by some seed, or the simulation would not see a real one.

Three more are too rare for a few seeds, and are killed by name in tests/unit/replica/test_leader:
the high watermark of the committed ISR alone while a larger one is proposed, an expansion before
the start of the epoch, and followers' ends that are believed over a change of epoch.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.replica import follower, leader, producer_state
from broker.replica.leader import AdvanceHighWatermark, LeaderState, Step
from broker.replica.partition import Partition
from klamm.errors import ErrorCode
from klamm.ids import NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from klamm.metadata.image import PartitionImage
from tests.sim.replication.test_replication import run_seed

SEEDS_MAX = 120

Plant = Callable[[pytest.MonkeyPatch], dict[str, bool]]


def high_watermark_counts_one_too_few(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The slowest member of the ISR is left out."""

    def advanced(state: LeaderState, now_ms: int, active: leader.Active) -> Step:
        reign = state.reign
        if len(reign.isr) < reign.min_insync:
            return state, ()
        ends = [each.end_offset for each in state.followers if each.broker_id in reign.maximal_isr]
        least = sorted([*ends, state.end_offset])[1 if ends else 0]
        if least <= state.high_watermark:
            return state, ()
        return replace(state, high_watermark=least), (AdvanceHighWatermark(least),)

    patch.setattr(leader, "_advanced", advanced)
    return {}


def high_watermark_moves_at_the_proposal_to_shrink(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The smaller ISR is taken for committed before the controller says so."""
    real = leader._propose

    def propose(state: LeaderState, isr: tuple[NodeId, ...], active: leader.Active) -> Step:
        state, effects = real(state, isr, active)
        reign = replace(state.reign, maximal_isr=frozenset(isr))
        state = replace(state, reign=reign)
        state, advanced = leader._advanced(state, 0, active)
        return state, effects + advanced

    patch.setattr(leader, "_propose", propose)
    return {}


def truncation_to_the_high_watermark(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A new follower cuts back to what it knows as committed; KIP-101's first example."""
    real = Partition.become_follower

    def become_follower(self: Partition, image: PartitionImage) -> bool:
        new = real(self, image)
        if new:
            self._truncate_to(self.high_watermark)
        return new

    patch.setattr(Partition, "become_follower", become_follower)
    return {}


def no_truncation(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The leader does not compare epochs."""
    patch.setattr(Partition, "_divergence", lambda self, row: None)
    return {}


def truncation_to_the_leaders_end_only(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """KIP-279: an epoch that the follower has not is taken for one that it has."""

    def offset(log: EpochChain, diverging: OffsetAndEpoch) -> Offset:
        return min(log.end_offset, diverging.offset)

    patch.setattr(follower, "truncation_offset", offset)
    return {}


def expansion_too_early(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Whoever fetches is proposed, however far behind."""

    def expand(state: LeaderState, each: leader.Follower, active: leader.Active) -> Step:
        if state.reign.proposal is not None:
            return state, ()
        return leader._propose(state, (*state.reign.isr, each.broker_id), active)

    patch.setattr(leader, "_expand", expand)
    return {}


def acknowledgement_at_the_end(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """acks=all answered as acks=1."""
    return {"acks_at_end": True}


def no_duplicate_detection(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Every retry is appended."""
    patch.setattr(producer_state, "check", lambda producers, batch: ErrorCode.NONE)
    return {}


def producers_forgotten_by_followers(patch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Idempotence does not survive a change of leader."""
    real = Partition.become_follower

    def become_follower(self: Partition, image: PartitionImage) -> bool:
        self.producers.table = producer_state.NO_PRODUCERS
        return real(self, image)

    patch.setattr(Partition, "become_follower", become_follower)
    return {}


PLANTED: tuple[Plant, ...] = (
    high_watermark_counts_one_too_few,
    high_watermark_moves_at_the_proposal_to_shrink,
    truncation_to_the_high_watermark,
    no_truncation,
    truncation_to_the_leaders_end_only,
    expansion_too_early,
    acknowledgement_at_the_end,
    no_duplicate_detection,
    producers_forgotten_by_followers,
)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = plant(monkeypatch)
    for seed in range(SEEDS_MAX):
        try:
            run_seed(seed, **planted)
        except AssertionError as caught:
            print(f"seed {seed}: {str(caught).splitlines()[0]}")
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not see {plant.__name__}")
