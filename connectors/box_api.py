"""What Box says over HTTP: its token, its answers, its listings to their end, and what they tell of."""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlencode

import httpx2

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.types import Site
from connectors import http
from connectors.http import Http, bounded, shown

FILE_BYTES = 2_000_000_000
PAGE = 1000  # entries in an answer, the most there are
PAGES = 100_000  # answers of one listing
FURTHEST = 10_000  # offset that Box still takes
EARLY_S = 300.0  # before its end, a token is asked for anew
ID = re.compile(r"[0-9]{1,30}")
FIELDS = (
    "type,id,name,etag,sha1,size,file_version,modified_at,content_modified_at,item_status,"
    "owned_by,shared_link,has_collaborations"
)
T = TypeVar("T")


class Shut(SourceDenied):
    """One thing that the account may not read; it may read others."""


class Gone(Shut):
    """Deleted, or not for this account: Box answers the same (404)."""


class Expired(SourceDenied):
    """A token that is no longer taken."""


class File(NamedTuple):
    """A file, as a listing tells of it."""

    id: str
    name: str
    sha1: str
    version: str
    at: datetime
    size_bytes: int | None
    folder: str = ""


@dataclass
class Account:
    """Who asks: an application of Box, for itself (enterprise) or for somebody (user)."""

    client_id: str
    client_secret: str = field(repr=False)
    subject: str
    subject_id: str


