"""Free ports, and ports that are not."""

import socket
from collections.abc import Iterator

import pytest

from klamm.cluster.ports import (
    FREE_PORTS,
    HTTP_PORT_STEP,
    PortLocks,
    bindable,
    check_ports,
    choose_ports,
)
from klamm.errors import StartError


@pytest.fixture
def locks() -> Iterator[PortLocks]:
    held = PortLocks()
    yield held
    held.close()


@pytest.fixture
def other() -> Iterator[PortLocks]:
    held = PortLocks()
    yield held
    held.close()


@pytest.fixture
def free_base(other: PortLocks) -> int:
    """A port from which four, and their HTTP ports, are free."""
    wanted = (0, 1, 2, 3)
    return next(
        base
        for base in FREE_PORTS
        if all(bindable(base + each) and bindable(base + each + HTTP_PORT_STEP) for each in wanted)
    )


def test_any_free_ports_are_distinct_and_held(locks: PortLocks, other: PortLocks) -> None:
    first = choose_ports(0, 6, locks)
    second = choose_ports(0, 6, other)
    assert len({*first, *second}) == 24
    assert all(port in FREE_PORTS for port in first)


def test_from_a_base(locks: PortLocks, free_base: int) -> None:
    assert choose_ports(free_base, 2, locks) == (
        free_base,
        free_base + 1,
        free_base + 552,
        free_base + 553,
    )


def test_a_port_in_use_is_named(locks: PortLocks, free_base: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_base + 1))
        taken.listen()
        with pytest.raises(StartError, match=f"Port {free_base + 1} is in use"):
            choose_ports(free_base, 2, locks)
        with pytest.raises(StartError, match="which this cluster had before"):
            check_ports((free_base + 1,), locks)


def test_ports_come_back_when_their_holder_is_gone(locks: PortLocks, other: PortLocks) -> None:
    ports = choose_ports(0, 1, locks)
    assert not other.take(ports[0])
    locks.close()
    assert other.take(ports[0])
