"""Snapshots at rest are read again, slowly and for ever: damage is found while this node still has
the state in memory, and can write another one.

    a snapshot ─▶ SCRUB_BYTES of it ─▶ rest ─▶ … ─▶ its footer ─▶ the next snapshot
                      └─ not what was written ─▶ damaged: told once, and handed out no more
"""

import asyncio
from collections.abc import Callable

from klamm.ids import OffsetAndEpoch
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles

SCRUB_BYTES = 256 * 1024
SCRUB_EVERY_MS = 1_000
"""A quarter of a megabyte a second: a gigabyte in about an hour."""


class SnapshotScrub:
    """Of one node's snapshots. Used within one event loop."""

    def __init__(self, snapshots: SnapshotFiles) -> None:
        self._snapshots = snapshots
        self._damaged: set[OffsetAndEpoch] = set()

    @property
    def damaged(self) -> frozenset[OffsetAndEpoch]:
        """What was found so, and still lies there."""
        if self._damaged:
            self._damaged.intersection_update(self._snapshots.list())
        return frozenset(self._damaged)

    async def run(self, found: Callable[[CorruptSnapshotError], None]) -> None:
        """Until cancelled.

        Args:
            found: Told of each damaged one, once.

        Raises:
            OSError: One cannot be read.
        """
        while True:
            await _rest()
            for each in self._snapshots.list():
                if each not in self._damaged:
                    await self._look(each, found)

    async def _look(
        self, snapshot_id: OffsetAndEpoch, found: Callable[[CorruptSnapshotError], None]
    ) -> None:
        looked = 0
        try:
            for position in self._snapshots.verifying(snapshot_id):
                if position - looked >= SCRUB_BYTES:
                    looked = position
                    await _rest()
        except CorruptSnapshotError as error:
            if snapshot_id in self._snapshots.list():  # And was not deleted meanwhile.
                self._damaged.add(snapshot_id)
                found(error)
        except OSError:
            if snapshot_id in self._snapshots.list():
                raise


async def _rest() -> None:
    await asyncio.sleep(SCRUB_EVERY_MS / 1_000)
