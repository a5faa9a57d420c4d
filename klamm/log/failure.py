"""What a log knows of its disk: nothing, once a write or a sync has failed (fsyncgate).

A second fsync can report success for pages that the first one lost, so that nobody tries again:
whoever asks is told, until the log is opened anew. That no open file is left is none of the disk's
affairs: nothing was done, and it may be tried again.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from klamm.errors import NoSpaceError, StorageError
from klamm.log.files import NO_DESCRIPTOR


class Failure:
    """Of one log; `where` names the file that is written at present."""

    def __init__(self, where: Callable[[], Path]) -> None:
        self.reason: str | None = None
        self._where = where

    def check(self) -> None:
        """Raises: StorageError: The disk has failed; a new one for each caller and thread."""
        if self.reason is not None:
            raise StorageError(self.reason)

    def of(self, verb: str, error: OSError) -> StorageError:
        """The disk fails now."""
        self.reason = f"cannot {verb} {self._where()}: {error}"
        return StorageError(self.reason)

    @contextmanager
    def writing(self, verb: str, unless: Collection[int] = ()) -> Iterator[None]:
        """Whatever the disk refuses inside is its failure; what is in `unless` stays an OSError."""
        try:
            yield
        except OSError as error:
            if error.errno in unless:
                raise
            raise self.of(verb, error) from error

    @contextmanager
    def syncing(self, verb: str) -> Iterator[None]:
        """As `writing`, of what can be done again as a whole.

        Raises:
            NoSpaceError: No open file is left, to sync a directory or to write a file anew.
        """
        try:
            with self.writing(verb, unless=NO_DESCRIPTOR):
                yield
        except OSError as error:
            raise NoSpaceError(str(self._where()), 0, error) from error
