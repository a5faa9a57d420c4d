"""A controller whose state is not the one that the log states: who is wrong?

    disagreement ─▶ replay the log beside, from a snapshot that was agreed on, and if that is as
                    here from the oldest ─▶ a second opinion
        second = stated    this process is wrong: it ends, and the next one replays as that did
        second = here      the statement is wrong, or the snapshots here are: not ready, and said;
                       but a leader that has stated it decides on a wrong state: it ends
        neither            this machine cannot replay a log: it ends

The log itself is not in doubt: its batches have checksums and its followers match them. So nothing
of it is given up on the word of one node, and a leader whose memory is damaged takes nobody with
it: each other controller finds by itself that the log does not say what the leader states, and goes
on replicating and voting. The leader is found out when the next one states, which it does at once.
"""

import asyncio
from collections.abc import Iterator

from controller.decisions import DecisionLog
from controller.quorum.port import Quorum
from klamm.errors import KlammError, StateDivergedError
from klamm.ids import Offset, OffsetAndEpoch
from klamm.log.record_batch import iter_batches
from klamm.log.snapshot import format_name
from klamm.metadata.agreement import told
from klamm.metadata.delta import MetadataDelta, Statement
from klamm.metadata.doubts import Doubts
from klamm.metadata.image import MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.telemetry.logs import logger

_log = logger(__name__)

READ_BYTES = 128 * 1024
"""Replayed at a time; then others get their turn."""

LOG_END = Offset(1 << 62)


class Verification:
    """One a controller process."""

    def __init__(self, quorum: Quorum, log: DecisionLog) -> None:
        self._quorum = quorum
        self._log = log
        self._agreement = log.agreement
        self._doubts = Doubts(self._agreement)

    async def run(self) -> None:
        """Until cancelled.

        Raises:
            StateDivergedError: What this process believes is not what its log says.
        """
        await self._doubts.each(self._settle)

    async def _settle(self, doubt: Statement) -> None:
        stated = doubt.record
        try:
            base, second = await self._replay_beside(doubt)
        except KlammError as error:
            _log.warning("the log could not be replayed beside", why=str(error))
            return
        if self._agreement.disagreement is not doubt:
            return  # A later statement has settled it, or is looked at next.
        if second == doubt.checksum and not self._is_mine(stated.offset):
            _log.error(
                "replayed once more the log has the state that is here: whoever stated another "
                "one is wrong, or a snapshot here is. Transfer the leadership to see which",
                offset=stated.offset,
                replayed_from=0 if base is None else base.offset,
            )
            return
        if second == stated.checksum:
            self._set_aside_after(base)
        again = "unknown" if second is None else f"{second:032x}"
        raise StateDivergedError(
            f"the state of this process is not the one of its log: {told(doubt)}, and replayed "
            f"once more it is {again}. Start it again: it replays the log from a snapshot that was "
            "agreed on. If that does not help, suspect the machine: give the node an empty disk, "
            "and its peers rebuild it"
        )

    def _is_mine(self, offset: Offset) -> bool:
        """Did this process state it, as the leader that it is: of a state that it decides on?"""
        return self._log.leads_from is not None and offset >= self._log.leads_from

    async def _replay_beside(self, doubt: Statement) -> tuple[OffsetAndEpoch | None, int | None]:
        """Where it began, and what the state was: from each base, until one is another than here.

        What was agreed on may be this node's own word, of a time when it led and was wrong.
        """
        for base in self._bases():
            second = await self._second_opinion(doubt.record.offset, base)
            if second != doubt.checksum:
                break
        return base, second

    def _bases(self) -> list[OffsetAndEpoch | None]:
        """Where to begin: the last snapshot that was agreed on, and as early as can be."""
        held = [each.snapshot_id for each in self._quorum.snapshots]
        agreed = [each for each in held if each.offset <= self._agreement.verified_offset]
        earliest = held[0] if held and self._quorum.log_start_offset > 0 else None
        return [agreed[-1], earliest] if agreed and agreed[-1] != earliest else [earliest]

    async def _second_opinion(self, at: Offset, base: OffsetAndEpoch | None) -> int | None:
        """What the state at the statement of offset `at` is, by a replay of its own."""
        found = _Statements()
        loader = MetadataLoader((found,))
        if base is not None:
            await loader.load_snapshot(base, self._pieces(base))
        while loader.end.offset <= at:
            data = await self._quorum.read_committed(loader.end.offset, READ_BYTES)
            if not data:
                return None
            loader.load(data, LOG_END)
            await asyncio.sleep(0)
        return found.by_offset.get(at)

    def _pieces(self, snapshot_id: OffsetAndEpoch) -> Iterator[memoryview]:
        position, want = 0, READ_BYTES
        while chunk := self._quorum.snapshot_files.read(snapshot_id, position, want):
            whole = tuple(iter_batches(chunk))
            if not whole and len(chunk) < want:
                return
            want = READ_BYTES if whole else 2 * want
            for header, view in whole:
                position += header.size_bytes
                yield view

    def _set_aside_after(self, base: OffsetAndEpoch | None) -> None:
        """Snapshots that may hold what this process believed."""
        for each in self._quorum.snapshots:
            if base is None or each.snapshot_id.offset > base.offset:
                _log.error("a snapshot is set aside", file=format_name(each.snapshot_id))
                self._quorum.snapshot_files.set_aside(each.snapshot_id)


class _Statements:
    """A publisher that keeps what statements were compared with."""

    def __init__(self) -> None:
        self.by_offset: dict[Offset, int] = {}

    def publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        for each in delta.statements:
            self.by_offset[each.record.offset] = each.checksum
