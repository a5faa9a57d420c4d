"""The core's refusals, as errors for those that asked. All definite: nothing was appended."""

from typing import assert_never

from controller.quorum.port import LogMovedError, VotersUnchangedError
from controller.raft.effects import (
    ChangeRefusal,
    ProposalRefusal,
    RefuseChange,
    RefuseProposal,
)
from controller.raft.state import RaftState
from klamm.errors import DefiniteError, NotControllerError, OverloadedError


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
