"""A mail's text as the mails it is made of: its own words, and each quoted mail with who and when.

Quotes are told by 「>」, by the headers that Outlook repeats above them (差出人: … 送信日時: …), and
by the line that introduces them (「2026年3月2日(月) 9:30 佐藤 <…>:」, 「On … wrote:」). Short quotes that
the sender answers line by line stay where they are, with their 「>」.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from appliance.formats.draft import Draft, one_line
from appliance.types import Document

_QUOTED = re.compile(r"^(?:[>＞] ?){1,40}")
_SIGN = re.compile(r"[>＞]")
_BAR = re.compile(r"^[-_－―─=*\s]{5,}$")
_RULE = re.compile(
    r"^[-_－―─=*<>\s]*(?:Original Message|Forwarded message|Begin forwarded message|Reply Message|"
    r"(?:元の|オリジナル|転送|転送された|返信元|引用元)の?\s?(?:メッセージ|メール))[:：]?[-_－―─=*<>\s]*$",
    re.IGNORECASE,
)
_FROM = re.compile(
    r"^\**(?:差出人|送信者|送信元|From)\**\s*[:：]\**\s*(?P<said>\S.*)$", re.IGNORECASE
)
_SENT = re.compile(
    r"^\**(?:送信日時|送信日|日時|日付|受信日時|Sent|Date)\**\s*[:：]\**\s*(?P<said>\S.*)$",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"^\**(?:差出人|送信者|送信元|送信日時|送信日|受信日時|日時|日付|宛先|件名|添付ファイル|重要度|CC|BCC|"
    r"From|Sent|Date|To|Subject|Attachments|Importance|Reply-To)\**\s*[:：]",
    re.IGNORECASE,
)
_HEADERS = 12  # lines that may stand between the first and the last of a mail's headers
_WROTE = re.compile(
    r"(?:wrote|writes|のメール|からのメール|(?:は|が)?書きました|(?:さん|様)?が?書いた(?:こと)?)\s?[:：]?$",
    re.IGNORECASE,
)
_DAY = re.compile(
    r"(?P<y>20\d\d|19\d\d)\s?[年/.-]\s?(?P<m>1[0-2]|0?[1-9])\s?[月/.-]\s?(?P<d>3[01]|[12]\d|0?[1-9])(?!\d)\s?日?"
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_ENGLISH = re.compile(
    rf"(?:(?P<d1>\d{{1,2}})\s+)?(?P<m>{'|'.join(_MONTHS)})[a-z]*\.?\s+(?:(?P<d2>\d{{1,2}}),?\s+)?(?P<y>20\d\d|19\d\d)",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?<!\d)(?P<h>[01]?\d|2[0-3])[:時](?P<min>[0-5]\d)(?::[0-5]\d|分)?(?:\s?(?P<half>[AaPp][Mm]))?"
)
_WEEKDAY = re.compile(
    r"[(（][日月火水木金土](?:曜日?)?[)）]|[日月火水木金土]曜日|\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\b,?"
)
_MAIL = re.compile(r"[<＜(\[]?\s?(?:mailto:)?[\w.+-]{1,64}@[\w.-]{1,255}\s?[>＞)\]]?", re.ASCII)
_ZONE = re.compile(r"[+-]\d{4}\b|\b(?:JST|GMT|UTC)\b|午前|午後")
_INTRODUCED_CHARS = 300
_AROUND = re.compile(r"\[mailto:[^\]]*\]|^\W*On\b|\bat\b|[\"“”]")
_MOST = 500  # parts of a mail that are told apart
_SHORT = 5  # lines of a quote that is answered below it


@dataclass(frozen=True, slots=True)
class Voice:
    """Who wrote something, and when; empty where nobody says."""

    who: str = ""
    when: str = ""

    def __str__(self) -> str:
        return f"{self.who} {self.when}".strip()


@dataclass(slots=True)
class _Part:
    voice: Voice
    own: bool
    lines: list[str] = field(default_factory=list)  # as they are shown
    raw: list[str] = field(default_factory=list)  # as they came

    @property
    def filled(self) -> int:
        """How many lines have something in them."""
        return sum(bool(line.strip()) for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Line:
    deep: int  # how often it was quoted
    text: str
    raw: str


def write(draft: Draft, body: Document, sender: Voice, begin: int) -> None:
    """The body, a part for each mail of the thread; `begin`: where the mail's own headers are."""
    parts = [p for p in _with_answered(_parts(body.text, sender)) if p.filled]
    if all(part.own for part in parts):
        draft.embed(body)
        return
    draft.problems += body.problems
    draft.mark(str(sender) or "本文", "part", at=begin)
    for n, part in enumerate(parts):
        if n or not part.own:
            draft.blank()
            draft.mark(_label(part), "part")
        if not part.own and not str(part.voice):
            draft.line("（引用）")
        for line in "\n".join(part.lines).strip("\n").split("\n"):
            draft.line(line)


