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


class UnpackRun:
    """Neighbours of fixed size, read in one unpack. Needs `data` and moves `pos`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._targets: list[str] = []
        self._formats = ""
        self._after: list[str] = []

    def add(self, target: str, form: str, after: str = "") -> None:
        """Read `target` with the struct format `form`; then do `after`."""
        self._targets.append(target)
        self._formats += form
        if after:
            self._after.append(after)

    def flush(self) -> None:
        """End the run: what follows is of no fixed size."""
        if not self._targets:
            return
        targets, formats = ", ".join(self._targets), self._formats
        if formats == "B":
            self._source.line(f"{targets} = data[pos]")
        else:
            unpack = self._source.packer(formats, "unpack_from")
            comma = "," if len(self._targets) == 1 else ""
            self._source.line(f"{targets}{comma} = {unpack}(data, pos)")
        self._source.line(f"pos += {calcsize('>' + formats)}")
        for line in self._after:
            self._source.line(line)
        self._targets, self._formats, self._after = [], "", []
