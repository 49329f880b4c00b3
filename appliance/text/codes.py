"""Names made of letters and digits: part numbers, models, document numbers, error codes."""

from __future__ import annotations

import re

from appliance.text.normalize import fold

_CODE = re.compile(r"(?<![a-z0-9])([a-z]{1,5})-?[0-9][a-z0-9]*(?:-[a-z0-9]+)*(?![a-z0-9])")
_YEAR = re.compile(r"[rh][0-9]{1,2}")  # 令和, 平成
_FAMILY = 4  # characters: 「KP-2200」 and 「KP-2200-A」 are one family, 「E1」 and 「E12」 are not


def named(text: str) -> dict[str, str]:
    """Each code, without hyphens, and the letters that it begins with."""
    found = (m for m in _CODE.finditer(fold(text)) if not _YEAR.fullmatch(m[0]))
    return {m[0].replace("-", ""): m[1] for m in found}


def of_another(question: str, text: str) -> bool:
    """Whether the question names a code, and the text has none of its family but others of its letters.

    「CAR-2025-009の責任部門」 is not told where CAR-2025-007 is. Of 2,322 questions of colleagues that name a code
    (`training/written`, the companies that are learned from) this is so of .004 of the places that answer, and of .26 of
    the papers that 893 such questions were made up for that nothing answers.
    """
    asked = named(question)
    if not asked:
        return False
    told = named(text)
    missed = [code for code in asked if not any(_related(code, t) for t in told)]
    return any(asked[code] in told.values() for code in missed)


def _related(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return one == other or (len(shorter) >= _FAMILY and longer.startswith(shorter))
