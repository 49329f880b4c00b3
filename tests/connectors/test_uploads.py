from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from appliance.testing.contracts import ConnectorContract
from appliance.types import Checkpoint, Cursor, Failed, Layer, Principal, Upsert
from connectors.uploads import UploadsConnector, UploadsSettings


def upload(root: Path, id: str, **changes: object) -> Path:
    folder = root / id
    folder.mkdir(parents=True)
    data = b"hello"
    (folder / "content").write_bytes(data)
    meta = {
        "name": "見積.csv",
        "owner": "ito",
        "allow": ["group:eigyo"],
        "uploaded_at": "2026-04-01T09:00:00+00:00",
        "sha256": hashlib.sha256(data).hexdigest(),
        "media_type": "text/csv",
    }
    (folder / "meta.json").write_text(json.dumps(meta | changes))
    return folder


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> UploadsConnector:
        upload(tmp_path, "a1")
        upload(tmp_path, "b2")
        return UploadsConnector(UploadsSettings(root=tmp_path))


def changes(root: Path) -> list[object]:
    return list(UploadsConnector(UploadsSettings(root=root)).changes(None))


def test_an_upload_is_its_owners_and_those_it_is_shared_with(tmp_path: Path) -> None:
    upload(tmp_path, "a1")
    upload(tmp_path, "b2", allow=[])
    first, second, _ = changes(tmp_path)
    assert isinstance(first, Upsert)
    assert isinstance(second, Upsert)
    assert (first.file.uri, first.file.title) == ("a1", "見積.csv")
    assert first.file.access == (Layer(frozenset(map(Principal, ("user:ito", "group:eigyo")))),)
    assert second.file.access == (Layer(frozenset({Principal("user:ito")})),)


def test_half_written_and_deleted_uploads_are_not_there(tmp_path: Path) -> None:
    upload(tmp_path, "a1")
    upload(tmp_path, ".b2.tmp")
    (tmp_path / "c3").mkdir()
    (tmp_path / "d4").symlink_to(tmp_path / "a1")
    assert [type(c) for c in changes(tmp_path)] == [Upsert, Checkpoint]


@pytest.mark.parametrize("meta", ["", "{", "[]", "{}", '{"owner": "ito"}'])
def test_a_broken_upload_is_shown_and_hides_no_other(tmp_path: Path, meta: str) -> None:
    (upload(tmp_path, "a1") / "meta.json").write_text(meta)
    upload(tmp_path, "b2")
    failed, good, last = changes(tmp_path)
    assert isinstance(failed, Failed)
    assert failed.uri == "a1"
    assert isinstance(good, Upsert)
    assert last == Checkpoint(Cursor("listed"), complete=True)


def test_before_the_first_upload_there_is_nothing(tmp_path: Path) -> None:
    assert changes(tmp_path / "uploads") == [Checkpoint(Cursor("listed"), complete=True)]
