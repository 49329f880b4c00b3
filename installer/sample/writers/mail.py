"""Mails, in UTF-8 or in the ISO-2022-JP of older clients, perhaps with a file attached."""

from __future__ import annotations

import hashlib
import mimetypes
import posixpath
from collections.abc import Callable
from email.header import Header
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, parseaddr

from installer.sample.sources import Source


def write(source: Source, built: Callable[[str], bytes]) -> bytes:
    """`attach:` names a file beside the mail or below files/; `built(uri)` gives its bytes."""
    charset = source.fields.get("charset", "utf-8")
    message: Message = MIMEText(source.body, "plain", charset)
    attached = source.fields.get("attach")
    identity = hashlib.sha256(source.uri.encode()).hexdigest()
    if attached:
        text = message
        message = MIMEMultipart(boundary=f"==={identity[:32]}==")
        message.attach(text)
        message.attach(_attachment(attached, built(_beside(source.uri, attached))))
    for name in ("from", "to", "cc"):
        if name in source.fields:
            people = source.fields[name].split(",")
            message[name.title()] = ", ".join(_person(person, charset) for person in people)
    message["Subject"] = Header(source.fields["subject"], charset).encode()
    message["Date"] = format_datetime(source.date)
    message["Message-ID"] = f"<{identity[:24]}@kuramae-seiki.example>"
    return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _person(text: str, charset: str) -> str:
    name, address = parseaddr(text.strip())
    return f"{Header(name, charset).encode()} <{address}>" if name else address


def _beside(uri: str, attached: str) -> str:
    return attached if "/" in attached else posixpath.join(posixpath.dirname(uri), attached)


def _attachment(name: str, data: bytes) -> Message:
    name = posixpath.basename(name)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    part = MIMEApplication(data, kind.partition("/")[2])
    part.replace_header("Content-Type", kind)
    part.add_header("Content-Disposition", "attachment", filename=("utf-8", "", name))
    return part
