"""Environment variables and overrides: whose name is a key, and which."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.config.settings import ALL_KEYS
from klamm.config.sources import (
    Given,
    from_environment,
    from_overrides,
    key_of_variable,
    variable_of_key,
)


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        # Apache's rule, as its compose files use it.
        ("KAFKA_NODE_ID", "node.id"),
        ("KAFKA_ADVERTISED_LISTENERS", "advertised.listeners"),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "controller.quorum.voters"),
        ("KAFKA_A__B___C_D", "a_b-c.d"),
        # The cluster's id, by three names.
        ("CLUSTER_ID", "cluster.id"),
        ("KAFKA_CLUSTER_ID", "cluster.id"),
        ("KAFKA_KRAFT_CLUSTER_ID", "cluster.id"),
        # Bitnami's.
        ("KAFKA_CFG_NODE_ID", "node.id"),
        # Our own, by either prefix.
        ("KLAMM_HTTP_PORT", "klamm.http.port"),
        ("KAFKA_KLAMM_HTTP_PORT", "klamm.http.port"),
        # The images' own affairs.
        ("KAFKA_HEAP_OPTS", None),
        ("KAFKA_JMX_PORT", None),
        ("KAFKA_LOG4J_LOGGERS", None),
        ("KLAMM_STATE_DIR", None),
        # What Kubernetes says of a Service.
        ("KAFKA_SERVICE_HOST", None),
        ("KAFKA_1_SERVICE_PORT_CLIENTS", None),
        ("KAFKA_1_PORT_9092_TCP_ADDR", None),
        ("KLAMM_PORT_9093_TCP", None),
        # Nobody's.
        ("PATH", None),
        ("NODE_ID", None),
    ],
)
def test_the_key_of_a_variable(variable: str, key: str | None) -> None:
    assert key_of_variable(variable) == key


def test_a_service_address_is_no_setting() -> None:
    assert from_environment({"KAFKA_PORT": "tcp://10.0.0.1:9092"}) == ()


@given(st.text("abcz_-.", min_size=1).filter(lambda key: not _ambiguous(key)))
def test_the_rule_goes_both_ways(key: str) -> None:
    assert key_of_variable(variable_of_key(key)) == key


def _ambiguous(key: str) -> bool:
    """Two separators side by side, or one at either end: Apache's rule cannot tell them apart."""
    marks = [mark in "_-." for mark in key]
    side_by_side = any(a and b for a, b in itertools.pairwise(marks))
    return side_by_side or marks[0] or marks[-1]


def test_every_key_can_be_set_from_the_environment() -> None:
    assert [key_of_variable(variable_of_key(key)) for key in ALL_KEYS] == list(ALL_KEYS)


def test_overrides() -> None:
    assert from_overrides(["a.b=c=d", "x"]) == (
        Given("a.b", "c=d", "--override"),
        Given("x", "", "--override without ="),
    )
