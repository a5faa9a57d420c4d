"""The front door of the model: is this transition one that a replica may make?"""

from tests.sim.model import commits, lives, logs, members, votes
from tests.sim.model.heard import Heard
from tests.sim.model.terms import Cause, Deed, Replica


def allowed(
    before: Replica, heard: Heard, cause: Cause, after: Replica, deeds: list[Deed]
) -> str | None:
    """None if it may; else why not, in words.

    Args:
        before: The replica, and `heard` what it has heard before and by now.
        heard: With the cause.
        cause: What befell it.
        after: What came of that.
        deeds: What it did and said, in order.
    """
    if after is not before:
        wrong = (
            votes.epochs(before, heard, cause, after)
            or logs.log(before, heard, cause, after)
            or logs.snapshots(before, cause, after)
            or members.members(before, heard, cause, after)
            or commits.committed(before, heard, cause, after)
            or lives.trust(before, heard, after)
        )
        if wrong:
            return wrong
    if deeds:
        return (
            votes.words(before, heard, cause, after, deeds)
            or logs.words(before, heard, after, deeds)
            or commits.words(before, heard, after, deeds)
        )
    return None
