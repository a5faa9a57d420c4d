"""Disagreements of a node with what the log states, one at a time: the latest, if it still stands.

Whoever settles one takes as long as a replay does; what was stated meanwhile is looked at after it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from klamm.metadata.agreement import Agreement
from klamm.metadata.delta import Statement


class Doubts:
    """Those of an agreement, from now on."""

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        self._latest: Statement | None = None
        self._wake = asyncio.Event()
        agreement.on_disagreement = self._on_disagreement

    async def each(self, settle: Callable[[Statement], Awaitable[None]]) -> None:
        """Until cancelled, or until `settle` raises."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            doubt, self._latest = self._latest, None
            if doubt is not None and self._agreement.disagreement is doubt:
                await settle(doubt)

    def _on_disagreement(self, statement: Statement) -> None:
        self._latest = statement
        self._wake.set()
