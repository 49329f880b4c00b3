"""Questions that a site offers on the page of a new question. A new site has none."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Engine

from appliance.errors import BadRequest
from appliance.store import site
from appliance.store.rows import clean

KEY = "examples"
MOST = 6
CHARS = 100


def read(engine: Engine) -> tuple[str, ...]:
    return tuple(json.loads(site.get(engine, KEY) or "[]"))


def replace(engine: Engine, questions: Sequence[str]) -> tuple[str, ...]:
    """As they are kept: each once, without blank lines. Raises BadRequest if they are too many or long."""
    lines = [" ".join(clean(question).split()) for question in questions]
    kept = tuple(dict.fromkeys(line for line in lines if line))
    if len(kept) > MOST:
        raise BadRequest(f"質問の例は{MOST}つまでです（いま{len(kept)}つ）。減らしてください。")
    if long := next((line for line in kept if len(line) > CHARS), None):
        raise BadRequest(
            f"質問の例は一つ{CHARS}文字までです。短くしてください: 「{long[:20]}…」（{len(long)}文字）"
        )
    site.put(engine, KEY, json.dumps(kept, ensure_ascii=False))
    return kept
