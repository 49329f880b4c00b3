"""The connector to copy is executed as it stands; its test is the one to copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.testing.contracts import ConnectorContract
from appliance.types import Failed, Layer, Principal, Upsert
from connectors.example import ExampleConnector, ExampleSettings
from connectors.kinds import CONNECTORS

ROW = {
    "id": "faq-1",
    "title": "よくある質問",
    "text": "領収書は原本を出す。",
    "allow": ["group:eigyo"],
    "modified_at": "2026-04-01T09:00:00+09:00",
}


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> ExampleConnector:
        path = tmp_path / "faq.jsonl"
        path.write_text(json.dumps(ROW) + "\n\n" + json.dumps(ROW | {"id": "faq-2"}) + "\n")
        return ExampleConnector(ExampleSettings(path=path))


def test_one_bad_line_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl"
    path.write_text("{broken\n" + json.dumps(ROW) + "\n")
    bad, good, _ = ExampleConnector(ExampleSettings(path=path)).changes(None)
    assert isinstance(bad, Failed)
    assert isinstance(good, Upsert)
    assert good.file.access == (Layer(frozenset({Principal("group:eigyo")})),)


def test_every_connector_has_a_name_of_its_own() -> None:
    kinds = [connector.kind for connector in CONNECTORS]
    assert len(set(kinds)) == len(kinds)
