"""Office packages (OOXML): a zip of XML, opened with care.

Declared sizes are checked before a byte is unpacked, real sizes while unpacking;
XML is read without entities, DTDs or network. Names are compared without their
namespace: the transitional and the strict kind of file then read alike.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from typing import Any, BinaryIO

from lxml import etree

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.types import Properties

MACROS = "マクロが含まれています (実行せず、本文だけを読みました)"
BROKEN = (  # what reading a torn zip raises
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
)
_WHOLE = re.compile(r"-?\d{1,15}")
_BLOCK = 1 << 20
_MEMBERS = 20_000
_TOTAL_BYTES = 1_000_000_000
_XML_BYTES = 300_000_000
_EDGES, _EDGE_CHARS = 20, 200  # running heads and feet that are kept, and of each
_RATIO = 500  # a member that shrinks more than this, and is big, is a bomb
_RATIO_FROM = 20_000_000


class Package:
    """The parts of an Office file. Raises Unreadable and TooLarge."""

    def __init__(self, stream: BinaryIO) -> None:
        self._zip = open_zip(stream)
        self._names = {name.lower(): name for name in self._zip.namelist()}

    def has(self, part: str) -> bool:
        return part.lower() in self._names

    @property
    def names(self) -> list[str]:
        return self._zip.namelist()

    def spelled(self, part: str) -> str:
        """The part's name in the zip: as it is given here, or with other capitals."""
        return part if part in self._zip.NameToInfo else self._names[part.lower()]

    def size(self, part: str) -> int:
        """Bytes that it says it unpacks to."""
        return self._zip.getinfo(self.spelled(part)).file_size

    def xml(self, part: str) -> Any:
        """The root element of a part."""
        try:
            return etree.fromstring(self.read(part), xml_parser())
        except etree.XMLSyntaxError as error:
            raise Unreadable(f"部品 {part} の XML が壊れています ({error.msg})") from None

    def read(self, part: str) -> bytes:
        try:
            with self._zip.open(self.spelled(part)) as member:
                data = member.read(_XML_BYTES + 1)
        except KeyError:
            raise Unreadable(f"部品 {part} がありません") from None
        except BROKEN as error:
            raise Unreadable(f"部品 {part} が壊れています ({error})") from None
        if len(data) > _XML_BYTES:
            raise TooLarge(f"部品 {part} が大きすぎます")
        return data

    def blocks(self, part: str) -> Iterator[bytes]:
        """A part of XML piece by piece, each ending before a tag: a sheet may be too large for memory."""
        rest = b""
        try:
            with self._zip.open(self.spelled(part)) as member:
                while data := member.read(_BLOCK):
                    data = rest + data
                    cut = data.rfind(b"<")
                    yield data[: max(cut, 0)]
                    rest = data[max(cut, 0) :][-_BLOCK:]
        except (KeyError, *BROKEN) as error:
            raise Unreadable(f"部品 {part} が壊れています ({error})") from None
        yield rest

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """id -> (last word of the relation's type, target part) of what a part points to inside."""
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if not self.has(rels):
            return {}
        found: dict[str, tuple[str, str]] = {}
        for relation in self.xml(rels):
            if not isinstance(relation.tag, str) or relation.get("TargetMode") == "External":
                continue
            target = posixpath.normpath(posixpath.join(folder, relation.get("Target", "")))
            if relation.get("Target", "").startswith("/"):
                target = posixpath.normpath(relation.get("Target"))
            kind = relation.get("Type", "").rsplit("/", 1)[-1]
            found[relation.get("Id", "")] = (kind, target.lstrip("/"))
        return found

    def main(self) -> str:
        """The part with the document itself."""
        for kind, target in self.related("").values():
            if kind == "officeDocument":
                return target
        raise Unreadable("Office 文書の本体が見つかりません")

    def title(self) -> str | None:
        for kind, target in self.related("").values():
            if kind == "core-properties" and self.has(target):
                for element in self.xml(target):
                    if name(element) == "title":
                        return str(element.text or "")
        return None

    def properties(self, edges: Iterable[str] = ()) -> Properties:
        """Who made it and when, beside what stands at the edges of its pages."""
        said: dict[str, str] = {}
        for kind, target in self.related("").values():
            if kind == "core-properties" and self.has(target):
                said |= {name(e): str(e.text or "") for e in self.xml(target)}
        return properties(said.get("creator"), said.get("created"), edges)

    def problems(self) -> list[str]:
        if any(n.lower().endswith("vbaproject.bin") for n in self.names):
            return [MACROS]
        return []


def properties(author: str | None, created: str | None, edges: Iterable[str] = ()) -> Properties:
    """Of what a file says: 2024-04-01T09:00:00Z, or anything."""
    day = None
    with suppress(ValueError):
        day = date.fromisoformat((created or "")[:10])
    lines = dict.fromkeys(" ".join(line.split())[:_EDGE_CHARS] for line in edges)
    return Properties(
        " ".join((author or "").split())[:100] or None,
        day,
        tuple(line for line in lines if line)[:_EDGES],
    )


def open_zip(stream: BinaryIO, *, whole: bool = True) -> zipfile.ZipFile:
    """A zip whose headers do not promise a bomb. Not `whole`: a bad member is its own affair."""
    try:
        archive = zipfile.ZipFile(stream)
        members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Unreadable(f"ファイルが壊れています ({error})") from None
    if len(members) > _MEMBERS or sum(m.file_size for m in members) > _TOTAL_BYTES:
        raise TooLarge("展開後の大きさが上限を超えています")
    end = -1
    for member in sorted(members, key=lambda m: m.header_offset):
        if whole and member.flag_bits & 1:
            raise PasswordNeeded("パスワードが必要です")
        if member.header_offset < end:
            raise Unreadable("ZIP の中身が重なり合っています")
        end = member.header_offset + 30 + member.compress_size
        if whole and is_bomb(member.file_size, member.compress_size):
            raise TooLarge(f"圧縮率が異常です ({member.filename[:80]})")
    return archive


def is_bomb(size: int, packed: int) -> bool:
    return size > max(_RATIO_FROM, _RATIO * max(packed, 1))


def name(element: Any) -> str:
    """The tag without its namespace; "" for comments and instructions."""
    tag = element.tag
    return tag.rsplit("}", 1)[-1] if isinstance(tag, str) else ""


def value(element: Any, attribute: str = "val") -> str | None:
    """An attribute whatever its namespace."""
    for key, found in element.attrib.items():
        if key.rsplit("}", 1)[-1] == attribute:
            return str(found)
    return None


def whole(element: Any, attribute: str = "val", otherwise: int = 0) -> int:
    """An attribute that is a number; `otherwise` where there is none, or what is there is none."""
    said = (value(element, attribute) or "").strip()
    return int(said) if _WHOLE.fullmatch(said) else otherwise


def child(element: Any, *path: str) -> Any | None:
    """The first descendant along `path`, or None."""
    for step in path:
        element = next((c for c in element if name(c) == step), None)
        if element is None:
            return None
    return element


def children(element: Any, tag: str) -> Iterator[Any]:
    return (c for c in element if name(c) == tag)


def xml_parser() -> Any:
    """Without entities, DTDs and network."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
    )
