"""Runs a node as if it were of another version: `python other_version.py later controller FILE`.

    later     every message that it sends, every record that it writes, every small file and every
              key of meta.properties has more in it than this version knows
    earlier   what may be missing from its messages is missing
    former    begins a log with a lower metadata.version, which is the highest that it knows, and
              says nobody what it supports

There is only one version yet. This holds what the next ones rely on: what they add as an optional
field is passed over, and costs nobody a byte of the state.
"""

import runpy
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

PRESENT, LATER, EARLIER, FORMER = "present", "later", "earlier", "former"
VERSIONS = (PRESENT, LATER, EARLIER)
"""That may be mixed at any time."""

UNKNOWN_FIELDS = b"\x98\x7d\x01" + b"\xa2\x7d\x05later"
"""Numbers 2,003 and 2,004, which no message has: a varint, and a string."""

FEATURE = "later.version"
"""It knows this one, up to level 1; nobody has put it in force."""

MAY_BE_MISSING = ("preferred_successors", "log_is_empty", "log_start_offset")


def be_later() -> None:
    """As a rule for all that is written from now on."""
    import controller.decisions
    import controller.quorum.bounds
    import controller.quorum.control
    import controller.quorum.quorum_state
    import klamm.directory
    from klamm.metadata import features
    from klamm.rpc import framing

    features.KNOWN[FEATURE] = 1
    _replace(framing, "prefixed", lambda real: lambda message: real(message + UNKNOWN_FIELDS))

    def encode(real: Any) -> Any:
        def with_more(records: Any, cause: Any) -> Any:
            first, *others = (
                each._replace(value=each.value + UNKNOWN_FIELDS) for each in real(records, cause)
            )
            return (first._replace(headers=(*first.headers, ("later", b"1"))), *others)

        return lambda records, cause: with_more(records, cause) if records else ()

    _replace(controller.decisions, "encode", encode)
    _replace(
        controller.quorum.control,
        "_record",
        lambda real: lambda kind, value: real(kind, value + UNKNOWN_FIELDS),
    )
    for module in (controller.quorum.bounds, controller.quorum.quorum_state):
        _replace(
            module, "seal_json", lambda real: lambda fields: real({**fields, "later": {"a": [1]}})
        )
    _replace(klamm.directory, "seal_lines", lambda real: lambda text: real(text + b"later.key=1\n"))


def be_earlier() -> None:
    """As a rule for all that is sent from now on."""
    import controller.quorum.peers
    import controller.quorum.service

    def without(real: Any) -> Any:
        def shorter(*args: Any) -> Any:
            wire = real(*args)
            for each in MAY_BE_MISSING:
                if each in wire.DESCRIPTOR.fields_by_name:
                    wire.ClearField(each)
            return wire

        return shorter

    _replace(controller.quorum.peers, "request_to_wire", without)
    _replace(controller.quorum.service, "response_to_wire", without)


def be_former() -> None:
    """Metadata.version is what the first version of all wrote."""
    import broker.control.session
    import controller.quorum.describe
    import controller.upkeep
    from klamm.metadata import features

    level = features.METADATA_VERSION_MIN
    features.KNOWN[features.METADATA_VERSION] = level
    _replace(controller.upkeep, "METADATA_VERSION_LEVEL", lambda _: level)
    for module in (broker.control.session, controller.quorum.describe):
        _replace(module, "supported", lambda _: tuple)


def _replace(where: Any, name: str, make: Callable[[Any], Any]) -> None:
    mock.patch.object(where, name, make(getattr(where, name))).start()


if __name__ == "__main__":
    version, module = sys.argv[1:3]
    del sys.argv[1:3]
    {LATER: be_later, EARLIER: be_earlier, FORMER: be_former}[version]()
    sys.path[0] = ""  # Not this file's directory, as with -m.
    runpy.run_module(module, run_name="__main__", alter_sys=True)
