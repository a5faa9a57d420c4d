"""The table of metrics keeps Prometheus' rules and ours."""

import re

import pytest

from klamm.telemetry import metrics
from klamm.telemetry.metrics import BROKER, CONTROLLER, TABLE, Row, exposition


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_row(row: Row) -> None:
    assert re.fullmatch(r"(raft|controller|broker|kafka|klamm)_[a-z_]+", row.name)
    assert row.doc.endswith(".")
    assert not re.search(r"(_ms|_rate|_percent|_avg|_count)$", row.name)


def test_names_are_unique() -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names)


def test_each_kind_of_node_shows_its_own() -> None:
    controller, broker = exposition(CONTROLLER).decode(), exposition(BROKER).decode()
    assert "raft_current_epoch" in controller
    assert "raft_current_epoch" not in broker
    assert "broker_leaders" in broker
    assert "broker_leaders" not in controller
    for shown in (controller, broker):
        assert "process_resident_memory_bytes" in shown
        assert "klamm_event_loop_lag_seconds" in shown


def test_counters_end_in_total_and_are_shown_so() -> None:
    metrics.KAFKA_REQUESTS.labels("Fetch", "NONE").inc()
    assert 'kafka_requests_total{api="Fetch",error="NONE"}' in exposition(BROKER).decode()


def test_one_raft_state_at_a_time() -> None:
    metrics.set_raft_state("candidate")
    metrics.set_raft_state("leader")
    shown = exposition(CONTROLLER).decode()
    assert 'raft_current_state{state="leader"} 1.0' in shown
    assert 'raft_current_state{state="candidate"} 0.0' in shown
