"""Which replica a disk is: it becomes another one if it has lost the vote of one without a vote.

A voter without its vote file goes on in an epoch in which it has certainly never voted, and the
quorum follows it there with one election. Nobody follows a controller that has no vote: it would be
refused for as long as the quorum's own epochs are lower. But it needs no promise to be kept: who
empties its disk makes it a new replica, and so does another directory id, with the log as it is.

Why that is safe. The replica that it was is gone for good, like any disk that is lost: what it had
voted stays given, once an epoch, and it never votes, stands or acknowledges again. The one that it
is now has never done so, and nobody takes it for the other (controller/raft/voters.py); it can be
no voter before an administrator has added it, by its own id. By the log as it stands here the one
that it was is no voter. Should it have been added in a record that has not come here, or its
removal be undone, that counts as a voter whose disk was lost: no promise is broken, and an
administrator replaces it.

What a leader does not do by itself:

    name the new replica where the    The old one may have voted in a later epoch before it lost
    log names the old one             that: voters are asked whom the record has not reached yet.
                                      With {A, B, old} B leads epoch 6 by its vote; A, still in
                                      epoch 5, would commit with {A, new} what B never has. That the
                                      old one has acknowledged nothing proves nothing of its votes.
                                      So it takes a removal, which A cannot commit without B, and
                                      then an addition: what `klamm quorum replace` does, and nobody
                                      comes to vote without somebody's asking for it.
    tell a removed one that still     It would have to give up a vote at another's word, who may not
    takes itself for a voter, and     know that it was readmitted since. It is of no use to the
    is above its epochs               quorum, so it says itself what is the matter (`/readyz`), and
                                      an administrator empties its disk.
"""

from collections.abc import Callable
from dataclasses import replace

from controller.raft.state import RaftConfig
from controller.raft.voters import VoterSet
from klamm.ids import DirectoryId

Renew = Callable[[VoterSet | None], bool]
"""Given the latest voters that the disk names, None if it names none: is it another replica's disk
now, durably? Not if it is a voter's."""

DrawId = Callable[[], DirectoryId]
"""Gives the data directory another id, durably. Raises OSError."""


def never(known: VoterSet | None) -> bool:
    """A disk stays whose it is."""
    del known
    return False


class Identity:
    """Of one controller's disk, while it is opened."""

    def __init__(self, raft: RaftConfig, draw_id: DrawId | None) -> None:
        self.raft = raft
        """With the id that the disk has by now."""
        self._draw_id = draw_id

    def renew(self, known: VoterSet | None) -> bool:
        """A `Renew`. Raises: OSError."""
        voters = self.raft.voters if known is None else known
        if self._draw_id is None or voters.admits(self.raft.key):
            return False
        self.raft = replace(self.raft, directory_id=self._draw_id())
        return True
