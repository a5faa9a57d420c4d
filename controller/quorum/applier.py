"""Delivers what is committed to the state machine, in order, and then wakes those that wait.

    LoadSnapshot ─▶ on_snapshot(its batches); what was to be delivered before it is passed over
    Commit(hw) ─▶ on_commit(batches up to hw) ─▶ wait_committed returns
    Claim      ─▶ on_claim
    Renounce   ─▶ on_renounce                 ─▶ wait_committed of that epoch: CommitUnknownError

What is short is delivered in the core's own turn: whoever waits for a commit is woken next. What is
long, as the log at the start, is a task's, so that it does not keep the core from its timers.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from controller.quorum.port import StateMachine
from controller.raft.effects import Claim, Commit, LoadSnapshot, Renounce
from klamm.at_once import at_once
from klamm.errors import CommitUnknownError, StorageError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import iter_batches, verify_checksum

APPLY_BYTES = 128 * 1024
"""Delivered at a time; then others get their turn."""

COMMIT_WAITS_MAX = 16_384
"""Callers that wait for a commit."""

LOOK_EACH_MS = 20
"""Whether one of them has waited for too long. A timer for each would cost more than its call."""

ReadBelow = Callable[[Offset, int, Offset], bytes]
ReadChunk = Callable[[OffsetAndEpoch, int, int], bytes]

Todo = LoadSnapshot | Commit | Claim | Renounce


class Applier:
    def __init__(self, read: ReadBelow, read_chunk: ReadChunk, start: Offset) -> None:
        """`read(start, max_bytes, up_to)` gives whole batches of the log.

        `read_chunk(snapshot_id, position, max_bytes)` gives bytes of a snapshot.
        """
        self.applied = start
        """The state machine has seen all below."""
        self._read = read
        self._read_chunk = read_chunk
        self._todo: deque[Todo] = deque()
        """Of commits in a row two at the most: what else there is comes with an election."""
        self._loads = 0
        """Snapshots among `_todo`: what stands before them may be gone from the log."""
        self._machine: StateMachine | None = None
        """None while the task does not run."""
        self._wake = asyncio.Event()
        """There is something for the task, which alone delivers while it is set."""
        self._wake.set()
        self._reign: Epoch | None = None
        """The epoch that the state machine believes to lead."""
        self._waits: list[_Wait] = []
        """A heap."""
        self._wait_count = 0
        self._look: asyncio.TimerHandle | None = None

    def tell(self, what: Todo) -> None:
        """To be delivered, in the next `turn` or after it."""
        todo = self._todo
        if len(todo) > 1 and isinstance(what, Commit) and isinstance(todo[-1], Commit):
            todo[-1] = what  # It includes that one. The first of all may be half delivered.
            return
        todo.append(what)
        self._loads += isinstance(what, LoadSnapshot)

    def turn(self) -> None:
        """Deliver what is short; the task goes on from what is not."""
        while self._todo and not self._wake.is_set():
            if not self._deliver(self._todo[0]):
                self._wake.set()
                return
            self._todo.popleft()

    async def run(self, machine: StateMachine) -> None:
        """Until cancelled."""
        self._machine = machine
        while True:
            await self._wake.wait()
            while self._todo:
                what = self._todo[0]
                if isinstance(what, LoadSnapshot):
                    self._todo.popleft()
                    self._loads -= 1
                    await self._load(machine, what.snapshot_id)
                elif self._deliver(what):
                    self._todo.popleft()
                else:
                    await asyncio.sleep(0)
            self._wake.clear()

    async def wait(self, epoch: Epoch, end_offset: Offset, timeout_ms: int) -> None:
        """Returns once the state machine has seen the log up to `end_offset`.

        Raises:
            CommitUnknownError: `epoch` has ended, too many wait, or the time is over.
        """
        future: asyncio.Future[Offset] = asyncio.get_running_loop().create_future()
        self.wait_in(epoch, end_offset, future, timeout_ms)
        await future

    def wait_in(
        self, epoch: Epoch, end_offset: Offset, future: asyncio.Future[Offset], timeout_ms: int
    ) -> None:
        """As `wait`, in a future of the caller's: its result is `end_offset`."""
        if future.done():
            return
        if self._reign != epoch:
            why = f"epoch {epoch} ended before offset {end_offset} was reached"
            future.set_exception(CommitUnknownError(why))
        elif self.applied >= end_offset:
            future.set_result(end_offset)
        elif len(self._waits) >= COMMIT_WAITS_MAX:
            why = f"more than {COMMIT_WAITS_MAX} callers wait for a commit"
            future.set_exception(CommitUnknownError(why))
        else:
            self._wait_count += 1
            loop = future.get_loop()
            until_s = loop.time() + timeout_ms / 1_000
            wait = _Wait(end_offset, self._wait_count, future, until_s, timeout_ms)
            heapq.heappush(self._waits, wait)
            if self._look is None:
                self._look = loop.call_later(LOOK_EACH_MS / 1_000, self._look_at_waits, loop)

    def stop(self) -> None:
        """Nothing more will be delivered: nobody can know what becomes of it."""
        self._fail_waits("the node stops")
        if self._look is not None:
            self._look.cancel()

    def _deliver(self, what: Todo) -> bool:
        """False: not all of it."""
        machine = self._machine
        assert machine is not None, "nobody runs it"
        match what:
            case LoadSnapshot():
                return False
            case Claim() if self._loads:
                pass  # Nobody saw it lead, and it does so no more.
            case Commit(high_watermark):
                return self._apply(machine, high_watermark)
            case Claim(epoch, end_offset):
                assert self.applied == end_offset, "a claim comes when all is delivered"
                self._reign = epoch
                machine.on_claim(epoch, end_offset)
            case Renounce(epoch):
                if self._reign == epoch:
                    self._reign = None
                    machine.on_renounce(epoch)
                    self._fail_waits(f"epoch {epoch} ended")
        return True

    def _apply(self, machine: StateMachine, high_watermark: Offset) -> bool:
        """APPLY_BYTES of it. False: there is more."""
        if self.applied >= high_watermark or self._loads:
            return True
        data = self._read(self.applied, APPLY_BYTES, high_watermark)
        batches = tuple(iter_batches(data))
        assert batches, f"nothing to read at {self.applied}, below {high_watermark}"
        machine.on_commit(tuple(view for _, view in batches))
        self.applied = Offset(batches[-1][0].next_offset)
        if self._waits and self._waits[0].end_offset <= self.applied:
            at_once(self._wake_waits)
        return self.applied >= high_watermark

    async def _load(self, machine: StateMachine, snapshot_id: OffsetAndEpoch) -> None:
        if self._loads:
            return
        assert self._reign is None, "a leader never loads a snapshot"
        try:
            await machine.on_snapshot(snapshot_id, self._pieces(snapshot_id))
        except _SupersededError:
            return
        self.applied = snapshot_id.offset

    def _pieces(self, snapshot_id: OffsetAndEpoch) -> Iterator[tuple[memoryview, ...]]:
        """Its batches, as many at a time as APPLY_BYTES hold; one at the least."""
        position, want = 0, APPLY_BYTES
        while chunk := self._read_chunk(snapshot_id, position, want):
            pairs = tuple(iter_batches(chunk))
            if not pairs:
                if len(chunk) < want:
                    break
                want *= 2
                continue
            for header, view in pairs:
                if not verify_checksum(view):
                    raise StorageError(f"snapshot {snapshot_id}: damaged at {position}")
                position += header.size_bytes
            want = APPLY_BYTES
            yield tuple(view for _, view in pairs)
            if self._loads:
                raise _SupersededError
        if chunk or position == 0:
            raise StorageError(f"snapshot {snapshot_id}: nothing whole at {position}")

    def _wake_waits(self) -> None:
        waits, applied = self._waits, self.applied
        while waits and waits[0][0] <= applied:
            end_offset, _, future, _, _ = heapq.heappop(waits)
            if not future.done():
                future.set_result(end_offset)

    def _fail_waits(self, why: str) -> None:
        for each in self._waits:
            if not each.future.done():
                told = f"{why} before offset {each.end_offset} was known committed"
                each.future.set_exception(CommitUnknownError(told))
        self._waits.clear()

    def _look_at_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        """Who has waited long enough?"""
        now_s, over = loop.time(), False
        for each in self._waits:
            if each.until_s <= now_s and not each.future.done():
                told = f"offset {each.end_offset} was not committed within {each.timeout_ms} ms"
                each.future.set_exception(CommitUnknownError(f"{told}; it may still be"))
            over = over or each.future.done()
        if over:
            self._waits = [each for each in self._waits if not each.future.done()]
            heapq.heapify(self._waits)
        self._look = None
        if self._waits:
            self._look = loop.call_later(LOOK_EACH_MS / 1_000, self._look_at_waits, loop)


class _Wait(NamedTuple):
    """Of one caller, in the order of offsets."""

    end_offset: Offset
    number: int
    """No two are the same."""
    future: asyncio.Future[Offset]
    until_s: float
    """Of the loop's clock."""
    timeout_ms: int


class _SupersededError(Exception):
    """A later snapshot has been installed, and this one may be gone."""
