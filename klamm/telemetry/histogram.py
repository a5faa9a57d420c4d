"""A histogram that costs its observer a fifth of prometheus_client's, and shows the same.

    observe ─▶ one count and the sum          collect ─▶ _bucket{le=…}, cumulative; _count; _sum

The library's takes a lock twice and looks at one bucket after the other, 0.5 µs, and a commit
observes three. Here a series is a list of ints and a float, 0.1 µs, and one thread's alone: others
may only look.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SHOWS_CREATED = any(
    sample.name.endswith("_created")
    for metric in Counter("asked", "Whether the library shows them.", registry=None).collect()
    for sample in metric.samples
)
"""Whether metrics say since when they count: the library's choice, or its user's."""


class Series:
    """The observations under one choice of the labels' values, by one thread."""

    __slots__ = ("_bounds", "_counts", "_created_s", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """
        Args:
            bounds: The buckets' upper bounds, inclusive, ascending; behind them is one without.
        """
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._created_s = time.time()

    def observe(self, amount: float) -> None:
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def show(self, metric: Metric, labels: dict[str, str]) -> None:
        """Add what was observed to `metric`."""
        name, total = metric.name, 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            le: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
            metric.add_sample(f"{name}_bucket", {**labels, "le": le}, total)
        metric.add_sample(f"{name}_count", labels, total)
        metric.add_sample(f"{name}_sum", labels, self._sum)
        if _SHOWS_CREATED:
            metric.add_sample(f"{name}_created", labels, self._created_s)


class Histogram(Collector):
    """One metric, with a series for each choice of its labels' values; one alone without labels."""

    def __init__(
        self, name: str, doc: str, labels: Sequence[str] = (), *, bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._doc = doc
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._series: dict[tuple[str, ...], Series] = {}
        self.observe: Callable[[float], None] = self._unlabelled
        """Of the one series of a histogram without labels."""
        if not labels:
            self.observe = self.labels().observe

    def labels(self, *values: str) -> Series:
        """The series of these values; made when it is first asked for."""
        assert len(values) == len(self._labels), f"{self._name} has the labels {self._labels}"
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Series(self._bounds)
        return series

    def describe(self) -> Iterable[Metric]:
        return [Metric(self._name, self._doc, "histogram")]

    def collect(self) -> Iterable[Metric]:
        metric = Metric(self._name, self._doc, "histogram")
        for values, series in list(self._series.items()):
            series.show(metric, dict(zip(self._labels, values, strict=True)))
        return [metric]

    def _unlabelled(self, amount: float) -> None:
        raise TypeError(f"{self._name} is observed by its labels {self._labels}")
