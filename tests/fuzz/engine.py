"""The plain engine: valid inputs, spoilt by chance; and the limits under which any input is tried.

An input that takes longer than SECONDS_MAX of the processor is a hang, and one for which the
process would grow by more than MEMORY_BYTES_MAX fails with MemoryError: both are findings. The
wall's clock says nothing: a busy machine stood still for ten seconds at inputs of milliseconds.
"""

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz.mutation import spoil
from tests.fuzz.target import Target

SECONDS_MAX = 10
MEMORY_BYTES_MAX = 1024 * 1024 * 1024
PROGRESS_S = 10
POOL = 256
"""Valid inputs that are kept and spoilt again, beside the fresh ones."""
FRESH = 0.1

CORPUS = Path(__file__).parent / "corpus"
CRASHERS = Path(__file__).parent / "crashers"


class HangError(Exception):
    """One input took longer than SECONDS_MAX of the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    target: str
    inputs: int
    read: int
    """So many of them were taken."""
    seconds: float

    def __str__(self) -> str:
        rate = self.inputs / max(self.seconds, 0.001)
        return (
            f"{self.target}: {self.inputs:,} inputs, {self.read:,} read, {self.seconds:.0f} s, "
            f"{rate:,.0f} a second"
        )


def corpus(target: Target) -> list[Path]:
    """Inputs that once broke this target."""
    return sorted((CORPUS / target.name).glob("*"))


def keep(target: Target, data: bytes) -> Path:
    """Save an input that breaks the target."""
    path = CRASHERS / target.name / sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@contextmanager
def limits() -> Iterator[None]:
    """This process may not grow beyond reason; the old limit holds again afterwards."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES_MAX, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def attempt(target: Target, data: bytes) -> bool:
    """One input, and no longer than SECONDS_MAX of the processor.

    Raises:
        Exception: What the target was fuzzed for.
    """
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS_MAX)
    try:
        return target.check(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _hang(signum: int, frame: object) -> None:
    raise HangError(f"an input takes longer than {SECONDS_MAX} s")


def fuzz(target: Target, inputs: int, seed: int, say: Callable[[str], None]) -> Result:
    """Try `inputs` inputs.

    Raises:
        SystemExit: One of them broke the target; it is saved.
    """
    random = Random(f"{target.name} {seed}")
    began = told = time.monotonic()
    pool = [path.read_bytes() for path in corpus(target)]
    read = 0
    with limits():
        for number in range(inputs):
            data = _next(target, pool, random)
            try:
                read += attempt(target, data)
            except Exception as error:
                path = keep(target, data)
                raise SystemExit(
                    f"{target.name}: input {number} of seed {seed}: {error!r}\n  {path}"
                ) from error
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                seconds = told - began
                so_far = Result(target=target.name, inputs=number, read=read, seconds=seconds)
                say(f"  {so_far}")
    seconds = time.monotonic() - began
    return Result(target=target.name, inputs=inputs, read=read, seconds=seconds)


def _next(target: Target, pool: list[bytes], random: Random) -> bytes:
    if len(pool) < 2 or random.random() < FRESH:
        data = target.grow(random)
        if len(pool) < POOL:
            pool.append(data)
        else:
            pool[random.randrange(POOL)] = data
        return data
    data = random.choice(pool)
    if random.random() < 0.1:  # Two inputs, spliced.
        data = data[: random.randint(0, len(data))] + random.choice(pool)[random.randrange(4) :]
    return spoil(data, random)
