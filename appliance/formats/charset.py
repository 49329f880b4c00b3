"""Bytes to text, for files that do not say (or lie about) how they are written.

In order: byte order mark, ISO-2022-JP by its escapes, UTF-8 strictly, UTF-16 without
a mark, then whichever of CP932 and EUC-JP reads more like Japanese.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from appliance.errors import Unreadable

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ESCAPE = re.compile(rb"\x1b(\$[@B]|\$\([@BDOPQ]|\([BJIH])")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SAMPLE = 65_536
_LOST = 0.01  # more replacement characters than this and it is not text
_COMMON = re.compile("[ぁ-んァ-ヶー、。・「」（）０-９一二三四五六七八九十年月日]")
_STRANGE = re.compile("[\uff61-\uff9f\ue000-\uf8ff\u0370-\u04ff\u2500-\u257f\ufffd]")
_EIGHT_BITS = re.compile(rb"[\x80-\xff]")
_ALIASES = {"shift_jis": "cp932", "sjis": "cp932", "x_sjis": "cp932", "windows_31j": "cp932"}


@dataclass(frozen=True, slots=True)
class Decoded:
    text: str  # line ends are \n; no byte order mark
    encoding: str
    lost: int = 0  # characters nobody could read, now U+FFFD

    @property
    def problems(self) -> tuple[str, ...]:
        if not self.lost:
            return ()
        return (f"読めない文字が {self.lost} 個ありました (文字コード {self.encoding})",)


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """The text of `data`; `declared` is believed when it fits. Raises Unreadable."""
    text, encoding = _decode(data, declared)
    sample = text[:_SAMPLE]
    if len(_CONTROL.findall(sample)) > len(sample) // 200:
        raise Unreadable("テキストではありません (制御文字が多すぎます)")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Decoded(text, encoding, text.count("\ufffd"))


def _decode(data: bytes, declared: str | None) -> tuple[str, str]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace"), encoding
    if _ESCAPE.search(data) and not _EIGHT_BITS.search(data):
        return _iso_2022_jp(data), "iso-2022-jp"
    if declared and (named := _named(data, declared)):
        return named
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    if (wide := _unmarked_utf16(data)) is not None:
        return wide
    return _japanese(data)


def _named(data: bytes, declared: str) -> tuple[str, str] | None:
    name = declared.strip().lower().replace("-", "_")
    name = _ALIASES.get(name, name)
    if name.startswith(("utf_7", "utf7", "unicode_escape", "raw_unicode", "punycode", "idna")):
        return None
    try:
        info = codecs.lookup(name)
        text = data.decode(info.name) if info._is_text_encoding else None
    except (LookupError, ValueError):
        return None
    return (text, info.name) if text is not None else None


def _unmarked_utf16(data: bytes) -> tuple[str, str] | None:
    sample = data[:4096]
    if len(data) % 2 or b"\x00" not in sample:
        return None
    little = sample[1::2].count(0) >= sample[::2].count(0)
    encoding = "utf-16-le" if little else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else (text, encoding)


def _japanese(data: bytes) -> tuple[str, str]:
    readings: list[tuple[float, str, str]] = []
    for encoding in ("cp932", "euc_jp", "euc_jis_2004"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        readings.append((_score(text[:_SAMPLE]), text, encoding))
    if readings:
        _, text, encoding = max(readings, key=lambda reading: reading[0])
        return text, encoding
    damaged = []
    for encoding in ("utf-8", "cp932", "euc_jp"):
        text = data.decode(encoding, "replace")
        damaged.append((text.count("\ufffd"), text, encoding))
    lost, text, encoding = min(damaged, key=lambda reading: reading[0])
    if lost > max(2, len(text) * _LOST):
        raise Unreadable(
            "文字コードを判別できません (UTF-8・Shift_JIS・EUC-JP・ISO-2022-JP のどれでもありません)"
        )
    return text, encoding


def _score(text: str) -> float:
    wide = sum(1 for c in text if c >= "\x80") or 1
    return (len(_COMMON.findall(text)) - 2 * len(_STRANGE.findall(text))) / wide


def _iso_2022_jp(data: bytes) -> str:
    """ISO-2022-JP with what mailers really put in it: half-width kana, NEC and IBM characters."""
    out: list[str] = []
    mode, at = b"(B", 0
    for escape in [*_ESCAPE.finditer(data), None]:
        run = data[at : escape.start() if escape else len(data)]
        if mode in (b"$@", b"$B"):
            out.append(_jis(run))
        elif mode == b"(I":
            out.append(bytes(b | 0x80 if 0x21 <= b <= 0x5F else b for b in run).decode("cp932"))
        elif mode in (b"(B", b"(J", b"(H"):
            out.append(run.decode("ascii"))
        else:
            out.append((b"\x1b" + mode + run + b"\x1b(B").decode("iso2022_jp_ext", "replace"))
        if escape:
            mode, at = escape.group(1), escape.end()
    return "".join(out)


def _jis(run: bytes) -> str:
    """Two bytes a character, read through CP932, which has the vendors' characters too."""
    out = bytearray()
    at = 0
    while at < len(run):
        high = run[at]
        if not 0x21 <= high <= 0x7E or at + 1 >= len(run):  # a line end inside the shift
            out.append(high)
            at += 1
            continue
        low = run[at + 1]
        lead = (high - 0x21 >> 1) + 0x81
        out.append(lead if lead <= 0x9F else lead + 0x40)
        out.append(low + (0x1F if low < 0x60 else 0x20) if high & 1 else low + 0x7E)
        at += 2
    return out.decode("cp932", "replace")


def known(encoding: str, otherwise: str) -> str:
    """The encoding, if there is one of this name."""
    try:
        codecs.lookup(encoding)
    except (LookupError, ValueError):
        return otherwise
    return encoding
