"""New partitions whose turn comes: those of a large decision, and those that found no room.

    a decision ── the first MADE_AT_ONCE ──▶ made at once
          └────── the others ──▶ Unmade ──▶ made, MADE_IN_A_TURN in a turn of the loop
                                   ▲                            │ no room
                                   └──── look_for_room ◀── waiting

Each takes files: with thousands of them at once nobody else would have a turn for seconds. Only
names are kept, for a partition is made as the metadata are by then.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice

from klamm.ids import TopicPartition

MADE_AT_ONCE = 100
"""New partitions of one decision, within half a tenth of a second."""

MADE_IN_A_TURN = 8


class Unmade:
    """One a broker."""

    def __init__(self, make: Callable[[TopicPartition], None]) -> None:
        """
        Args:
            make: Makes one as it is to be by then, unless it is gone, or here already.
        """
        self._make = make
        self._names: dict[TopicPartition, None] = {}
        self._waiting: dict[TopicPartition, None] = {}
        self._any = asyncio.Event()

    def __len__(self) -> int:
        """Those whose turn comes; not those that wait for room."""
        return len(self._names)

    def add(self, names: Iterable[TopicPartition]) -> None:
        self._names.update(dict.fromkeys(names))
        self._any.set()

    def found_no_room(self, name: TopicPartition) -> None:
        """There may be some later."""
        self._waiting[name] = None

    def look_for_room(self) -> None:
        """Those that found none have another turn."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self.add(waiting)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._any.wait()
            self.make_some()
            await asyncio.sleep(0)

    def make_some(self) -> None:
        """One turn."""
        for name in list(islice(self._names, MADE_IN_A_TURN)):
            del self._names[name]
            self._make(name)
        if not self._names:
            self._any.clear()
