"""Slack's Web API, read only: methods by name, pages by cursor, as slowly as each method's tier asks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import urlencode

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors.http import AtHome, Http, Pace, shown

PAGE = 999  # the most there are in an answer
MOST_PAGES = 10_000  # of one listing
FILE_BYTES = 2_000_000_000
A_MINUTE = {  # requests that Slack lets an app of one's own make, by the method's tier
    "auth.test": 100,
    "conversations.history": 50,
    "conversations.info": 50,
    "conversations.list": 20,
    "conversations.members": 100,
    "conversations.replies": 50,
    "files.info": 100,
    "users.list": 20,
}
_SIGN_IN = {"not_authed", "invalid_auth", "account_inactive", "token_revoked", "token_expired"}
_GONE = {"channel_not_found", "not_in_channel", "thread_not_found", "file_not_found"}
_GONE |= {"file_deleted", "is_archived"}
_DENIED = {"access_denied", "no_permission", "ekm_access_denied", "team_access_not_granted"}
_DENIED |= {"org_login_required", "enterprise_is_restricted", "not_allowed_token_type"}
_PASSES = {"ratelimited", "rate_limited", "internal_error", "fatal_error", "request_timeout"}
_PASSES |= {"service_unavailable", "team_added_to_org", "fetch_members_failed", "invalid_cursor"}


@dataclass
class Api:
    """`url`: https://slack.com; `files_url`: the one host beside it that the token is shown to."""

    url: str
    files_url: str
    token: str = field(repr=False)
    site: Site
    _paces: dict[str, Pace] = field(default_factory=dict, repr=False)

    @cached_property
    def http(self) -> Http:
        homes = [self.url, self.files_url]
        return Http(homes, self.site, auth=AtHome("authorization", f"Bearer {self.token}", homes))

    def ask(self, method: str, **params: str | int) -> Mapping[str, Any]:
        """One answer. Raises NotVisible where there is no such channel, thread or file."""
        self._pace(method).wait()
        url = f"{self.url}/api/{method}"
        reply = self.http.ask("GET", f"{url}?{urlencode(params)}" if params else url)
        try:
            said = json.loads(reply.body)
        except ValueError:
            said = None
        if reply.status >= 300 or (said is not None and "ok" not in said):
            raise SourceMisconfigured(
                f"{shown(url)} は Slack ではありません。URL を確かめてください。"
            )
        if not isinstance(said, dict):
            raise SourceUnreachable(f"{shown(url)} の応答を読めません。")
        if said["ok"] is not True:
            _refuse(method, said)
        return said

    def pages(self, method: str, rows: str, **params: str | int) -> Iterator[Any]:
        """All of a listing. Raises SourceBusy where its pages do not lead to an end."""
        cursors, more = {""}, dict[str, str | int]()
        while True:
            said = self.ask(method, **params, **more, limit=PAGE)
            if not isinstance(said.get(rows), list):
                raise SourceUnreachable(f"Slack の {method} の応答を読めません。")
            yield from said[rows]
            cursor = str((said.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor and not said.get("has_more"):
                return
            if cursor in cursors or len(cursors) > MOST_PAGES:
                raise SourceBusy(f"Slack の {method} の続きを読めません。次の確認で読み直します。")
            cursors.add(cursor)
            more = {"cursor": cursor}

    def file(self, url: str, media_type: str) -> BinaryIO:
        """Of `files_url`, or of nowhere. Slack shows a page for signing in to whom it shows no file."""
        reply, copy = self.http.fetch(url, FILE_BYTES)
        page = reply.headers.get("content-type", "").startswith("text/html")
        if reply.status >= 300 or (page and "html" not in media_type):
            copy.close()
            if page:
                raise SourceDenied(
                    "Slack がファイルを渡しません。アプリの権限 (スコープ) に files:read を加えてください。"
                )
            raise SourceUnreachable(f"{shown(url)} がありません ({reply.status})。")
        return copy

    def _pace(self, method: str) -> Pace:
        if method not in self._paces:
            self._paces[method] = Pace(A_MINUTE[method] / 60, time.sleep)
        return self._paces[method]


def _refuse(method: str, said: Mapping[str, Any]) -> None:
    error = str(said.get("error") or "")
    if error in _GONE:
        raise NotVisible(f"Slack の {method} にありません ({error})。")
    if error in _SIGN_IN:
        raise SourceDenied(
            f"Slack にサインインできません ({error})。ボットトークン (xoxb-…) を確かめてください。"
        )
    if error == "missing_scope":
        raise SourceDenied(
            f"Slack のアプリに権限 (スコープ) {said.get('needed')} がありません。"
            "加えて、ワークスペースにインストールし直してください。"
        )
    if error in _DENIED:
        raise SourceDenied(f"Slack がアプリに {method} を許しません ({error})。")
    if error in _PASSES:
        raise SourceBusy(f"Slack が混み合っています ({error})。しばらくして、また確認します。")
    raise SourceMisconfigured(f"Slack は {method} を断りました ({error})。設定を確かめてください。")
