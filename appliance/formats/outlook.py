"""Outlook's mails (.msg): headers, the body, and what is attached.

After [MS-OXMSG]: a compound file with a stream for each property, named by its number and type.
"""

from __future__ import annotations

import email.parser
import email.utils
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import BinaryIO

from appliance.errors import Unreadable
from appliance.formats import attached, charset, rtf, thread, web
from appliance.formats.compound import Compound, longs, shorts
from appliance.formats.draft import Draft, one_line
from appliance.formats.kinds import MSG
from appliance.types import Child, Document

_SUBJECT, _HEADERS, _BODY, _HTML, _RTF = 0x0037, 0x007D, 0x1000, 0x1013, 0x1009
_SENDER, _ADDRESS, _TO, _CC = 0x0C1A, 0x5D01, 0x0E04, 0x0E03
_SENT, _ARRIVED = 0x0039, 0x0E06
_NAME, _SHORT_NAME, _DATA = 0x3707, 0x3704, 0x3701
_ATTACHMENT = re.compile(r"__attach_version1\.0_#[0-9A-Fa-f]{8}")
_ATTACHMENTS = 200
_BODY_CHARS = 5_000_000
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def parse(stream: BinaryIO) -> Document:
    try:
        return _write(Compound(stream), "")
    except (struct.error, IndexError) as error:
        raise Unreadable(f"Outlook のメールとして壊れています ({error})") from None


def _write(file: Compound, at: str) -> Document:
    """The mail whose properties lie in the folder `at`."""
    draft = Draft()
    subject = one_line(_text(file, at, _SUBJECT))
    sender, address = _text(file, at, _SENDER), _text(file, at, _ADDRESS)
    sender = f"{sender} <{address}>" if address and address not in sender else sender
    for shown, text in (
        ("差出人", sender),
        ("宛先", _text(file, at, _TO)),
        ("Cc", _text(file, at, _CC)),
        ("日付", _day(file, at)),
        ("件名", subject),
    ):
        if text := one_line(text):
            draft.line(f"{shown}: {text}")
    draft.blank()
    thread.write(draft, _body(file, at), thread.sender(sender, _day(file, at)), 0)
    folders = _attachments(file, at)
    children: list[Child] = []
    for folder in folders[:_ATTACHMENTS]:
        _attach(children, file, folder)
    if len(folders) > _ATTACHMENTS:
        draft.problems.append(f"添付が多すぎるため、{_ATTACHMENTS} 個より後を読んでいません")
    return replace(draft.document(subject), children=tuple(children))


def _body(file: Compound, at: str) -> Document:
    """Plain where there is any; else HTML, else what Outlook keeps as compressed RTF."""
    if plain := _text(file, at, _BODY).strip():
        return Document(plain.replace("\r\n", "\n"))
    if html := _bytes(file, at, _HTML):
        return web.parse(io.BytesIO(html), quoting=True)
    if html_text := _text(file, at, _HTML):
        return web.from_text(html_text, quoting=True)
    if packed := _bytes(file, at, _RTF):
        return rtf.parse(io.BytesIO(unpacked(packed)))
    return Document("")


def _attachments(file: Compound, at: str) -> list[str]:
    folders = {
        n[: len(at)] + m[0]
        for n in file.names
        if n.startswith(at) and (m := _ATTACHMENT.match(n[len(at) :]))
    }
    return sorted(folders)


def _attach(children: list[Child], file: Compound, folder: str) -> None:
    at = f"{folder}/"
    inner = f"{at}__substg1.0_{_DATA:04X}000D/"
    said = _text(file, at, _NAME) or _text(file, at, _SHORT_NAME)
    if any(name.startswith(inner) for name in file.names):
        name = attached.file_name(said or _text(file, inner, _SUBJECT) or "転送メール.msg")
        attached.add_parsed(children, name, MSG, partial(_write, file, inner))
    elif said:  # without a name it is a picture in the text
        attached.add(children, attached.file_name(said), partial(_bytes, file, at, _DATA))


# --- properties -------------------------------------------------------------------


def _stream(file: Compound, at: str, number: int, kind: int) -> bytes | None:
    name = f"{at}__substg1.0_{number:04X}{kind:04X}"
    return file.read(name) if file.has(name) else None


def _bytes(file: Compound, at: str, number: int) -> bytes:
    return _stream(file, at, number, 0x0102) or b""


def _text(file: Compound, at: str, number: int) -> str:
    wide = _stream(file, at, number, 0x001F)
    if wide is not None:
        return wide[: 2 * _BODY_CHARS].decode("utf-16-le", "replace").rstrip("\x00")
    narrow = _stream(file, at, number, 0x001E)
    return charset.decode(narrow).text.rstrip("\x00") if narrow else ""


def _day(file: Compound, at: str) -> str:
    """The sender's own clock, as people write it."""
    headers = email.parser.HeaderParser().parsestr(_text(file, at, _HEADERS))
    found: datetime | None = None
    try:
        found = email.utils.parsedate_to_datetime(str(headers["Date"])) if headers["Date"] else None
    except (ValueError, TypeError, OverflowError):
        found = None
    found = found or next(_times(file, at), None)
    return f"{found.year}年{found.month}月{found.day}日 {found:%H:%M}" if found else ""


def _times(file: Compound, at: str) -> Iterator[datetime]:
    """When it was sent, else when it arrived: in 100 ns since 1601."""
    name = f"{at}__properties_version1.0"
    data = file.read(name) if file.has(name) else b""
    start = 24 if at else 32
    held = {}
    for n in range(start, len(data) - 15, 16):
        kind, number = shorts(data, n, 2)
        low, high = longs(data, n + 8, 2)
        if kind == 0x0040:
            held[number] = high << 32 | low
    for number in (_SENT, _ARRIVED):
        if 0 < held.get(number, 0) < 1 << 59:
            yield (_EPOCH + timedelta(microseconds=held[number] // 10)).astimezone(attached.JAPAN)


# --- compressed RTF ---------------------------------------------------------------

# [MS-OXRTFCP] 2.1.2.1: what the dictionary holds at the beginning
_BEGINNING = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern "
    b"\\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0"
    b"\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_WINDOW = 4096
_PLAIN, _PACKED = 0x414C454D, 0x75465A4C


def unpacked(data: bytes) -> bytes:
    """Raises Unreadable for what is no compressed RTF."""
    _, size, kind = longs(data, 0, 3)
    if kind == _PLAIN:
        return data[16 : 16 + size]
    if kind != _PACKED or size > 2 * _BODY_CHARS:
        raise Unreadable("メール本文の RTF が壊れています")
    window = bytearray(_BEGINNING.ljust(_WINDOW, b"\x00"))
    put, at, out = len(_BEGINNING), 16, bytearray()
    while at < len(data) and len(out) < size:
        control, at = data[at], at + 1
        for bit in range(8):
            if at >= len(data) or len(out) >= size:
                break
            if not control >> bit & 1:
                taken, at = data[at : at + 1], at + 1
            else:
                word, at = int.from_bytes(data[at : at + 2], "big"), at + 2
                start = word >> 4
                if start == put:
                    return bytes(out)
                taken = b""
                for n in range((word & 15) + 2):
                    byte = window[(start + n) % _WINDOW]
                    window[(put + n) % _WINDOW] = byte
                    taken += bytes([byte])
            for byte in taken:
                window[put] = byte
                put = (put + 1) % _WINDOW
            out += taken
    return bytes(out)
