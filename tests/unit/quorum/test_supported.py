"""A voter is asked what it supports where it is said to be, and nobody else's word counts (182)."""

from dataclasses import replace
from pathlib import Path

import pytest

from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId
from klamm.metadata.features import supported
from tests.unit.quorum.nodes import members

LONG_MS = 30_000


async def test_a_voter_says_what_it_supports(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        for peer in active.node.peers:
            assert await active.node.supported_by(peer, LONG_MS) == supported()


async def test_who_is_another_or_not_there_says_nothing(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        first, second, _ = active.node.peers
        with pytest.raises(ApiError, match="answers controller 2, and not 1") as raised:
            await active.node.supported_by(replace(first, address=second.address), LONG_MS)
        assert raised.value.code is ErrorCode.INVALID_REQUEST
        other = next(each for each in group.all if each is not active)
        await other.kill()
        peer = next(each for each in active.node.peers if each.node_id == NodeId(other.node_id))
        with pytest.raises(ApiError, match="no controller answers") as raised:
            await active.node.supported_by(peer, LONG_MS)
        assert raised.value.code is ErrorCode.REQUEST_TIMED_OUT
