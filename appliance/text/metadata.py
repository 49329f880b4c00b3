"""What a document says of itself: title, author, dates, number, version, 秘密区分.

Careful rather than greedy. A 社外秘 counts where a stamp would be, alone at the edge of the
document or of a page, in brackets beside the title, or after 「取扱区分：」; in a sentence about
社外秘 it is only a word. What is not said is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from appliance.text.dates import days
from appliance.text.normalize import fold, normalize
from appliance.text.versions import NUMBERED, claims
from appliance.types import Document, Metadata, Said, Span

HEAD, TAIL = 1500, 3000  # characters of a text where it speaks of itself
_EDGE_CHARS = 160  # of a page
_PAGES = 60  # whose edges are looked at
_TOP, _BOTTOM = 8, 4  # lines of a document, and half as many of a page

# the strictest first
_LEVELS = (
    "極秘", "厳秘", "top secret", "機密", "マル秘", "秘", "関係者外秘", "関係者限り", "関係者限",
    "部外秘", "部内限り", "部内限", "対外秘", "社外秘", "社内限り", "社内限定", "社内限",
    "strictly confidential", "highly confidential", "company confidential", "confidential",
    "secret", "restricted", "for internal use only", "internal use only", "internal only",
    "取扱い注意", "取扱注意", "持ち出し禁止", "持出禁止",
)  # fmt: skip
_SAME = {"マル秘": "秘", "関係者限": "関係者限り", "部内限": "部内限り", "社内限": "社内限り",
         "社内限定": "社内限り", "取扱い注意": "取扱注意", "持ち出し禁止": "持出禁止"}  # fmt: skip
_LEVEL = "|".join(sorted(_LEVELS, key=len, reverse=True))
_STAMP = re.compile(
    rf"[\s※\[(【<《]*(?P<w>{_LEVEL})(?:情報|文書|資料)?[\s/・|)(\]【】\[]*(?P<w2>{_LEVEL})?[\s\])】>》]*"
)
_BESIDE = re.compile(
    rf"^\s*[【\[(<《](?P<w>{_LEVEL})(?:情報|文書|資料)?[】\])>》]"
    rf"|[【\[(<《](?P<w2>{_LEVEL})(?:情報|文書|資料)?[】\])>》]\s*$"
)
_IN_NAME = re.compile(
    rf"[【\[(<《](?P<w>{_LEVEL})[】\])>》]|(?:^(?=.+[_\s-])|[_\s-])(?!秘)(?P<w2>{_LEVEL})(?=[_\s.-]|$)"
)
_CLASSED = re.compile(
    r"(?:(?:取り?扱い?|秘密|機密|情報|秘匿|セキュリティ|文書|管理|公開)(?:情報)?の?(?:区分|レベル|分類|ランク|等級)|取り?扱い?"
    r"|classification|security level)\s?[:|]\s?(?P<v>[^\n]{1,60})"
)
_TICKED = re.compile(rf"[■☑☒✓✔●◉]\s?(?P<w>{_LEVEL})")

_UNIT = "本部|部|課|室|局|係|センター|グループ|チーム|委員会|事務局|事業所|工場|支店|支社|研究所"
_DEPARTMENT = rf"[一-龯々ァ-ヶーa-z0-9・&]{{1,14}}?(?:{_UNIT})(?:\s?[一-龯々ァ-ヶーa-z0-9・]{{1,12}}?(?:{_UNIT})){{0,2}}"
_COMPANY = r"(?:(?:株式|有限|合同)会社\S{1,16}\s|\S{1,16}(?:株式|有限|合同)会社\s|\(株\)\S{1,16}\s|\S{1,16}\(株\)\s)"
_OFFICE = re.compile(rf"{_COMPANY}?(?P<v>{_DEPARTMENT})(?:長?(?:\s[^\s\d|]{{1,12}}){{0,2}})?")
_NO_OFFICE = re.compile(r"(?:全|一|内|外|上|下|幹|細|第[0-9一二三四五六]+)部|各|全(?:社|部)|関係")
_TO_SOMEBODY = re.compile(r"(?:各位|御中|殿|様|先生|宛|あて|行)\s*$")
_NAME_END = re.compile(
    r"\s{2,}|[\t、,|/(<\[:]|\s?(?:tel|内線|電話|審査|承認|照査|確認|検印|\d)|様$|殿$|氏$|さん$|印$"
)
_NOBODY = re.compile(
    r"python|user|owner|admin|microsoft|office|openpyxl|apache|libreoffice|unknown|pdf|scan|作成者|pc|未定|なし|者|一覧|氏名|名前"
)
_TITLE = re.compile(
    r"(?:規程|規則|規定|細則|要領|要綱|要項|規約|約款|定款|基準|指針|方針|ガイドライン|ガイド|マニュアル|手順書?|手引き?"
    r"|議事録|議事メモ|見積書|請求書|注文書|発注書|納品書|領収書|契約書|覚書|合意書|仕様書|設計書|計画書?|企画書|提案書|報告書?"
    r"|申請書|届出?書?|稟議書|誓約書|証明書|説明書|通知書?|通達|お知らせ|ご?案内|依頼書?|一覧表?|名簿|台帳|日報|週報|月報|faq"
    r"|について(?:\((?:通知|通達|依頼|回答|照会|お知らせ|ご?案内|報告)\))?)案?(?:\([^()]{1,20}\))?$"
)
_ORNAMENT = re.compile(
    rf"^(?:\s*[【\[(<《](?:{_LEVEL})(?:情報|文書|資料)?[】\])>》])?[#\s■◆●]*"
    rf"(?P<v>.*?)(?:\s*[【\[(<《](?:{_LEVEL})(?:情報|文書|資料)?[】\])>》]|\s*[\[(]?(?:第\s?\d{{1,3}}\s?版|初版|(?<![a-z])(?:ver|version|rev|v)[._\s]*\d[\d.]*)[\])]?)*\s*$"
)
_NUMBERED_LINE = re.compile(
    r"[(\[]?(?P<v>[一-龯々ァ-ヶーa-z]{0,12}第\s?[0-9一二三四五六七八九十百〇]{1,8}(?:-[0-9]{1,6})?\s?号(?:の[0-9]{1,3})?)[)\]]?(?=\s|$)"
)
_CREATED = "作成|起案|起票|発信|発行|制定|見積|請求|提出|公開|日付|date|created|issued"
_REVISED = "改定|改訂|改正|更新|revised|updated"
_IN_FORCE = "施行|適用開始|適用|発効|effective"  # 実施日 is that of an event


def _label(words: str, value: str) -> re.Pattern[str]:
    """「作成者：伊藤」「| 作成者 | 伊藤」「作成者　伊藤」 (the last at the beginning of a line only)."""
    return re.compile(
        rf"(?:(?:^|(?<=[\n|\t(\s])){words}\s?[:|]\s?|(?:^|(?<=\n))\s*{words}[ \t]+)(?P<v>{value})"
    )


_AUTHORS = tuple(
    _label(words, r"[^\n|]{1,60}")
    for words in (
        r"(?:作成者|起案者|執筆者?|著者|文責|author|written by|prepared by)",
        r"(?:議事録作成者?|記録者?|報告者|発信者|差出人|from)",
        r"(?:作成担当者?|作成|起案)",
        r"(?:担当者?)",
    )
)
_DEPARTMENTS = _label(
    r"(?:(?:作成|主管|所管|担当|発行|起案|発信|管理)(?:部署|部門|課)名?|部署名?|部門名?|所属|主管|所管|発信元?|作成者?|担当者?|起案者?|記録者?|報告者)",
    rf"{_COMPANY}?(?P<d>{_DEPARTMENT})(?=[\s|、,)長]|$|\n)",
)
_NUMBERS = _label(
    r"(?:文書|文書管理|管理|規程|規定|通達|発番|仕様書|図書|議事録|報告書|ドキュメント|見積書?|御見積|請求書?|注文書?|契約書?|document|doc\.?|稟議)\s?(?:番号|no\.?|number)",
    r"[一-龯ァ-ヶーa-z0-9第号][一-龯ァ-ヶーa-z0-9第号()/._-]{1,39}",
)
_SUBJECTS = _label(
    r"(?:件\s?名|題\s?名|表\s?題|標\s?題|タイトル|文書名|資料名|subject|title)", r"[^\n|]{2,80}"
)
_EDITIONS = _label(
    r"(?:版数?|版番号|版no\.?|バージョン|version|ver\.?|改訂番号|改版番号|rev(?:ision)?(?:\s?no)?\.?)",
    r"(?:第\s?\d{1,3}(?:\.\d{1,3})?\s?版|初版|(?:ver\.?|rev\.?|v)?\s?\d{1,3}(?:\.\d{1,3}){0,2}|[a-z](?![a-z]))",
)
_FIRST = re.compile("初版")


@dataclass(frozen=True, slots=True)
class _Line:
    start: int  # of the part's folded text
    text: str  # folded, without blanks around


class _Part:
    """A stretch of a document's text, folded, with the way back."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self._original, self._base = text, start
        self._folded = normalize(text[start:end])
        self.text = self._folded.text
        self.lines: list[_Line] = []
        at = 0
        for line in self.text.split("\n"):
            if stripped := line.strip():
                self.lines.append(_Line(at + line.index(stripped[0]), stripped))
            at += len(line) + 1

    def said(self, start: int, end: int, text: str | None = None) -> Said:
        """What stands at [start, end) of the folded text, as it was written."""
        a, b = self._folded.span(start, end)
        a, b = a + self._base, b + self._base
        while a < b and self._original[a].isspace():
            a += 1
        while b > a and self._original[b - 1].isspace():
            b -= 1
        return Said(text or self._original[a:b], Span(a, b))


