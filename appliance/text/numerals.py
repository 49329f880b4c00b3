"""Numbers in one form, so that 「１万円」, 「10,000円」 and 「一万円」 are the same words."""

from __future__ import annotations

import re

from appliance.text import normalize as text_normalize
from appliance.text.normalize import Normalized

_DIGITS = dict(zip("〇一二三四五六七八九", range(10), strict=True))
_SMALL = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "億": 10**8, "兆": 10**12}
_UNITS = "円年月日時分秒週人名回度件個条項号章節歳才台本枚冊部階社泊倍割点位種類つ%キメグミリトカヶか箇営業"
_NUMBER = re.compile(
    r"[0-9]+(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?[十百千万億兆]*"
    r"|[0-9]+(?:\.[0-9]+)?[十百千万億兆][0-9十百千万億兆]*"
    rf"|(?:(?<![一-龠])|(?<=[年月日時分約計各]))[〇一二三四五六七八九十百千万億兆]+(?=[{_UNITS}])"
    rf"|[〇一二三四五六七八九十百千万億兆]{{2,}}(?=[{_UNITS}])"
    rf"|(?<=第)[〇一二三四五六七八九十百千]+(?=[{_UNITS}])"
)


def normalize(text: str) -> Normalized:
    """The index's form of the text, numbers as plain digits, with the way back."""
    folded = text_normalize.normalize(text)
    pieces: list[str] = []
    offsets: list[int] = []
    at = 0
    for match in _NUMBER.finditer(folded.text):
        number = _value(match.group().replace(",", ""))
        if number is None:
            continue
        pieces += [folded.text[at : match.start()], number]
        offsets += folded.offsets[at : match.start()]
        offsets += [folded.offsets[match.start()]] * len(number)
        at = match.end()
    pieces.append(folded.text[at:])
    offsets += folded.offsets[at:]
    return Normalized("".join(pieces), tuple(offsets))


def _value(text: str) -> str | None:
    """「1万2千」 gives "12000", 「二〇二四」 "2024"; None for what is no number."""
    if re.fullmatch(r"[0-9.]+", text):
        return text
    if re.fullmatch(r"[〇一二三四五六七八九]+", text):
        return "".join(str(_DIGITS[c]) for c in text)
    total = section = 0.0
    current: float | None = None
    for token in re.findall(r"[0-9]+(?:\.[0-9]+)?|.", text):
        if token in _SMALL:
            section += (1 if current is None else current) * _SMALL[token]
            current = None
        elif token in _LARGE:
            section += current or 0
            total += (section or 1) * _LARGE[token]
            section, current = 0.0, None
        elif current is not None:
            return None
        else:
            current = float(_DIGITS[token]) if token in _DIGITS else float(token)
    total += section + (current or 0)
    return str(int(total)) if total == int(total) else None
