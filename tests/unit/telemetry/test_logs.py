"""One line an event, whatever is in it."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.telemetry import logs


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.raiseExceptions)
    yield
    root.handlers[:], logging.raiseExceptions = before[0], before[2]
    root.setLevel(before[1])


def written(log_format: str, event: str, /, level: str = "INFO", **fields: object) -> str:
    stream = io.StringIO()
    logs.configure(log_format=log_format, level=level, node="broker-1", stream=stream)
    logs.logger("broker.test").info(event, **fields)
    return stream.getvalue()


def test_kafkas_layout() -> None:
    line = written("text", "became leader", epoch=7, voters="1, 2", ready=True)
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] INFO became leader "
        r'epoch=7 voters="1, 2" ready=True \(broker\.test\)\n',
        line,
    )


def test_json() -> None:
    line = json.loads(written("json", "became leader", epoch=7, event="mine"))
    assert line["event"] == "became leader"
    assert (line["epoch"], line["field_event"], line["node"]) == (7, "mine", "broker-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


def test_below_the_level_nothing_is_written() -> None:
    assert written("text", "x", level="WARNING") == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("key", ["password", "sasl_jaas_config", "client_secret", "Token"])
def test_secrets_are_hidden(log_format: str, key: str) -> None:
    line = written(log_format, "given", **{key: "hunter2"})
    assert "hunter2" not in line
    assert "[hidden]" in line


@given(st.text(), st.text())
def test_nobody_forges_a_line(event: str, value: str) -> None:
    for log_format in ("text", "json"):
        line = written(log_format, event, client_id=value)
        assert line.endswith("\n")
        assert len(line.splitlines()) == 1


def test_long_values_are_cut() -> None:
    line = written("text", "x", value="y" * 10_000)
    assert len(line) < 5_000
    assert "10000 characters" in line


def test_an_exception_stays_within_its_line() -> None:
    stream = io.StringIO()
    logs.configure(log_format="text", level="INFO", node="n", stream=stream)
    try:
        raise ValueError("broken\nthing")
    except ValueError:
        logs.logger("t").exception("failed", topic="a")
    assert len(stream.getvalue().splitlines()) == 1
    assert 'topic=a error="ValueError: broken\\nthing" stack="Traceback' in stream.getvalue()


def test_lines_of_other_libraries_look_the_same() -> None:
    stream = io.StringIO()
    logs.configure(log_format="text", level="INFO", node="n", stream=stream)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    assert stream.getvalue().endswith("WARNING slow callback (asyncio)\n")