def _label(part: _Part) -> str:
    return str(part.voice) or "本文" if part.own else f"引用: {part.voice}".rstrip(": ")


def _parts(text: str, sender: Voice) -> list[_Part]:
    lines = [_line(raw) for raw in text.split("\n")]
    voices = {0: sender}  # who speaks at each depth
    own = {0}  # the depths at which it is the sender's own
    parts: list[_Part] = []

    def begin(deep: int, voice: Voice) -> None:
        for deeper in [d for d in voices if d >= deep]:
            del voices[deeper]
        voices[deep] = voice
        own.discard(deep)
        parts.append(_Part(voice, False))

    n = 0
    while n < len(lines):
        line = lines[n]
        looks = len(parts) < _MOST
        if looks and (repeated := _repeated(lines, n)):
            begin(line.deep, repeated[0])
            n = _take(parts[-1], lines, n, repeated[1])
            continue
        if looks and (introduced := _introduced(lines, n)):
            voice, end, deeper = introduced
            begin(line.deep + deeper, voice)
            n = _take(parts[-1], lines, n, end)
            continue
        for deeper in [d for d in voices if d > line.deep + 1]:
            del voices[deeper]
        voice = voices.setdefault(line.deep, Voice())
        mine = line.deep in own
        last = parts[-1] if parts else None
        blank = not line.text.strip() and last is not None  # belongs to what is before it
        if last is None or (not blank and (last.voice is not voice or last.own != mine)):
            parts.append(_Part(voice, mine))
        _take(parts[-1], lines, n, n + 1)
        n += 1
    return parts


def _take(part: _Part, lines: Sequence[_Line], start: int, end: int) -> int:
    part.lines += [line.text for line in lines[start:end]]
    part.raw += [line.raw for line in lines[start:end]]
    return end


def _line(raw: str) -> _Line:
    found = _QUOTED.match(raw) if raw[:1] in ">＞" and raw[:6] != ">From " else None  # of an mbox
    if found is None:
        return _Line(0, raw, raw)
    return _Line(len(_SIGN.findall(found[0])), raw[found.end() :], raw)


def _with_answered(parts: Sequence[_Part]) -> Iterator[_Part]:
    """Short quotes with the sender's words below them go into the sender's part, as they came."""
    below_own = [False] * len(parts)  # whether what follows is the sender's
    for n in range(len(parts) - 2, -1, -1):
        below = parts[n + 1]
        below_own[n] = below.own if below.filled else below_own[n + 1]
    mine = next((p.voice for p in parts if p.own), Voice())
    open_: _Part | None = None  # the sender's, that may go on
    for part, answered in zip(parts, below_own, strict=True):
        short = 0 < part.filled <= _SHORT and any(line[:1] in ">＞" for line in part.raw if line)
        if part.own or (answered and short):
            if open_ is None:
                open_ = _Part(mine, True)
            open_.lines += part.lines if part.own else part.raw
            continue
        if open_ is not None:
            yield open_
            open_ = None
        yield part
    if open_ is not None:
        yield open_


