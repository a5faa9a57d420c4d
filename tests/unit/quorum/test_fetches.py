"""One stream of fetches, alone: what it asks, whom it tells, and what its end means."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from controller.quorum.fetches import Fetches
from controller.raft.events import StreamLost
from controller.raft.messages import FetchResponse, Refusal, Response
from klamm.errors import OverloadedError
from klamm.ids import NO_NODE, Epoch, NodeId
from klamm.v1 import quorum_pb2 as pb

TWO = NodeId(2)
REQUEST = pb.FetchRequest(epoch=3, max_wait_ms=500)
NOT_LEADER = FetchResponse(epoch=Epoch(3), leader=NO_NODE, refusal=Refusal.NOT_LEADER_OR_FOLLOWER)


class Room:
    """The service, the driver and the caller of one stream."""

    def __init__(self) -> None:
        self.voter: NodeId = TWO
        self.newest = True
        self.busy = False
        self.strange: int | None = None
        self.entered: list[bool] = []
        self.limited: list[pb.FetchRequest] = []
        self.asked: dict[int, Callable[[Response | Exception], None]] = {}
        self.posted: list[object] = []
        self.answers: list[pb.FetchResponse] = []
        self.observed = asyncio.Event()
        self.stream = Fetches(cast("Any", self), cast("Any", self), self)

    # The service.

    def enter(self, caller: object, stream: object, *, first: bool) -> NodeId:
        self.entered.append(first)
        return self.voter

    def leave(self, voter: NodeId, stream: object) -> bool:
        assert voter == self.stream.voter
        return self.newest and voter != NO_NODE

    def limit(self, request: pb.FetchRequest) -> None:
        self.limited.append(request)

    def understand(self, request: pb.FetchRequest) -> object:
        return (TWO, request) if self.strange is None else self.strange

    def refused(self, error: Any) -> pb.FetchResponse:
        return pb.FetchResponse(error=error)

    def show_leader(self, answer: pb.FetchResponse) -> None:
        answer.leader_endpoint.host = "there"

    def follows_closely(self, request: pb.FetchRequest) -> bool:
        return True

    async def observe(self, request: pb.FetchRequest) -> pb.FetchResponse:
        await self.observed.wait()
        return pb.FetchResponse(high_watermark=8)

    # The driver.

    def ask(
        self, sender: object, request: object, answered: Callable[[Response | Exception], None]
    ) -> int:
        assert self.limited, "nobody is asked for more than the limit"
        if self.busy:
            raise OverloadedError("busy")
        self.asked[len(self.asked) + 1] = answered
        return len(self.asked)

    def drop(self, call: int) -> None:
        self.asked.pop(call, None)

    def post(self, event: object) -> None:
        self.posted.append(event)

    # The caller.

    def answer(self, message: pb.FetchResponse) -> None:
        self.answers.append(message)


async def test_a_request_is_asked_and_its_answer_is_the_callers() -> None:
    room = Room()
    room.stream.take(REQUEST)
    room.asked[1](FetchResponse(epoch=Epoch(3), leader=NodeId(1)))
    room.stream.take(REQUEST)
    room.asked[2](NOT_LEADER)
    assert [each.leader_endpoint.host for each in room.answers] == ["", "there"]


async def test_who_leaves_is_forgotten_and_the_core_hears_that_a_voter_is_gone() -> None:
    room = Room()
    room.stream.take(REQUEST)
    room.stream.close()
    assert not room.asked, "nobody is answered that has left"
    assert room.posted == [StreamLost(TWO)]


@pytest.mark.parametrize(
    ("voter", "newest"), [(TWO, False), (NO_NODE, True)], ids=["it has come anew", "no voter"]
)
async def test_the_end_of_such_a_stream_says_nothing(voter: NodeId, *, newest: bool) -> None:
    room = Room()
    room.voter, room.newest = voter, newest
    room.stream.take(REQUEST)
    room.stream.close()
    assert not room.posted
    assert not room.asked


async def test_a_stream_on_which_nothing_was_asked_says_nothing() -> None:
    room = Room()
    room.stream.close()
    assert not room.posted


async def test_who_becomes_a_voter_is_one_from_its_next_request() -> None:
    room = Room()
    room.voter = NO_NODE
    room.stream.take(REQUEST)
    room.voter = TWO
    room.stream.take(REQUEST)
    room.stream.take(REQUEST)
    assert room.entered == [True, False], "asked until it is known, and a stranger told of once"
    room.stream.close()
    assert room.posted == [StreamLost(TWO)]


async def test_who_cannot_be_asked_for_is_told_so() -> None:
    room = Room()
    room.busy = True
    room.stream.take(REQUEST)
    room.busy, room.strange = False, int(pb.QUORUM_ERROR_INCONSISTENT_CLUSTER_ID)
    room.stream.take(REQUEST)
    room.strange = None
    room.stream.take(REQUEST)
    room.asked[1](OverloadedError("the node stops"))
    assert [each.error for each in room.answers] == [
        pb.QUORUM_ERROR_OVERLOADED,
        pb.QUORUM_ERROR_INCONSISTENT_CLUSTER_ID,
        pb.QUORUM_ERROR_OVERLOADED,
    ]


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_observer_waits_in_a_task_that_ends_with_its_stream(*, leaves: bool) -> None:
    room = Room()
    before = asyncio.all_tasks()
    room.stream.take(pb.FetchRequest(observer=True))
    (waiting,) = asyncio.all_tasks() - before
    await asyncio.sleep(0)
    if leaves:
        room.stream.close()
    room.observed.set()
    await asyncio.wait([waiting], timeout=30)
    assert waiting.done()
    assert [each.high_watermark for each in room.answers] == ([] if leaves else [8])
    assert not room.posted
    assert not room.entered, "no voter's"
