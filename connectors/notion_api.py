"""Notion's API, read only: one version of it, lists by cursor, files from where Notion keeps them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import urlencode

import httpx2

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors.http import AtHome, Http, bounded, shown

VERSION = "2025-09-03"  # databases hold data sources, which hold rows
PAGE = 100  # the most there are in an answer
MOST_PAGES = 10_000  # of one list
ATTEMPTS = 3  # where Notion says that others were writing
FILE_BYTES = 2_000_000_000
_HEADERS = {"notion-version": VERSION, "content-type": "application/json"}
Object = Mapping[str, Any]


class Disturbed(SourceBusy):
    """Others were writing, or Notion had too much to do: soon it will answer."""


@dataclass
class Api:
    """`files`: the hosts of what was uploaded; they are never shown the token."""

    url: str
    files: Sequence[str]
    token: str = field(repr=False)
    site: Site
    per_second: float

    @cached_property
    def http(self) -> Http:
        auth = AtHome("authorization", f"Bearer {self.token}", [self.url])
        origins = [self.url, *self.files]
        pace, sleep = self.per_second, time.sleep
        return Http(origins, self.site, auth=auth, per_second=pace, sleep=sleep, judge=self._judge)

    def ask(self, path: str, said: Object | None = None) -> Object:
        """Raises NotVisible where there is none, or none that the integration was let into."""
        url = f"{self.url}/v1/{path}"
        for attempt in range(ATTEMPTS):
            try:
                if said is None:
                    reply = self.http.ask("GET", url, headers=_HEADERS)
                else:
                    content = json.dumps(said).encode()
                    reply = self.http.ask("POST", url, headers=_HEADERS, content=content)
                break
            except Disturbed:
                if attempt == ATTEMPTS - 1:
                    raise
                self.http.sleep(1.0 + attempt)
        try:
            answer = json.loads(reply.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            if reply.status == 404:
                raise SourceMisconfigured(f"{shown(url)} は Notion の API ではありません。")
            raise SourceUnreachable(f"{shown(url)} の応答を読めません。")
        if reply.status >= 300:
            raise NotVisible(f"Notion に {shown(path)} がないか、共有されていません。")
        if "object" not in answer:
            raise SourceMisconfigured(f"{shown(url)} は Notion の API ではありません。")
        return answer

    def all(self, path: str, said: Object | None = None) -> Iterator[Object]:
        """A list to its end. Raises SourceBusy where its pages do not lead to one."""
        for answer in self._pages(path, said):
            yield from (one for one in answer["results"] if isinstance(one, dict))

    def rows(self, table: str) -> Iterator[Object]:
        """All of a table, some twice: a query ends after 10,000, and the next goes on from there."""
        said: dict[str, Any] = {"sorts": [{"timestamp": "created_time", "direction": "ascending"}]}
        since = ""
        while True:
            cut, last = False, since
            for answer in self._pages(f"data_sources/{table}/query", said):
                cut |= (answer.get("request_status") or {}).get("type") == "incomplete"
                for row in (one for one in answer["results"] if isinstance(one, dict)):
                    last = str(row.get("created_time") or last)
                    yield row
            if not cut:
                return
            if last == since:
                raise SourceMisconfigured(f"{since} に作られた行が多すぎて、Notion が教えません。")
            since = last
            said["filter"] = {"timestamp": "created_time", "created_time": {"on_or_after": since}}

    def _pages(self, path: str, said: Object | None) -> Iterator[Object]:
        cursors = set[str]()
        more: dict[str, Any] = {"page_size": PAGE}
        while True:
            if said is None:
                answer = self.ask(f"{path}?{urlencode(more)}")
            else:
                answer = self.ask(path, {**said, **more})
            if not isinstance(answer.get("results"), list):
                raise SourceUnreachable(f"Notion の {shown(path)} の応答を読めません。")
            yield answer
            cursor = str(answer.get("next_cursor") or "")
            if not cursor and not answer.get("has_more"):
                return
            if not cursor or cursor in cursors or len(cursors) > MOST_PAGES:
                raise SourceBusy(
                    f"Notion の {shown(path)} の続きを読めません。次の確認で読み直します。"
                )
            cursors.add(cursor)
            more["start_cursor"] = cursor

    def file(self, url: str) -> BinaryIO:
        return self.http.file(url, FILE_BYTES)

    def _judge(self, answer: httpx2.Response, url: str) -> None:
        status = answer.status_code
        if status < 400 or status == 404:
            return
        if not url.startswith(f"{self.url}/"):
            if status == 403:  # a link holds for an hour
                raise SourceBusy(f"{shown(url)} の期限が切れました。次の確認で読み直します。")
            raise SourceUnreachable(f"{shown(url)} を読めません ({status})。")
        try:
            said = json.loads(b"".join(bounded(answer, url, 1_000_000)))
            code, message = str(said.get("code")), str(said.get("message"))
        except (ValueError, AttributeError):
            raise SourceMisconfigured(
                f"{shown(url)} は Notion の API ではありません ({status})。"
            ) from None
        match status:
            case 401:
                raise SourceDenied(
                    "Notion にサインインできません。"
                    "インテグレーションのシークレット (ntn_…) を確かめてください。"
                )
            case 403:
                raise SourceDenied(
                    "Notion のインテグレーションに、読む権限がありません。"
                    "「コンテンツを読み取る」を許してください。"
                )
            case 409 | 529:
                raise Disturbed(f"Notion が混み合っています ({code})。また確認します。")
            case 400 if "cursor" in message:
                raise SourceBusy("Notion の一覧の続きを読めません。次の確認で読み直します。")
        raise SourceMisconfigured(
            f"{shown(url)} は要求を断りました ({code})。設定を確かめてください。"
        )
