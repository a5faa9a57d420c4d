"""A flush of the store's, for a test that awaits it."""

import asyncio

from controller.quorum.outside import Store
from controller.quorum.refused import fail, resolve
from klamm.ids import Offset


def flushed(store: Store) -> asyncio.Future[Offset]:
    """Begins at once; the end of what is durable then."""
    future: asyncio.Future[Offset] = asyncio.get_running_loop().create_future()

    def done(end: Offset | BaseException) -> None:
        if isinstance(end, Exception):
            fail(future, end)
        elif not isinstance(end, BaseException):
            resolve(future, end)

    store.flush(done)
    return future
