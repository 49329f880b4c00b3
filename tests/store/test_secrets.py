"""What is sealed opens again, and only where it should."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

from appliance.errors import SettingsError, SourceMisconfigured
from appliance.store import secrets, sources
from appliance.types import Cursor

GIVEN = {
    "url": "https://nas.example/",
    "password": "秘密のことば",
    "api_token": "t0k",
    "allow": ["everyone"],
    "password_file": "",
}


def test_what_is_secret_is_sealed_and_opens_again(tmp_path: Path) -> None:
    ring = secrets.keyring(tmp_path / "secrets.key")
    sealed = ring.seal(GIVEN)
    assert sealed["url"] == GIVEN["url"] and sealed["allow"] == ["everyone"]
    assert "秘密のことば" not in str(sealed) and "t0k" not in str(sealed)
    assert ring.seal(sealed) == sealed
    assert ring.seal(GIVEN)["password"] != sealed["password"], "nobody sees that two are the same"
    assert secrets.keyring(tmp_path / "secrets.key").open(sealed) == GIVEN
    assert ring.open(GIVEN) == GIVEN, "what an older release stored is taken as it is"
    assert "秘密" not in repr(ring) and str(ring.key) not in repr(ring)


@pytest.mark.parametrize("how", ["another key", "moved", "torn", "nonsense"])
def test_what_is_not_as_it_was_sealed_is_refused_with_its_name(tmp_path: Path, how: str) -> None:
    ring = secrets.keyring(tmp_path / "a.key")
    sealed = ring.seal({"password": "x", "api_token": "y"})
    match how:
        case "another key":
            ring = secrets.keyring(tmp_path / "b.key")
        case "moved":
            sealed = {"password": sealed["api_token"]}
        case "torn":
            sealed["password"] = sealed["password"][:-6]
        case "nonsense":
            sealed["password"] = sealed["password"][:9] + "!!!"
    with pytest.raises(SourceMisconfigured, match="password"):
        ring.open(sealed)


def test_the_key_is_ones_own_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    rings: list[secrets.Keyring] = []
    threads = [
        threading.Thread(target=lambda: rings.append(secrets.keyring(path))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ring.key for ring in rings}) == 1 and len(rings) == 8
    assert [p.name for p in tmp_path.iterdir()] == ["secrets.key"]
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        secrets.keyring(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="32 バイト"):
        secrets.keyring(path)
    with pytest.raises(SettingsError, match="secrets_key"):
        secrets.keyring(tmp_path / "none" / "secrets.key")


def test_what_an_older_release_stored_is_sealed_and_keeps_its_place(
    engine: Engine, tmp_path: Path
) -> None:
    ring = secrets.keyring(tmp_path / "secrets.key")
    made = sources.create(engine, "古い取り込み元", "webdav", GIVEN)
    sources.save_cursor(engine, made.id, Cursor("7"))
    sources.seal(engine, ring)
    kept = sources.get(engine, made.id)
    assert "秘密" not in str(kept.settings) and ring.open(kept.settings) == GIVEN
    assert kept.cursor == "7"
    sources.seal(engine, ring)
    assert sources.get(engine, made.id).settings == kept.settings
    changed = ring.seal(GIVEN | {"password": "別のことば"}, kept.settings)
    assert changed["api_token"] == kept.settings["api_token"]
    assert ring.open(changed)["password"] == "別のことば"
