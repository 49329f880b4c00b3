"""What Confluence says over HTTP: its answers, its listings to their end, and what they tell of.

Nothing is believed that leads out of the listing that was asked for.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from json import loads as _loads
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import httpx2

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from connectors import http
from connectors.http import Http, shown

PAGES = 100_000  # answers of one listing
_ID = re.compile(r"(?:att)?[0-9]{1,30}")


class Item(NamedTuple):
    """A page, a blog post or an attachment, as a listing tells."""

    id: str
    page: str  # its own id, or that of the page it hangs on
    kind: str  # page, blogpost, attachment
    title: str
    number: int  # its version
    labels: tuple[str, ...]
    at: str
    space: str
    above: tuple[str, ...]  # ids, from the top
    media_type: str | None = None
    size_bytes: int | None = None
    link: str = ""

    @property
    def version(self) -> str:
        said = hashlib.sha256("\n".join(self.labels).encode()).hexdigest()[:8]
        return f"{self.number}:{said}" if self.labels else str(self.number)


@dataclass(frozen=True)
class Rest:
    """The REST API below `base`. Raises what `Http` raises."""

    base: str
    cloud: bool
    http: Http

    def listed(
        self, path: str, query: dict[str, Any], *, again: bool = False
    ) -> Iterator[dict[str, Any]]:
        """All of a listing. Raises SourceUnreachable where it does not end; `again`: then it has."""
        start, url, seen = 0, f"{self.base}{path}?{urlencode(query)}", set[str]()
        for _ in range(PAGES):
            said = self.json(url)
            found = of(said, "results")
            if not isinstance(found, list):
                raise SourceMisconfigured(f"{shown(url)} は Confluence の一覧ではありません。")
            fresh = {
                str(one.get("id")): one
                for one in reversed(found)
                if isinstance(one, dict) and str(one.get("id")) not in seen
            }
            seen |= fresh.keys()
            yield from reversed(fresh.values())
            link = of(said, "_links", "next")
            if found and not fresh and again:
                return
            if (found and not fresh) or (link and link == url):
                break
            if isinstance(link, str) and link:
                url = self._next(path, link)
            elif not self.cloud and len(found) >= (_int(of(said, "limit")) or query["limit"]):
                start += len(found)  # old servers link to no next page
                url = f"{self.base}{path}?{urlencode(query | {'start': start})}"
            else:
                return
        raise SourceUnreachable(
            f"{shown(url)} の一覧が同じ所を繰り返します。次の確認でやり直します。"
        )

    def _next(self, path: str, link: str) -> str:
        """The next page of the same listing, and nothing else."""
        context = urlsplit(self.base).path
        if link.startswith("/") and not (context and link.startswith(f"{context}/")):
            link = context + link
        url, here = urljoin(f"{self.base}/", link), urlsplit(self.base + path)
        there = urlsplit(url)
        if (there.scheme, there.netloc, there.path) != (here.scheme, here.netloc, here.path):
            raise SourceDenied(
                f"{shown(self.base)} の一覧の続きが別の場所 ({shown(url)}) を指しています。"
            )
        return url

    def json(self, url: str, kind: type = dict) -> Any:
        """The answer; None where there is none (404)."""
        reply = self.http.ask("GET", url, headers={"accept": "application/json"})
        if reply.status in (404, 410):
            return None
        try:
            said = _loads(reply.body)
        except ValueError:
            if "json" in reply.headers.get("content-type", ""):
                raise SourceUnreachable(
                    f"{shown(url)} の答えが途中で切れました。次の確認でやり直します。"
                ) from None
            said = None
        if not isinstance(said, kind):
            raise SourceMisconfigured(
                f"{shown(url)} は Confluence の REST API ではありません。URL とエディションを確かめてください。"
            )
        return said


def judge(answer: httpx2.Response, url: str) -> None:
    """A password that was wrong too often must be typed in a browser once."""
    if answer.status_code in (401, 403):
        why = answer.headers.get("x-authentication-denied-reason", "")
        if why.upper().startswith("CAPTCHA"):
            raise SourceDenied(
                f"{shown(url)}: サインインに続けて失敗したため、CAPTCHA が求められています。"
                "ブラウザーで一度サインインしてください。"
            )
    if answer.status_code == 401:
        raise SourceDenied(
            f"{shown(url)} にサインインできません。トークン (またはパスワード) とその期限を確かめてください。"
        )
    http.judge(answer, url)


def of(said: Any, *names: str) -> Any:
    """What lies inside an answer, name by name; None where there is none."""
    for name in names:
        said = said.get(name) if isinstance(said, dict) else None
    return said


def whole(said: Any) -> bool:
    """Whether a list inside an answer holds all there are."""
    found, limit = of(said, "results"), of(said, "limit")
    if not isinstance(found, list) or of(said, "_links", "next"):
        return False
    most = max(_int(of(said, name)) for name in ("size", "totalSize"))
    return len(found) >= most and (limit is None or len(found) < _int(limit))


def _int(said: Any) -> int:
    return said if isinstance(said, int) else 0


def _list(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []


def _time(said: Any) -> str:
    return str(of(said, "version", "when") or of(said, "version", "createdAt") or "")


def when(said: str) -> datetime:
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def entry(said: dict[str, Any]) -> Item | None:
    """A page or a blog post; None where it is not said so. What is not current has no kind."""
    id, title, number = str(said.get("id")), said.get("title"), of(said, "version", "number")
    above = [str(of(one, "id") or "") for one in _list(said.get("ancestors"))]
    key = of(said, "space", "key")
    if not (isinstance(title, str) and isinstance(number, int) and isinstance(key, str)):
        return None
    if not all(re.fullmatch(r"[0-9]{1,30}", one) for one in (id, *above)):
        return None
    labels = _list(of(said, "metadata", "labels", "results"))
    names = sorted(nfc(str(of(one, "name") or "")) for one in labels)
    kind = str(said.get("type"))
    return Item(
        *(id, id, kind if said.get("status", "current") == "current" else "", nfc(title) or id),
        number, tuple(filter(None, names)), _time(said), key, tuple(above),
    )  # fmt: skip


def hung(page: Item, said: Any) -> Item | None:
    """One that hangs on a page; None where it is not said so."""
    id, title = str(of(said, "id") or ""), of(said, "title")
    number = of(said, "version", "number")
    if not _ID.fullmatch(id) or not isinstance(title, str) or not isinstance(number, int):
        return None
    kept = "attachment" if of(said, "status") in (None, "current") else ""
    size = of(said, "fileSize") or of(said, "extensions", "fileSize")
    kind = of(said, "mediaType") or of(said, "extensions", "mediaType")
    return Item(
        *(id, page.id, kept, nfc(title) or id, number, ()),
        _time(said), page.space, page.above,
        kind if isinstance(kind, str) else None,
        size if isinstance(size, int) else None,
        str(of(said, "_links", "download") or ""),
    )  # fmt: skip
