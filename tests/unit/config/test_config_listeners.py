"""Listeners, advertised listeners, voters: what is read, and what each refusal says."""

import pytest

from klamm.config.listeners import (
    Listener,
    format_address,
    parse_address,
    parse_listeners,
    parse_protocol_map,
    parse_voters,
)

PROTOCOLS = {"PLAINTEXT": "PLAINTEXT", "HOST": "PLAINTEXT", "SECURE": "SSL"}


def test_listeners() -> None:
    texts = ("plaintext://:9092", "HOST://[::1]:0", "CONTROLLER://a-1.b_c:9093")
    assert parse_listeners(texts, PROTOCOLS, ("CONTROLLER",)) == (
        Listener(name="PLAINTEXT", host="", port=9092),
        Listener(name="HOST", host="::1", port=0),
        Listener(name="CONTROLLER", host="a-1.b_c", port=9093),
    )


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (("PLAINTEXT:9092",), "must be a list of NAME://HOST:PORT, has 'PLAINTEXT:9092'"),
        (("PLAINTEXT://h",), "must be a list of NAME://HOST:PORT"),
        (("PLAINTEXT://h:65536",), "ports from 0 to 65535"),
        (("PLAINTEXT://h:-1",), "ports from 0 to 65535"),
        (("OTHER://h:1",), "OTHER, which listener.security.protocol.map does not give a protocol"),
        (("SECURE://h:1",), "SECURE with SSL; only PLAINTEXT can be served so far"),
        (("HOST://h:1", "HOST://h:2"), "names HOST twice"),
        (("HOST://h:1", "PLAINTEXT://h:1"), "a port of its own"),
    ],
)
def test_listeners_refused(texts: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_listeners(texts, PROTOCOLS, ())
    assert sentence in str(caught.value)


def test_voters_are_ordered_by_id() -> None:
    voters = parse_voters(("3@c:1", "1@a:2", "2@[::1]:3"))
    assert [str(each) for each in voters] == ["1@a:2", "2@[::1]:3", "3@c:1"]


@pytest.mark.parametrize("text", ["1@host", "host:9093", "x@host:9093", "1@host:99999", "1@:1", ""])
def test_a_voter_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_voters((text,))


def test_two_voters_of_one_id() -> None:
    with pytest.raises(ValueError, match="names 1 twice"):
        parse_voters(("1@a:1", "1@b:1"))


def test_a_protocol_map() -> None:
    assert parse_protocol_map(("a:PLAINTEXT", "B:SSL")) == {"A": "PLAINTEXT", "B": "SSL"}
    with pytest.raises(ValueError, match="'A:TCP'"):
        parse_protocol_map(("A:TCP",))


@pytest.mark.parametrize("address", [("h", 1), ("::1", 9093), ("127.0.0.1", 65535)])
def test_addresses_go_both_ways(address: tuple[str, int]) -> None:
    assert parse_address(format_address(*address)) == address
