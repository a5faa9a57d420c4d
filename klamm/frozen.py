"""A changed copy of a frozen dataclass, cheaply.

The consensus core makes some forty of them for each commit. `dataclasses.replace` reads and writes
field after field in Python, 2.7 µs for seventeen of them; here a dict is merged, 0.3 µs. mypy
checks the names and types of the changes as it does for the original.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import replace
else:
    _new = object.__new__
    _set = object.__setattr__

    def replace(value, /, **changes):
        """`value` with `changes`. For classes without slots and `__post_init__`."""
        changed = _new(value.__class__)
        _set(changed, "__dict__", value.__dict__ | changes)
        return changed


__all__ = ["replace"]
