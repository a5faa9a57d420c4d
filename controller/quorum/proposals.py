"""Proposals on their way to the core: those that go on from one another are appended as one.

    propose(base 10, 2 records) ─┐
    propose(base 12, 1 record)  ─┼─▶ ProposalMade(base 10, 7 records) ─▶ one batch, one fsync
    propose(base 13, 4 records) ─┘      accepted: each is told its own end; refused: all are

Nobody waits for others: the first one is in the core's inbox at once, and whoever comes before the
core has taken it out joins it. So an idle quorum appends each by itself, and a busy one so many
together as have come meanwhile. Kafka's BatchAccumulator, without its linger.

Who waits for the commit as well is passed on to the applier with the append: it is woken once.

None is ever divided. What was decided together stands in one batch, with others or without.

What comes after a refused one goes on from what is not there, even if the log has grown to just
that offset by something else: it is refused too.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.quorum.port import PROPOSAL_BYTES_MAX, PROPOSAL_RECORDS_MAX
from controller.quorum.refused import fail, resolve
from controller.raft.events import ProposalMade
from klamm.errors import ApiError, ErrorCode, OverloadedError
from klamm.ids import Epoch, Offset
from klamm.log.records import NewRecord

GROUP_RECORDS_MAX = 10_000
"""Of one append that has room for more proposals."""

GROUP_BYTES_MAX = 512 * 1024
"""Likewise: half of what followers fetch at a time."""

PROPOSALS_MAX = 1_024
"""Proposals that wait to be appended; more are refused."""

NOWHERE = Offset(-1)
"""No log ends here."""


class Waiting(NamedTuple):
    """Who made a proposal."""

    end_offset: Offset
    """Its own."""
    future: asyncio.Future[Offset]
    commit_ms: int | None
    """For so long it is to wait for the commit; None: it waits for the append only."""


@dataclass(slots=True, kw_only=True)
class Group:
    """Stands in the inbox until the core takes it up."""

    call: int
    epoch: Epoch
    base_offset: Offset
    end_offset: Offset
    refusals: int
    """So many groups had been refused before it."""
    records: list[NewRecord] = field(default_factory=list)
    size_bytes: int = 0
    waiting: list[Waiting] = field(default_factory=list)


class Proposals:
    """All that are not appended yet, and not refused."""

    def __init__(
        self, appended: Callable[[Epoch, Offset, asyncio.Future[Offset], int], None]
    ) -> None:
        """`appended(epoch, end_offset, future, timeout_ms)` goes on with one that waits for the
        commit."""
        self._appended = appended
        self._groups: dict[int, Group] = {}
        self._open: Group | None = None
        """Not taken up yet; who goes on from it may join."""
        self._count = 0
        self.refusals = 0
        """Groups of which nothing was appended."""
        self.come_alone = False
        """The last group was of one: there is nobody for whom the next should wait a turn."""

    def add(
        self,
        epoch: Epoch,
        base_offset: Offset,
        records: tuple[NewRecord, ...],
        begin: Callable[[], int],
        commit_ms: int | None = None,
    ) -> tuple[asyncio.Future[Offset], Group | None]:
        """One more.

        Args:
            epoch: Of the leader that makes it.
            base_offset: Where the log must end for it.
            records: At least one.
            begin: The call of a new group; raises if there is no room for it.
            commit_ms: How long to wait for the commit, once it is appended; None: not at all.

        Returns:
            Its end offset, once it is appended, or committed; and the group for the inbox, if it
            is a new one.

        Raises:
            ApiError: RECORD_LIST_TOO_LARGE.
            OverloadedError: PROPOSALS_MAX.
        """
        if self._count >= PROPOSALS_MAX:
            raise OverloadedError(f"{PROPOSALS_MAX} proposals wait to be appended")
        size_bytes = 0
        for value, key, _, _ in records:
            size_bytes += len(value or b"") + len(key or b"")
        if len(records) > PROPOSAL_RECORDS_MAX or size_bytes > PROPOSAL_BYTES_MAX:
            raise ApiError(
                ErrorCode.RECORD_LIST_TOO_LARGE,
                f"{len(records)} records of {size_bytes} bytes: one decision may have "
                f"{PROPOSAL_RECORDS_MAX} of {PROPOSAL_BYTES_MAX} bytes",
            )
        group, new = self._open, None
        if group is None or not _goes_on(group, epoch, base_offset, len(records), size_bytes):
            call = begin()
            new = group = self._open = self._groups[call] = Group(
                call=call,
                epoch=epoch,
                base_offset=base_offset,
                end_offset=base_offset,
                refusals=self.refusals,
            )
        group.records += records
        group.size_bytes += size_bytes
        group.end_offset = Offset(group.end_offset + len(records))
        future: asyncio.Future[Offset] = asyncio.get_running_loop().create_future()
        group.waiting.append(Waiting(group.end_offset, future, commit_ms))
        self._count += 1
        return future, new

    def take(self, group: Group) -> ProposalMade:
        """The core's turn with it: nobody joins any more."""
        if self._open is group:
            self._open = None
        self.come_alone = len(group.waiting) == 1
        return ProposalMade(
            call=group.call,
            epoch=group.epoch,
            base_offset=group.base_offset if group.refusals == self.refusals else NOWHERE,
            count=len(group.records),
            records=tuple(group.records),
        )

    def accept(self, call: int) -> None:
        """It is appended: each proposal up to its own end."""
        group = self._end(call)
        for end_offset, future, commit_ms in group.waiting:
            if commit_ms is None:
                resolve(future, end_offset)
            else:
                self._appended(group.epoch, end_offset, future, commit_ms)

    def refuse(self, call: int, why: Callable[[], Exception]) -> None:
        """Nothing of it was appended: each that waits gets an error of its own."""
        self.refusals += 1
        for each in self._end(call).waiting:
            fail(each.future, why())

    def refuse_all(self, why: Callable[[], Exception]) -> None:
        for call in list(self._groups):
            self.refuse(call, why)

    def _end(self, call: int) -> Group:
        group = self._groups.pop(call)
        if self._open is group:
            self._open = None
        self._count -= len(group.waiting)
        return group


def _goes_on(group: Group, epoch: Epoch, base_offset: Offset, count: int, size_bytes: int) -> bool:
    return (
        epoch == group.epoch
        and base_offset == group.end_offset
        and len(group.records) + count <= GROUP_RECORDS_MAX
        and group.size_bytes + size_bytes <= GROUP_BYTES_MAX
    )
