"""Lines into records, and the tour's books: what would count as a broken promise."""

import pytest
import typer
from confluent_kafka import KafkaError

from klamm.cli import kafka
from klamm.cli.records import LINE_BYTES_MAX, _records
from klamm.cli.tour_traffic import Books
from klamm.errors import StartError, UnreachableError


@pytest.mark.parametrize(
    ("line", "separator", "record"),
    [
        (b"a:b\n", None, (None, b"a:b")),
        (b"a:b:c\r\n", ":", (b"a", b"b:c")),
        (b"a=>b", "=>", (b"a", b"b")),
        (b"no key\n", ":", (None, b"no key")),
        (b":b\n", ":", (b"", b"b")),
        (b"\n", None, (None, b"")),
        ("é:ü\n".encode(), ":", ("é".encode(), "ü".encode())),
    ],
)
def test_a_line(line: bytes, separator: str | None, record: tuple[bytes | None, bytes]) -> None:
    assert list(_records([line], separator)) == [record]


def test_a_line_that_is_too_long_is_named() -> None:
    with pytest.raises(typer.BadParameter, match="line 2 has over"):
        list(_records([b"a\n", b"x" * (LINE_BYTES_MAX + 1)], None))


def test_what_a_clients_error_means() -> None:
    gone = kafka.failure(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    assert isinstance(gone, UnreachableError)
    refused = kafka.failure(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert isinstance(refused, StartError)
    assert "(TOPIC_AUTHORIZATION_FAILED)" in str(refused)


def books(acknowledged: list[int], consumed: list[int]) -> Books:
    kept = Books()
    kept.acknowledged[0].update(acknowledged)
    kept.consumed[0].extend(consumed)
    return kept


@pytest.mark.parametrize(
    ("acknowledged", "consumed", "wrong"),
    [
        ([0, 1, 2], [0, 1, 2], []),
        # Not acknowledged, and yet there: it may have happened.
        ([0, 1], [0, 1, 2], []),
        ([0, 1, 2], [0, 2], ["orders-0: 1 acknowledged and lost, as 1"]),
        ([0, 1, 2], [0, 2, 1], ["orders-0: out of order"]),
        ([0, 1], [0, 1, 1], ["orders-0: 1 twice"]),
    ],
)
def test_the_verdict(acknowledged: list[int], consumed: list[int], wrong: list[str]) -> None:
    kept = books(acknowledged, consumed)
    assert kept.verdict() == wrong
    assert (kept.acknowledged_count, kept.consumed_count) == (len(acknowledged), len(consumed))


def test_a_refused_record_breaks_the_promise() -> None:
    kept = books([0], [0])
    kept.failed.append("not enough replicas")
    assert kept.verdict() == ["a record was refused: not enough replicas"]
