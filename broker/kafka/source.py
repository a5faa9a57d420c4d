"""Python source as it is being generated: lines, names, and runs of fixed-size fields.

Generated functions are straight-line: no calls but those of `struct` and of `bytes`, one unpack or
pack for each run of fields of fixed size. A run may end in the length of what follows it.
"""

from struct import Struct, calcsize
from typing import Any


class Source:
    """The body of one function, and the names that it needs."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {}
        self._lines: list[str] = []
        self._indent = 1
        self._names = 0

    def line(self, text: str) -> None:
        self._lines.append("    " * self._indent + text)

    def block(self, head: str) -> "Block":
        """`with source.block("if x:"):` indents what is written within."""
        self.line(head)
        return Block(self)

    def name(self, stem: str) -> str:
        """A local name that nothing else has."""
        self._names += 1
        return f"{stem}{self._names}"

    def constant(self, stem: str, value: object) -> str:
        """A name that stands for `value`, and for no other value."""
        name = self.name(stem)
        self.namespace[name] = value
        return name

    def packer(self, formats: str, method: str) -> str:
        """The name of `Struct(formats).unpack_from` or `.pack`, made once each."""
        name = f"{method}_{formats.replace('?', 'o')}"
        if name not in self.namespace:
            self.namespace[name] = getattr(Struct(">" + formats), method)
        return name

    def indent(self, by: int) -> None:
        self._indent += by

    def compile(self, name: str, signature: str, description: str) -> Any:
        """The function. Its source is in its `__doc__`, for whom a debugger brings here."""
        text = "\n".join((f"def {name}({signature}):", *self._lines))
        # From tables of our own: no byte of a peer's comes in here.
        exec(compile(text, f"<{description}>", "exec"), self.namespace)  # noqa: S102
        function = self.namespace[name]
        function.__doc__ = text
        return function


class Block:
    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        self._source.indent(1)

    def __exit__(self, *_: object) -> None:
        self._source.indent(-1)


def size_of(formats: str) -> int:
    return calcsize(">" + formats)
