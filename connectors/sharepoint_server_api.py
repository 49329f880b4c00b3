"""The REST API of SharePoint Server: its answers, its listings to their end, its change log.

No link is followed that leaves the API. What is posted is a question (`GetChanges`), and carries the
form digest without which SharePoint takes no post.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from connectors import http
from connectors.http import Http, Reply, bounded, shown
from connectors.sharepoint_api import of

PAGES = 100_000  # answers of one listing
EARLY_S = 60.0  # a digest is renewed so long before its end
AGAIN = frozenset(
    {429, 502, 503, 504}
)  # a 500 is how SharePoint says what is wrong with a question
_LIGHT = "application/json;odata=nometadata"
_VERBOSE = "application/json;odata=verbose"
_TOKENS = ("-2130575172", "-2130575173")  # a change token that is not valid, or is not of this list
_LATER = "-2147429894"  # "SPQueryThrottledException": more than the list view threshold
_ASKED = (
    "Item", "List", "Web", "Add", "Update", "SystemUpdate", "DeleteObject", "Rename", "Move",
    "Restore", "RoleAssignmentAdd", "RoleAssignmentDelete", "RoleDefinitionAdd",
    "RoleDefinitionDelete", "RoleDefinitionUpdate",
)  # fmt: skip


class NotThere(SourceMisconfigured):
    """What a setting names is not there."""


class Stale(SourceMisconfigured):
    """A change token that the server no longer takes."""


class NoSuchField(SourceMisconfigured):
    """What an older edition does not know, or another thing it finds wrong with a question."""


@dataclass
class Rest:
    """Below `root`; `web` is the server-relative path of a site, "" for the one at the top.

    Raises what `Http` raises.
    """

    root: str
    http: Http
    _digests: dict[str, tuple[str, float]] = field(default_factory=dict, init=False, repr=False)

    def json(
        self, web: str, path: str, query: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The answer; None where there is none (404)."""
        url = self._url(web, path, query)
        reply = self._ask("GET", url)
        return None if reply.status in (404, 410) else _one(parsed(reply.body, url))

    def listed(
        self, web: str, path: str, query: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """All of a collection. Raises NotThere, and SourceUnreachable where it does not end."""
        url, base, seen = self._url(web, path, query), self._url(web, "", None), set[str]()
        while url:
            if url in seen or len(seen) > PAGES:
                raise SourceUnreachable(f"{shown(url)} の一覧が同じ所を繰り返します。")
            seen.add(url)
            reply = self._ask("GET", url)
            if reply.status in (404, 410):
                raise NotThere(f"{shown(url)} がありません。")
            said = parsed(reply.body, url)
            yield from values(said, url)
            url = _here(_next(said), base)

    def changes(self, web: str, token: str) -> Iterator[dict[str, Any]]:
        """What happened in a site after `token`, oldest first. Raises Stale, NotThere."""
        seen = {token}
        for _ in range(PAGES):
            query: dict[str, Any] = {"__metadata": {"type": "SP.ChangeQuery"}}
            query |= dict.fromkeys(_ASKED, True)
            query["ChangeTokenStart"] = {
                "__metadata": {"type": "SP.ChangeToken"},
                "StringValue": token,
            }
            page = values(self._post(web, "web/getchanges", {"query": query}), web)
            yield from page
            if not page:
                return
            token = str(of(page[-1], "ChangeToken", "StringValue") or "")
            if not token or token in seen:
                break
            seen.add(token)
        raise SourceUnreachable(f"{self.root}{web} の変更の記録が同じ所を繰り返します。")

    def file(self, web: str, path: str, most_bytes: int) -> BinaryIO:
        return self.http.file(self._url(web, path, None), most_bytes)

    def _post(self, web: str, path: str, said: Mapping[str, Any]) -> dict[str, Any]:
        url = self._url(web, path, None)
        headers = {
            "accept": _LIGHT,
            "content-type": _VERBOSE,
            "x-requestdigest": self._digest(web),
        }
        content = json.dumps(said).encode()
        reply = self.http.ask("POST", url, headers=headers, content=content)
        if reply.status in (404, 410):
            raise NotThere(f"{shown(url)} がありません。")
        return parsed(reply.body, url)

    def _digest(self, web: str) -> str:
        digest, until = self._digests.get(web, ("", 0.0))
        if time.monotonic() < until:
            return digest
        url = self._url(web, "contextinfo", None)
        reply = self.http.ask("POST", url, headers={"accept": _LIGHT}, content=b"")
        if reply.status in (404, 410):
            raise NotThere(f"{shown(url)} がありません。")
        said = _one(parsed(reply.body, url))
        said = of(said, "GetContextWebInformation") or said
        digest, holds = of(said, "FormDigestValue"), of(said, "FormDigestTimeoutSeconds")
        if not isinstance(digest, str) or not digest.isascii() or not digest.isprintable():
            raise SourceMisconfigured(f"{shown(url)} は SharePoint Server ではありません。")
        holds_s = float(holds) if isinstance(holds, (int, float)) else 0.0
        self._digests[web] = (digest, time.monotonic() + max(holds_s - EARLY_S, 0.0))
        return digest

    def _ask(self, method: str, url: str) -> Reply:
        return self.http.ask(method, url, headers={"accept": _LIGHT})

    def _url(self, web: str, path: str, query: Mapping[str, str] | None) -> str:
        more = f"?{urlencode(query, safe='$,/()', quote_via=quote)}" if query else ""
        return f"{self.root}{quote(web)}/_api/{path}{more}"


def named(kind: str, path: str) -> str:
    """The function that gives a file (`File`) or a folder (`Folder`) by its server-relative path.

    Names with % or # are read aright by the newer one alone, and exist only where there is that.
    """
    said = quote("'" + path.replace("'", "''") + "'", safe="/")
    if "%" in path or "#" in path:
        return f"web/Get{kind}ByServerRelativePath(decodedUrl={said})"
    return f"web/Get{kind}ByServerRelativeUrl({said})"


def parsed(body: bytes, url: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        if not body.lstrip().startswith(b"<"):
            raise SourceUnreachable(f"{shown(url)} の答えが途中で切れました。") from None
        said = None
    if not isinstance(said, dict):
        raise SourceMisconfigured(
            f"{shown(url)} は SharePoint Server の REST API ではありません。URL と、"
            "Windows 認証でサインインできるゾーンであることを確かめてください。"
        )
    return said


def values(said: dict[str, Any], url: str) -> list[dict[str, Any]]:
    """Of a collection, in either form of OData that SharePoint speaks."""
    found = said.get("value", of(said, "d", "results"))
    if not isinstance(found, list):
        raise SourceMisconfigured(f"{shown(url)} は SharePoint Server の一覧ではありません。")
    return [one for one in found if isinstance(one, dict)]


def inner(said: Any, name: str) -> list[dict[str, Any]]:
    """A collection inside an entry that `$expand` asked for. Raises SourceMisconfigured."""
    found = of(said, name)
    found = of(found, "results") if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise SourceMisconfigured(f"SharePoint Server の答えに {name} がありません。")
    return [one for one in found if isinstance(one, dict)]


def _one(said: dict[str, Any]) -> dict[str, Any]:
    inside = said.get("d")
    return inside if isinstance(inside, dict) else said


def _next(said: dict[str, Any]) -> Any:
    return said.get("odata.nextLink") or said.get("@odata.nextLink") or of(said, "d", "__next")


def _here(link: Any, base: str) -> str:
    """A link that the server gave, where it stays in the API; empty where it gave none."""
    if not isinstance(link, str) or not link:
        return ""
    if urlsplit(link)[:2] != urlsplit(base)[:2] or "/_api/" not in urlsplit(link).path:
        raise SourceDenied(f"一覧の続きが別の場所 ({shown(link)}) を指しています。")
    return link


def judge(answer: httpx2.Response, url: str) -> None:
    """Raises what a refusal means."""
    status = answer.status_code
    if status < 400 or status in (404, 410, 412):
        return http.judge(answer, url)
    said = b"".join(bounded(answer, url, 1_000_000))
    code = _code(said)
    if any(token in code for token in _TOKENS):
        raise Stale(f"{shown(url)} の変更の記録は、そこまで残っていません。")
    if status == 403 and "-2130575251" in code:
        raise SourceBusy(f"{shown(url)} の確認の期限が切れました。次の確認で読み直します。")
    if status in (401, 403):
        raise SourceDenied(
            f"{shown(url)} を読む権限が、この接続の利用者にありません。"
            "サイト コレクションの管理者にしてください (権限を読むため)。"
        )
    if _LATER in code:
        raise SourceBusy(
            f"{shown(url)} はリスト ビューのしきい値を超えました。あとで読み直します。"
        )
    if status == 400 or (status == 500 and code):
        raise NoSuchField(f"{shown(url)} は要求を断りました ({status} {code[:60]})。")
    if status >= 500:
        raise SourceBusy(f"{shown(url)} で障害が起きています ({status})。次の確認で読み直します。")
    return http.judge(answer, url)


def _code(body: bytes) -> str:
    """The code of an error; its words may hold anything."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    code = of(said, "odata.error", "code") or of(said, "error", "code")
    return code if isinstance(code, str) and code.isprintable() else ""
