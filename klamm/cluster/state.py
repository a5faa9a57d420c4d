"""What is remembered between commands: the directory of the cluster started last.

Kept in $KLAMM_STATE_DIR, else $XDG_STATE_HOME/klamm, else ~/.local/state/klamm.
"""

import contextlib
import os
from pathlib import Path

from klamm.cluster.cluster_file import replace_file

_LAST = "last-cluster"


def state_directory() -> Path:
    if own := os.environ.get("KLAMM_STATE_DIR"):
        return Path(own)
    if state_home := os.environ.get("XDG_STATE_HOME"):
        return Path(state_home) / "klamm"
    return Path.home() / ".local" / "state" / "klamm"


def default_directory() -> Path:
    """Where `klamm up` puts a cluster if nobody says."""
    return state_directory() / "cluster"


def remember(directory: Path) -> None:
    """This cluster is the one started last. To forget it is no failure of the cluster."""
    with contextlib.suppress(OSError):
        state_directory().mkdir(parents=True, exist_ok=True)
        replace_file(state_directory() / _LAST, f"{directory.absolute()}\n")


def last_directory() -> Path | None:
    """The cluster started last, if it is still there; else the one at its usual place, as after a
    tour, whose own is gone."""
    known = [default_directory()]
    with contextlib.suppress(OSError, ValueError):
        known.insert(0, Path((state_directory() / _LAST).read_text().strip()))
    return next((each for each in known if (each / "cluster.json").is_file()), None)
