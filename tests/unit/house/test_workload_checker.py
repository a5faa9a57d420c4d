"""The checker of the process tests, checked: each anomaly is seen, and a clean run is clean."""

import pytest

from tests.process.workload import Placed, check


def log(*values: int) -> list[Placed]:
    return [Placed(0, offset, value) for offset, value in enumerate(values)]


@pytest.mark.parametrize(
    ("acknowledged", "read", "wrong"),
    [
        (log(0, 1, 2), log(0, 1, 2), set()),
        # Not acknowledged, and there: it may have happened.
        (log(0, 1), log(0, 1, 2), set()),
        (log(0, 1, 2), log(0, 1), {"lost"}),
        (log(0, 1), [Placed(0, 0, 0), Placed(0, 2, 1)], {"moved"}),
        (log(0, 1), log(0, 1, 1), {"duplicated"}),
        ([], log(0, 2, 1), {"disordered"}),
        # The same value in another partition is another record.
        (log(0), [*log(0), Placed(1, 0, 0)], set()),
    ],
)
def test_each_anomaly_has_its_name(
    acknowledged: list[Placed], read: list[Placed], wrong: set[str]
) -> None:
    report = check(acknowledged, read)
    names = ("lost", "moved", "duplicated", "disordered")
    assert {name for name in names if getattr(report, name)} == wrong
    assert report.clean == (not wrong)
