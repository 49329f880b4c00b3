"""Models that a site brings: threats M1 (format from our list), M2, M4 and M5, through `kura-installer model`."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import settings
from appliance.errors import DigestMismatch, SettingsError
from appliance.inference import models, prompts, registered
from installer import model_lock
from installer.bundle import signing
from installer.bundle.minisign import Refused
from tests.installer.bundles import OTHER, WEAK

ROOT = Path(__file__).resolve().parents[2]
WORDS = "correct horse battery"


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def small(template: str = "{{ messages }}") -> bytes:
    """A GGUF with one tensor; its chat template is hostile where a test says so."""
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("tiny"),
        text("tokenizer.chat_template") + struct.pack("<I", 8) + text(template),
        *(text(f"tiny.{k}") + struct.pack("<II", 4, 32) for k in ("block_count", "context_length", "embedding_length")),
    ]  # fmt: skip
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys)
    head += text("w") + struct.pack("<IQIQ", 1, 32, 0, 0)
    return head + bytes(-len(head) % 32) + bytes(128)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    signing.create(tmp_path / "site.key", tmp_path / "keys" / "site.pub", WORDS, WEAK)
    (tmp_path / "モデル.gguf").write_bytes(small())
    return tmp_path


def model(site: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    mine = {"PYTHONPATH": str(ROOT), "KURA_KEY_PASSPHRASE": WORDS, "KURA_DATA": str(site / "data"),
            "KURA_SITE_KEYS": str(site / "keys")}  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "installer", "model", *words, "--root", site / "host"],
        cwd=ROOT, env=os.environ | mine, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def add(
    site: Path, *words: str | Path, file: str = "モデル.gguf"
) -> subprocess.CompletedProcess[str]:
    return model(site, "add", site / file, "--site-key", site / "site.key", *words)


def known(site: Path, llm: str = "") -> settings.Settings:
    return settings.load(
        {"KURA_DATA": str(site / "data"), "KURA_SITE_KEYS": str(site / "keys"), "KURA_LLM": llm}
    )


DIGEST = hashlib.sha256(small()).hexdigest()
IMPORT = (
    "--import",
    DIGEST,
    "--licence",
    "Apache-2.0",
    "--origin",
    "試験 (自社)",
    "--prompt-format",
    "chatml",
)


def test_a_file_that_no_signed_list_has_is_imported_by_its_digest_signed_and_logged(
    site: Path,
) -> None:
    refused = add(site, "--name", "tiny")
    assert refused.returncode == 1 and DIGEST in refused.stderr and "--import" in refused.stderr
    wrong = add(site, "--name", "tiny", "--import", "0" * 64, *IMPORT[2:])
    assert wrong.returncode == 1 and "--import の値と違います" in wrong.stderr
    assert add(site, "--name", "tiny", *IMPORT[:2]).returncode == 1
    assert list((site / "data" / "site-models").iterdir()) == []

    done = add(site, "--name", "tiny", *IMPORT)
    assert done.returncode == 0 and "KURA_LLM=tiny" in done.stdout, done.stderr
    row, root = registered.llm(known(site, "tiny"))
    assert row.prompt_format == "chatml" and row.prompt_format in prompts.FORMATS
    assert models.verified(row, root) == site / "data" / "site-models" / "tiny"
    log = (site / "host" / "var/lib/kura-installer/models.jsonl").read_text("utf-8")
    said = json.loads(log)
    assert (said["action"], said["sha256"], said["basis"]) == ("model.add", DIGEST, "import")
    assert said["by"] and said["origin"] == "試験 (自社)"
    again = add(site, "--name", "tiny", *IMPORT)
    assert again.returncode == 1 and "登録済み" in again.stderr
    assert [p.name for p in (site / "data" / "site-models").iterdir()] == ["tiny"]


def test_one_that_the_release_names_needs_no_import(site: Path) -> None:
    current = site / "host" / "opt/kura/current"
    current.mkdir(parents=True)
    rows = model_lock.read(model_lock.OWN.read_text("utf-8"))
    slot = next(r for r in rows if not r.sha256)
    (site / "tiny.gguf").write_bytes(small())
    lock = model_lock.written(model_lock.filled(rows, slot.name, site / "tiny.gguf"))
    (current / "models.lock").write_text(lock, "utf-8")
    digest = hashlib.sha256(lock.encode()).hexdigest()
    (current / "release.json").write_text(
        json.dumps({"files": {"models.lock": {"sha256": digest}}})
    )
    done = add(site)
    assert done.returncode == 0, done.stderr
    assert registered.llm(known(site, slot.name))[0].licence == slot.licence
    shown = model(site, "list").stdout
    assert f"{slot.name}" in shown and DIGEST[:12] in shown
    (current / "models.lock").write_text(lock.replace(slot.licence, "MIT"), "utf-8")
    changed = add(site, "--name", "again")
    assert changed.returncode == 1 and "変わっています" in changed.stderr


HOSTILE = {
    "wrong magic": b"PK\x03\x04" + bytes(200),
    "truncated": small()[:-1],
    "cut in its keys": small()[:40],
    "overflowing": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63) + bytes(100),
    "empty": b"",
    "huge array": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + text("a")
    + struct.pack("<IIQ", 9, 4, 2**62),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_damaged_files_are_refused_before_llama_cpp(what: str, site: Path) -> None:
    (site / "bad.gguf").write_bytes(HOSTILE[what])
    digest = hashlib.sha256(HOSTILE[what]).hexdigest()
    done = add(site, "--name", "bad", "--import", digest, *IMPORT[2:], file="bad.gguf")
    assert done.returncode == 1 and "bad.gguf は壊れているか" in done.stderr
    assert list((site / "data" / "site-models").iterdir()) == []
    assert not (site / "host" / "var").exists()


@pytest.mark.parametrize("name", ["a.pkl", "a.PT", "a.bin", "a.npy", "a.ckpt", "a.pth"])
def test_formats_that_run_code_are_refused_whatever_is_in_them(name: str, site: Path) -> None:
    (site / name).write_bytes(small())
    done = add(site, *IMPORT, file=name)
    assert done.returncode == 1 and "受け付けません" in done.stderr
    assert not (site / "data").exists()


def test_a_pickle_under_another_name_is_refused(site: Path) -> None:
    import pickle

    (site / "model.gguf").write_bytes(pickle.dumps({"a": 1}))
    assert "GGUF" in add(site, *IMPORT, file="model.gguf").stderr


def test_the_template_in_the_file_is_never_the_prompt(site: Path) -> None:
    hostile = small("{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}")
    (site / "モデル.gguf").write_bytes(hostile)
    digest = hashlib.sha256(hostile).hexdigest()
    assert add(site, "--name", "tiny", "--import", digest, *IMPORT[2:]).returncode == 0
    assert registered.llm(known(site, "tiny"))[0].prompt_format == "chatml"
    bad = add(site, "--name", "two", "--import", digest, *IMPORT[2:6], "--prompt-format", "jinja")
    assert bad.returncode == 2


def test_what_is_changed_after_it_was_signed_is_not_loaded(site: Path) -> None:
    assert add(site, "--name", "tiny", *IMPORT).returncode == 0
    folder = site / "data" / "site-models" / "tiny"
    chosen = known(site, "tiny")
    paper = (folder / "model.json").read_text("utf-8")
    (folder / "model.json").write_text(paper.replace("chatml", "llama3"), "utf-8")
    with pytest.raises(DigestMismatch, match="署名"):
        registered.llm(chosen)
    (folder / "model.json.minisig").write_text(
        OTHER.sign(paper.replace("chatml", "llama3").encode(), "")
    )
    with pytest.raises(DigestMismatch, match="どの鍵でも署名されていません"):
        registered.llm(chosen)  # by somebody whose key the site does not have
    (folder / "model.json").unlink()
    with pytest.raises(DigestMismatch, match="を読めません"):
        registered.llm(chosen)
    with pytest.raises(SettingsError, match="というモデルはありません"):
        registered.llm(known(site, "../tiny"))


def test_changed_weights_are_not_loaded(site: Path) -> None:
    assert add(site, "--name", "tiny", *IMPORT).returncode == 0
    folder = site / "data" / "site-models" / "tiny"
    data = bytearray((folder / "tiny.gguf").read_bytes())
    data[-1] ^= 1
    (folder / "tiny.gguf").write_bytes(data)
    row, root = registered.llm(known(site, "tiny"))
    with pytest.raises(DigestMismatch, match="SHA-256"):
        models.verified(row, root)


def test_the_catalogue_agrees_with_the_product_and_its_sums_are_right() -> None:
    rows = {row.name: row for row in model_lock.read(model_lock.OWN.read_text("utf-8"))}
    own = {m.name: m for m in models.catalogue() if m.kind == "llm"}
    for name, made in own.items():
        row = rows[name]
        assert made.files == {row.file: row.sha256} and row.licence == made.licence
        assert row.prompt_format == made.prompt_format and row.tried
    assert {tier for row in rows.values() for tier in row.tiers} == set(model_lock.TIERS)
    assert set(model_lock.FORMATS) == set(prompts.FORMATS)
    for row in rows.values():
        needed = row.weights_gb + row.kv_bytes_per_token * row.shared_context_tokens / 1e9 + 1
        assert needed == pytest.approx(row.memory_gb, abs=0.11), row.name
        assert all(tier == "cpu" or row.memory_gb < float(tier) for tier in row.tiers)
        assert row.tried == (row.name in own) == bool(row.sha256)
    assert model_lock.read(model_lock.written(list(rows.values()))) == tuple(rows.values())


@pytest.mark.parametrize(
    "change",
    [('format = 1', 'format = 2'), ('tiers = ["cpu"]', 'tiers = ["cpu", "9"]'), ('"plain"', '"jinja"'),
     ("tried = true", "tried = 1"), ('name = "kura-270m"', 'name = "../x"'), ("[[model]]", "[[model"),
     ('name = "gemma-3-270m"', 'name = "kura-270m"'), ('sha256 = "', 'sha256 = "x')],
)  # fmt: skip
def test_a_catalogue_that_is_wrong_is_refused(change: tuple[str, str]) -> None:
    text = model_lock.OWN.read_text("utf-8")
    assert change[0] in text
    with pytest.raises(Refused):
        model_lock.read(text.replace(*change, 1))
