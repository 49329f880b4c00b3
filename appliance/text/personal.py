"""Personal data that a text holds, found by its form and by the words beside it.

What looks alike is not taken for it: a check digit must be right, lengths and prefixes must be
known, and a number that its own label calls something else (注文番号, 品番, 法人番号) is that.
Names of people are not found, nor what is in no known form: this is a net, not a wall.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from appliance.text.normalize import normalize
from appliance.types import Document, Mark

Kind = Literal[
    "my_number", "bank_account", "credit_card", "passport", "driving_licence",
    "phone", "email", "address",
]  # fmt: skip
Handling = Literal["show", "mask", "quarantine"]  # what a source does with what is found

KINDS: tuple[Kind, ...] = get_args(Kind)
NAMES: Mapping[str, str] = {
    "my_number": "マイナンバー",
    "bank_account": "口座番号",
    "credit_card": "カード番号",
    "passport": "旅券番号",
    "driving_licence": "運転免許証番号",
    "phone": "電話番号",
    "email": "メールアドレス",
    "address": "住所",
}
SERIOUS: frozenset[str] = frozenset({"my_number", "bank_account", "credit_card", "passport"})
MASK = "＊"

_NEAR = 24  # characters of the same line in which a number's label stands
_LABEL_CHARS = 80  # a mark's label is cut there (formats.draft)

# Not part of a longer number, word or code; a number in groups has no other beside it. Patterns
# begin with a sign and then look back: so a search skips what cannot begin.
_ALONE = r"(?<![0-9a-z].)(?<![0-9a-z]-.)(?<![.#].)"
_ENDS = r"(?![0-9a-z])(?!-[0-9a-z])(?!\.[0-9])"
_GROUPED, _LAST = r"(?<![0-9] [0-9]{4})", r"(?! [0-9])"
_TWELVE = re.compile(
    rf"[0-9]{_ALONE}[0-9]{{3}}(?:[0-9]{{8}}{_ENDS}|{_GROUPED}([ -])[0-9]{{4}}\1[0-9]{{4}}{_ENDS}{_LAST})"
)
_CARD = re.compile(
    rf"[0-9]{_ALONE}[0-9]{{3}}(?:[0-9]{{10,12}}{_ENDS}"
    rf"|{_GROUPED}([ -])(?:[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}|[0-9]{{6}}\1[0-9]{{4,5}}){_ENDS}{_LAST})"
)
_ISSUED = re.compile(
    r"4[0-9]{15}|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}"
    r"|6(?:011|5[0-9]{2}|4[4-9][0-9]|2[0-9]{2})[0-9]{12}"
)
_ACCOUNT = re.compile(
    r"(?:普通|当座|貯蓄)(?:預金|貯金)?(?:口座)?(?:番号)?[ :|()/.no]{0,8}(?P<a>[0-9]{7}|[0-9]{3}[ -][0-9]{4})(?![0-9a-z-])"
    r"|口座(?:番号|no\.?)[ :|)】]{0,8}(?:普通|当座)?[ :|]{0,3}(?P<b>[0-9]{6,8}|[0-9]{3}[ -][0-9]{4})(?![0-9a-z-])"
    r"|記号[ :|]{0,4}(?P<c>1[0-9]{4}[ |・,/-]{0,4}(?:の )?番号[ :|]{0,4}[0-9]{2,8})(?![0-9a-z-])"
)
# as a spreadsheet leaves numbers whose zeros in front it has taken for nothing
_SHORT_ACCOUNT = re.compile(r"[0-9](?<![0-9a-z-].)[0-9]{3,7}(?![0-9a-z-])")
_SHORT_CITIZEN = re.compile(r"[1-9](?<![0-9a-z-].)[0-9]{9,10}(?![0-9a-z-])")
_PASSPORT = re.compile(r"[a-z](?<![0-9a-z-].)[a-z] ?[0-9]{7}(?![0-9a-z-])")
_PHONE = re.compile(
    r"[0(+](?<![0-9a-z].)(?<![0-9a-z]-.)(?:"
    r"(?<=0)(?:[1-9][0-9]{0,3}(?:-[0-9]{1,4}-| ?\([0-9]{1,4}\) ?)[0-9]{4}"
    r"|[5789]0(?: [0-9]{4} [0-9]{4}|[0-9]{8})|[1-9][0-9]{8})"
    r"|(?<=\()0[1-9][0-9]{0,3}\) ?[0-9]{1,4}-[0-9]{4}"
    r"|(?<=\+)81(?:[ -]?(?:\(0\))?[1-9][0-9]{0,3}[ -][0-9]{1,4}[ -][0-9]{4}|[1-9][0-9]{8,9})"
    r")(?![0-9a-z])(?!-[0-9a-z])"
)
_EMAIL = re.compile(
    r"[a-z0-9](?<![a-z0-9._%+-].)[a-z0-9._%+-]{0,63}@(?:[a-z0-9-]{1,63}\.){1,6}[a-z]{2,24}(?![a-z0-9-])"
)
_PREFECTURE = (
    r"(?:北海道|東京都|(?:京都|大阪)府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井"
    r"|山梨|長野|岐阜|静岡|愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎"
    r"|熊本|大分|宮崎|鹿児島|沖縄)県)"
)
_N = r"(?:[0-9]{1,5}|[一二三四五六七八九十]{1,3})"
_BLOCK = (
    rf"(?:(?:[東西南北]{_N}条[東西南北]?)?{_N} ?丁目 ?(?:{_N} ?(?:番地?|-) ?(?:{_N} ?号?(?:-[0-9]{{1,4}})?)?)?|{_N} ?番地?の? ?(?:{_N} ?号?)?"
    r"|[0-9]{1,5}-[0-9]{1,4}(?:-[0-9]{1,4}){0,2})(?![0-9])"
)
_BUILDING = (
    r"(?: ?[^\s、。,|0-9()]{1,20}[0-9 ]{0,6}(?:ビル|マンション|アパート|ハイツ|コーポ|号室|階|f(?![a-z]))"
    r"(?: ?[0-9a-z-]{1,5}(?:階|号室?|f)?(?![a-z0-9]))?)?"
)
_TOWN = r"[^\s0-9、。,|()「」:;]{0,14}?"
_ADDRESS = re.compile(
    rf"(?:{_PREFECTURE} ?[^\s0-9、。,|()]{{1,10}}?[市区町村郡]|〒 ?[0-9]{{3}}-?[0-9]{{4}}[ \n]{{0,2}}[^\s0-9、。,|()]{{2,12}}?[市区町村郡]"
    rf"|(?<![^\s:|、。(「])[一-龯ヶケ]{{1,5}}市[一-龯]{{1,3}}区|(?<![^\s:|、。(「都])(?:千代田|中央|港|新宿|文京|台東|墨田|江東|品川|目黒|大田|世田谷|渋谷|中野|杉並"
    rf"|豊島|北|荒川|板橋|練馬|足立|葛飾|江戸川)区) ?{_TOWN} ?{_BLOCK}{_BUILDING}"
    rf"|(?:住所|居所|所在地|居住地)[ :|]{{1,6}}(?P<a>[^\s0-9、。,|]{{2,20}}?[市区町村郡]{_TOWN} ?{_BLOCK}{_BUILDING})"
)
_CITIZEN = re.compile(r"個人番号|マイナンバ|通知カ.ド|my ?number|特定個人情報")
_OTHER = re.compile(
    r"(?:注文|受注|発注|伝票|品|部品|型|型式|商品|製品|管理|整理|請求書?|見積書?|追跡|送り状|荷物|問い?合わ?せ|契約書?|会員"
    r"|法人|企業|登録|証券|受付|製造|ロット|シリアル|製造番|図|図面|資産|備品|社員|職員|顧客|取引先|学籍|案件|文書|規格|台帳|部署|申請)"
    r"(?:番号?|コード|符号|no\.?|id|#)|(?<![a-z])(?:jan|ean|gtin|isbn|issn|lot|order|serial|sku|asin|po|s/n|p/n|part|item|invoice|tracking|id|imei|rev)"
    r"(?: ?(?:no\.?|number|code|id|#))?|事業者登録番号|バーコード|品番|型番|ロット|シリアル"
)
_LABELLED_PHONE = re.compile(r"tel|電話|携帯|fax|連絡先|phone|mobile|直通|内線|℡")


@dataclass(frozen=True, slots=True)
class Found:
    """[start, end) of the text."""

    kind: Kind
    start: int
    end: int


def find(text: str) -> list[Found]:
    """What a text holds, in order; nothing overlaps. The more serious kind has the place."""
    normalized = normalize(text)
    page = _Page(normalized.text)
    found: list[Found] = []
    taken: list[tuple[int, int]] = []  # sorted
    for kind, finder in _FINDERS:
        for start, end in finder(page):
            at = bisect_right(taken, (start, end))
            if (at and taken[at - 1][1] > start) or (at < len(taken) and taken[at][0] < end):
                continue
            taken.insert(at, (start, end))
            found.append(Found(kind, *normalized.span(start, end)))
    return sorted(found, key=lambda one: one.start)


def counted(*texts: str) -> dict[str, int]:
    """How often each kind is found in the first text; and in names, where that holds none."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts |= Counter(one.kind for one in find(text))
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def masked(text: str) -> str:
    """The text with a ＊ for every sign of what is found; blanks stay, and so do all offsets."""
    parts, at = [], 0
    for one in find(text):
        parts += [text[at : one.start], _hidden(text[one.start : one.end])]
        at = one.end
    return "".join([*parts, text[at:]])


