"""How a setting stands in the administrator's form, where its type does not say it: `json_schema_extra`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.config import JsonDict

LATER: JsonDict = {"later": True}  # beneath 「細かな設定」: nobody needs it on the first day
LINES: JsonDict = {"format": "multiline"}  # more than one line, as a key in PEM


def called(names: Mapping[str, str]) -> JsonDict:
    """What each of its choices is called."""
    return {"labels": dict(names)}
