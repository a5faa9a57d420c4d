"""What the tests with real processes share: one cluster, and a look at its logs after each test."""

from collections.abc import Iterator

import pytest

from tests.process.running import Running, running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three controllers and three brokers that stay up; a module that kills them has its own."""
    with running(tmp_path_factory.mktemp("cluster") / "dir") as it:
        yield it


@pytest.fixture(autouse=True)
def no_traceback(request: pytest.FixtureRequest) -> Iterator[None]:
    """A node that met a bug tells it in its log, whatever its clients saw."""
    yield
    if "cluster" in request.fixturenames:
        it: Running = request.getfixturevalue("cluster")
        told = it.tracebacks()
        assert not told, "\n".join(told)
