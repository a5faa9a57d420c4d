"""Those that wait for the core: what they asked has a number, and its effects bring the answer.

    open(kind) ─▶ call, future ─▶ event ─▶ step ─▶ effect with that call ─▶ the future is done

Who stops waiting drops the call; what its effects say then reaches nobody.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from controller.quorum.applier import Applier
from controller.quorum.outside import Store
from controller.quorum.proposals import Proposals
from controller.quorum.refused import change_refused, fail, no_room, proposal_refused, resolve
from controller.raft.effects import (
    AcceptChange,
    AcceptProposal,
    AnswerRead,
    Claim,
    Commit,
    HandOver,
    RefuseChange,
    RefuseProposal,
    RefuseRead,
    RefuseTransfer,
    Renounce,
    SendChunk,
    SendRecords,
    SendResponse,
    Told,
    TransferRefusal,
)
from controller.raft.events import Event, ProposalMade, RequestReceived, VoterChangeAsked
from controller.raft.messages import Refusal, Response
from controller.raft.state import RaftState
from klamm.clock import Clock
from klamm.errors import CommitUnknownError, NoSpaceError, NotControllerError, OverloadedError
from klamm.frozen import replace
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.telemetry import metrics

PROPOSALS_TIMED_MAX = 4_096
"""Proposals whose time to commit is measured at once."""

Answer = SendRecords | SendResponse | SendChunk


class Calls:
    """Of one node."""

    def __init__(self, store: Store, clock: Clock, applier: Applier) -> None:
        self.proposals = Proposals(applier.wait_in)
        self.requests: dict[int, Callable[[Response | Exception], None]] = {}
        """Called once, with the answer or with why there is none."""
        self.changes: dict[int, asyncio.Future[Offset]] = {}
        self.reads: dict[int, asyncio.Future[Offset]] = {}
        self.transfers: dict[int, asyncio.Future[NodeId | TransferRefusal]] = {}
        self._store = store
        self._clock = clock
        self._timed: deque[tuple[Offset, int]] = deque()

    def answer(self, effect: Answer, log_end: Offset) -> None:
        """Another replica's request has its answer."""
        answered = self.requests.pop(effect.call, None)
        if answered is None:
            return
        if isinstance(effect, SendResponse):
            answered(effect.response)
        elif isinstance(effect, SendChunk):
            answer = effect.response
            chunk = self._store.read_chunk(answer.snapshot_id, answer.position, effect.max_bytes)
            refusal = Refusal.NONE if chunk else Refusal.SNAPSHOT_NOT_FOUND
            answered(replace(answer, refusal=refusal, data=chunk, length=len(chunk)))
        else:
            data = self._store.read(effect.start_offset, effect.max_bytes, log_end)
            answered(replace(effect.response, data=data))

    def tell(self, effect: Told, state: RaftState) -> None:
        """A caller of this process has its answer."""
        match effect:
            case AcceptProposal(call, end_offset):
                if len(self._timed) < PROPOSALS_TIMED_MAX:
                    self._timed.append((end_offset, self._clock.monotonic_ms()))
                self.proposals.accept(call)
            case RefuseProposal(call):
                self.proposals.refuse(call, lambda: proposal_refused(state, effect))
            case AnswerRead(call, index):
                resolve(self.reads.get(call), index)
            case RefuseRead(call):
                fail(self.reads.get(call), NotControllerError(state.leader, state.epoch))
            case AcceptChange(call, end_offset):
                resolve(self.changes.get(call), end_offset)
            case RefuseChange(call=call):
                fail(self.changes.get(call), change_refused(state, effect))
            case RefuseTransfer(call, why):
                resolve(self.transfers.get(call), why)
            case HandOver(call, successor):
                resolve(self.transfers.get(call), successor)

    def measure(self, effect: Commit | Claim | Renounce) -> None:
        """How long the proposals below took to be committed."""
        if not isinstance(effect, Commit):
            self._timed.clear()
            return
        now_ms = self._clock.monotonic_ms()
        while self._timed and self._timed[0][0] <= effect.high_watermark:
            _, since_ms = self._timed.popleft()
            metrics.RAFT_COMMIT_LATENCY.observe((now_ms - since_ms) / 1_000)

    def refuse_for_room(self, event: Event, error: NoSpaceError) -> None:
        """An event has found no room on the disk, and did not happen: tell who asked."""
        match event:
            case ProposalMade(call=call):
                self.proposals.refuse(call, partial(no_room, error))
            case VoterChangeAsked(call=call):
                fail(self.changes.get(call), no_room(error))
            case RequestReceived(call=call):
                if (answered := self.requests.pop(call, None)) is not None:
                    answered(OverloadedError(str(error)))

    def stop(self, epoch: Epoch) -> None:
        """The node stops: what is out may have happened, but for reads and requests."""
        requests, self.requests = self.requests, {}
        for answered in requests.values():
            answered(OverloadedError("the node stops"))
        for read in self.reads.values():
            fail(read, NotControllerError(NO_NODE, epoch))
        self.proposals.refuse_all(lambda: CommitUnknownError("the node stops"))
        for change in self.changes.values():
            fail(change, CommitUnknownError("the node stops"))
        for transfer in self.transfers.values():
            fail(transfer, CommitUnknownError("the node stops"))


def into(future: asyncio.Future[Response]) -> Callable[[Response | Exception], None]:
    """An answer for somebody who awaits it."""

    def answered(answer: Response | Exception) -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    return answered
