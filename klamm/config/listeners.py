"""Listeners and voters as Kafka writes them. Pure.

    listeners                       PLAINTEXT://:19092,PLAINTEXT_HOST://0.0.0.0:9092,V6://[::1]:9093
    listener.security.protocol.map  PLAINTEXT_HOST:PLAINTEXT,…
    controller.quorum.voters        1@controller-1:9093,2@controller-2:9093

Every function raises ValueError with the end of a sentence that begins with the key's name.
"""

import re
from dataclasses import dataclass

from klamm.ids import NodeId

PORT_MAX = 65_535
SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")

_LISTENER = re.compile(r"([A-Za-z0-9_.-]+)://(\[[0-9A-Fa-f:.%]+\]|[^:/\[\]@,\s]*):(-?\d+)")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:/\[\]@,\s]+):(\d+)")
_VOTER = re.compile(r"(\d+)@(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    name: str
    host: str
    """Without brackets; empty is every interface."""
    port: int
    """0 is any free one."""
    security_protocol: str = "PLAINTEXT"

    def __str__(self) -> str:
        return f"{self.name}://{format_address(self.host, self.port)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumVoter:
    voter_id: NodeId
    host: str
    port: int

    @property
    def address(self) -> str:
        return format_address(self.host, self.port)

    def __str__(self) -> str:
        return f"{self.voter_id}@{self.address}"


def format_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> tuple[str, int]:
    """Read `host:port`."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be HOST:PORT, is {text!r}")
    return match.group(1).strip("[]"), _port(match.group(2), text)


def parse_addresses(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of `host:port`; the answer is spelt one way."""
    return tuple(format_address(*parse_address(text)) for text in texts)


def parse_protocol_map(texts: tuple[str, ...]) -> dict[str, str]:
    """Read `NAME:PROTOCOL,…`; names in upper case."""
    by_name: dict[str, str] = {}
    for text in texts:
        name, colon, protocol = text.partition(":")
        if not colon or not name or protocol not in SECURITY_PROTOCOLS:
            allowed = ", ".join(SECURITY_PROTOCOLS)
            raise ValueError(f"must be NAME:PROTOCOL of {allowed}, has {text!r}")
        by_name[name.upper()] = protocol
    return by_name


def parse_listeners(
    texts: tuple[str, ...], protocols: dict[str, str], controller_names: tuple[str, ...]
) -> tuple[Listener, ...]:
    """Read `NAME://HOST:PORT,…`, and look up each one's security protocol.

    A controller listener that the map does not name is PLAINTEXT, as in Kafka.
    """
    listeners = tuple(_listener(text, protocols, controller_names) for text in texts)
    names = [each.name for each in listeners]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"must name each listener once, names {', '.join(twice)} twice")
    ports = [(each.host, each.port) for each in listeners if each.port != 0]
    if len(set(ports)) != len(ports):
        raise ValueError("must give each listener a port of its own")
    return listeners


def _listener(text: str, protocols: dict[str, str], controller_names: tuple[str, ...]) -> Listener:
    match = _LISTENER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a list of NAME://HOST:PORT, has {text!r}")
    name = match.group(1).upper()
    protocol = protocols.get(name, "PLAINTEXT" if name in controller_names else "")
    if not protocol:
        raise ValueError(
            f"has {name}, which listener.security.protocol.map does not give a protocol"
        )
    if protocol != "PLAINTEXT":
        raise ValueError(f"has {name} with {protocol}; only PLAINTEXT can be served so far")
    return Listener(
        name=name,
        host=match.group(2).strip("[]"),
        port=_port(match.group(3), text),
        security_protocol=protocol,
    )


def parse_voters(texts: tuple[str, ...]) -> tuple[QuorumVoter, ...]:
    """Read `ID@HOST:PORT,…`, ordered by id."""
    voters = tuple(_voter(text) for text in texts)
    ids = [each.voter_id for each in voters]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise ValueError(f"must name each voter once, names {', '.join(map(str, twice))} twice")
    return tuple(sorted(voters, key=lambda each: each.voter_id))


def _voter(text: str) -> QuorumVoter:
    match = _VOTER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be a list of ID@HOST:PORT, has {text!r}")
    try:
        host, port = parse_address(match.group(2))
    except ValueError:
        raise ValueError(f"must be a list of ID@HOST:PORT, has {text!r}") from None
    return QuorumVoter(voter_id=NodeId(int(match.group(1))), host=host, port=port)


def _port(text: str, whole: str) -> int:
    port = int(text)
    if not 0 <= port <= PORT_MAX:
        raise ValueError(f"must have ports from 0 to {PORT_MAX}, has {whole!r}")
    return port
