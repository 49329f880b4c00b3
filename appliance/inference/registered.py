"""Models that a site brought itself: each with a paper that one of the site's keys has signed.

    <site_models>/<name>/model.json           what it is, its file and that file's digest
    <site_models>/<name>/model.json.minisig   the signature
    <site_models>/<name>/<file>.gguf

`kura-installer model add` writes them. The folder may lie where the service can write: what counts
is the signature, and then the digest, each time before native code sees the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.errors import DigestMismatch, SettingsError
from appliance.inference import models, prompts
from appliance.settings import Settings
from installer.bundle.minisign import PublicKey, Refused, Signature, verify

PAPER, SIGNATURE = "model.json", "model.json.minisig"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.gguf")
PAPER_BYTES = 64 << 10

_AGAIN = "`kura-installer model add` でもう一度登録してください。"


def llm(settings: Settings) -> tuple[models.Model, Path]:
    """The model that answers and the folder its own folder lies in. Raises SettingsError, DigestMismatch."""
    if not settings.llm or settings.llm in models.known():
        return models.named(settings.llm or models.DEFAULT_LLM), settings.models
    return named(settings.llm, settings), settings.site_models


def named(name: str, settings: Settings) -> models.Model:
    if not NAME.fullmatch(name) or not (settings.site_models / name).is_dir():
        here = "、".join([*models.known(), *names(settings)])
        raise SettingsError(f"{name} というモデルはありません。あるのは {here} です。")
    folder = settings.site_models / name
    try:
        paper = folder / PAPER
        if paper.stat().st_size > PAPER_BYTES:
            raise DigestMismatch(f"{paper} が長すぎます。{_AGAIN}")
        body = paper.read_bytes()
        signature = (folder / SIGNATURE).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as why:
        raise DigestMismatch(f"{folder} を読めません（{why}）。{_AGAIN}") from None
    _signed(folder, body, signature, settings.site_keys)
    return described(body, name)


def described(body: bytes, name: str) -> models.Model:
    """What a paper says. Raises SettingsError where it does not fit."""
    try:
        said: dict[str, Any] = json.loads(body)
        if (said["format"], said["name"], said["kind"]) != (1, name, "llm"):
            raise ValueError("別のモデルか、別の版の Kura のものです")
        if not FILE.fullmatch(said["file"]) or not re.fullmatch("[0-9a-f]{64}", said["sha256"]):
            raise ValueError("ファイルの名前かダイジェストの形が違います")
        if said["prompt_format"] not in prompts.FORMATS:
            raise ValueError(f"プロンプトの形式は {'、'.join(prompts.FORMATS)} のどれかです")
        return models.Model(
            name=name,
            kind="llm",
            files={said["file"]: said["sha256"]},
            make=_cannot_be_made,
            licence=str(said["licence"]),
            source=str(said["origin"]),
            prompt_format=said["prompt_format"],
        )
    except (ValueError, KeyError, TypeError) as why:
        raise SettingsError(f"モデル {name} の登録の記録を使えません（{why}）。{_AGAIN}") from None


def names(settings: Settings) -> Iterator[str]:
    for paper in sorted(settings.site_models.glob(f"*/{PAPER}")):
        yield paper.parent.name


def _signed(folder: Path, body: bytes, signature: str, keys: Path) -> None:
    try:
        wanted = Signature.read(signature).key_id
        for file in sorted(keys.glob("*.pub")):
            key = PublicKey.read(file.read_text("utf-8"))
            if key.key_id == wanted:
                verify(key, body, signature)
                return
    except (Refused, OSError, UnicodeDecodeError) as why:
        raise DigestMismatch(f"{folder}: {why}") from None
    raise DigestMismatch(f"{folder / PAPER} は、{keys} のどの鍵でも署名されていません。{_AGAIN}")


def _cannot_be_made(folder: Path, progress: models.Progress) -> None:
    raise SettingsError(f"{folder.name} は、このサイトが登録したモデルです。{_AGAIN}")
