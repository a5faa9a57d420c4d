"""docs/configuration.md is what the tables say."""

from pathlib import Path

from klamm.config.reference import reference_json, reference_markdown
from klamm.config.settings import ALL_KEYS
from klamm.config.topic_keys import TOPIC_KEYS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_page_is_as_the_tables_say() -> None:
    assert PAGE.read_text() == reference_markdown(), (
        "run: klamm config reference > docs/configuration.md"
    )


def test_every_key_is_told_of() -> None:
    assert [each["name"] for each in reference_json()] == [*ALL_KEYS, *TOPIC_KEYS]
    page = reference_markdown()
    assert [key for key in ALL_KEYS if f"`{key}`" not in page] == []


def test_no_cell_breaks_its_table() -> None:
    assert not [key.name for key in ALL_KEYS.values() if "|" in key.doc or "\n" in key.doc]
