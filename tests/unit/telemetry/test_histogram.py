"""Our histogram shows what prometheus_client's own does, whatever was observed."""

import math
from itertools import pairwise

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from klamm.telemetry import histogram
from klamm.telemetry.histogram import Histogram

BOUNDS = (0.0005, 0.001, 0.25, 0.5, 1.0, 10.0)

AMOUNTS = st.one_of(
    st.sampled_from([*BOUNDS, 0.0, *(math.nextafter(each, math.inf) for each in BOUNDS)]),
    st.floats(0, 100),
)


def shown(registry: CollectorRegistry) -> tuple[list[str], str]:
    """In both of the library's formats, without the times at which the series began."""
    text = generate_latest(registry).decode().splitlines()
    more = openmetrics.generate_latest(registry).decode().splitlines()  # type: ignore[no-untyped-call]
    return [_timeless(each) for each in text], "\n".join(map(_timeless, more))


def _timeless(line: str) -> str:
    name, _, _ = line.partition(" ")
    return name if "_created" in name else line


@given(st.lists(AMOUNTS))
def test_without_labels(amounts: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("some_seconds", "What it is.", bounds=BOUNDS)
    two = prometheus_client.Histogram("some_seconds", "What it is.", buckets=BOUNDS, registry=None)
    ours.register(one)
    theirs.register(two)
    for each in amounts:
        one.observe(each)
        two.observe(each)
    assert shown(ours) == shown(theirs)


@given(
    st.lists(
        st.tuples(st.sampled_from(["Fetch", 'a"b\\c\n']), st.sampled_from(["local", ""]), AMOUNTS)
    )
)
def test_with_labels(observed: list[tuple[str, str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("some_seconds", "What it is.", ("api", "stage"), bounds=BOUNDS)
    two = prometheus_client.Histogram(
        "some_seconds", "What it is.", ("api", "stage"), buckets=BOUNDS, registry=None
    )
    ours.register(one)
    theirs.register(two)
    for api, stage, amount in observed:
        one.labels(api, stage).observe(amount)
        two.labels(api, stage).observe(amount)
    assert shown(ours) == shown(theirs)


def test_its_name_is_taken() -> None:
    registry = CollectorRegistry()
    registry.register(Histogram("some_seconds", "What it is.", bounds=BOUNDS))
    for name in ("some_seconds", "some_seconds_bucket", "some_seconds_count"):
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(prometheus_client.Gauge(name, "Another.", registry=None))


def test_labels_are_named() -> None:
    labelled = Histogram("some_seconds", "What it is.", ("api",), bounds=BOUNDS)
    with pytest.raises(TypeError, match="api"):
        labelled.observe(1)
    with pytest.raises(AssertionError, match="api"):
        labelled.labels()


def test_since_when_is_said_if_the_library_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    registry.register(Histogram("some_seconds", "What it is.", bounds=BOUNDS))
    for says in (True, False):
        monkeypatch.setattr(histogram, "_SHOWS_CREATED", says)
        assert ("some_seconds_created" in generate_latest(registry).decode()) == says


def test_buckets_add_up() -> None:
    metric = Histogram("some_seconds", "What it is.", bounds=BOUNDS)
    for each in (0.0001, 0.3, 11, 0.001):
        metric.observe(each)
    (family,) = metric.collect()
    buckets = [each.value for each in family.samples if each.name.endswith("_bucket")]
    assert buckets == [1, 2, 2, 3, 3, 3, 4]
    assert all(one <= two for one, two in pairwise(buckets))
