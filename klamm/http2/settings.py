"""What either end says of itself as the connection opens, and later (RFC 9113 section 6.5)."""

from klamm.http2 import frames
from klamm.http2.frames import PREFACE, Code, ProtocolError, Setting
from klamm.http2.limits import (
    CONNECTION_WINDOW_BYTES,
    FRAME_BYTES_MAX,
    HEADER_LIST_BYTES_MAX,
    SETTINGS_MAX,
    STREAM_WINDOW_BYTES,
    STREAMS_MAX,
    WINDOW_BYTES_MAX,
)

_ENTRY_BYTES = 6
_KNOWN = {int(each): each for each in Setting}


def greeting(*, client: bool) -> bytes:
    """The first bytes of an end: its limits, and how much it takes at once."""
    said = {
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        Setting.MAX_FRAME_SIZE: FRAME_BYTES_MAX,
        Setting.MAX_HEADER_LIST_SIZE: HEADER_LIST_BYTES_MAX,
    }
    said[Setting.ENABLE_PUSH if client else Setting.MAX_CONCURRENT_STREAMS] = (
        0 if client else STREAMS_MAX
    )
    widened = CONNECTION_WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES
    preface = PREFACE if client else b""
    return preface + frames.settings(said) + frames.window_update(0, widened)


def read_settings(payload: bytes) -> list[tuple[Setting, int]]:
    """What a peer says, in its order; settings that nobody knows are left out. Of window sizes the
    last alone, since each touches every stream, and nothing happens between two.

    Raises:
        ProtocolError: A value that the setting may not have.
    """
    if len(payload) % _ENTRY_BYTES:
        raise ProtocolError(Code.FRAME_SIZE_ERROR, "SETTINGS")
    if len(payload) > SETTINGS_MAX * _ENTRY_BYTES:
        raise ProtocolError(Code.ENHANCE_YOUR_CALM, f"more than {SETTINGS_MAX} SETTINGS at once")
    said: list[tuple[Setting, int]] = []
    window: int | None = None
    for at in range(0, len(payload), _ENTRY_BYTES):
        setting = _KNOWN.get(int.from_bytes(payload[at : at + 2]))
        if setting is not None:
            value = int.from_bytes(payload[at + 2 : at + _ENTRY_BYTES])
            _check(setting, value)
            if setting is Setting.INITIAL_WINDOW_SIZE:
                window = value
            else:
                said.append((setting, value))
    return said if window is None else [*said, (Setting.INITIAL_WINDOW_SIZE, window)]


def _check(setting: Setting, value: int) -> None:
    match setting:
        case Setting.ENABLE_PUSH if value > 1:
            raise ProtocolError(Code.PROTOCOL_ERROR, "ENABLE_PUSH")
        case Setting.INITIAL_WINDOW_SIZE if value > WINDOW_BYTES_MAX:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
        case Setting.MAX_FRAME_SIZE if not frames.DEFAULT_FRAME_BYTES_MAX <= value < 1 << 24:
            raise ProtocolError(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE")
