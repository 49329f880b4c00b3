"""Forms are English too: every text of every setting, and none that no setting has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.ingest import directory
from connectors import english
from connectors.kinds import CONNECTORS

JAPANESE = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
NAMES = re.compile("掲示板/|ファイル管理/|スペース/")  # Garoon's places, as the setting takes them
SCHEMAS = {kind.kind: kind.Settings.model_json_schema() for kind in CONNECTORS} | {
    "directory": directory.schema()
}


def texts(schema: dict[str, Any]) -> Iterator[str]:
    for fact in schema["properties"].values():
        yield fact["title"]
        yield from (fact["description"],) if "description" in fact else ()
        yield from fact.get("labels", {}).values()


def first_lines() -> list[str]:
    return [str(kind.__doc__).strip().splitlines()[0] for kind in CONNECTORS]


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_text_of_a_form_has_its_english(kind: str) -> None:
    left = [one for one in texts(SCHEMAS[kind]) if JAPANESE.search(NAMES.sub("", english.of(one)))]
    assert left == []


def test_every_kind_has_an_english_name() -> None:
    assert [one for one in first_lines() if JAPANESE.search(english.of(one))] == []


def test_no_text_stands_twice_or_for_nothing() -> None:
    held = [japanese for table in english.TABLES for japanese in table]
    used = {one for schema in SCHEMAS.values() for one in texts(schema)} | {*first_lines()}
    assert sorted(set(held) - used) == []
    assert len(held) == len(set(held))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_choices_and_names_a_text_gives_stay(kind: str) -> None:
    """What is typed as it stands (`near_hosts`, https://…, /invite) is not translated away."""
    word = re.compile(r"[a-z]+_[a-z_]+|\d{2,}|SHA256:…|= nobody|\.\w+\.com")
    for one in texts(SCHEMAS[kind]):
        assert set(word.findall(one)) <= set(word.findall(english.of(one))), one


def test_the_schema_keeps_its_japanese() -> None:
    schema = SCHEMAS["smb"]
    both = english.beside(schema)
    for name, fact in both["properties"].items():
        assert {key: fact[key] for key in schema["properties"][name]} == schema["properties"][name]
    assert both["properties"]["share"]["title_en"] == "Share"
    assert both["properties"]["protocol"]["labels_en"]["kerberos"] == "Kerberos (kerberos)"
    assert "title_en" not in schema["properties"]["share"]


def test_a_connector_of_others_serves_as_it_is() -> None:
    schema = {"properties": {"x": {"title": "よその設定"}}}
    assert english.beside(schema)["properties"]["x"]["title_en"] == "よその設定"
