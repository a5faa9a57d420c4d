"""Settings: every key with its value and where that came from; and every complaint, together.

    Given… ──▶ Settings.resolve ──▶ Settings   ──▶ BrokerConfig, ControllerConfig
                    │                                  │
                    └────────── Problems ◀─────────────┘   ──▶ one StartError

Pure. Later givens win over earlier ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from klamm.config.broker_keys import BROKER_KEYS, INERT_KEYS
from klamm.config.controller_keys import CONTROLLER_KEYS, FAST_TIMERS
from klamm.config.keys import ConfigKey, KeyTable, Value
from klamm.config.node_keys import NODE_KEYS
from klamm.config.sources import Given
from klamm.errors import StartError

ALL_KEYS: KeyTable = {**NODE_KEYS, **CONTROLLER_KEYS, **BROKER_KEYS, **INERT_KEYS}
"""What may stand in a node's configuration: one file may serve both kinds."""

_REFUSED_PREFIXES = {
    "ssl.": "TLS is not there yet",
    "sasl.": "SASL is not there yet",
    "listener.name.": "settings of one listener are not there yet",
    "authorizer.": "authorization is not there yet",
    "super.users": "authorization is not there yet",
    "allow.everyone.if.no.acl.found": "authorization is not there yet",
    "zookeeper.": "there is no ZooKeeper here",
    "broker.id": "the key is node.id",
    "remote.log.": "tiered storage is not there yet",
}
"""To pass over these would be worse than to refuse: somebody counts on them."""


@dataclass(slots=True)
class Problems:
    """What is wrong, one sentence each, in the order found."""

    sentences: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def raise_if_any(self, node: str) -> None:
        """Raises: StartError: With every sentence, if there is one."""
        if not self.sentences:
            return
        count = len(self.sentences)
        head = f"{node} cannot start: {count} problem{'s' * (count > 1)} in its configuration."
        raise StartError("\n".join([head, *(f"  {each}" for each in self.sentences)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key's value as it holds on this node."""

    key: ConfigKey
    value: Value | None
    """Parsed; None: unset, without a default."""
    text: str | None
    """As written."""
    origin: str
    """Where it was set; empty: the default."""

    @property
    def is_default(self) -> bool:
        return not self.origin


@dataclass(frozen=True, slots=True)
class Settings:
    """Every known key, by name; the source of the typed configs and of DescribeConfigs."""

    by_key: Mapping[str, Setting]

    def __getitem__(self, key: str) -> Setting:
        return self.by_key[key]

    def integer(self, key: str) -> int:
        value = self.by_key[key].value
        assert isinstance(value, int), f"{key} is a whole number with a default"
        return value

    def flag(self, key: str) -> bool:
        value = self.by_key[key].value
        assert isinstance(value, bool), f"{key} is a boolean with a default"
        return value

    def text(self, key: str) -> str:
        """A STRING; empty if unset."""
        value = self.by_key[key].value
        assert value is None or isinstance(value, str), f"{key} is a text"
        return value or ""

    def members(self, key: str) -> tuple[str, ...]:
        """A LIST; empty if unset."""
        value = self.by_key[key].value
        assert value is None or isinstance(value, tuple), f"{key} is a list"
        return value or ()

    def inert(self) -> tuple[str, ...]:
        """Keys that somebody set and that have no effect so far; for a line in the log."""
        return tuple(
            name
            for name, setting in self.by_key.items()
            if not setting.is_default and not setting.key.effect
        )


def resolve(given: Iterable[Given], problems: Problems) -> Settings:
    """Every key with the last value given, or its default; a bad one is noted, and defaulted."""
    last: dict[str, Given] = {}
    for each in given:
        if each.key in ALL_KEYS:
            last[each.key] = each
        else:
            problems.add(_unknown(each))
    parsed = {name: _parse(key, last.get(name), problems) for name, key in ALL_KEYS.items()}
    if parsed["klamm.profile"].value == "fast":
        for name, text in FAST_TIMERS.items():
            if parsed[name].is_default:
                key = ALL_KEYS[name]
                parsed[name] = Setting(key=key, value=key.parse(text), text=text, origin="")
    return Settings(parsed)


def _parse(key: ConfigKey, given: Given | None, problems: Problems) -> Setting:
    if given is not None and given.text == "" and key.default is None:
        given = None  # An empty variable in a compose file means unset.
    if given is not None:
        try:
            value = key.parse(given.text)
            return Setting(key=key, value=value, text=given.text, origin=given.origin)
        except ValueError:
            problems.add(f"{key.name}={given.text} ({given.origin}): must be {key.allows()}.")
            return Setting(key=key, value=None, text=given.text, origin=given.origin)
    value_or_none = None if key.default is None else key.parse(key.default)
    return Setting(key=key, value=value_or_none, text=key.default, origin="")


def _unknown(given: Given) -> str:
    where = f"{given.key}={given.text} ({given.origin})"
    for prefix, reason in _REFUSED_PREFIXES.items():
        if given.key.startswith(prefix):
            return f"{where}: {reason}."
    near = get_close_matches(given.key, ALL_KEYS, n=2, cutoff=0.75)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"{where}: no such key.{hint}"
