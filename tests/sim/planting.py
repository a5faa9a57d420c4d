"""What a planted bug is, and how it is planted and pulled up again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Patch = tuple[Any, str, Any]
"""Owner, name of its attribute, what stands there while the bug is planted."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug that somebody has made, or could."""

    name: str
    story: str
    """What the code believes wrongly, in a few words."""
    patches: Callable[[], list[Patch]]
    profile: str = ""
    """Of the faults under which it shows; the simulator's own mixture if empty."""


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Patch, and mend again."""
    patches = mutant.patches()
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
