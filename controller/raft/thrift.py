"""Who is told of new records at once: of the voters no more than a commit needs.

    append ──▶ the quick: told at once; their acknowledgements commit it
          └──▶ the others: told with what has come meanwhile, REST_MS after they asked
    commit ──▶ whose acknowledgements made it are the quick, for QUICK_MS
    the quick are lost, or it is time to look again ──▶ all are told at once

What a majority of three needs is one other voter. To tell both of each record is to have the third
verify, write, fsync and acknowledge a thousand times a second what is committed without it; told of
twenty together it costs a sixth, and leaves core and disk to what the commit waits for.
It lacks nothing that is older than REST_MS, and nothing at all where the quorum was idle: who has
waited for so long is told at once. ("Thrifty", as Paxos' literature has it: Moraru, Andersen and
Kaminsky 2013, section 4; without its price, as those left out are told soon.)

Safety does not hang on it: it decides only when a fetch is answered.
"""

from controller.raft.state import Leader, ParkedFetch, Progress
from klamm.frozen import replace
from klamm.ids import NodeId, Offset

REST_MS = 20
"""Between a voter's fetch and its answer, while the quick do without it."""

QUICK_MS = 1_000
"""Then all are told of the next records, and the first to have them are the quick."""

ALL: frozenset[NodeId] = frozenset()
"""No voter is quicker than the others: all are told at once."""


def rests_until_ms(role: Leader, asks: NodeId, log_end: Offset, now_ms: int) -> int:
    """Until when whoever has just asked may wait, if it is not among the quick.

    It rests after each second answer only: after a time without writes the first brings it the
    records and the next that they are committed, and those who read there wait for both. Nor does
    one rest that lacks what was there when it asked the last time: it has much to read.
    """
    for each in role.progress:
        if each.node_id == asks:
            told_often = now_ms - each.fetched_ms < REST_MS
            follows = log_end >= each.leader_end_at_fetch
            return now_ms + REST_MS if told_often and follows else now_ms
    return now_ms


def rests(role: Leader, parked: ParkedFetch, now_ms: int) -> bool:
    """Is there no need to tell it yet?"""
    return (
        parked.rests_until_ms > now_ms
        and parked.sender.node_id not in role.quick
        and bool(role.quick)
        and role.transfer is None
    )


def appended(role: Leader, now_ms: int) -> Leader:
    """There is more that is not committed: is it time to look again?"""
    return look_again(role) if role.quick and now_ms >= role.quick_until_ms else role


def committed(role: Leader, acknowledged: list[Progress], now_ms: int) -> Leader:
    """More is committed, by these acknowledgements and no fewer: one less, and it was not before.

    If the quick are late, those that rest are told meanwhile, and are the quick from then on: it
    costs a commit REST_MS at the most. A leader whose own disk was later than the others' needs
    one more of them.
    """
    quick = frozenset([each.node_id for each in acknowledged])
    until_ms = role.quick_until_ms if role.quick else now_ms + QUICK_MS
    if quick == role.quick and until_ms == role.quick_until_ms:
        return role
    return replace(role, quick=quick, quick_until_ms=until_ms)


def look_again(role: Leader) -> Leader:
    """All are to be told."""
    return replace(role, quick=ALL) if role.quick else role
