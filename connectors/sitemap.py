"""Sitemaps (sitemaps.org): the pages they name, and the sitemaps."""

from __future__ import annotations

import zlib

from lxml import etree

from appliance.errors import SourceUnreachable, TooLarge
from connectors.markup import tree

MAPS = 1000
MAP_BYTES = 50_000_000  # as the protocol has it


def read(body: bytes, name: str) -> tuple[list[str], list[str]]:
    """Other sitemaps, and pages. `body` may be packed by gzip, or one URL a line."""
    if body.startswith(b"\x1f\x8b"):
        body = _unpacked(body, name)
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return [], [line.strip() for line in body.decode("utf-8-sig", "replace").splitlines()]
    root = tree(body)
    if root is None:
        raise SourceUnreachable(f"サイトマップ {name} を読めません。")
    found = [(one.text or "").strip() for one in root.iterfind("{*}*/{*}loc")]
    return (found, []) if etree.QName(root).localname == "sitemapindex" else ([], found)


def _unpacked(body: bytes, name: str) -> bytes:
    packed = zlib.decompressobj(wbits=31)
    try:
        plain = packed.decompress(body, MAP_BYTES)
    except zlib.error:
        raise SourceUnreachable(f"サイトマップ {name} を読めません。") from None
    if packed.unconsumed_tail:
        raise TooLarge(f"サイトマップ {name} が大きすぎます。")
    return plain
