"""A controller's process that a command starts: watched while the quorum is asked, then kept."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from klamm.errors import StartError

STOP_S = 15.0


class OwnProcess:
    """One that runs, or has ended."""

    def __init__(self, process: "subprocess.Popen[bytes]", log_file: Path | None) -> None:
        """
        Args:
            process: Of this interpreter.
            log_file: What it writes goes there; None: to this terminal.
        """
        self._process = process
        self._log_file = log_file

    @property
    def pid(self) -> int:
        return self._process.pid

    def check_runs(self) -> None:
        """
        Raises:
            StartError: It has ended; with its own last words, if nobody has seen them.
        """
        from klamm.cluster.node_process import last_words

        if (status := self._process.poll()) is None:
            return
        said = "see above" if self._log_file is None else f"\n{last_words(self._log_file)}"
        raise StartError(
            f"The controller ended (status {status}) before it was known to vote: {said}"
        )

    def wait(self) -> int:
        """Its exit status."""
        return self._process.wait()

    def end(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def started(properties: Path, *, keep: bool) -> Iterator[OwnProcess]:
    """The controller's process; ended with the block, unless it is to be kept and all went well."""
    from klamm.cluster.node_process import node_environment

    log_file = properties.parent / "controller.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-m", "controller", str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=log if keep else None,
            stderr=log if keep else None,
            env=node_environment(),
            start_new_session=keep,
        )
    own = OwnProcess(process, log_file if keep else None)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        yield own
    except BaseException:
        keep = False
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if not keep:
            own.end()