def read(name: str, document: Document) -> Metadata:
    """Of a document that came in a file called `name`."""
    text = document.text
    head = _Part(text, 0, min(len(text), HEAD))
    tail = _Part(text, max(len(head.text) and min(len(text), HEAD), len(text) - TAIL), len(text))
    parts = (head, tail)
    own = document.properties
    department, author = _department(head), _author(head)
    created = _day(parts, _CREATED, first=True) or _bare_day(head)
    return Metadata(
        title=_title(head, document),
        author=author or (Said(own.author) if own.author and _is_name(own.author) else None),
        department=department,
        number=_number(head),
        version=_version(head, name),
        confidentiality=_confidentiality(head, name, document),
        created=created or (Said(own.created.isoformat()) if own.created else None),
        revised=_day(parts, _REVISED),
        in_force=_day(parts, _IN_FORCE),
    )


# --- 秘密区分 -----------------------------------------------------------------------


def _confidentiality(head: _Part, name: str, document: Document) -> Said | None:
    found = [*_stamps(head, document), *_classed(head)]
    for line in document.properties.edges:
        folded = fold(line)
        for m in (_STAMP.fullmatch(folded.strip()), *_BESIDE.finditer(folded)):
            found += [Said(_level(m))] if m else []
        found += [Said(said.text) for said in _classed(_Part(line, 0, len(line)))]
    if m := _IN_NAME.search(fold(PurePosixPath(name).name)):
        found.append(Said(_level(m)))
    order = [_SAME.get(level, level) for level in _LEVELS]
    return min(found, key=lambda said: order.index(said.text.lower()), default=None)


