"""models.lock: the models that are recommended, and the digests of those that somebody has brought."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from installer.bundle.minisign import Refused

OWN = Path(__file__).with_name("models.lock")
TIERS = ("cpu", "8", "24", "48", "80")  # a processor alone, or GB of a GPU
FORMATS = ("plain", "chatml", "llama3", "gemma")  # appliance/inference/prompts.py
_DIGEST = re.compile(r"[0-9a-f]{64}|")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Row:
    name: str
    file: str
    sha256: str  # "" until somebody has brought the file
    licence: str
    origin: str
    prompt_format: str
    context_tokens: int
    weights_gb: float
    kv_bytes_per_token: int
    tiers: tuple[str, ...]
    shared_context_tokens: int
    memory_gb: float
    tried: bool


def read(text: str) -> tuple[Row, ...]:
    """Raises Refused."""
    try:
        said = tomllib.loads(text)
        if said["format"] != 1:
            raise ValueError("another format")
        rows = tuple(_row(one) for one in said["model"])
        if len({row.name for row in rows}) != len(rows):
            raise ValueError("a name twice")
    except (tomllib.TOMLDecodeError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"models.lock を読めません / models.lock cannot be read: {error}") from None
    return rows


def _row(one: Mapping[str, Any]) -> Row:
    row = Row(**{**one, "tiers": tuple(one["tiers"])})
    wrong = [f.name for f in fields(Row) if not _fits(str(f.type), getattr(row, f.name))]
    if not _NAME.fullmatch(row.name):
        wrong.append("name")
    if not _DIGEST.fullmatch(row.sha256):
        wrong.append("sha256")
    if row.prompt_format not in FORMATS:
        wrong.append("prompt_format")
    if not row.tiers or set(row.tiers) - set(TIERS):
        wrong.append("tiers")
    if wrong:
        raise ValueError(f"{row.name}: {wrong[0]}")
    return row


def _fits(kind: str, value: object) -> bool:
    kinds: dict[str, type | tuple[type, ...]] = {
        "str": str,
        "int": int,
        "float": (int, float),
        "bool": bool,
        "tuple[str, ...]": tuple,
    }
    return isinstance(value, kinds[kind]) and (kind == "bool" or not isinstance(value, bool))


def filled(rows: Sequence[Row], name: str, path: Path) -> tuple[Row, ...]:
    """With the digest of a file that was brought for `name`. Raises Refused, ModelFileInvalid."""
    from appliance.inference import gguf
    from appliance.inference.registered import FILE

    row = next((row for row in rows if row.name == name), None)
    if row is None:
        known = ", ".join(r.name for r in rows)
        raise Refused(
            f"models.lock に {name} はありません / is not in models.lock, which has {known}"
        )
    if not FILE.fullmatch(path.name):
        raise Refused(f"{path.name}: 名前は英数字と . _ - で、.gguf で終えてください / rename it")
    gguf.read(path)
    found = digest(path)
    if row.sha256 not in {"", found}:
        raise Refused(
            f"{path} は {name} のファイルではありません。受け取り直してください。 / "
            f"has SHA-256 {found}, not {row.sha256}."
        )
    new = replace(row, sha256=found, file=path.name)
    return tuple(new if r.name == name else r for r in rows)


def written(rows: Sequence[Row]) -> str:
    """The same rows give the same text."""
    text = "# SHA-256 of each model that this release, or a site, may load. Signed with the bundle.\nformat = 1\n"
    for row in rows:
        lines = [f"{f.name} = {_value(getattr(row, f.name))}" for f in fields(Row)]
        text += "\n[[model]]\n" + "\n".join(lines) + "\n"
    return text


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = value.replace("\\", "\\\\").replace('"', '\\"')
        if not plain.isprintable():
            raise ValueError(f"no plain text: {value!r}")
        return f'"{plain}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    return str(value)


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
