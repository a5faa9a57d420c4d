"""What goes on beside the core with its disk: the scrub, the bounds, readers that meet damage."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controller.quorum.journal import Journal
from controller.quorum.outside import Store
from klamm.errors import CorruptLogError, StorageError
from klamm.ids import Offset


class DiskWatch:
    """Ends, and the node with it, when the disk can no longer be believed."""

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._broken: asyncio.Future[StorageError] = asyncio.get_running_loop().create_future()

    async def run(self, has_peers: Callable[[], bool]) -> None:
        """Until cancelled.

        Args:
            has_peers: Now, somebody else may have what is lost here.

        Raises:
            StorageError: The disk failed, or the log is damaged: the next start sees to it.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._store.keep_bounds())
                tasks.create_task(self._scrub(has_peers))
                tasks.create_task(self._store.scrub_snapshots(self._journal.snapshot_damaged))
                tasks.create_task(self._until_broken())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        """For a reader beside the core: whole batches of the log.

        Raises:
            StorageError: They are damaged or cannot be read; the node ends.
        """
        with self._ending():
            return self._store.read(start, max_bytes, up_to)

    def ends_batch(self, offset: Offset) -> bool:
        """Does a batch of the log end just before `offset`?

        Raises:
            StorageError: As `read`.
        """
        with self._ending():
            return self._store.ends_batch(offset)

    async def _scrub(self, has_peers: Callable[[], bool]) -> None:
        """Who has peers ends over damage, and fetches what is lost from them."""
        try:
            await self._store.scrub()
        except CorruptLogError as error:
            if has_peers():
                raise
            self._journal.log_damaged(error)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            if not self._broken.done():
                self._broken.set_result(error)
            raise

    async def _until_broken(self) -> None:
        raise await self._broken
