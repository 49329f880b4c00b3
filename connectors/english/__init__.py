"""What forms say, in English too. Settings speak Japanese; here stands the same beside it.

A table holds Japanese text and its English, so a text that many settings share is translated once.
A text without Japanese in it (`URL`) serves as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.english import data, directory, drives, files, pages, shared, teamwork

TABLES: tuple[Mapping[str, str], ...] = (
    shared.TEXTS,
    files.TEXTS,
    drives.TEXTS,
    teamwork.TEXTS,
    pages.TEXTS,
    data.TEXTS,
    directory.TEXTS,
)
_TEXTS = {japanese: english for table in TABLES for japanese, english in table.items()}


def of(text: str) -> str:
    """The text itself where there is none: somebody else's connector."""
    return _TEXTS.get(text, text)


def beside(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema of settings, with `title_en`, `description_en` and `labels_en` of each."""
    properties = {name: fact | _said(fact) for name, fact in schema.get("properties", {}).items()}
    return {**schema, "properties": properties}


def _said(fact: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        f"{key}_en": of(fact[key]) for key in ("title", "description") if key in fact
    }
    if "labels" in fact:
        said["labels_en"] = {choice: of(label) for choice, label in fact["labels"].items()}
    return said
