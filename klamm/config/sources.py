"""Where settings come from: a file, the environment, overrides on the command line. Pure.

Each gives `Given`s: key, text, and where it stands, so that a complaint can point there. Names in
the environment follow Apache's image: `KAFKA_` and the key in capitals, with `.` → `_`, `_` → `__`,
`-` → `___`. Bitnami's `KAFKA_CFG_…` and `KAFKA_KRAFT_CLUSTER_ID` are read too, and `KLAMM_…` for
Klamm's own keys: `KLAMM_HTTP_PORT` is `klamm.http.port`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from klamm.config.properties import read_properties

_CLUSTER_ID_NAMES = ("CLUSTER_ID", "KAFKA_CLUSTER_ID", "KAFKA_KRAFT_CLUSTER_ID")

_NOT_SETTINGS = re.compile(
    # What Apache's and Bitnami's images use for the JVM and for themselves.
    "KAFKA_(HEAP_OPTS|OPTS|JVM_PERFORMANCE_OPTS|GC_LOG_OPTS|JMX_.*|LOG4J_.*|TOOLS_LOG4J_.*|DEBUG.*"
    "|HOME|BASE_DIR|VERSION|CONF_.*|CONFIG_.*|ENABLE_KRAFT|DAEMON_.*|VOLUME_DIR|MOUNTED_CONF_DIR)"
    # What Kubernetes gives every pod beside a Service named kafka, kafka-1, klamm, …
    r"|.+_SERVICE_(HOST|PORT.*)|.+_PORT_\d+_(TCP|UDP).*"
    # Where the command line keeps what it remembers.
    "|KLAMM_STATE_DIR"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp)://.*")
"""Kubernetes again: KAFKA_PORT=tcp://10.0.0.1:9092."""


@dataclass(frozen=True, slots=True)
class Given:
    """One key as somebody set it."""

    key: str
    text: str
    origin: str
    """For people: `server.properties:12`, `KAFKA_NODE_ID in the environment`, `--override`."""


def from_file(name: str, text: str) -> tuple[Given, ...]:
    return tuple(
        Given(each.key, each.value.strip(), f"{name}:{each.line}") for each in read_properties(text)
    )


def from_environment(environment: Mapping[str, str]) -> tuple[Given, ...]:
    """In the order of the names, so that a complaint is the same each time."""
    given: list[Given] = []
    for name in sorted(environment):
        key = key_of_variable(name)
        if key is not None and not _SERVICE_ADDRESS.fullmatch(environment[name]):
            given.append(Given(key, environment[name], f"{name} in the environment"))
    return tuple(given)


def key_of_variable(name: str) -> str | None:
    """The key that an environment variable sets; None if it is no setting."""
    if name in _CLUSTER_ID_NAMES:
        return "cluster.id"
    if _NOT_SETTINGS.fullmatch(name):
        return None
    if name.startswith("KLAMM_"):
        return _key_spelling(name)
    if name.startswith("KAFKA_"):
        return _key_spelling(name.removeprefix("KAFKA_").removeprefix("CFG_"))
    return None


def variable_of_key(key: str) -> str:
    """Apache's rule, forwards."""
    spelt = key.replace("_", "__").replace("-", "___").replace(".", "_")
    return f"KAFKA_{spelt.upper()}"


def _key_spelling(name: str) -> str:
    spelt = {"": "", "_": ".", "__": "_", "___": "-"}
    return re.sub("_{1,3}", lambda match: spelt[match.group()], name).lower()


def from_overrides(overrides: Sequence[str]) -> tuple[Given, ...]:
    """From `--override key=value`. An override without `=` is a key without a value."""
    given: list[Given] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        origin = "--override" if equals else "--override without ="
        given.append(Given(key.strip(), text.strip(), origin))
    return tuple(given)
