"""The disk has no room for what an event would write: the event did not happen, and this did.

Any message may be lost, so to drop an event whose first write finds no room is always safe, if
nothing but questions went out before it; the shell refuses whoever asked. What remains is not to go
on as if nothing were wrong: a leader gives up to somebody with room, a follower asks again a little
later, and who stands waits.
"""

from controller.raft import resign
from controller.raft.effects import Effect, Effects, SendRequest
from controller.raft.events import Moment
from controller.raft.state import Follower, Leader, RaftState
from klamm.frozen import replace

NO_ROOM_MS = 3_000
"""How long a voter that found no room does not stand."""

NO_ROOM_RETRY_MS = (250, 500)
"""Until a follower that found no room fetches again."""

NO_ROOM_FETCH_BYTES = 64 * 1024
"""What a follower asks for meanwhile. As much as usual would be sent again and again, and nothing
of it be taken if it does not all fit; with less it gets on as far as there is room, perhaps up to
where a snapshot makes some."""

Step = tuple[RaftState, Effects]


def may_not_have_happened(effects: Effects, failed: Effect) -> bool:
    """Can the event of these effects be dropped, if `failed` found no room?

    Nothing was done before it but to ask: a question may be lost, and so may its answers.
    """
    done = effects[: effects.index(failed)]
    return all(isinstance(each, SendRequest) for each in done)


def fetch_bytes(state: RaftState, moment: Moment) -> int:
    """How much a follower asks for."""
    usual = state.config.fetch_bytes_max
    return min(usual, NO_ROOM_FETCH_BYTES) if moment.now_ms < state.no_room_until_ms else usual


def on_found(state: RaftState, moment: Moment) -> Step:
    state = replace(state, no_room_until_ms=moment.now_ms + NO_ROOM_MS)
    role = state.role
    match role:
        case Leader():
            return resign.give_up(state, role, moment) if state.others else (state, ())
        case Follower():
            deadline_ms = max(role.deadline_ms, moment.now_ms + state.config.fetch_timeout_ms)
            retry_ms = moment.within(*NO_ROOM_RETRY_MS)
            role = replace(role, fetch=None, deadline_ms=deadline_ms, retry_ms=retry_ms)
            return replace(state, role=role), ()
    timeout_ms = state.config.election_timeout_ms
    deadline_ms = moment.within(timeout_ms, 2 * timeout_ms)
    return replace(state, role=replace(role, deadline_ms=deadline_ms)), ()
