"""Log reconciliation by epoch, case by case.

Each case is one row of KIP-595's "log reconciliation": the leader's log below, and a
follower that ends at some offset and epoch.

    epoch      1 1 1 3 3 | end 5
    offset     0 1 2 3 4
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.ids import NO_EPOCH, Epoch, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain

LEADER = EpochChain().append(Epoch(1), 3).append(Epoch(3), 2)


def at(offset: int, epoch: int) -> OffsetAndEpoch:
    return OffsetAndEpoch(epoch=Epoch(epoch), offset=Offset(offset))


SNAPSHOT = at(7, 2)
"""A log that goes on from a snapshot: epochs 2 | 4 4, offsets … | 7 8."""
FROM_SNAPSHOT = EpochChain().begin_at(SNAPSHOT).append(Epoch(4), 2)


@pytest.mark.parametrize(
    ("follower_end", "agrees", "diverges_at"),
    [
        # A prefix of the leader's log.
        (at(0, 0), True, at(0, 0)),
        (at(0, -1), True, at(0, -1)),
        (at(2, 1), True, at(3, 1)),
        (at(3, 1), True, at(3, 1)),
        (at(5, 3), True, at(5, 3)),
        # Too long in an epoch that the leader has.
        (at(4, 1), False, at(3, 1)),
        (at(6, 3), False, at(5, 3)),
        # An epoch that the leader never had: fall back to the one before.
        (at(4, 2), False, at(3, 1)),
        (at(5, 9), False, at(5, 3)),
    ],
)
def test_reconciliation(
    follower_end: OffsetAndEpoch, agrees: bool, diverges_at: OffsetAndEpoch
) -> None:
    assert LEADER.agrees_with(follower_end) is agrees
    assert LEADER.end_of(follower_end.epoch) == diverges_at


@pytest.mark.parametrize(
    ("follower_end", "agrees", "diverges_at"),
    [
        (at(7, 2), True, at(7, 2)),
        (at(9, 4), True, at(9, 4)),
        # An epoch between the snapshot's and the log's first.
        (at(8, 3), False, at(7, 2)),
        # Before the snapshot's epoch nothing is known; before its offset the caller must look.
        (at(7, 1), True, at(7, 1)),
        (at(8, 1), False, at(7, 1)),
    ],
)
def test_reconciliation_after_a_snapshot(
    follower_end: OffsetAndEpoch, agrees: bool, diverges_at: OffsetAndEpoch
) -> None:
    assert FROM_SNAPSHOT.agrees_with(follower_end) is agrees
    assert FROM_SNAPSHOT.end_of(follower_end.epoch) == diverges_at


def test_an_empty_log_ends_in_no_epoch() -> None:
    assert EpochChain().end == at(0, NO_EPOCH)
    assert EpochChain().end_of(Epoch(5)) == at(0, NO_EPOCH)
    assert EpochChain().begin_at(SNAPSHOT).end == SNAPSHOT
    assert EpochChain().begin_at(SNAPSHOT).end_of(Epoch(5)) == SNAPSHOT


@pytest.mark.parametrize(
    ("to", "chain"),
    [
        (5, LEADER),
        (9, LEADER),
        (4, EpochChain().append(Epoch(1), 3).append(Epoch(3), 1)),
        # No epoch is left without records.
        (3, EpochChain().append(Epoch(1), 3)),
        (0, EpochChain()),
    ],
)
def test_truncate(to: int, chain: EpochChain) -> None:
    assert LEADER.truncate(Offset(to)) == chain


def test_an_epoch_never_goes_back() -> None:
    with pytest.raises(AssertionError, match="epoch 2 after 3"):
        LEADER.append(Epoch(2), 1)
    assert LEADER.append(Epoch(2), 0) == LEADER


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 12))
def test_a_chain_says_what_a_list_of_epochs_says(epochs: list[int], cut: int) -> None:
    epochs = sorted(epochs)
    chain = EpochChain()
    for epoch in epochs:
        chain = chain.append(Epoch(epoch), 1)
    chain, epochs = chain.truncate(Offset(cut)), epochs[:cut]
    assert [chain.epoch_at(Offset(i)) for i in range(len(epochs))] == epochs
    assert chain.end == at(len(epochs), epochs[-1] if epochs else NO_EPOCH)
    for epoch in range(11):
        start = chain.start_of(Epoch(epoch))
        assert start == (epochs.index(epoch) if epoch in epochs else None)
        upto = [each for each in epochs if each <= epoch]
        if upto:
            assert chain.end_of(Epoch(epoch)) == at(len(upto), upto[-1])


@given(st.data())
def test_cutting_back_by_turns_ends_at_the_common_prefix(data: st.DataObject) -> None:
    """The dance of KIP-279: the follower cuts back as the leader says, until they agree."""
    # An epoch has one leader: two logs differ in an epoch only by how much of it they have.
    shared = sorted(data.draw(st.lists(st.integers(1, 4), max_size=6)))
    ends = st.lists(st.integers(5, 9), max_size=6, unique=True)
    odd = sorted(each * 2 + 1 for each in data.draw(ends))
    even = sorted(each * 2 for each in data.draw(ends))
    leader, follower = EpochChain(), EpochChain()
    for epoch in shared + odd:
        leader = leader.append(Epoch(epoch), 1)
    for epoch in shared[: data.draw(st.integers(0, 6))] if not even else shared + even:
        follower = follower.append(Epoch(epoch), 1)
    for _ in range(20):
        if leader.agrees_with(follower.end):
            break
        theirs = leader.end_of(follower.last_epoch)
        own = follower.end_of(theirs.epoch)
        to = min(own.offset, theirs.offset) if own.epoch == theirs.epoch else own.offset
        follower = follower.truncate(to)
    assert leader.agrees_with(follower.end)
    kept = [follower.epoch_at(Offset(i)) for i in range(follower.end_offset)]
    assert kept == [leader.epoch_at(Offset(i)) for i in range(follower.end_offset)]
    assert follower.end_offset >= min(len(shared), follower.end_offset)
