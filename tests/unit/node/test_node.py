"""How a node's process ends: the exit code, and one sentence for the person who started it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from klamm import node
from klamm.config.controller import ControllerConfig
from klamm.config.load import Arguments
from klamm.errors import StartError, StateDivergedError


def load(arguments: Arguments, environment: Mapping[str, str]) -> ControllerConfig:
    return ControllerConfig.for_tests()


def test_stopped_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    stopped: list[bool] = []

    async def serve(config: ControllerConfig, stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        stopped.append(True)

    assert node.main("controller", [], load, serve) == 0
    assert stopped == [True]
    assert capsys.readouterr().err == ""


def test_what_prevents_a_start_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(config: ControllerConfig, stop: asyncio.Event) -> None:
        raise StartError("port 9093 is in use.")

    assert node.main("controller", [], load, serve) == 1
    assert capsys.readouterr().err == "klamm controller: port 9093 is in use.\n"


def test_a_node_that_does_not_trust_its_state_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Row 14 of kraft.md 7.2."""

    async def serve(config: ControllerConfig, stop: asyncio.Event) -> None:
        raise StateDivergedError("offset 7 states a, here it is b")

    assert node.main("controller", [], load, serve) == 1
    assert capsys.readouterr().err == "klamm controller: offset 7 states a, here it is b\n"


def test_what_nobody_expected_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(config: ControllerConfig, stop: asyncio.Event) -> None:
        raise RuntimeError("boom")

    assert node.main("controller", [], load, serve) == 1
    err = capsys.readouterr().err
    assert err == "klamm controller: stops: RuntimeError: boom. The log has more.\n"


def test_bad_usage_is_two() -> None:
    async def serve(config: ControllerConfig, stop: asyncio.Event) -> None:
        raise AssertionError("never reached")

    with pytest.raises(SystemExit) as caught:
        node.main("controller", ["--no-such-flag"], load, serve)
    assert caught.value.code == 2


async def test_a_task_that_fails_ends_the_wait() -> None:
    async def fail() -> None:
        raise StartError("the cluster is another")

    async def run() -> None:
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(run()), asyncio.create_task(fail())]
    with pytest.raises(StartError):
        await node.while_running(tasks, asyncio.Event().wait())
    await node.end(tasks)
    assert all(each.done() for each in tasks)


async def test_to_stop_is_not_a_failure() -> None:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(asyncio.Event().wait())]
    stop.set()
    await node.while_running(tasks, stop.wait())  # type: ignore[arg-type]
    await node.end(tasks)  # type: ignore[arg-type]


def test_no_node_runs_without_its_assertions() -> None:
    program = "import sys; from klamm import node; sys.exit(node.main('broker', [], None, None))"
    done = subprocess.run(
        [sys.executable, "-O", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "klamm broker: runs with its assertions on: start it without python -O.\n"


WITHOUT_MEMORY = """
import asyncio, sys
from klamm import node
from klamm.config.controller import ControllerConfig

async def fails():
    raise MemoryError

async def in_a_task(stop):
    await node.while_running([asyncio.create_task(fails())], stop.wait())

async def in_a_call(stop):
    asyncio.get_running_loop().call_exception_handler({"exception": MemoryError()})

async def serve(config, stop):
    try:
        await globals()[sys.argv[1]](stop)
    finally:
        print("went on")

sys.exit(node.main("broker", [], lambda *_: ControllerConfig.for_tests(), serve))
"""


@pytest.mark.parametrize("where", ["in_a_task", "in_a_call"])
def test_without_memory_it_ends_at_once(where: str) -> None:
    """Scenario 61: nothing more is done, and it is said."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY, where], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == node.NO_MEMORY.decode()
