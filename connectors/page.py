"""What a crawler must know of a page: its name, its links, what it asks of robots, a form to sign in.

This runs outside the sandbox, on what anybody may have written. So no tree is made and nothing is
kept open: one pass over the tags of the first two million bytes, whose every step goes forward.
What people read of a page is read in the sandbox, by `formats/web.py`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin

PAGE_BYTES = 2_000_000
LINKS = 5_000
_VALUE_CHARS = 4_000
_TAG = re.compile(r"/?[A-Za-z][A-Za-z0-9]{0,19}(?=[\s/>])")
_ATTRIBUTE = re.compile(r"""[\s/]*([^\s/>=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?""")
_META_CHARSET = re.compile(
    rb"""<meta[^>]{0,500}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.I
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", re.I)
_RAW = {name: re.compile(f"</{name}", re.I) for name in ("script", "style", "textarea", "xmp")}
_CHARSETS = {  # no others: some codecs of Python are slow on purpose-made bytes
    "utf-8": "utf-8-sig", "utf8": "utf-8-sig", "us-ascii": "utf-8-sig", "iso-8859-1": "cp1252",
    "windows-1252": "cp1252", "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932",
    "x-sjis": "cp932", "windows-31j": "cp932", "cp932": "cp932", "euc-jp": "euc_jp",
    "x-euc-jp": "euc_jp", "iso-2022-jp": "iso2022_jp", "utf-16": "utf-16", "utf-16le": "utf-16-le",
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    action: str
    fields: Mapping[str, str]  # what it sends that nobody typed, its tokens above all
    user: str  # the field for the name
    password: str = field(repr=False)  # the field for the password


@dataclass
class Page:
    title: str = ""
    links: list[str] = field(default_factory=list)
    canonical: str = ""
    noindex: bool = False
    nofollow: bool = False
    form: Form | None = None  # the first that asks for a password


def looks(head: bytes, media_type: str) -> bool:
    """Whether it is a page, by its first bytes; by what was said of it where they say nothing."""
    start = head[:1000].lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n").lower()
    if start.startswith((b"%pdf", b"pk\x03\x04", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x89png")):
        return False
    return "html" in media_type or start.startswith((b"<!doctype html", b"<html", b"<head"))


def read(body: bytes, url: str, content_type: str = "", robots: str = "") -> Page:
    """`robots` is the header X-Robots-Tag."""
    page, base, text = Page(), url, _text(body[:PAGE_BYTES], content_type)
    _obey(page, robots)
    inputs: list[Mapping[str, str]] = []
    action: str | None = None
    for name, said, after in _tags(text):
        match name:
            case "base" if "href" in said and base == url:
                base = _joined(url, said["href"])
            case "title" if not page.title:
                page.title = " ".join(
                    html.unescape(text[after : text.find("<", after)][:500]).split()
                )
            case "meta" if said.get("name", "").lower() in ("robots", "kura"):
                _obey(page, said.get("content", ""))
            case "meta" if said.get("http-equiv", "").lower() == "refresh":
                _, found, to = said.get("content", "").partition("=")
                _link(page, base, to.strip().strip("'\"") if found else "")
            case "link" if "canonical" in said.get("rel", "").lower().split():
                page.canonical = _joined(base, said.get("href", ""))
            case "a" | "area" if "nofollow" not in said.get("rel", "").lower().split():
                _link(page, base, said.get("href", ""))
            case "frame" | "iframe":
                _link(page, base, said.get("src", ""))
            case "form":
                action, inputs = _joined(base, said.get("action", "")) or url, []
            case "input":
                inputs.append(said)
            case "/form" if action is not None:
                page.form = page.form or _form(action, inputs)
                action = None
    if action is not None:
        page.form = page.form or _form(action, inputs)
    if page.nofollow:
        page.links = []
    page.links = list(dict.fromkeys(page.links))
    return page


def _obey(page: Page, said: str) -> None:
    words = set(re.split(r"[\s,:]+", said.lower()))
    page.noindex |= bool(words & {"noindex", "none"})
    page.nofollow |= bool(words & {"nofollow", "none"})


def _link(page: Page, base: str, target: str) -> None:
    if target and len(page.links) < LINKS and (found := _joined(base, target)):
        page.links.append(found)


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target.strip())
    except ValueError:
        return ""


def _form(action: str, inputs: list[Mapping[str, str]]) -> Form | None:
    """A form that asks for a name and a password. The name is in the last field before that."""
    user = ""
    for said in inputs:
        kind = said.get("type", "text").lower()
        if kind in ("text", "email") and said.get("name"):
            user = said["name"]
        if kind == "password" and said.get("name"):
            given = {
                one["name"]: one.get("value", "")
                for one in inputs
                if one.get("name") and one.get("type", "").lower() == "hidden"
            }
            return Form(action, given, user, said["name"])
    return None


def _tags(text: str) -> Iterator[tuple[str, dict[str, str], int]]:
    """Tags in their order, with their attributes, and where the text goes on."""
    at = 0
    while (at := text.find("<", at)) >= 0:
        if text.startswith("<!--", at):
            if (at := text.find("-->", at + 4)) < 0:
                return
            continue
        found = _TAG.match(text, at + 1)
        if not found:
            at += 1
            continue
        said: dict[str, str] = {}
        name, at = found[0].lower(), found.end()
        while one := _ATTRIBUTE.match(text, at):
            at = one.end()
            value = next((v for v in one.groups()[1:] if v is not None), "")
            # a number of thousands of digits is not one
            said.setdefault(one[1].lower()[:40], html.unescape(value[:_VALUE_CHARS]))
        at = max(text.find(">", at), at)
        yield name, said, at + 1
        if name in _RAW:
            if not (end := _RAW[name].search(text, at)):
                return
            at = end.start()


def _text(body: bytes, content_type: str) -> str:
    """By the header, else by what the page says of itself, else as it can be read."""
    header, meta = _CHARSET.search(content_type), _META_CHARSET.search(body[:4000])
    for name in (header[1] if header else "", meta[1].decode("ascii") if meta else ""):
        if codec := _CHARSETS.get(name.lower()):
            return body.decode(codec, "replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("cp932", "replace")