def _stamps(head: _Part, document: Document) -> Iterator[Said]:
    """Alone on a line, or in brackets beside a title, at an edge of the document or a page."""
    text = document.text
    yield from _stamped(head, head.lines[:_TOP])
    foot = _Part(text, max(0, len(text) - 4 * _EDGE_CHARS), len(text))
    yield from _stamped(foot, foot.lines[-_BOTTOM:])
    starts = [m.start for m in document.marks if m.kind in ("page", "slide")][:_PAGES]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=False):
        top = _Part(text, start, min(end, start + _EDGE_CHARS))
        yield from _stamped(top, top.lines[: _TOP // 2])
        low = _Part(text, max(start, end - _EDGE_CHARS), end)
        yield from _stamped(low, low.lines[-_BOTTOM // 2 :])


def _stamped(part: _Part, lines: list[_Line]) -> Iterator[Said]:
    alone = [_STAMP.fullmatch(line.text) for line in lines]
    for n, (line, stamp) in enumerate(zip(lines, alone, strict=True)):
        if stamp:
            beside = [_level(m) for m in (*alone[max(0, n - 1) : n], *alone[n + 1 : n + 2]) if m]
            if any(not w.isascii() and w != _level(stamp) for w in beside):
                continue  # a list of what there is
            at = line.start + stamp.start("w")
            yield part.said(at, at + len(stamp["w"]), _level(stamp))
        elif len(line.text) <= 60 and "。" not in line.text and (m := _BESIDE.search(line.text)):
            group = "w" if m["w"] else "w2"
            yield part.said(line.start + m.start(group), line.start + m.end(group), _level(m))


def _classed(part: _Part) -> Iterator[Said]:
    for m in _CLASSED.finditer(part.text):
        value = m["v"]
        ticked = list(_TICKED.finditer(value))
        named = list(re.finditer(_LEVEL, value))
        if len(ticked) == 1:
            at = m.start("v") + ticked[0].start("w")
            yield part.said(at, at + len(ticked[0]["w"]), _canonical(ticked[0]["w"]))
        elif len(named) == 1 and re.match(r"[\s\[(【<《]*$", value[: named[0].start()]):
            at = m.start("v") + named[0].start()
            yield part.said(at, at + len(named[0][0]), _canonical(named[0][0]))


def _level(m: re.Match[str]) -> str:
    return _canonical(m["w"] or m["w2"])


def _canonical(word: str) -> str:
    return _SAME.get(word, word).upper()


# --- dates, number, version ---------------------------------------------------------


def _day(parts: tuple[_Part, ...], words: str, first: bool = False) -> Said | None:
    """The latest day that one of the words stands beside; or the first."""
    found = [
        (day, part.said(start, end, day.isoformat()))
        for part in parts
        for start, end, day in claims(part.text, words)
    ]
    if not found:
        return None
    return found[0][1] if first else max(found, key=lambda one: one[0])[1]


def _bare_day(head: _Part) -> Said | None:
    """A date alone on a line near the top, or beside the document's number."""
    for line in head.lines[:12]:
        for start, end, day in days(line.text):
            rest = (line.text[:start] + line.text[end:]).strip(" ()付け.")
            if not rest or _NUMBERED_LINE.fullmatch(rest):
                return head.said(line.start + start, line.start + end, day.isoformat())
    return None


def _number(head: _Part) -> Said | None:
    for m in _fields(_NUMBERS, head):
        if re.search("[0-9一二三四五六七八九十]", m["v"]):
            return head.said(*m.span("v"))
    for line in head.lines[:8]:
        if alone := _NUMBERED_LINE.match(line.text):
            rest = line.text[alone.end() :].strip()
            if not rest or (days(rest) and len(rest) < 20):
                return head.said(line.start + alone.start("v"), line.start + alone.end("v"))
    return None


def _version(head: _Part, name: str) -> Said | None:
    for m in _fields(_EDITIONS, head):
        return head.said(*m.span("v"))
    found: list[tuple[tuple[int, ...], Said]] = []
    for line in head.lines[:30]:
        if len(line.text) > 60 or re.search("[。、]", line.text):
            continue
        numbered = [m for m in NUMBERED.finditer(line.text) if _is_version(m, line.text)]
        found += [
            (_digits(m), head.said(line.start + m.start(), line.start + m.end()))
            for m in (*numbered, *_FIRST.finditer(line.text))
        ]
    if found:  # of a history of versions, the last
        return max(found, key=lambda one: one[0])[1]
    stem = PurePosixPath(name).stem
    folded = normalize(stem)
    for m in NUMBERED.finditer(folded.text):
        if _is_version(m, folded.text):
            start, end = folded.span(*m.span())
            return Said(stem[start:end])
    return None


def _is_version(m: re.Match[str], line: str) -> bool:
    """R6.4.1 is a day, 改定4月 a month, 200V 6か所 are sockets, 「第6版に改訂した」 is told of another."""
    if m[0].startswith("r") and not m[0].startswith("rev"):
        return False
    if re.match(r"v\s", m[0]) or re.match("[にをはがのでともへや]", line[m.end() :]):
        return False
    return not (m[0].startswith("改") and re.match(r"\s?[年月日./-]", line[m.end() :]))


def _digits(m: re.Match[str]) -> tuple[int, ...]:
    number = next(filter(None, m.groups()), "1")  # 初版
    return tuple(int(n) for n in number.split("."))


# --- who ----------------------------------------------------------------------------


def _author(head: _Part) -> Said | None:
    for pattern in _AUTHORS:
        for m in _fields(pattern, head):
            start, value = m.start("v"), m["v"]
            office = re.match(rf"\s*{_COMPANY}?{_DEPARTMENT}(?:長)?[\s:]+", value)
            if office:
                start, value = start + office.end(), value[office.end() :]
            if cut := _NAME_END.search(value.rstrip()):
                value = value[: cut.start()]
            if _is_name(value):
                return head.said(start, start + len(value.rstrip()))
    return None


def _is_name(text: str) -> bool:
    text = fold(text).strip()
    if not 2 <= len(text) <= 24 or re.search(r"[0-9。、:@|]", text) or _NOBODY.search(text):
        return False
    return not re.search(rf"(?:{_UNIT}|会社|日|年|月|書|中|済)$", text)


def _fields(pattern: re.Pattern[str], part: _Part) -> Iterator[re.Match[str]]:
    """Labels with their values; a cell that heads a column is no label of the cell beside it."""
    for m in pattern.finditer(part.text):
        before = part.text[part.text.rfind("\n", 0, m.start()) + 1 : m.start()]
        column = "|" in part.text[m.start() : m.start("v")]
        if not column or sum(bool(cell.strip()) for cell in before.split("|")) % 2 == 0:
            yield m


def _department(head: _Part) -> Said | None:
    for m in _fields(_DEPARTMENTS, head):
        if not _NO_OFFICE.match(m["d"]):
            return head.said(*m.span("d"))
    for line in head.lines[:12]:
        office = _OFFICE.fullmatch(line.text)
        if office and not _NO_OFFICE.match(office["v"]) and not _TO_SOMEBODY.search(line.text):
            return head.said(line.start + office.start("v"), line.start + office.end("v"))
    return None


# --- title --------------------------------------------------------------------------


def _title(head: _Part, document: Document) -> Said | None:
    for subject in _fields(_SUBJECTS, head):
        return _plain(head, subject.start("v"), subject["v"])
    own = _squeezed(fold(document.title or ""))
    for line in head.lines[:15]:
        if own and _squeezed(line.text.lstrip("# ")) == own:
            return _plain(head, line.start, line.text)
    for line in head.lines[:15]:
        if len(line.text) <= 60 and not re.search("[。|:]", line.text):
            m = _ORNAMENT.match(line.text)
            words = _squeezed(m["v"]) if m else ""
            if _TITLE.search(words) and not re.match(r"第\d+[章条節]", words):
                return _plain(head, line.start, line.text)
    if document.title and not re.search(r"\.\w{2,5}$|^microsoft", document.title.lower()):
        return Said(document.title)
    return None


def _plain(head: _Part, start: int, text: str) -> Said:
    """A title without the stamp and the version beside it; 「議　事　録」 is 「議事録」."""
    m = _ORNAMENT.match(text)
    if m and m["v"].strip():
        start, text = start + m.start("v"), m["v"]
    said = head.said(start, start + len(text))
    signs = said.text.split()
    return Said("".join(signs), said.span) if all(len(s) == 1 for s in signs) else said


def _squeezed(text: str) -> str:
    return "".join(text.split())
