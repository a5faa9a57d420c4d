"""What a config key is: its type, default, range, and the sentence that says what is allowed.

Names, types and defaults are Kafka's; Klamm's own keys begin with `klamm.`.

Source: https://kafka.apache.org/documentation/#brokerconfigs and #topicconfigs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

Value = bool | int | float | str | tuple[str, ...]


class Kind(Enum):
    """Kafka's ConfigDef types. The value is what a person calls it."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    DOUBLE = "double"
    STRING = "string"
    LIST = "list"


_NUMBERS = (Kind.INT, Kind.LONG, Kind.DOUBLE)


class Scope(Enum):
    """Which nodes read a key. A file may serve both kinds: keys of the other are accepted."""

    NODE = "both"
    BROKER = "broker"
    CONTROLLER = "controller"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigKey:
    name: str
    kind: Kind
    default: str | None
    """As one would write it in a file; None: unset."""
    doc: str
    scope: Scope
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    """For STRING the values, for LIST the members; empty: any."""
    effect: bool = True
    """False: accepted, because files that people have name it, and without effect so far."""

    def parse(self, text: str) -> Value:
        """Read a value.

        Raises:
            ValueError: The value is not allowed; `allows` says what is.
        """
        text = text.strip()
        if self.kind in _NUMBERS and "_" in text:
            raise ValueError(f"{text!r} is no number")  # Python reads it; nobody else does.
        match self.kind:
            case Kind.BOOLEAN:
                return _parse_boolean(text)
            case Kind.INT | Kind.LONG:
                whole = int(text)
                self._check_range(whole)
                return whole
            case Kind.DOUBLE:
                number = float(text)
                self._check_range(number)
                return number
            case Kind.STRING:
                self._check_members((text,))
                return text
            case Kind.LIST:
                members = tuple(each.strip() for each in text.split(",") if each.strip())
                self._check_members(members)
                return members
        assert_never(self.kind)

    def takes_all(self, texts: Collection[str]) -> bool:
        """True if `parse` takes each of them, which is told of many whole numbers at the price of
        one loop in C; False means nothing.

        What int reads as it is, it reads when spaces at its ends are gone, and as the same.
        """
        if not texts or self.kind not in (Kind.INT, Kind.LONG) or "_" in "".join(texts):
            return False
        try:
            numbers = list(map(int, texts))
        except ValueError:
            return False
        low, high = self._bounds()
        return low <= min(numbers) and max(numbers) <= high

    def allows(self) -> str:
        """What may stand there, as the end of the sentence "must be …"."""
        match self.kind:
            case Kind.BOOLEAN:
                return "true or false"
            case Kind.INT | Kind.LONG:
                return f"a whole number {self._range()}"
            case Kind.DOUBLE:
                return f"a number {self._range()}"
            case Kind.STRING:
                return f"one of {', '.join(self.allowed)}" if self.allowed else "a text"
            case Kind.LIST:
                of = f" of {', '.join(self.allowed)}" if self.allowed else ""
                return f"a comma-separated list{of}"
        assert_never(self.kind)

    def _check_range(self, number: float) -> None:
        low, high = self._bounds()
        if not low <= number <= high:  # Also false for NaN.
            raise ValueError(f"{number} is not {self._range()}")

    def _check_members(self, members: tuple[str, ...]) -> None:
        if self.allowed:
            for each in members:
                if each not in self.allowed:
                    raise ValueError(f"{each!r} is not one of {', '.join(self.allowed)}")

    def _bounds(self) -> tuple[float, float]:
        widest = {Kind.INT: INT_MAX, Kind.LONG: LONG_MAX}.get(self.kind, float("inf"))
        return (
            -widest if self.minimum is None else self.minimum,
            widest if self.maximum is None else self.maximum,
        )

    def _range(self) -> str:
        low, high = self._bounds()
        return f"from {low} to {high}" if high != float("inf") else f"of at least {low}"


def _parse_boolean(text: str) -> bool:
    match text.lower():
        case "true":
            return True
        case "false":
            return False
    raise ValueError(f"{text!r} is neither true nor false")


KeyTable = dict[str, ConfigKey]


@dataclass(frozen=True, slots=True)
class Definer:
    """Writes rows of one scope's table tersely: `define.flag("preallocate", False, "…")`."""

    scope: Scope
    effect: bool = True

    def integer(
        self, name: str, default: int | None, doc: str, *, low: int = 0, high: int = INT_MAX
    ) -> ConfigKey:
        return self._key(name, Kind.INT, _written(default), doc, low=low, high=high)

    def long(self, name: str, default: int | None, doc: str, *, low: int = 0) -> ConfigKey:
        return self._key(name, Kind.LONG, _written(default), doc, low=low, high=LONG_MAX)

    def number(self, name: str, default: float, doc: str, *, low: float, high: float) -> ConfigKey:
        return self._key(name, Kind.DOUBLE, str(default), doc, low=low, high=high)

    def flag(self, name: str, default: bool, doc: str) -> ConfigKey:
        return self._key(name, Kind.BOOLEAN, str(default).lower(), doc)

    def text(
        self, name: str, default: str | None, doc: str, *, allowed: tuple[str, ...] = ()
    ) -> ConfigKey:
        return self._key(name, Kind.STRING, default, doc, allowed=allowed)

    def members(
        self, name: str, default: str | None, doc: str, *, allowed: tuple[str, ...] = ()
    ) -> ConfigKey:
        return self._key(name, Kind.LIST, default, doc, allowed=allowed)

    def _key(
        self,
        name: str,
        kind: Kind,
        default: str | None,
        doc: str,
        *,
        low: float | None = None,
        high: float | None = None,
        allowed: tuple[str, ...] = (),
    ) -> ConfigKey:
        return ConfigKey(
            name=name,
            kind=kind,
            default=default,
            doc=doc,
            scope=self.scope,
            minimum=low,
            maximum=high,
            allowed=allowed,
            effect=self.effect,
        )


def _written(default: int | None) -> str | None:
    return None if default is None else str(default)


def table(*keys: ConfigKey) -> KeyTable:
    """Rows by name, in the order written. A name that stands twice is a bug."""
    by_name = {key.name: key for key in keys}
    assert len(by_name) == len(keys), "a key is defined twice"
    return by_name


def field_name(key: str) -> str:
    """The name of the typed field that holds a key: `log.segment.bytes` → `log_segment_bytes`."""
    return key.removeprefix("klamm.").replace(".", "_")
