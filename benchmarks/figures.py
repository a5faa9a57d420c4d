"""How figures are summed up and shown: medians and ratios, beside the peer, from one run."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing."""

    what: str
    samples: int
    min_s: float
    median_s: float
    p99_s: float
    max_s: float
    goal: str = ""


def figure(what: str, samples_s: Sequence[float], goal: str = "") -> Figure:
    """Sum up. With fewer than a hundred samples the p99 is the greatest of them."""
    ordered = sorted(samples_s)
    return Figure(
        what=what,
        samples=len(ordered),
        min_s=ordered[0],
        median_s=statistics.median(ordered),
        p99_s=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        max_s=ordered[-1],
        goal=goal,
    )


def show(title: str, figures: Sequence[Figure], notes: Sequence[str], *, as_json: bool) -> None:
    """On the screen, or as one JSON object."""
    if as_json:
        print(json.dumps({"figures": [asdict(each) for each in figures], "notes": list(notes)}))
        return
    table = Table(title=title)
    table.add_column("what")
    for column in ("n", "min", "median", "p99", "max"):
        table.add_column(column, justify="right")
    table.add_column("goal")
    for each in figures:
        times = (each.min_s, each.median_s, each.p99_s, each.max_s)
        cells = (f"{time_s * 1_000:.4g} ms" for time_s in times)
        table.add_row(each.what, str(each.samples), *cells, each.goal)
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"  {note}")
