"""A broker whose state is not the one that the log states: who is wrong?

    disagreement ─▶ the log followed once more, beside, from any controller, up to what is here
        another state    this process is wrong: it ends, so that it leads and serves nothing
        the same         the statement is wrong, or the snapshot that both began at: not ready, and
                         said, until a statement agrees; looked at again with each that does not

A leader whose memory is damaged states nonsense to all brokers at once: at its word alone they
would all stop. A process that is wrong believes that it leads what others lead, or serves with
configs that nobody has set; the controllers move its leaders away as it ends, and its next process
follows the log anew. See controller/verification.py, which does the same with a log of its own.
"""

import asyncio
from collections.abc import Callable

from broker.control.follower import Loader, MetadataFollower
from klamm.errors import KlammError, StateDivergedError
from klamm.ids import Offset, OffsetAndEpoch
from klamm.metadata.agreement import Agreement, told
from klamm.metadata.delta import Statement
from klamm.metadata.doubts import Doubts
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.snapshot_batches import SnapshotReader
from klamm.telemetry.logs import logger

_log = logger(__name__)

REPLAY_S = 300.0
"""The log has to be here once more within so long; the next statement begins anew."""


class Verification:
    """One a broker process."""

    def __init__(
        self,
        loader: MetadataLoader,
        agreement: Agreement,
        follow: Callable[[Loader], MetadataFollower],
    ) -> None:
        """
        Args:
            loader: Whose image is in doubt.
            agreement: Says when.
            follow: Makes one that follows the log for another loader.
        """
        self._loader = loader
        self._agreement = agreement
        self._follow = follow
        self._doubts = Doubts(agreement)

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            StateDivergedError: What this process believes is not what the log says.
        """
        await self._doubts.each(self._settle)

    async def _settle(self, doubt: Statement) -> None:
        try:
            async with asyncio.timeout(REPLAY_S):
                at, here, again = await self._replay_beside()
        except (KlammError, TimeoutError) as error:
            _log.warning("the log could not be replayed beside", why=str(error))
            return
        if self._agreement.disagreement is None:
            return  # A later statement has settled it.
        if here == again:
            _log.error(
                "replayed once more the log has the state that is here: whoever stated another "
                "one is wrong, or a snapshot is. Transfer the leadership to see which",
                offset=at,
            )
            return
        raise StateDivergedError(
            f"the state of this broker is not the one of the log: {told(doubt)}; replayed once "
            f"more it is {again:032x} at offset {at}, here {here:032x}. Start it again: it follows "
            "the log anew. If that does not help, suspect the machine"
        )

    async def _replay_beside(self) -> tuple[Offset, int, int]:
        """An offset, and the state's checksum there: as it is here, and replayed."""
        beside = _Beside()
        feed = asyncio.create_task(self._follow(beside).run(), name="metadata replayed beside")
        try:
            while True:
                mine = self._loader.image
                beside.go_to(mine.provenance.offset)
                arrived = asyncio.ensure_future(beside.arrived.wait())
                await asyncio.wait((feed, arrived), return_when=asyncio.FIRST_COMPLETED)
                arrived.cancel()
                if feed.done():
                    feed.result()
                if beside.end == mine.provenance:
                    return beside.end.offset, mine.checksum, beside.loader.image.checksum
                # It began at a later snapshot: go on from where both are.
                await self._loader.wait_for(beside.end.offset, round(REPLAY_S * 1_000))
        finally:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)


class _Beside:
    """A loader that goes as far as it is told, or to the end of a snapshot."""

    def __init__(self) -> None:
        self.loader = MetadataLoader()
        self.arrived = asyncio.Event()
        self._to = Offset(0)

    def go_to(self, end_offset: Offset) -> None:
        self._to = end_offset
        self.arrived.clear()
        self._look()

    @property
    def end(self) -> OffsetAndEpoch:
        return self.loader.end

    def load(self, batches: bytes, high_watermark: Offset) -> None:
        self.loader.load(batches, min(self._to, high_watermark))
        self._look()

    async def adopt(self, reader: SnapshotReader) -> None:
        await self.loader.adopt(reader)
        self._look()

    def _look(self) -> None:
        if self.end.offset >= self._to:
            self.arrived.set()
