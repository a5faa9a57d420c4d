"""What a controller may take an empty directory for, before it formats it.

Nothing in an empty directory tells a new node from one whose disk was wiped. Who wants a new one
has `klamm format` make the directory; what a node formats by itself is doubted:

    alone by its configuration     it does not start: it would begin a second cluster
    a voter among others           it has no say at first (controller/raft/trust.py)
    no voter yet                   it follows, and is admitted or not
"""

from pathlib import Path

from controller.quorum.opening import doubt_new_disk
from klamm.config.controller import ControllerConfig
from klamm.directory import is_formatted, is_new
from klamm.errors import StartError
from klamm.log.files import Files


def see_to_new_disk(config: ControllerConfig, path: Path, files: Files) -> None:
    """Before the directory at `path` is opened.

    Raises:
        StartError: It is empty, and this node would be alone; or it cannot be written.
    """
    voters = [each.voter_id for each in config.controller_quorum_voters]
    if voters == [config.node_id]:
        _refuse_to_begin_alone(config, path)
        return
    try:
        if config.node_id in voters and is_new(files, path):
            doubt_new_disk(files, path)
    except OSError as error:
        raise StartError(
            f"The data directory {path} cannot be made or written: {error.strerror or error}. "
            "Choose another, or let the user that runs the node write there."
        ) from error


def _refuse_to_begin_alone(config: ControllerConfig, path: Path) -> None:
    """Only who asks for a new cluster gets one.

    The founder of a quorum that has grown is still configured as its only voter. Were its disk
    gone, it would lead a cluster by itself, under the same id: what it acknowledged would be lost,
    and its first epoch would be written twice.
    """
    if not is_formatted(path) and not config.settings.flag("klamm.quorum.begin.alone"):
        raise StartError(
            f"{path} is empty, and node {config.node_id} is configured as the only voter: it "
            "would be a new cluster by itself. If one is wanted, `klamm format` makes its "
            "directory, or set klamm.quorum.begin.alone=true for its first start. If the disk of a "
            "node of an old one is gone, `klamm join --replace` brings it back in a new directory."
        )