def _repeated(lines: Sequence[_Line], n: int) -> tuple[Voice, int] | None:
    """A quoted mail's headers, below a rule or bare: whose they are, and where they end."""
    at = n
    ruled = bool(_RULE.match(lines[n].text.strip())) and lines[n].deep < 40
    if ruled or _BAR.match(lines[n].text):
        at = next((m for m in range(n + 1, min(n + 4, len(lines))) if lines[m].text.strip()), n)
    begun = _FROM.match(lines[at].text.strip())
    if begun is None:
        # a rule that says so will do; an ordinary line across the page will not
        return (Voice(), n + 1) if ruled and "@" not in lines[n].text else None
    end, sent = at + 1, ""
    while end < min(at + _HEADERS, len(lines)) and lines[end].deep == lines[at].deep:
        text = lines[end].text.strip()
        if not text or not (_HEADER.match(text) or lines[end].text[:1] in " \t　"):
            break
        if found := _SENT.match(text):
            sent = found["said"]
        end += 1
    if not sent and end - at < 3 and not ruled:
        return None
    return Voice(_name(begun["said"]), _when(sent)), end


def _introduced(lines: Sequence[_Line], n: int) -> tuple[Voice, int, int] | None:
    """The line or two before a quote: whose it is, where it ends, and how much deeper it is."""
    deep, text = lines[n].deep, ""
    if not lines[n].text.strip():
        return None
    for end in range(n + 1, min(n + 4, len(lines) + 1)):
        line = lines[end - 1]
        if line.deep != deep or not line.text.strip():
            return None
        text = f"{text} {line.text.strip()}".strip()
        if len(text) > _INTRODUCED_CHARS:
            return None
        wrote = _WROTE.search(text)
        if not wrote and not text.endswith((":", "：")):
            continue
        when = _when(text)
        quoted = _next_deeper(lines, end, deep)
        if not (wrote and (quoted or when)) and not (quoted and when and _MAIL.search(text)):
            continue
        if end > n + 1 and not _when(lines[n].text) and _introduced(lines, n + 1):
            return None  # this line is the last of what stands before
        return Voice(_name(text), when), end, 1 if quoted else 0
    return None


def _next_deeper(lines: Sequence[_Line], n: int, deep: int) -> bool:
    following = next((x for x in lines[n : n + 3] if x.text.strip() or x.deep > deep), None)
    return following is not None and following.deep > deep


def _when(text: str) -> str:
    """As the head of a mail says it (`mail._day`); "" where there is no day."""
    found, english = _DAY.search(text), _ENGLISH.search(text)
    if found:
        year, month, day = int(found["y"]), int(found["m"]), int(found["d"])
    elif english and (said := english["d1"] or english["d2"]):
        month = 1 + _MONTHS.index(english["m"][:3].title())
        year, day = int(english["y"]), int(said)
    else:
        return ""
    clock = _CLOCK.search(text, (found or english).end())  # type: ignore[union-attr]
    clock = clock or _CLOCK.search(text)
    shown = f"{year}年{month}月{day}日"
    if clock is None:
        return shown
    hour, half = int(clock["h"]), (clock["half"] or "").lower()
    if "午後" in text or half == "pm":
        hour = hour % 12 + 12
    elif half == "am":
        hour %= 12
    return f"{shown} {hour:02}:{clock['min']}"


def _name(text: str) -> str:
    """Who it is, without day, address and verb; the address where there is no name."""
    address = _MAIL.search(text)
    bare = _WROTE.sub("", text)
    for pattern in (_MAIL, _DAY, _ENGLISH, _CLOCK, _WEEKDAY, _ZONE):
        bare = pattern.sub(" ", bare)
    bare = _AROUND.sub(" ", bare)
    bare = one_line(bare).strip(" ,、:：;；()（）[]<>＜＞'").removesuffix("の").strip()
    return bare[:60] or (address[0].strip("<>＜＞()[] ").removeprefix("mailto:") if address else "")


def sender(who: str, when: str) -> Voice:
    """Of a mail, by its own headers."""
    return Voice(_name(who), when)
