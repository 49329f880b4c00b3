"""Mail (.eml, .mbox): headers in their own words, the body, and what is attached.

Charsets lie, so bytes decide. Nothing a mail points to is fetched.
"""

from __future__ import annotations

import email.policy
import email.utils
import re
from collections.abc import Iterator
from email.message import EmailMessage, Message
from email.parser import BytesParser
from typing import BinaryIO, cast

from appliance.errors import TooLarge, Unreadable
from appliance.formats import attached, charset, web
from appliance.formats.draft import Draft, one_line
from appliance.types import Document

_HEADERS = (("From", "差出人"), ("To", "宛先"), ("Cc", "Cc"), ("Date", "日付"), ("Subject", "件名"))
_PARTS = 200
_HEADER_CHARS = 2_000
_HEAD_BYTES = 1_000_000
_MAILS = 20_000
_FROM = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\r\n\r\n))From [^\r\n]*[0-9]{4}[^\r\n]*\r?\n")
_RAW = re.compile("[\udc80-\udcff\x1b]")


def parse(stream: BinaryIO) -> Document:
    return _parse(stream.read())


def parse_box(stream: BinaryIO) -> Document:
    """A folder of mails in one file (.mbox): each mail is a part."""
    draft = Draft()
    mails = _FROM.split(stream.read())[1:]
    for number, data in enumerate(mails[:_MAILS], 1):
        try:
            one = _parse(data)
        except (Unreadable, TooLarge) as error:
            draft.problems.append(f"{number} 通目: {error}")
            continue
        draft.blank()
        draft.mark(f"{number} 通目 {one.title or ''}".strip(), "part")
        draft.embed(one)
    if len(mails) > _MAILS:
        draft.problems.append(f"メールが多すぎるため、{_MAILS:,} 通より後を読んでいません")
    return draft.document()


def _parse(data: bytes) -> Document:
    blank = re.search(rb"\r?\n\r?\n", data[: _HEAD_BYTES + 4])
    if blank is None and len(data) > _HEAD_BYTES:
        raise TooLarge("メールのヘッダーが大きすぎます")
    message = BytesParser(policy=email.policy.default).parsebytes(data)
    draft = Draft()
    subject = None
    for field, shown in _HEADERS:
        if text := _header(message, field):
            draft.line(f"{shown}: {text}")
            subject = text if field == "Subject" else subject
    draft.blank()
    parts = list(_leaves(message, draft))
    for body in _bodies(parts):
        draft.embed(body)
        draft.blank()
    for part in parts:
        if _is_attached(part):
            _attachment(draft, part)
    return draft.document(subject)


def _header(message: Message, field: str) -> str:
    raw = next((str(v) for k, v in message.raw_items() if k.lower() == field.lower()), "")
    text = _bytes_of_some_charset(raw) if _RAW.search(raw) else _decoded(message, field, raw)
    text = one_line(text)[:_HEADER_CHARS]
    return _day(text) if field == "Date" else text


def _decoded(message: Message, field: str, raw: str) -> str:
    try:
        return str(message.get(field, ""))
    except Exception:  # noqa: BLE001 (the header parser raises many things over broken headers)
        return raw


def _bytes_of_some_charset(raw: str) -> str:
    """A header, or a name, that nobody encoded."""
    data = raw.encode("utf-8", "surrogateescape")
    try:
        return charset.decode(data).text
    except Unreadable:
        return data.decode("utf-8", "replace")


def _day(text: str) -> str:
    """The sender's own clock, as people write it."""
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return text
    return f"{at.year}年{at.month}月{at.day}日 {at:%H:%M}"


def _leaves(message: Message, draft: Draft) -> Iterator[EmailMessage]:
    """Parts that hold something, in order; a mail inside a mail is one part."""
    waiting: list[Message] = [message]
    seen = 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > _PARTS:
            draft.problems.append(f"メールの部品が多すぎるため、{_PARTS} 個より後を読んでいません")
            return
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            waiting += reversed(cast(list[Message], part.get_payload()))
        else:
            yield cast(EmailMessage, part)


def _is_attached(part: EmailMessage) -> bool:
    if (
        part.get_content_disposition() == "attachment"
        or part.get_content_type() == "message/rfc822"
    ):
        return True
    named = bool(_file_name(part))
    return named if part.get_content_maintype() == "text" else True


def _bodies(parts: list[EmailMessage]) -> Iterator[Document]:
    """Plain texts; HTML only where there is no plain text."""
    own = [p for p in parts if not _is_attached(p)]
    plain = [p for p in own if p.get_content_type() != "text/html"]
    for part in plain:
        if text := _text(part).strip():
            yield Document(text)
    if not any(_text(p).strip() for p in plain):
        for part in own:
            if part.get_content_type() == "text/html" and (text := _text(part).strip()):
                yield _page(text)


def _page(source: str) -> Document:
    """HTML as text with what was noticed, without places of its own: the mail is one."""
    try:
        page = web.from_text(source)
    except Unreadable as error:
        return Document("", problems=(f"本文: {error}",))
    return Document(page.text, problems=page.problems)


def _text(part: EmailMessage) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    try:
        return charset.decode(data, part.get_content_charset()).text
    except Unreadable:
        return ""


def _attachment(draft: Draft, part: EmailMessage) -> None:
    name = _file_name(part) or (
        "転送メール.eml" if part.get_content_maintype() == "message" else ""
    )
    kind = part.get_content_maintype()
    if not name and kind in ("image", "application"):
        return  # a picture in the signature, a signature
    attached.embed(draft, name, f"添付: {name}", lambda: _document(part, name))


def _document(part: EmailMessage, name: str) -> Document:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload() if part.is_multipart() else None
        message = inner[0] if isinstance(inner, list) and inner else inner
        if not isinstance(message, Message):
            raise Unreadable("転送されたメールが空です")
        return _parse(message.as_bytes(policy=email.policy.compat32))
    data = part.get_payload(decode=True)
    return attached.document(data if isinstance(data, bytes) else b"", name)


def _file_name(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except Exception:  # noqa: BLE001 (the header parser raises many things over broken headers)
        name = "名前不明"
    name = _bytes_of_some_charset(name) if _RAW.search(name) else name
    return attached.file_name(name)
