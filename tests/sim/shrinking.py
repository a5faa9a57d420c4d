"""From a run that fails to a smaller one that fails in the same place.

Any change gives a seed another history, so each attempt is tried with some seeds. It is kept if it
ends in the same check, after fewer steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from tests.sim.model.witness import NotAllowedError

SEEDS_PER_ATTEMPT = 6
RUNS_MAX = 400

R = TypeVar("R")

Place = tuple[str, str]
"""File and function of the check that did not hold."""


@dataclass(frozen=True, slots=True)
class Failure(Generic[R]):
    run: R
    """As it failed, with no more time than it took."""
    place: Place
    steps: int


def place_of(error: BaseException) -> Place:
    """Where it was raised first, if it does not say better which check it is."""
    first = error.__cause__ or error
    if isinstance(first, NotAllowedError):
        return first.place
    traceback: TracebackType | None = first.__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return code.co_filename, code.co_name


def shrink(
    run: R,
    fail: Callable[[R], Failure[R] | None],
    attempts: Callable[[R], Iterable[R]],
    with_seed: Callable[[R, int], R],
    *,
    runs_max: int = RUNS_MAX,
) -> R:
    """The smallest that was found in so many runs.

    Args:
        run: One that fails.
        fail: How a run fails, or None.
        attempts: A run, each time with one thing less.
        with_seed: The same with a seed so many further on than that of `run`.
        runs_max: Then the search ends.
    """
    smallest = fail(run)
    assert smallest is not None, "it does not fail"
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for attempt in attempts(smallest.run):
            for number in range(SEEDS_PER_ATTEMPT):
                if runs_max == 0:
                    return smallest.run
                runs_max -= 1
                found = fail(with_seed(attempt, number))
                if found and found.place == smallest.place and found.steps <= smallest.steps:
                    smallest, is_smaller = found, True
                    break
    return smallest.run
