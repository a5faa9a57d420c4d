"""The engine that watches what code an input reaches: libFuzzer, through atheris.

    python -m tests.fuzz.coverage TARGET [options of libFuzzer] [corpus]

Started by `python -m tests.fuzz --engine coverage`, one process a target: libFuzzer ends the
process that it runs in. Wants atheris, which is in the dependency group `fuzz` alone: it has no
wheels for every platform.
"""

import sys


def main() -> None:
    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["klamm", "controller", "broker"]):
        from tests.fuzz.engine import attempt
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]

    def one(data: bytes) -> None:
        attempt(target, data)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
