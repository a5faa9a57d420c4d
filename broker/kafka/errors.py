"""What can go wrong between bytes and messages."""

from klamm.errors import DefiniteError, KlammError


class MalformedFrameError(DefiniteError):
    """These bytes are no message. Nothing was done with them; the connection must be closed.

    The message names the API, the version and the field, and what is wrong with it.
    """


class UnsupportedVersionError(DefiniteError):
    """No API of this key, or not in this version. Nothing was done."""

    def __init__(self, api_key: int, api_version: int) -> None:
        super().__init__(f"API key {api_key} in version {api_version} is not supported")
        self.api_key = api_key
        self.api_version = api_version


class UnwritableMessageError(KlammError):
    """A message has a value that its version cannot carry: a string over 32,767 bytes, a null.

    A fault of who made the message, never of a peer.
    """
