"""What a file is, by what is in it. A name's ending only decides between kinds of text."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO

from appliance.errors import Unreadable
from appliance.formats.compound import Compound

EDITION = "10"  # another one tries every file again that could not be read: raise it with a format
HEAD_BYTES = 65_536
_OOXML = "application/vnd.openxmlformats-officedocument."
DOCX, XLSX, PPTX = (
    _OOXML + "wordprocessingml.document",
    _OOXML + "spreadsheetml.sheet",
    _OOXML + "presentationml.presentation",
)
_ODF = "application/vnd.oasis.opendocument."
ODT, ODS, ODP = _ODF + "text", _ODF + "spreadsheet", _ODF + "presentation"
JSON, NOTEBOOK, XML = "application/json", "application/x-ipynb+json", "application/xml"
MBOX = "application/mbox"
DOC, PPT, MSG, JTD, XDW = (
    "application/msword",
    "application/vnd.ms-powerpoint",
    "application/vnd.ms-outlook",
    "application/x-js-taro",
    "application/vnd.fujifilm.docuworks",
)
EPUB, RTF = "application/epub+zip", "application/rtf"
XLS, OLE, ENCRYPTED = (
    "application/vnd.ms-excel",
    "application/x-ole-storage",
    "application/encrypted",
)
PDF, ZIP, TAR = "application/pdf", "application/zip", "application/x-tar"
GZIP = "application/gzip"
PNG, JPEG, TIFF = "image/png", "image/jpeg", "image/tiff"
SEVEN, RAR, LZH = "application/x-7z-compressed", "application/vnd.rar", "application/x-lzh"
_SAID_BYTES = 100
_MEMBERS = ((b"word/", DOCX), (b"xl/", XLSX), (b"ppt/", PPTX))
_NAMED = re.compile(
    rb"mimetype(application/[a-z0-9.+-]{1,80})"
)  # the first member of a zip, stored
_STREAMS = {
    "EncryptedPackage": ENCRYPTED, "Workbook": XLS, "Book": XLS, "WordDocument": DOC,
    "PowerPoint Document": PPT, "__properties_version1.0": MSG, "DocumentText": JTD,
}  # fmt: skip
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF8", "image/gif"),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"{\\rtf", RTF),
    (b"7z\xbc\xaf\x27\x1c", SEVEN),
    (b"Rar!", RAR),
    (b"\x1f\x8b", GZIP),
    (b"BZh", TAR),
    (b"\xfd7zXZ\x00", TAR),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ\x90", "application/x-executable"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
)
_ENDINGS = {
    ".md": "text/markdown", ".markdown": "text/markdown", ".csv": "text/csv", ".tsv": "text/csv",
    ".eml": "message/rfc822", ".json": JSON, ".jsonl": JSON, ".ndjson": JSON, ".geojson": JSON,
    ".ipynb": NOTEBOOK, ".xdw": XDW, ".xbd": XDW,
}  # fmt: skip
_HTML = re.compile(rb"<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)
_HTML_PART = re.compile(rb"<(?:head|body|title|meta|div|table|p|h1|script)[\s>/]", re.IGNORECASE)
_HEADER = re.compile(
    rb"^(?:return-path|received|message-id|mime-version|delivered-to|from|to|date|subject"
    rb"|content-type|x-[a-z-]{1,40}|reply-to|cc)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BOX = re.compile(rb"From [^\r\n]{1,200}[0-9]{4}[^\r\n]{0,40}\r?\n[A-Za-z-]{2,40}:")
_SURE_HEADER = re.compile(
    rb"^(?:received|message-id|mime-version)[ \t]*:", re.IGNORECASE | re.MULTILINE
)


def detect(head: bytes, name: str = "") -> str:
    """The media type of a file that begins with `head` (64 KiB are plenty)."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _named(head) or next((kind for member, kind in _MEMBERS if member in head), ZIP)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return OLE
    if head[2:5] in (b"-lh", b"-lz") and head[6:7] == b"-":
        return LZH
    if head[257:262] == b"ustar":
        return TAR
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if b"%PDF-" in head[:1024]:  # not of an archive, whose first file is one
        return PDF
    return _text_kind(_narrow(head), PurePosixPath(name.lower()).suffix)


def identify(stream: BinaryIO, name: str = "") -> str:
    """Like `detect`, with the whole file at hand: an Office file whose members come late is found."""
    kind = detect(stream.read(HEAD_BYTES), name)
    if kind in (ZIP, DOCX, XLSX, PPTX):
        return _zip(stream, kind)
    if kind == OLE:
        stream.seek(0)
        return _compound(stream)
    return kind


def _zip(stream: BinaryIO, guess: str) -> str:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = {info.filename.encode("utf-8", "replace") for info in archive.infolist()}
            said = b""
            if b"mimetype" in names:
                with archive.open("mimetype") as member:
                    said = member.read(_SAID_BYTES)
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, EOFError, zlib.error):
        if guess == ZIP:
            raise Unreadable("ZIP として壊れています") from None
        return guess  # its parser says what is wrong
    if said and (package := _package(said.decode("ascii", "replace").strip())):
        return package
    if b"[Content_Types].xml" in names:
        return next((k for m, k in _MEMBERS if any(n.startswith(m) for n in names)), ZIP)
    return ZIP


def _named(head: bytes) -> str | None:
    """What a package of OpenDocument or EPUB says of itself; a template is read as what it is for."""
    found = _NAMED.match(head, 30)
    return _package(found[1].decode()) if found else None


def _package(said: str) -> str | None:
    said = next((k for k in (ODT, ODS, ODP) if said.startswith(k)), said)
    return said if said in (ODT, ODS, ODP, EPUB) else None


def _compound(stream: BinaryIO) -> str:
    """By the streams at its root: a document may hold others of any kind."""
    try:
        roots = {name for name in Compound(stream).names if "/" not in name}
    except Unreadable:
        return OLE
    return next((kind for name, kind in _STREAMS.items() if name in roots), OLE)


def _text_kind(head: bytes, ending: str) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:4096]
    if start.startswith(b"<") and (_HTML.search(start) or len(_HTML_PART.findall(start)) >= 2):
        return "text/html"
    if ending in (".html", ".htm", ".xhtml") and start.startswith(b"<"):
        return "text/html"
    if start.startswith(b"<?xml"):
        return XML
    if _BOX.match(start):
        return MBOX
    block = _BLANK_LINE.split(start, maxsplit=1)[0]
    headers = len(_HEADER.findall(block)) if _HEADER.match(start) else 0
    if headers >= 3 and (_SURE_HEADER.search(block) or ending == ".eml"):
        return "message/rfc822"
    return _ENDINGS.get(ending, "text/plain")


def _narrow(head: bytes) -> bytes:
    """UTF-16 with its mark, as bytes the patterns can read."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "replace").encode("utf-8", "replace")
    return head
