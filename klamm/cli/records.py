"""`klamm produce` and `klamm consume`: records from and to the terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klamm.cli import output, target
from klamm.cli.options import (
    TIMEOUT_S,
    BootstrapOption,
    ControllerOption,
    DirOption,
    Output,
    OutputOption,
    TimeoutOption,
)
from klamm.cli.outside import outside
from klamm.clock import SystemClock

if TYPE_CHECKING:
    from confluent_kafka import Message

LINE_BYTES_MAX = 1_000_000
"""Below the default of max.message.bytes, so that a cluster that was left alone takes any line."""


def add_to(app: typer.Typer) -> None:
    """Put the commands where they belong: at the top."""
    app.command("produce")(produce)
    app.command("consume")(consume)


def produce(
    context: typer.Context,
    topic: str,
    key_separator: Annotated[
        str | None,
        typer.Option("--key-separator", "-K", help="Parts a line into key and value, as `:`."),
    ] = None,
    acks: Annotated[str, typer.Option("--acks", help="all, 1 or 0.")] = "all",
    partition: Annotated[
        int | None, typer.Option("--partition", min=0, help="Only there; else by key.")
    ] = None,
    compression: Annotated[
        str, typer.Option("--compression", help="none, gzip, snappy, lz4 or zstd.")
    ] = "none",
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    timeout: TimeoutOption = TIMEOUT_S,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Send each line of standard input as a record, and wait for the acknowledgements.

    \b
    seq 1000 | klamm produce numbers
    echo 'alice:3 apples' | klamm produce orders --key-separator :
    """
    _check_word("--acks", acks, ("all", "-1", "1", "0"))
    _check_word("--compression", compression, ("none", "gzip", "snappy", "lz4", "zstd"))
    where = target.find(directory, controller, bootstrap_server)
    servers = target.bootstrap_servers(outside(context), where, timeout)

    from klamm.cli import kafka

    more = {
        "acks": acks,
        "compression.type": compression,
        "message.timeout.ms": round(timeout * 1_000),
        "linger.ms": 5,
        "enable.idempotence": acks in {"all", "-1"},
    }
    config = kafka.client_config(servers, **more)
    lines = _records(sys.stdin.buffer, key_separator)
    produced = kafka.produce(config, topic, lines, partition, timeout + 1)
    if format_ is Output.JSON:
        told = {"acknowledged": produced.acknowledged, "failed": produced.failed}
        output.write_json({"topic": topic, **told})
    else:
        output.note(f"{produced.acknowledged} acknowledged, {produced.failed} failed.")
    if produced.first_error is not None:
        raise kafka.failure(produced.first_error)
    if produced.failed:
        raise typer.Exit(1)


def consume(
    context: typer.Context,
    topic: str,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="All that is kept, then what comes.")
    ] = False,
    max_messages: Annotated[
        int | None, typer.Option("--max-messages", "-n", min=1, help="Then end.")
    ] = None,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only this.")] = None,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-K", help="Print keys too, parted by this.")
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, help="End when nothing came for so many seconds."),
    ] = None,
    directory: DirOption = None,
    controller: ControllerOption = None,
    bootstrap_server: BootstrapOption = None,
    format_: OutputOption = Output.TABLE,
) -> None:
    """Print records as they come, one a line, until Ctrl-C. Reads without a group.

    \b
    klamm consume orders --from-beginning --max-messages 10
    klamm consume orders --from-beginning --timeout 2 -o json
    """
    where = target.find(directory, controller, bootstrap_server)
    servers = target.bootstrap_servers(outside(context), where, TIMEOUT_S)

    from klamm.cli import kafka

    messages = kafka.consume(
        kafka.client_config(servers),
        topic,
        partition,
        from_beginning=from_beginning,
        timeout_s=TIMEOUT_S if idle is None else max(idle, 1.0),
    )
    for count, message in enumerate(_until_idle(messages, idle), start=1):
        if format_ is Output.JSON:
            output.write_json_line(_message_json(message))
        else:
            _write_line(message, key_separator)
        if count == max_messages:
            return


def _until_idle(messages: Iterable["Message | None"], idle_s: float | None) -> Iterator["Message"]:
    clock = SystemClock()
    last_ms = clock.monotonic_ms()
    for message in messages:
        if message is not None:
            yield message
            last_ms = clock.monotonic_ms()
        elif idle_s is not None and clock.monotonic_ms() - last_ms >= idle_s * 1_000:
            return


def _records(
    lines: Iterable[bytes], key_separator: str | None
) -> Iterator[tuple[bytes | None, bytes]]:
    """(key, value) of each line. Without a separator in the line, it has no key."""
    separator = None if key_separator is None else key_separator.encode()
    for number, line in enumerate(lines, start=1):
        text = line.rstrip(b"\r\n")
        if len(text) > LINE_BYTES_MAX:
            raise typer.BadParameter(f"line {number} has over {LINE_BYTES_MAX:,} bytes")
        if separator is not None and separator in text:
            key, _, value = text.partition(separator)
            yield key, value
        else:
            yield None, text


def _write_line(message: "Message", key_separator: str | None) -> None:
    out = sys.stdout.buffer
    if key_separator is not None:
        out.write((message.key() or b"") + key_separator.encode())
    out.write((message.value() or b"") + b"\n")
    out.flush()


def _message_json(message: "Message") -> dict[str, Any]:
    return {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp_ms": message.timestamp()[1],
        "key": _text(message.key()),
        "value": _text(message.value()),
        "headers": [[name, _text(value)] for name, value in _headers(message)],
    }


def _headers(message: "Message") -> list[tuple[str, str | bytes | None]]:
    headers = message.headers() or []
    return list(headers.items()) if isinstance(headers, dict) else headers


def _text(value: bytes | str | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _check_word(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise typer.BadParameter(f"{option} must be one of {', '.join(allowed)}, is {value!r}")
