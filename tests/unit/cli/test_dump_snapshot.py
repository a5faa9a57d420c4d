"""`klamm metadata dump` of a snapshot's file: header, records, footer (row 197)."""

import json
import random
from pathlib import Path

from typer.testing import CliRunner

from klamm.cli.app import app
from klamm.log.snapshot import format_name
from klamm.metadata.snapshot import records
from tests.unit.metadata.histories import history
from tests.unit.metadata.test_metadata_snapshot import snapshot_of


def test_every_record_is_shown_and_header_and_footer(tmp_path: Path) -> None:
    _, image = history(random.Random(2), 40)
    path = tmp_path / format_name(image.provenance)
    path.write_bytes(snapshot_of(image))
    shown = CliRunner().invoke(app, ["metadata", "dump", "--log-dir", str(path)])
    assert shown.exit_code == 0, shown.output
    lines = [json.loads(each) for each in shown.output.splitlines()]
    assert lines[0]["snapshot_header"] == {"version": 0, "last_contained_log_timestamp_ms": 77}
    assert [each["voter_id"] for each in lines[1]["voters"]["voters"]] == [1]
    assert "snapshot_footer" in lines[-1]
    assert lines[-2]["record"]["state_checksum"]["checksum"] == f"{image.checksum:032x}"
    assert len(lines) == 4 + len(list(records(image)))
    assert [each["offset"] for each in lines] == list(range(len(lines)))
    table = CliRunner().invoke(app, ["metadata", "dump", "--log-dir", str(path), "-o", "table"])
    assert "snapshot_header" in table.output, table.output


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    _, image = history(random.Random(2), 10)
    path = tmp_path / format_name(image.provenance)
    data = bytearray(snapshot_of(image))
    data[200] ^= 1
    path.write_bytes(data)
    shown = CliRunner().invoke(app, ["metadata", "dump", "--log-dir", str(path)])
    assert shown.exit_code != 0
    assert not isinstance(shown.exception, AssertionError)
