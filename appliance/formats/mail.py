"""Mail (.eml, .mbox): headers in their own words, the body, and what is attached.

Charsets lie, so bytes decide. Nothing a mail points to is fetched. Mails that it quotes are parts of
their own (`thread.py`).
"""

from __future__ import annotations

import email.policy
import email.utils
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser, BytesParser
from functools import partial
from typing import BinaryIO, cast

from appliance.errors import TooLarge, Unreadable
from appliance.formats import attached, charset, thread, web
from appliance.formats.draft import Draft, one_line
from appliance.types import Child, Document

_HEADERS = (("From", "差出人"), ("To", "宛先"), ("Cc", "Cc"), ("Date", "日付"), ("Subject", "件名"))
_PARTS = 200
_HEADER_CHARS = 2_000
_HEAD_BYTES = 1_000_000
_MAILS = 20_000
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_FROM = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\r\n\r\n))From [^\r\n]*[0-9]{4}[^\r\n]*\r?\n")
_RAW = re.compile("[\udc80-\udcff\x1b]")


def parse(stream: BinaryIO) -> Document:
    return _parse(stream.read())


def parse_box(stream: BinaryIO) -> Document:
    """A folder of mails in one file (.mbox): each mail is a document of its own."""
    children: list[Child] = []
    mails = _FROM.split(stream.read())[1:]
    for data in mails[:_MAILS]:
        head = BytesHeaderParser(policy=email.policy.default).parsebytes(data[:_HEAD_BYTES])
        subject = attached.file_name(_header(head, "Subject")) or "件名なし"
        attached.add_parsed(children, subject, "message/rfc822", partial(_parse, data), _sent(head))
    more = len(mails) - _MAILS
    problems = [f"メールが多すぎるため、{_MAILS:,} 通より後を読んでいません"] if more > 0 else []
    return Document("", problems=tuple(problems), children=tuple(children))


def _parse(data: bytes) -> Document:
    blank = _BLANK_LINE.search(data[: _HEAD_BYTES + 4])
    if blank is None and len(data) > _HEAD_BYTES:
        raise TooLarge("メールのヘッダーが大きすぎます")
    message = BytesParser(policy=email.policy.default).parsebytes(data)
    draft = Draft()
    children: list[Child] = []
    subject = None
    for field, shown in _HEADERS:
        if text := _header(message, field):
            draft.line(f"{shown}: {text}")
            subject = text if field == "Subject" else subject
    draft.blank()
    parts = list(_leaves(message, draft))
    bodies = [*_bodies(parts)]
    body = Document(
        "\n\n".join(b.text for b in bodies), problems=tuple(p for b in bodies for p in b.problems)
    )
    if body.text or body.problems:
        voice = thread.sender(_header(message, "From"), _header(message, "Date"))
        thread.write(draft, body, voice, 0)
        draft.blank()
    for part in parts:
        if _is_attached(part):
            _attachment(draft, children, part)
    return replace(draft.document(subject), children=tuple(children))


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
    at = _moment(text)
    return f"{at.year}年{at.month}月{at.day}日 {at:%H:%M}" if at else text


def _moment(text: str) -> datetime | None:
    with suppress(ValueError, TypeError, OverflowError):
        return email.utils.parsedate_to_datetime(text)
    return None


def _sent(message: Message) -> datetime | None:
    raw = next((str(v) for k, v in message.raw_items() if k.lower() == "date"), "")
    at = _moment(raw)
    return at if at is None or at.tzinfo else at.replace(tzinfo=attached.JAPAN)


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
        page = web.from_text(source, quoting=True)
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


def _attachment(draft: Draft, children: list[Child], part: EmailMessage) -> None:
    name, kind = _file_name(part), part.get_content_maintype()
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload() if part.is_multipart() else None
        message = inner[0] if isinstance(inner, list) and inner else inner
        sent = _sent(message) if isinstance(message, Message) else None
        parse = partial(_forwarded, message)
        attached.add_parsed(children, name or "転送メール.eml", "message/rfc822", parse, sent)
    elif kind == "image" and part["Content-ID"] and not part.is_attachment():
        if name:  # a picture in the text; without a name, one in the signature
            draft.problems.append(f"本文の図「{name}」は読んでいません")
    elif name or kind not in ("image", "application"):  # the latter is a signature
        attached.add(children, name or "名前のない添付", partial(_data, part))


def _forwarded(message: object) -> Document:
    if not isinstance(message, Message):
        raise Unreadable("転送されたメールが空です")
    return _parse(message.as_bytes(policy=email.policy.compat32))


def _data(part: EmailMessage) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _file_name(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except Exception:  # noqa: BLE001 (the header parser raises many things over broken headers)
        name = "名前不明"
    name = _bytes_of_some_charset(name) if _RAW.search(name) else name
    return attached.file_name(name)
