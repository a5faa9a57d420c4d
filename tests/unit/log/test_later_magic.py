"""A batch of a later version is no damage: the log says so, and nothing of it is cut."""

import struct

import pytest

from klamm.errors import LaterFormatError
from klamm.ids import Offset
from klamm.log.log import LogConfig
from klamm.log.segment import log_path
from tests.sim.disk import SimFiles
from tests.unit.log.logs import DIRECTORY, REFUSE, SMALL, batch, everything, fill, open_log

CONFIGS = pytest.mark.parametrize("config", [SMALL, REFUSE])
CLEAN = pytest.mark.parametrize("clean", [False, True])
PATH = log_path(DIRECTORY, Offset(0))
MAGIC_AT = 16


def of_a_later_version(base: int, magic: int = 3) -> bytes:
    """Base offset, length and magic where they were; the rest as it likes."""
    return struct.pack(">qiib", base, 100, 1, magic) + bytes(range(95))


def written(files: SimFiles, config: LogConfig, *more: bytes) -> bytes:
    log = open_log(files, config)
    fill(log, [1])
    log.close()
    content = files.content(PATH) + b"".join(more)
    files.replace_content(PATH, content)
    return content


@CONFIGS
@CLEAN
@pytest.mark.parametrize("behind", [b"", batch(2)])
def test_it_is_named_and_left_as_it_is(config: LogConfig, clean: bool, behind: bytes) -> None:
    files = SimFiles()
    content = written(files, config, of_a_later_version(1), behind)
    with pytest.raises(LaterFormatError, match=r"later version: at byte \d+ .* of magic 3") as told:
        open_log(files, config, clean_shutdown=clean)
    assert "Start the version that wrote it" in str(told.value)
    assert files.content(PATH) == content


@CLEAN
@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(of_a_later_version(7), id="elsewhere"),
        pytest.param(of_a_later_version(1)[:90], id="torn"),
        pytest.param(of_a_later_version(1, magic=66), id="no magic that there may be soon"),
        pytest.param(
            batch(1)[:MAGIC_AT] + b"\x03" + batch(1)[MAGIC_AT + 1 :], id="only the magic is wrong"
        ),
    ],
)
def test_damage_is_damage(damaged: bytes, clean: bool) -> None:
    files = SimFiles()
    written(files, SMALL, damaged)
    log = open_log(files, SMALL, clean_shutdown=clean)
    assert everything(log) == [batch(0)]
    assert log.recovery.cuts
