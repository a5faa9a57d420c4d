"""Scenario 42: connections never take the open files that a node needs for its disk."""

import asyncio
import errno
import logging
import resource
from types import SimpleNamespace
from typing import cast

import pytest

from klamm import descriptors, node


def transport(number: int) -> asyncio.BaseTransport:
    sock = SimpleNamespace(fileno=lambda: number)
    return cast("asyncio.BaseTransport", SimpleNamespace(get_extra_info=lambda name: sock))


@pytest.mark.parametrize(
    ("soft", "number", "scarce"),
    [
        (1_024, 895, False),
        (1_024, 896, True),
        (1_024, 1_023, True),
        (100, 74, False),
        (100, 75, True),
        (resource.RLIM_INFINITY, 1_000_000, False),
    ],
)
def test_the_last_of_them_are_kept(
    soft: int, number: int, scarce: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert descriptors.are_scarce(transport(number)) is scarce


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    descriptors.raise_limit()
    assert asked == [(4_096, 4_096)]


async def test_none_left_to_accept_with_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """And everything else that nobody waits for is told with its stack."""
    loop = asyncio.get_running_loop()
    error = OSError(errno.EMFILE, "Too many open files")
    with caplog.at_level(logging.ERROR):
        node._on_loop_error(loop, {"message": "accept", "exception": error})
        assert [each.exc_info for each in caplog.records] == [None]
        caplog.clear()
        node._on_loop_error(loop, {"message": "a bug", "exception": ValueError("x")})
        assert caplog.records[0].exc_info