@dataclass
class Api:
    """Box's API, version 2.0. Raises what `Http` raises, and `Shut`."""

    url: str
    account: Account
    downloads: Collection[str]  # where files are handed out
    site: Site
    per_second: float
    _token: str = field(default="", repr=False)
    _until: float = 0.0

    @cached_property
    def http(self) -> Http:
        # a redirect to another host goes there without the token
        return Http(
            [self.url, *self.downloads], self.site, per_second=self.per_second, judge=self._judge
        )

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """One answer, of JSON."""
        url = self._at(path, query)
        said = self._signed(lambda headers: self.http.ask("GET", url, headers=headers))
        if said.status in (404, 410):
            raise Gone(f"{shown(url)} がありません。削除されたか、このアプリに見えません。")
        return _json(said, url)

    def marked(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """All entries of a listing that goes by markers. Raises where it does not end."""
        marker, seen = "", {""}
        for _ in range(PAGES):
            more = {"marker": marker} if marker else {}
            said = self.get(path, limit=PAGE, **query, **more)
            yield from _entries(said, path)
            marker = str(said.get("next_marker") or "")
            if not marker:
                return
            if marker in seen:
                break
            seen.add(marker)
        raise SourceUnreachable(
            f"Box の一覧 ({path}) が同じ所を繰り返します。次の確認でやり直します。"
        )

    def counted(self, path: str) -> Iterator[dict[str, Any]]:
        """All entries of a listing that goes by offsets, as far as Box lets one go."""
        start = 0
        while start <= FURTHEST:
            said = self.get(path, limit=PAGE, offset=start)
            found = _entries(said, path)
            yield from found
            start += len(found)
            total = said.get("total_count")
            if not found or not isinstance(total, int) or start >= total:
                return

    def items(self, folder: str) -> Iterator[dict[str, Any]]:
        return self.marked(f"folders/{folder}/items", usemarker="true", fields=FIELDS)

    def open(self, file: File) -> BinaryIO:
        """The bytes that were listed: SourceBusy where they are others by now."""
        url = self._at(f"files/{file.id}/content", {})
        reply, copy = self._signed(
            lambda headers: self.http.fetch(url, FILE_BYTES, headers=headers)
        )
        try:
            if reply.status == 202:
                wait = reply.headers.get("retry-after", "")
                raise SourceBusy(
                    f"「{file.name}」を Box が用意しています。次の確認で読み直します。",
                    min(float(wait[:6]), 3600.0) if wait.isdecimal() else 60.0,
                )
            if reply.status >= 300:
                raise SourceUnreachable(f"「{file.name}」は、読む前になくなりました。")
            found = hashlib.sha1(usedforsecurity=False)
            while block := copy.read(1_048_576):
                found.update(block)
            if file.sha1 and found.hexdigest() != file.sha1 and not self._watermarked(file):
                raise SourceBusy(f"「{file.name}」は書き換えられました。次の確認で読み直します。")
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return copy

    def _watermarked(self, file: File) -> bool:
        """Whether it is still what was listed, and handed out with a watermark: other bytes."""
        said = self.get(f"files/{file.id}", fields="sha1,watermark_info")
        marked = of(said, "watermark_info", "is_watermarked") is True
        return marked and str(said.get("sha1") or "").lower() == file.sha1

    # --- who asks -----------------------------------------------------------------

    def _signed(self, ask: Callable[[dict[str, str]], T]) -> T:
        """With a token; once more with a new one where it is no longer taken."""
        if not self._token or time.monotonic() >= self._until:
            self._sign_in()
        try:
            return ask({"authorization": f"Bearer {self._token}"})
        except Expired:
            self._sign_in()
        return ask({"authorization": f"Bearer {self._token}"})

    def _sign_in(self) -> None:
        own, url = self.account, f"{self.url}/oauth2/token"
        form = {
            "client_id": own.client_id,
            "client_secret": own.client_secret,
            "grant_type": "client_credentials",
            "box_subject_type": own.subject,
            "box_subject_id": own.subject_id,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        reply = self.http.ask("POST", url, headers=headers, content=urlencode(form).encode())
        said = _json(reply, url)
        token, lasts = said.get("access_token"), said.get("expires_in")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]{1,4000}", token):
            raise SourceMisconfigured(f"{shown(url)} は Box のトークンを返しません。")
        self._token = token
        lasts_s = float(lasts) if isinstance(lasts, int) else 3600.0
        self._until = time.monotonic() + max(lasts_s - EARLY_S, lasts_s / 2)

    def _judge(self, answer: httpx2.Response, url: str) -> None:
        status = answer.status_code
        if status < 400 or status in (404, 410):
            return
        said: dict[str, Any] = {}
        with suppress(ValueError, TypeError):
            said = dict(json.loads(b"".join(bounded(answer, url, 100_000))))
        if url.startswith(f"{self.url}/oauth2/"):
            raise SourceDenied(_refused(str(said.get("error", ""))[:40], status))
        if answer.url.host != httpx2.URL(self.url).host:  # where files are handed out
            http.judge(answer, str(answer.url))
        if status == 401:
            raise Expired("Box がトークンを受け付けません。アプリの承認を確かめてください。")
        why = answer.headers.get("www-authenticate", "")
        if said.get("code") == "insufficient_scope" or "insufficient_scope" in why:
            raise Shut(
                f"{shown(url)} を読む範囲 (スコープ) がアプリにありません。開発者コンソールの構成で"
                "「Box に格納されているすべてのファイルとフォルダの読み取り」を選び、承認し直してください。"
            )
        if status == 403:
            raise Shut(f"{shown(url)} を読む権限が、アプリの利用者にありません。")
        http.judge(answer, url)

    def _at(self, path: str, query: Mapping[str, object]) -> str:
        return f"{self.url}/2.0/{path}" + (f"?{urlencode(query)}" if query else "")


def _refused(error: str, status: int) -> str:
    if error == "invalid_client":
        return "Box にサインインできません。クライアント ID とクライアントシークレットを確かめてください。"
    if error == "unauthorized_client":
        return (
            "Box のアプリに、この主体でのサインインが許されていません。認証方法がクライアント資格情報許可か、"
            "ユーザーなら「ユーザーアクセストークンを生成する」が有効かを確かめてください。"
        )
    return (
        "Box がサインインを断りました。主体の種類と ID、管理コンソールでのアプリの承認を確かめてください"
        f" ({error or status})。"
    )


def _json(reply: http.Reply, url: str) -> dict[str, Any]:
    try:
        said = json.loads(reply.body)
    except ValueError:
        if "json" in reply.headers.get("content-type", ""):
            raise SourceUnreachable(
                f"{shown(url)} の答えが途中で切れました。次の確認でやり直します。"
            ) from None
        said = None
    if reply.status != 200 or not isinstance(said, dict):
        raise SourceMisconfigured(f"{shown(url)} は Box の API ではありません ({reply.status})。")
    return said


def _entries(said: dict[str, Any], path: str) -> list[Any]:
    found = said.get("entries")
    if not isinstance(found, list):
        raise SourceUnreachable(f"Box の一覧 ({path}) の答えを読めません。")
    return found


def of(said: Any, *names: str) -> Any:
    """What lies inside an answer, name by name; None where there is none."""
    for name in names:
        said = said.get(name) if isinstance(said, dict) else None
    return said


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def when(said: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def file(said: dict[str, Any], folder: str) -> File | None:
    """A file; None where it is not said so."""
    id, name, size = str(said.get("id")), said.get("name"), said.get("size")
    sha1 = str(said.get("sha1") or "").lower()
    version = sha1 or str(of(said, "file_version", "id") or "")
    if not ID.fullmatch(id) or not isinstance(name, str) or not nfc(name) or not version:
        return None
    at = when(said.get("content_modified_at")) or when(said.get("modified_at"))
    return File(
        id, nfc(name), sha1, version, at or datetime.fromtimestamp(0, UTC),
        size if isinstance(size, int) else None, folder,
    )  # fmt: skip
