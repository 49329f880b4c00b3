"""URLs in one spelling, so that a page has one name, and a fence says which of them may be asked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import quote, unquote, urljoin, urlsplit

LONGEST = 2000  # characters
SESSIONS = (
    "utm_*", "fbclid", "gclid", "jsessionid", "PHPSESSID", "ASPSESSIONID*", "CFID", "CFTOKEN",
)  # fmt: skip
_PORTS = {"http": "80", "https": "443"}
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+|\[[0-9A-Fa-f:.]+\]")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_UP = re.compile(r"(?:^|[/\\;])\.\.(?:[/\\;]|$)")


def canonical(url: str, base: str = "", drop: Sequence[str] = SESSIONS) -> str:
    """The one spelling of a URL; empty for what is none, or could be read in two ways.

    The fragment goes, and parameters whose names fit `drop`; a name in the path is escaped once.
    """
    url = url.strip()
    if len(url) > LONGEST or "\\" in url or any(ord(c) < 32 or ord(c) == 127 for c in url):
        return ""
    try:
        parts = urlsplit(urljoin(base, url))
        host, port = (parts.hostname or "").rstrip("."), parts.port
        if parts.scheme not in _PORTS or parts.username is not None or "%" in host:
            return ""
        host = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        return ""
    path = _path(parts.path, drop)
    if not _HOST.fullmatch(host) or not path:
        return ""
    at = f"{parts.scheme}://{host}" + (
        f":{port}" if port and str(port) != _PORTS[parts.scheme] else ""
    )
    asked = [p for p in parts.query.split("&") if p and not _fits(p.partition("=")[0], drop)]
    query = escaped("&".join(asked), "!$&'()*+,;=:@/?-._~%")
    found = f"{at}{path}?{query}" if query else f"{at}{path}"
    return found if len(found) <= LONGEST else ""


def folder(url: str) -> str:
    """Of a canonical URL: where it lies."""
    bare = url.partition("?")[0]
    return bare[: bare.rindex("/") + 1]


def last(url: str) -> str:
    """Its last part, as people write it; the host where there is none."""
    parts = urlsplit(url)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc


def below(url: str, place: str) -> bool:
    """Canonical both: /docs holds /docs, /docs/a and /docs?a, and not /docs-2."""
    return url.startswith(place) and (
        url == place or place.endswith("/") or url[len(place)] in "/?"
    )


def leads(url: str, door: str) -> bool:
    """Canonical both: the same page, whatever it is told beside: /login?next=/ is /login."""
    path, _, said = url.partition("?")
    to, _, must = door.partition("?")
    return path == to and set(must.split("&")) - {""} <= set(said.split("&"))


@dataclass(frozen=True)
class Fence:
    """What may be asked: all that lies below one of `places`, and each of `doors`."""

    places: Collection[str]
    doors: set[str] = field(default_factory=set)

    def holds(self, url: str) -> bool:
        """Of a canonical URL."""
        return any(below(url, place) for place in self.places)

    def admits(self, url: str) -> bool:
        """Of any, as a redirect may give it: nothing of it is believed but what it means."""
        one = canonical(url, drop=())
        return self.holds(one) or any(leads(one, door) for door in self.doors)


def winding(url: str) -> bool:
    """A path that repeats itself leads round in a circle: /a/b/a/b/a/b."""
    parts = [p for p in urlsplit(url).path.split("/") if p]
    return any(parts.count(part) > 2 for part in set(parts))


def pattern(url: str) -> str:
    """What the days of a calendar have in common: numbers are alike, and so are values."""
    parts = urlsplit(url)
    names = sorted(p.partition("=")[0] for p in parts.query.split("&") if p)
    path = re.sub(r"\d+", "0", unquote(parts.path))
    return f"{parts.netloc}{path}" + (f"?{'&'.join(names)}" if names else "")


def _path(path: str, drop: Sequence[str]) -> str:
    kept: list[str] = []
    for part in escaped(path, "!$&'()*+,;=:@-._~%/").split("/")[1:]:
        name, *said = part.split(";")
        part = ";".join([name, *(s for s in said if not _fits(s.partition("=")[0], drop))])
        if part == "..":
            kept = [*kept[:-1], ""] if not kept or kept[-1] else [*kept[:-2], ""]
            continue
        if kept and kept[-1] == "" and part != "":
            kept.pop()
        if part == ".":
            part = ""
        kept.append(part)
    found = "/" + "/".join(kept)
    return "" if _UP.search(unquote(found)) or "\0" in unquote(found) else found


def escaped(text: str, safe: str) -> str:
    """What need not be escaped is not; what must be is, in upper case; a lone % as well."""
    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)

    def one(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16))
        return char if char in _PLAIN else found[0].upper()

    return quote(_ESCAPE.sub(one, text), safe=safe)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.lower(), p.lower()) for p in patterns)