def without(document: Document) -> Document:
    """The document with everything found in it masked: its text, and what was copied from it."""
    text = masked(document.text)
    properties = document.properties
    return replace(
        document,
        text=text,
        title=masked(document.title) if document.title else document.title,
        marks=tuple(_relabelled(mark, document.text, text) for mark in document.marks),
        problems=tuple(map(masked, document.problems)),
        own=tuple((n, masked(said)) for n, said in document.own),
        properties=replace(
            properties,
            author=masked(properties.author) if properties.author else properties.author,
            edges=tuple(map(masked, properties.edges)),
        ),
    )


def told(counts: Mapping[str, int]) -> str:
    """「マイナンバー 2 件、住所 1 件」."""
    return "、".join(f"{NAMES[kind]} {n} 件" for kind, n in counts.items())


def _hidden(text: str) -> str:
    return re.sub(r"\S", MASK, text)


def _relabelled(mark: Mark, before: str, after: str) -> Mark:
    """A label may hold a number, or the beginning of one: it is cut from a line of the text."""
    end = before.find("\n", mark.start)
    end = len(before) if end < 0 else end
    if mark.kind == "section" and before[mark.start : end] != after[mark.start : end]:
        return replace(mark, label=" ".join(after[mark.start : end].split())[:_LABEL_CHARS])
    return replace(mark, label=masked(mark.label))


