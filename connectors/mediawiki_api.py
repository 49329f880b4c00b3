"""MediaWiki's Action API (api.php): one question, one answer, by an account or by none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from connectors.http import Http, shown

ANSWER_BYTES = 200_000_000
_BUSY = ("maxlag", "ratelimited", "readonly", "internal_api_error")
_GONE = ("missingtitle", "nosuchpageid", "nosuchrevid")
_DENIED = ("readapidenied", "permissiondenied")


@dataclass
class Api:
    """Raises SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured."""

    url: str
    user: str
    password: str = field(repr=False)
    http: Http
    _door: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _in: bool = field(default=False, init=False)

    def ask(self, **query: str) -> dict[str, Any]:
        """One answer, signed in where there is an account; once more where the session has ended."""
        if not self.user:
            return self._call(query)
        for attempt in range(2):
            self._sign_in(again=attempt > 0)
            with_account = {"assert": "user", **query}
            reply = self._call(with_account, last=attempt > 0)
            if reply:
                return reply
        raise SourceDenied(f"{shown(self.url)} のセッションが続きません。")

    def continued(self, **query: str) -> Iterator[Mapping[str, Any]]:
        more, seen = dict[str, str](), set[str]()
        while True:
            reply = self.ask(action="query", **query, **more)
            yield reply
            if not (more := reply.get("continue") or {}):
                return
            if (here := json.dumps(more, sort_keys=True)) in seen:
                raise SourceUnreachable(
                    f"{shown(self.url)} の一覧が同じ所を繰り返します。次の確認でやり直します。"
                )
            seen.add(here)

    def _sign_in(self, again: bool) -> None:
        with self._door:
            if self._in and not again:
                return
            told = self._call({"action": "query", "meta": "tokens", "type": "login"})
            token = told.get("query", {}).get("tokens", {}).get("logintoken", "")
            own = {"lgname": self.user, "lgpassword": self.password}
            said = self._call({"action": "login", "lgtoken": token, **own}).get("login", {})
            if said.get("result") != "Success":
                raise SourceDenied(
                    f"{shown(self.url)} にサインインできません。"
                    "利用者名とパスワードを確かめてください。"
                )
            self._in = True

    def _call(self, query: Mapping[str, str], last: bool = True) -> dict[str, Any]:
        """Empty where the session has ended, if that is not the `last` word."""
        form = urlencode({**query, "format": "json", "formatversion": "2"}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        where = shown(self.url)
        reply = self.http.ask(
            "POST", self.url, headers=headers, content=form, most_bytes=ANSWER_BYTES
        )
        if reply.status in (404, 410):
            raise SourceMisconfigured(f"{where} がありません。URL を確かめてください。")
        try:
            said = json.loads(reply.body)
        except (ValueError, RecursionError):
            if "json" in reply.headers.get("content-type", ""):
                raise SourceUnreachable(f"{where} の応答が途中で切れています。") from None
            raise self.no_wiki() from None
        if not isinstance(said, dict):
            raise self.no_wiki()
        error = said.get("error")
        code = str(error.get("code")) if isinstance(error, dict) else ""
        if not code:
            return said
        if code.startswith("assert") and not last:
            return {}
        if code.startswith("assert"):
            raise SourceDenied(f"{where} のセッションが続きません。")
        if code in _DENIED:
            raise SourceDenied(
                f"{where} を読む権限がありません。利用者名とパスワードを確かめてください。"
            )
        if code.startswith(_BUSY):
            raise SourceBusy(f"{where} が混み合っています。しばらくして、また確認します。", 60.0)
        if code in _GONE:
            raise SourceUnreachable("ページはもうありません。次の確認で消えます。")
        raise SourceMisconfigured(f"{where} は要求を断りました ({code[:60]})。")

    def no_wiki(self) -> SourceMisconfigured:
        return SourceMisconfigured(
            f"{shown(self.url)} は MediaWiki の API ではありません。"
            "api.php の URL を確かめてください。"
        )
