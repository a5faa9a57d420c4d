"""Every decoder of bytes from a peer or a disk, under hostile ones, for a moment (see tests/fuzz).

What bad input gets: the decoder's named errors; no crash, no hang, memory bounded by the input.
"""

import threading
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.engine import HangError, attempt, corpus, fuzz
from tests.fuzz.mutation import spoil
from tests.fuzz.target import Target, memory_max, memory_of
from tests.fuzz.targets import TARGETS

targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
fixed = settings(
    derandomize=True,
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
INPUTS = 1_500
MEASURED = 25


def quiet(_: str) -> None:
    """No progress is shown."""


@targets
@given(data=st.binary(max_size=300))
@example(data=b"")
@example(data=bytes(300))
@example(data=b"\xff" * 300)
@fixed
def test_any_bytes(target: Target, data: bytes) -> None:
    target.check(data)


@targets
@given(seed=st.integers(0, 2**32))
@fixed
def test_valid_inputs_and_spoilt_ones(target: Target, seed: int) -> None:
    random = Random(seed)
    data = target.grow(random)
    target.check(data)
    for _ in range(3):
        target.check(spoil(data, random))


@targets
def test_inputs_are_neither_too_wild_nor_too_tame(target: Target) -> None:
    result = fuzz(target, INPUTS, 1, quiet)
    assert INPUTS // 20 < result.read < INPUTS


@targets
def test_what_once_broke_it(target: Target) -> None:
    for path in corpus(target):
        attempt(target, path.read_bytes())


@targets
def test_memory_is_bounded_by_the_input(target: Target) -> None:
    random = Random(3)
    target.check(target.grow(random))  # What is made once, at the first use.
    for path in corpus(target):
        data = path.read_bytes()
        assert memory_of(target, data) < memory_max(data), path.name
    for _ in range(MEASURED):
        data = spoil(target.grow(random), random)
        assert memory_of(target, data) < memory_max(data), data.hex()


def test_a_finding_is_kept_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(data: bytes) -> bool:
        return data[1] == 1

    monkeypatch.setattr("tests.fuzz.engine.CRASHERS", tmp_path)
    target = Target(name="fragile", grow=lambda random: b"\x00\x01", check=fragile, share=1)
    with pytest.raises(SystemExit, match=r"fragile: input .* IndexError"):
        fuzz(target, 1_000, 0, quiet)
    (kept,) = (tmp_path / "fragile").iterdir()
    with pytest.raises(IndexError):
        fragile(kept.read_bytes())


def test_a_machine_that_stands_still_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits(data: bytes) -> bool:
        threading.Event().wait(0.3)
        return True

    monkeypatch.setattr("tests.fuzz.engine.SECONDS_MAX", 0.05)
    assert attempt(Target(name="waits", grow=Random.randbytes, check=waits, share=1), b"")  # type: ignore[arg-type]


def test_a_hang_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(data: bytes) -> bool:
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.engine.SECONDS_MAX", 0.05)
    with pytest.raises(HangError):
        attempt(Target(name="endless", grow=Random.randbytes, check=endless, share=1), b"")  # type: ignore[arg-type]
