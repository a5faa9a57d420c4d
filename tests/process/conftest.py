"""What the tests with real processes share: one cluster a module, and a look at its logs."""

from collections.abc import Iterator

import pytest

from tests.process.running import Running, running


@pytest.fixture(scope="module")
def overrides() -> dict[str, str]:
    """Config keys for every node; a module may have its own."""
    return {}


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, overrides: dict[str, str]
) -> Iterator[Running]:
    """Three controllers and three brokers for all tests of a module."""
    with running(tmp_path_factory.mktemp("cluster") / "dir", overrides) as it:
        yield it


@pytest.fixture(autouse=True)
def no_traceback(request: pytest.FixtureRequest) -> Iterator[None]:
    """A node that met a bug tells it in its log, whatever its clients saw."""
    yield
    if "cluster" in request.fixturenames:
        it: Running = request.getfixturevalue("cluster")
        assert it.tracebacks() == []
