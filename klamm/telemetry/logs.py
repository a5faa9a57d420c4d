"""Log lines: one line an event, a sentence and key=value pairs, in Kafka's layout or as JSON.

    [2026-11-21 02:37:39,123] INFO became leader epoch=7 voters="1, 2, 3" (controller.quorum)
    {"time": "2026-11-21T02:37:39.123Z", "level": "INFO", "event": "became leader", "epoch": 7, …}

Local time in the first, as Kafka writes it; UTC in the second, for machines.
"""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import IO

FIELD_CHARACTERS_MAX = 4_096
"""A longer value is cut; a log is no place for data."""

_SECRET = re.compile(r"password|passwd|secret|token|jaas|credential", re.IGNORECASE)
_HIDDEN = "[hidden]"
_BARE = re.compile(r"[^\s=\"'\\]+")


class EventLogger:
    """Writes events with fields. Cheap when its level is off: a comparison."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **fields: object) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """An error with the exception that is being handled, its traceback within the line."""
        self._log(logging.ERROR, event, fields, exception=sys.exception())

    def _log(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        exception: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"fields": fields}
            self._logger.log(level, "%s", event, extra=extra, exc_info=exception)


def logger(name: str) -> EventLogger:
    """The logger of a room, by its import path."""
    return EventLogger(name)


def configure(*, log_format: str, level: str, node: str, stream: IO[str] | None = None) -> None:
    """Send every log line of this process to `stream` (standard output, as Kafka does).

    Args:
        log_format: `text` or `json`, as klamm.log.format.
        level: DEBUG, INFO, WARNING or ERROR, as klamm.log.level.
        node: Who writes, e.g. `broker-1`; in each JSON line.
        stream: Instead of standard output.
    """
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(JsonFormatter(node) if log_format == "json" else TextFormatter())
    logging.raiseExceptions = False  # A full disk or a closed pipe is no reason to print more.
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """Kafka's `[%d] %p %m (%c)`, the message being an event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        written = datetime.fromtimestamp(record.created).astimezone()
        time = f"{written:%Y-%m-%d %H:%M:%S},{int(record.msecs):03d}"
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        event = _one_line(record.getMessage())
        return f"[{time}] {record.levelname} {event}{pairs} ({record.name})"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        written = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": f"{written:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "node": self._node,
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields = {f"field_{key}" if key in line else key: v for key, v in _fields(record).items()}
        return _json(line | fields)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {}
    given: dict[str, object] = getattr(record, "fields", {})
    for key, value in given.items():
        fields[key] = _HIDDEN if _SECRET.search(key) else _cut(value)
    if record.exc_info and record.exc_info[1] is not None:
        exception = record.exc_info[1]
        fields["error"] = _cut(f"{type(exception).__name__}: {exception}")
        fields["stack"] = "".join(traceback.format_exception(exception))
    return fields


def _cut(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    if len(text) <= FIELD_CHARACTERS_MAX:
        return text
    return f"{text[:FIELD_CHARACTERS_MAX]}… ({len(text)} characters)"


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and _BARE.fullmatch(text) else _json(text)


def _one_line(text: str) -> str:
    """Nobody forges a second line by naming a topic or client with a line break."""
    return text if text.isprintable() else _json(text)[1:-1]


def _json(value: object) -> str:
    """JSON in which nothing ends a line, not even U+0085 or U+2028."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isprintable() else json.dumps(value, default=str)
