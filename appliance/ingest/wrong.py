"""A setting that is not as it should be, in a sentence with the name that the form has for it.

What was put in is never repeated: it may be a secret.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

# what pydantic finds → what to do about it
_SAID = {
    "missing": "入れてください",
    "extra_forbidden": "この設定はありません",
    "string_too_short": "入れてください",
    "string_too_long": "{max_length} 文字までにしてください",
    "too_short": "{min_length} 件以上入れてください",
    "too_long": "{max_length} 件までにしてください",
    "int_parsing": "整数で入れてください",
    "int_type": "整数で入れてください",
    "int_from_float": "整数で入れてください",
    "float_parsing": "数で入れてください",
    "float_type": "数で入れてください",
    "bool_parsing": "true か false にしてください",
    "string_type": "文字で入れてください",
    "list_type": "一覧にしてください",
    "literal_error": "{expected} のどれかにしてください",
    "greater_than_equal": "{ge} 以上にしてください",
    "greater_than": "{gt} より大きくしてください",
    "less_than_equal": "{le} 以下にしてください",
    "less_than": "{lt} より小さくしてください",
}


def sentence(error: ValidationError, settings: type[BaseModel]) -> str:
    """Of the first that was found."""
    first: Any = error.errors(include_input=False)[0]
    place = [str(one) for one in first["loc"]]
    said = _SAID.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
    why = said.format_map(first.get("ctx", {})) if first["type"] in _SAID else said
    if not place:
        return why
    known = settings.model_fields.get(place[0])
    title = known.title if known and known.title else place[0]
    row = f" ({int(place[1]) + 1} 行目)" if len(place) > 1 and place[1].isdecimal() else ""
    return f"{title}（{place[0]}）{row}: {why}"
