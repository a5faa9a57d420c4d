"""klamm.frozen: as dataclasses.replace, and no way to lose or invent anything with it."""

import dataclasses
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.frozen import replace


@dataclass(frozen=True, kw_only=True)
class Point:
    x: int
    y: int = 2
    name: str = ""


@dataclass(frozen=True, slots=True)
class Slotted:
    x: int


@given(
    st.integers(),
    st.integers(),
    st.fixed_dictionaries({}, optional={"x": st.integers(), "name": st.text()}),
)
def test_a_copy_is_what_the_library_makes(x: int, y: int, changes: dict[str, object]) -> None:
    before = Point(x=x, y=y)
    after = replace(before, **changes)  # type: ignore[arg-type]  # both are drawn
    assert after == dataclasses.replace(before, **changes)  # type: ignore[arg-type]
    assert hash(after) == hash(dataclasses.replace(before, **changes))  # type: ignore[arg-type]
    assert before == Point(x=x, y=y), "it is not touched"


def test_a_copy_is_as_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        replace(Point(x=1), y=3).x = 4  # type: ignore[misc]  # the point


def test_a_class_with_slots_is_refused() -> None:
    with pytest.raises(AttributeError):
        replace(Slotted(1), x=2)