class _Page:
    """A normalized text, and what stands beside a number in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self._heads: dict[int, int] = {}  # number of a table's line -> of its first

    def before(self, at: int) -> str:
        """What names the number there: the words before it, else the head of its column."""
        n = bisect_right(self._starts, at) - 1
        line = self._starts[n]
        near = self.text[max(line, at - _NEAR) : at]
        cell = near.rsplit("|", 1)[-1].rsplit("\t", 1)[-1]
        if cell.strip():
            return cell
        return self._head(n, self.text[line:at]) or near

    def _head(self, n: int, before: str) -> str:
        bar = "|" if "|" in before else "\t" if "\t" in before else ""
        first = self._first(n, bar or "|")
        if first == n:
            return ""
        end = self.text.find("\n", self._starts[first])
        cells = self.text[self._starts[first] : end].split(bar or "|")
        column = before.count(bar) if bar else 0
        return cells[column] if column < len(cells) else ""

    def _first(self, n: int, bar: str) -> int:
        """The first of the lines with bars that end here, found once for all of them."""
        passed = []
        while n not in self._heads:
            passed.append(n)
            if n == 0 or bar not in self.text[self._starts[n - 1] : self._starts[n]]:
                self._heads[n] = n
                break
            n -= 1
        for line in passed:
            self._heads[line] = self._heads[n]
        return self._heads[n]


def _twelve(page: _Page) -> Iterator[tuple[int, int, str, str]]:
    for m in _TWELVE.finditer(page.text):
        yield m.start(), m.end(), re.sub("[ -]", "", m[0]), page.before(m.start())


def _licences(page: _Page) -> Iterator[tuple[int, int]]:
    if "免許" in page.text:
        for start, end, _, label in _twelve(page):
            if "免許" in label:
                yield start, end


def _my_numbers(page: _Page) -> Iterator[tuple[int, int]]:
    """By the check digit. One number in eleven has a right one by chance.

    So where nothing speaks of 個人番号, more than half of such numbers must have it.
    """
    spoken_of = bool(_CITIZEN.search(page.text))
    right, wrong = [], 0
    for start, end, digits, label in _twelve(page):
        if _CITIZEN.search(label):
            if _is_my_number(digits):
                yield start, end
        elif _OTHER.search(label) or _is_moment(digits) or "免許" in label:
            continue
        elif _is_my_number(digits):
            right.append((start, end))
        else:
            wrong += 1
    if spoken_of:
        for m in _SHORT_CITIZEN.finditer(page.text):
            if _is_my_number(m[0].zfill(12)) and _CITIZEN.search(page.before(m.start())):
                yield m.span()
    if spoken_of or len(right) > wrong:
        yield from right


def _cards(page: _Page) -> Iterator[tuple[int, int]]:
    for m in _CARD.finditer(page.text):
        digits = re.sub("[ -]", "", m[0])
        real = _ISSUED.fullmatch(digits) and _luhn(digits) and not _is_moment(digits[:12])
        label = page.before(m.start())
        if real and (re.search("カ.ド|card|クレジット", label) or not _OTHER.search(label)):
            yield m.span()


def _accounts(page: _Page) -> Iterator[tuple[int, int]]:
    for m in _ACCOUNT.finditer(page.text):
        yield m.span(m.lastgroup or 0)
    if "口座" in page.text:
        for m in _SHORT_ACCOUNT.finditer(page.text):
            if re.search("口座番号|口座no", page.before(m.start())):
                yield m.span()


def _passports(page: _Page) -> Iterator[tuple[int, int]]:
    if not re.search("旅券|パスポ.ト|passport", page.text):
        return
    for m in _PASSPORT.finditer(page.text):
        if re.search("旅券|パスポ.ト|passport", page.before(m.start())):
            yield m.span()


def _phones(page: _Page) -> Iterator[tuple[int, int]]:
    for m in _PHONE.finditer(page.text):
        digits = re.sub("[^0-9]", "", m[0].replace("(0)", "").replace("+81", "0"))
        mobile = digits[:3] in ("090", "080", "070", "050") and len(digits) == 11
        if not mobile and len(digits) != 10:
            continue
        if digits.startswith(("0120", "0570", "0990")):  # of a company, for everybody
            continue
        label = page.before(m.start())
        bare = m[0].isdecimal()
        named = _LABELLED_PHONE.search(label)
        if named or not (_OTHER.search(label) or (bare and not mobile)):
            yield m.span()


def _emails(page: _Page) -> Iterator[tuple[int, int]]:
    if "@" in page.text:
        for m in _EMAIL.finditer(page.text):
            yield m.span()


def _addresses(page: _Page) -> Iterator[tuple[int, int]]:
    for m in _ADDRESS.finditer(page.text):
        yield m.span("a") if m["a"] else m.span()


_FINDERS: tuple[tuple[Kind, Callable[[_Page], Iterator[tuple[int, int]]]], ...] = (
    ("driving_licence", _licences),  # first: its label says so, and some pass as a マイナンバー
    ("credit_card", _cards),
    ("my_number", _my_numbers),
    ("passport", _passports),
    ("bank_account", _accounts),
    ("email", _emails),
    ("phone", _phones),
    ("address", _addresses),
)


def _is_my_number(digits: str) -> bool:
    """The check digit of 総務省令第85号 (2014), article 5."""
    weights = (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
    rest = sum(int(d) * w for d, w in zip(digits, weights, strict=False)) % 11
    return len(set(digits)) > 1 and int(digits[11]) == (0 if rest <= 1 else 11 - rest)


def _luhn(digits: str) -> bool:
    doubled = [int(d) * (1 + n % 2) for n, d in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _is_moment(digits: str) -> bool:
    """202604011230: a year, month, day, hour and minute."""
    year, month, day, hour, minute = (
        int(digits[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12))
    )
    real = 1 <= month <= 12 and 1 <= day <= 31 and hour <= 24 and minute <= 59
    return 1900 <= year <= 2099 and real
