"""How a node's process begins and ends, the same for controllers and brokers.

    arguments, environment ─▶ config ─▶ serve(config, stop) ─▶ 0    stopped in order
         │ usage: 2             │           │
         │                      └───────────┼── StartError, StateDivergedError,
         │                                  │   UnknownRecordError: said on stderr, 1
         │                                  │   MemoryError, wherever: said on stderr, at once, 1
         └ python -O: 1                     └── anything else: logged with its stack, 1

SIGTERM and SIGINT set `stop`; a second one ends the process at once, as a crash would.
"""

import asyncio
import errno
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from klamm import descriptors, names
from klamm.config.load import Arguments, parse_arguments
from klamm.errors import StartError, StateDivergedError, UnknownRecordError
from klamm.telemetry import logs

YOUNG_OBJECTS_MAX = 50_000
"""So many objects more than were let go, and the collector looks at the young ones. Python's own
700 are what twenty calls in progress are made of: with hundreds of them it would look at all of
them again and again, a tenth of a busy controller's time, and find nothing. To look at so many
takes 5 ms at the most."""

STDERR = 2
NO_MEMORY = b"klamm: no memory is left, and the node ends at once.\n"

_log = logs.logger(__name__)


class NodeConfig(Protocol):
    """What both kinds of config say."""

    @property
    def node_id(self) -> int: ...

    @property
    def log_format(self) -> str: ...

    @property
    def log_level(self) -> str: ...


Config = TypeVar("Config", bound=NodeConfig)
Load = Callable[[Arguments, Mapping[str, str]], Config]
Serve = Callable[[Config, asyncio.Event], Awaitable[None]]


def main(role: str, argv: Sequence[str], load: Load[Config], serve: Serve[Config]) -> int:
    """Run one node until it is told to stop. Returns the process's exit code."""
    if not __debug__:
        # Asserts are how a node notices that it would do harm.
        return _refuse(role, "runs with its assertions on: start it without python -O.")
    gc.disable()  # Until `settle`: a start leaves little that only the collector would find.
    if not faulthandler.is_enabled():
        faulthandler.enable(STDERR)  # What the interpreter itself dies of is said as well.
    arguments = parse_arguments(role, argv)
    descriptors.raise_limit()
    try:
        config = load(arguments, os.environ)
        logs.configure(
            log_format=config.log_format, level=config.log_level, node=f"{role}-{config.node_id}"
        )
        names.run(_until_stopped(config, serve))
    except StartError as error:
        return _refuse(role, str(error))
    except StateDivergedError as error:
        _log.error("the node stops: it does not trust its state", why=str(error))
        return _refuse(role, str(error))
    except UnknownRecordError as error:
        _log.error("the node stops: it cannot read the metadata log", why=str(error))
        return _refuse(role, str(error))
    except MemoryError:
        _end_without_memory()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        _log.exception("the node stops on an error that it did not expect")
        return _refuse(role, f"stops: {type(error).__name__}: {error}. The log has more.")
    return 0


async def while_running(
    tasks: Sequence[asyncio.Task[None]], *until: Coroutine[object, object, object]
) -> None:
    """Returns once one of `until` is done; raises what ended one of `tasks`, which run for ever."""
    awaited = [asyncio.ensure_future(each) for each in until]
    try:
        done, _ = await asyncio.wait((*awaited, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done:
                if not task.cancelled() and isinstance(task.exception(), MemoryError):
                    _end_without_memory()
                task.result()
                raise AssertionError(f"{task.get_name()} ended, and runs for ever")
        for each in awaited:
            if each in done:
                each.result()
    finally:
        for each in awaited:
            each.cancel()


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel, and wait until they have gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def settle() -> None:
    """Everything stands: what lives for ever is not looked at by the collector, and what lives for
    the time of a call seldom.

    It has not looked at anything yet (see `main`), nor does it now: to look at all modules once
    takes 20 ms, in which a leader would answer nobody.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)
    gc.enable()


async def _until_stopped(config: Config, serve: Serve[Config]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop, number)
    await serve(config, stop)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody waits for. To run out of open files is no bug: asyncio tries again later."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        _log.error("no connection is accepted for a second", why=str(error))
        return
    if isinstance(error, MemoryError):
        _end_without_memory()
    loop.default_exception_handler(context)


def _end_without_memory() -> NoReturn:
    """As a crash would: any step further may be half of one. Needs no memory itself."""
    os.write(STDERR, NO_MEMORY)
    os._exit(1)


def _on_signal(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        _log.warning("told to stop twice, stopping at once", signal=number.name)
        os._exit(1)
    _log.info("stopping", signal=number.name)
    stop.set()


def _refuse(role: str, why: str) -> int:
    print(f"klamm {role}: {why}", file=sys.stderr)  # noqa: T201 - for the person who started it
    return 1
