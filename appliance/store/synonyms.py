"""The company's own words, as administrators edit them: one list, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlmodel import Session

from appliance.errors import BadRequest, Conflict
from appliance.store.database import reading, writing
from appliance.store.tables import SiteRow
from appliance.text import synonyms

KEY = "synonyms"


@dataclass(frozen=True, slots=True)
class Synonyms:
    groups: tuple[tuple[str, ...], ...]
    revision: str  # of this content; whoever replaces it says which one he saw


def read(engine: Engine) -> Synonyms:
    with reading(engine) as s:
        return _read(s)


def replace(engine: Engine, groups: Sequence[Sequence[str]], seen: str) -> Synonyms:
    """In effect with the next question.

    Raises BadRequest naming the group that cannot be kept, and Conflict if somebody else
    replaced the list since `seen`.
    """
    kept = [[expression.strip() for expression in group] for group in groups]
    if wrong := synonyms.problem(kept):
        raise BadRequest(f"{wrong[0]}行目: {wrong[1]}")
    with writing(engine) as s:
        if _read(s).revision != seen:
            raise Conflict(
                "ほかの人が先に変更しました。読み込み直してから、もう一度編集してください。"
            )
        row = s.get(SiteRow, KEY) or SiteRow(key=KEY, value="")
        row.value = json.dumps(kept, ensure_ascii=False)
        s.add(row)
        s.flush()
        return _read(s)


def _read(s: Session) -> Synonyms:
    row = s.get(SiteRow, KEY)
    value = row.value if row else "[]"
    digest = hashlib.sha256(value.encode()).hexdigest()
    return Synonyms(tuple(tuple(group) for group in json.loads(value)), digest[:16])
