"""Refusals, as errors for those that asked. All definite: nothing was appended."""

import asyncio
from typing import TypeVar, assert_never

from controller.quorum.port import LogMovedError, VotersUnchangedError
from controller.raft.effects import (
    ChangeRefusal,
    ProposalRefusal,
    RefuseChange,
    RefuseProposal,
)
from controller.raft.state import RaftState
from klamm.errors import (
    ApiError,
    DefiniteError,
    ErrorCode,
    NoSpaceError,
    NotControllerError,
    OverloadedError,
)


def proposal_refused(state: RaftState, effect: RefuseProposal) -> DefiniteError:
    match effect.why:
        case ProposalRefusal.NOT_LEADER:
            return NotControllerError(state.leader, state.epoch)
        case ProposalRefusal.LOG_MOVED:
            return LogMovedError(effect.end_offset)
        case ProposalRefusal.OVERLOADED:
            lag = effect.end_offset - state.high_watermark
            return OverloadedError(f"{lag} records are appended and not committed")
        case ProposalRefusal.HANDING_OVER:
            return OverloadedError("leadership is being handed over; nothing is appended")
    assert_never(effect.why)


def change_refused(state: RaftState, effect: RefuseChange) -> DefiniteError:
    if effect.why is ChangeRefusal.NOT_LEADER:
        return NotControllerError(state.leader, state.epoch)
    return VotersUnchangedError(effect.why, effect.told)


_T = TypeVar("_T")


def resolve(future: asyncio.Future[_T] | None, value: _T) -> None:
    """Answer whoever waits, if somebody does."""
    if future is not None and not future.done():
        future.set_result(value)


def fail(future: asyncio.Future[_T] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)


def no_room(error: NoSpaceError) -> DefiniteError:
    return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, str(error))
