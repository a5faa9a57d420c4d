"""Draws that are the same on every machine, of the same generator.

Uniform ones are. Exponential ones end in a logarithm, whose last bit is the C library's own; one
bit puts two events in another order, and the history is another one.
"""

import random

DECIMALS = 9
"""Far coarser than the bits in doubt, far finer than what anybody waits for."""


def exponential(rng: random.Random, mean: float) -> float:
    """How long until something happens that happens every `mean` on average."""
    return round(rng.expovariate(1 / mean), DECIMALS)
