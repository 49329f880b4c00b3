"""The storage format of Confluence as HTML that says the same, and fetches nothing.

Text of macros stays; pictures, includes and what points elsewhere are left out, except for their words.
What other pages would lend to this one when it is shown is not here: they have readers of their own.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from typing import Any

from lxml import etree

from appliance.errors import Unreadable

_AC, _RI = "{http://atlassian.com/content}", "{http://atlassian.com/resource/identifier}"
_ENTITY = re.compile(r"<!\[CDATA\[.*?\]\]>|&([A-Za-z][A-Za-z0-9]*;)", re.DOTALL)
_XML = ("lt;", "gt;", "amp;", "quot;", "apos;")
_SILENT = {  # says nothing to a reader
    f"{_AC}parameter", f"{_AC}placeholder", f"{_AC}task-id", f"{_AC}task-uuid", f"{_AC}task-status",
    f"{_AC}adf-attribute", f"{_RI}user", f"{_RI}url", f"{_RI}space", "script", "style",
}  # fmt: skip
_PLAIN = {f"{_AC}task-list": "ul", f"{_AC}task": "li", f"{_AC}structured-macro": "div"}
_KEPT = {
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "table", "thead", "tbody", "tfoot",
    "tr", "th", "td", "caption", "pre", "code", "blockquote", "br", "hr", "dl", "dt", "dd", "div",
}  # fmt: skip
_SPANS = ("rowspan", "colspan")
DEEPEST = 100  # elements inside elements; below that only words are kept


def page(title: str, labels: list[str], storage: str) -> bytes:
    """A page with its title in front. Raises Unreadable."""
    name = html.escape(title)
    marked = f"<p>ラベル: {html.escape('、'.join(labels))}</p>" if labels else ""
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{name}</title></head>'
        f"<body><h1>{name}</h1>{marked}<div>{_body(storage)}</div></body></html>"
    ).encode("utf-8", "replace")


def _body(storage: str) -> str:
    text = re.sub("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", _ENTITY.sub(_known, storage))
    text = f'<x xmlns:ac="{_AC[1:-1]}" xmlns:ri="{_RI[1:-1]}">{text}</x>'
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, recover=True, strip_cdata=True
    )
    root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    if root is None:
        raise Unreadable("ページの本文 (ストレージ形式) を読めません。")
    return _inner(root)


def _known(found: re.Match[str]) -> str:
    """HTML has names for letters that XML does not know; code stays as it is."""
    name = found[1]
    if not name or name in _XML:
        return found[0]
    return html.escape(html5.get(name, found[0]))


def _inner(node: Any, depth: int = 0) -> str:
    if depth > DEEPEST:
        return html.escape("".join(node.itertext()))
    return html.escape(node.text or "") + "".join(
        _said(child, depth + 1) + html.escape(child.tail or "") for child in node
    )


def _said(node: Any, depth: int) -> str:
    tag = node.tag
    if not isinstance(tag, str) or tag in _SILENT:  # comments are no text either
        if tag == f"{_AC}parameter" and node.get(f"{_AC}name") == "title":
            return f"<p>{_inner(node, depth)}</p>"
        return ""
    if tag == f"{_AC}plain-text-body":
        return f"<pre>{_inner(node, depth)}</pre>"
    if tag in (f"{_AC}image", "img"):
        return html.escape(node.get(f"{_AC}alt") or node.get("alt") or "")
    if tag == f"{_AC}link" and node.find(f"{_AC}link-body") is None:
        own = node.findtext(f"{_AC}plain-text-link-body")
        named = (one.get(f"{_RI}content-title") or one.get(f"{_RI}filename") or "" for one in node)
        return html.escape(own or next((name for name in named if name), ""))
    if tag == "time":
        return html.escape(node.get("datetime") or "")
    if tag == f"{_AC}emoticon":
        return html.escape(node.get(f"{_AC}emoji-fallback") or "")
    kept = _PLAIN.get(tag) or (tag if tag in _KEPT else "")
    if kept in ("br", "hr"):
        return f"<{kept}>"
    spans = "".join(
        f' {name}="{node.get(name)}"' for name in _SPANS if (node.get(name) or "").isdecimal()
    )
    return f"<{kept}{spans}>{_inner(node, depth)}</{kept}>" if kept else _inner(node, depth)
