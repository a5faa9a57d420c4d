"""Proposals that wait together are appended together, and each is told for itself."""

import asyncio
from itertools import count

import pytest

from controller.quorum.port import LogMovedError
from controller.quorum.proposals import GROUP_BYTES_MAX, NOWHERE, PROPOSALS_MAX, Group, Proposals
from klamm.errors import OverloadedError
from klamm.ids import Epoch, Offset
from klamm.log.records import NewRecord

EPOCH = Epoch(3)


class Inbox:
    def __init__(self) -> None:
        self.proposals = Proposals(self._appended)
        self.appended: list[tuple[Epoch, Offset, int]] = []
        """Who waits for the commit, and how long."""
        self.groups: list[Group] = []
        self._calls = count(1)

    def add(
        self, base: int, *values: bytes, epoch: Epoch = EPOCH, commit_ms: int | None = None
    ) -> asyncio.Future[Offset]:
        records = tuple(NewRecord(value=each) for each in values)
        future, group = self.proposals.add(
            epoch, Offset(base), records, lambda: next(self._calls), commit_ms
        )
        if group is not None:
            self.groups.append(group)
        return future

    def _appended(
        self, epoch: Epoch, end_offset: Offset, future: asyncio.Future[Offset], timeout_ms: int
    ) -> None:
        assert not future.done()
        self.appended.append((epoch, end_offset, timeout_ms))


async def test_who_waits_for_the_commit_is_passed_on_with_the_append() -> None:
    inbox = Inbox()
    both = [inbox.add(10, b"a", commit_ms=700), inbox.add(11, b"b", b"c")]
    inbox.proposals.accept(inbox.proposals.take(inbox.groups[0]).call)
    assert inbox.appended == [(EPOCH, 11, 700)]
    assert [each.done() for each in both] == [False, True]


async def test_what_is_refused_is_told_at_once_to_who_waits_for_the_commit() -> None:
    inbox = Inbox()
    waiting = inbox.add(10, b"a", commit_ms=700)
    inbox.proposals.take(inbox.groups[0])
    inbox.proposals.refuse(inbox.groups[0].call, lambda: LogMovedError(Offset(7)))
    with pytest.raises(LogMovedError):
        await waiting
    assert not inbox.appended


async def test_what_goes_on_from_the_last_joins_it_and_is_told_its_own_end() -> None:
    inbox = Inbox()
    waiting = [inbox.add(10, b"a", b"b"), inbox.add(12, b"c"), inbox.add(13, b"d", b"e")]
    (group,) = inbox.groups
    made = inbox.proposals.take(group)
    assert (made.base_offset, made.count, made.epoch) == (10, 5, EPOCH)
    assert isinstance(made.records, tuple)
    assert [each.value for each in made.records] == [b"a", b"b", b"c", b"d", b"e"]
    inbox.proposals.accept(made.call)
    assert await asyncio.gather(*waiting) == [12, 13, 15]


async def test_nobody_joins_what_the_core_has_taken_up() -> None:
    inbox = Inbox()
    inbox.add(10, b"a")
    inbox.proposals.take(inbox.groups[0])
    inbox.add(11, b"b")
    assert [group.base_offset for group in inbox.groups] == [10, 11]
    assert inbox.proposals.take(inbox.groups[1]).count == 1


@pytest.mark.parametrize(
    ("base", "epoch", "size_bytes"),
    [(12, EPOCH, 1), (10, EPOCH, 1), (11, Epoch(4), 1), (11, EPOCH, GROUP_BYTES_MAX)],
    ids=["a gap", "the same place", "another epoch", "too large together"],
)
async def test_what_does_not_fit_is_appended_by_itself(
    base: int, epoch: Epoch, size_bytes: int
) -> None:
    inbox = Inbox()
    inbox.add(10, b"a")
    inbox.add(base, b"x" * size_bytes, epoch=epoch)
    assert [group.base_offset for group in inbox.groups] == [10, base]


async def test_a_refusal_is_everybodys_with_an_error_of_his_own() -> None:
    inbox = Inbox()
    waiting = [inbox.add(10, b"a"), inbox.add(11, b"b")]
    inbox.proposals.take(inbox.groups[0])
    inbox.proposals.refuse(inbox.groups[0].call, lambda: LogMovedError(Offset(7)))
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [each.end_offset for each in errors if isinstance(each, LogMovedError)] == [7, 7]
    assert errors[0] is not errors[1]


async def test_what_comes_after_a_refused_one_has_no_place() -> None:
    """The log may end by now where it is to begin, by a record of the leader's own."""
    inbox = Inbox()
    inbox.add(10, b"a")
    inbox.proposals.take(inbox.groups[0])
    inbox.add(11, b"b")  # It goes on from the first one, of which it does not know yet:
    inbox.proposals.refuse(inbox.groups[0].call, lambda: LogMovedError(Offset(11)))
    assert inbox.proposals.refusals == 1
    assert inbox.proposals.take(inbox.groups[1]).base_offset == NOWHERE
    inbox.proposals.refuse(inbox.groups[1].call, lambda: LogMovedError(Offset(11)))
    inbox.add(11, b"a")
    assert inbox.proposals.take(inbox.groups[2]).base_offset == 11, "who has looked again has one"


async def test_who_leaves_does_not_take_the_others_along() -> None:
    inbox = Inbox()
    first, second = inbox.add(10, b"a"), inbox.add(11, b"b")
    first.cancel()
    inbox.proposals.accept(inbox.proposals.take(inbox.groups[0]).call)
    assert await second == 12


async def test_too_many_are_refused_and_room_comes_back() -> None:
    inbox = Inbox()
    for number in range(PROPOSALS_MAX):
        inbox.add(number, b"a")
    with pytest.raises(OverloadedError, match=str(PROPOSALS_MAX)):
        inbox.add(PROPOSALS_MAX, b"a")
    inbox.proposals.accept(inbox.groups[0].call)
    inbox.add(PROPOSALS_MAX, b"a")
    assert len(inbox.groups) == 2
