"""Small text files that carry their own checksum, and stay in Kafka's formats.

    {"leaderId":2,…,"crc32c":"89ab01cd"}        JSON: the last field, over all bytes before it
    version=1⏎…⏎checksum.crc32c=89ab01cd⏎       properties: the last line, over all lines before it

Readers pass over fields that they do not know, Kafka's too; what may not be passed over has another
version. One byte that is not what was written is
found wherever it stands, in the checksum and its name too: so a file without a checksum, from
before there was one, is told from a damaged one by having exactly the fields of old.
"""

import json

from crc32c import crc32c

_JSON_KEY = "crc32c"
_LINE_KEY = "checksum.crc32c"
_LINE_WORDS = (b"checksum", b"crc32c")
"""One byte that changed can spoil one of them."""


class LaterVersionError(ValueError):
    """Whole, and of a version that is not known: nothing of it may be guessed."""


def seal_json(fields: dict[str, object]) -> bytes:
    """One line of JSON with `fields`, and the checksum as its last."""
    body = json.dumps(fields, separators=(",", ":")).encode()
    assert body.endswith(b"}"), "an object"
    return body[:-1] + _json_seal(body[:-1])


def open_json(data: bytes, keys: frozenset[str]) -> dict[str, object]:
    """The fields of a file that `seal_json` wrote, or of one without a checksum.

    Args:
        data: The whole file.
        keys: Of a file from before there were checksums: exactly these.

    Raises:
        ValueError: It is not what was written; the sentence says how that shows.
    """
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("it is no JSON of ours: too deep") from error
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")
    if fields.keys() == keys:
        return fields
    body, _, _ = data.rpartition(f',"{_JSON_KEY}":"'.encode())
    if data != body + _json_seal(body):
        raise ValueError("its checksum is not that of its bytes")
    del fields[_JSON_KEY]
    return fields


def seal_lines(text: bytes) -> bytes:
    """Lines of properties, and the checksum as one more."""
    assert text.endswith(b"\n"), "whole lines"
    return text + _line_seal(text)


def open_lines(data: bytes) -> bytes:
    """The lines before the checksum, which is verified; all, if there is none.

    Raises:
        ValueError: It is not what was written.
    """
    if not any(word in data for word in _LINE_WORDS):
        return data
    text, _, _ = data.rpartition(f"{_LINE_KEY}=".encode())
    if data != text + _line_seal(text):
        raise ValueError("its checksum is not that of its bytes")
    return text


def check_version(fields: dict[str, object], known: int) -> None:
    """Of what `open_json` gave.

    Raises:
        LaterVersionError: It is a later one than `known`.
        ValueError: It is none.
    """
    version = fields.get("data_version")
    if isinstance(version, int) and version > known:
        raise LaterVersionError(f"its data_version is {version}, only {known} is known")
    if version != known:
        raise ValueError(f"its data_version is {version}, only {known} is known")


def _json_seal(body: bytes) -> bytes:
    return f',"{_JSON_KEY}":"{crc32c(body):08x}"}}'.encode()


def _line_seal(text: bytes) -> bytes:
    return f"{_LINE_KEY}={crc32c(text):08x}\n".encode()
