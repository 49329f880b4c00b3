"""What Google Drive says over HTTP: sign-in by a service account's key, answers, listings to their end.

A token is got by a signed assertion (RFC 7523, RS256). Of a refusal the reason in its body decides:
a 403 may mean that a right lacks, or only that Drive was asked too often.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode

import httpx2
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.errors import (
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
    TooLarge,
)
from connectors.http import ATTEMPTS, Http, bounded, shown

SCOPE = "https://www.googleapis.com/auth/drive.readonly"
FILE_BYTES = 2_000_000_000  # what is too large for the appliance is refused by it, with its limit
EXPORT_BYTES = 50_000_000  # Google's own limit is 10 MB, by its own count
PAGES = 100_000  # answers of one listing
_TOKEN_S = 3600  # the longest that is given
_EARLY_S = 120.0  # a token is renewed before it ends
_REFUSAL_BYTES = 200_000
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_OFTEN = {"rateLimitExceeded", "userRateLimitExceeded"}
_DENIED = {
    "insufficientPermissions": "このサービスアカウントに Drive を読む権限 (drive.readonly) がありません",
    "insufficientFilePermissions": "このアカウントに読む権限がありません",
    "domainPolicy": "Google Workspace の管理者が、Drive API の利用を止めています",
    "cannotDownloadFile": "ダウンロードが禁じられています",
    "cannotExportFile": "書き出しが禁じられています",
    "cannotDownloadAbusiveFile": "Google が有害とみなしたため、ダウンロードできません",
    "fileNotDownloadable": "ダウンロードできない種類のファイルです",
    "fileNotExportable": "書き出せない種類のファイルです",
}
Params = dict[str, str | int]
T = TypeVar("T")


class Expired(SourceDenied):
    """The token is not taken any more."""


class TooOften(SourceBusy):
    """A 403 that passes."""


@dataclass(frozen=True)
class Key:
    """A service account's, from the JSON file that Google gives. Raises SourceMisconfigured."""

    text: str = field(repr=False)

    @cached_property
    def said(self) -> dict[str, Any]:
        try:
            said = json.loads(self.text)
        except ValueError:
            said = None
        names = ("client_email", "private_key")
        if not isinstance(said, dict) or not all(isinstance(said.get(one), str) for one in names):
            raise SourceMisconfigured(
                "サービスアカウントの鍵は JSON ファイルの中身のすべて (client_email と private_key を含む) です。"
            )
        return said

    @cached_property
    def private(self) -> RSAPrivateKey:
        try:
            key = load_pem_private_key(self.said["private_key"].encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, RSAPrivateKey):
            raise SourceMisconfigured(
                "サービスアカウントの鍵の private_key を読めません。JSON を作り直してください。"
            )
        return key

    def assertion(self, audience: str, subject: str, now: int) -> str:
        head = {"alg": "RS256", "typ": "JWT"}
        if kid := self.said.get("private_key_id"):
            head["kid"] = str(kid)
        claims: dict[str, str | int] = {
            "iss": self.said["client_email"], "scope": SCOPE, "aud": audience,
            "iat": now, "exp": now + _TOKEN_S,
        }  # fmt: skip
        if subject:
            claims["sub"] = subject
        text = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(claims).encode())}"
        return f"{text}.{_part(self.private.sign(text.encode(), PKCS1v15(), SHA256()))}"


@dataclass
class Api:
    """Drive API v3 at `base`, as the account of `key` or the `subject` that it acts for."""

    base: str
    sign_in: str
    key: Key
    subject: str
    http: Http
    _token: str = field(default="", init=False, repr=False)
    _until: float = field(default=0.0, init=False)

    def get(self, path: str, params: Params) -> dict[str, Any] | None:
        """The answer; None where there is none (404)."""
        url = self._url(path, params)
        reply = self._tried(lambda headers: self.http.ask("GET", url, headers=headers))
        if reply.status in (404, 410):
            return None
        try:
            said = json.loads(reply.body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise SourceUnreachable(
                f"{shown(url)} の答えが途中で切れたか、正しくありません。次の確認でやり直します。"
            )
        return said

    def pages(self, path: str, params: Params) -> Iterator[dict[str, Any]]:
        """All answers of a listing. Raises SourceMisconfigured where there is none, SourceUnreachable
        where it does not end.
        """
        seen, token = set[str](), ""
        for _ in range(PAGES):
            said = self.get(path, params | ({"pageToken": token} if token else {}))
            if said is None:
                raise SourceMisconfigured(
                    f"{shown(self._url(path, {}))} がありません。ID と共有を確かめてください。"
                )
            yield said
            next_ = said.get("nextPageToken")
            if not next_:
                return
            if not isinstance(next_, str) or next_ in seen:
                break
            seen.add(token := next_)
        raise SourceUnreachable(
            f"{shown(self._url(path, {}))} の一覧が同じ所を繰り返します。次の確認でやり直します。"
        )

    def file(self, path: str, params: Params, most_bytes: int = FILE_BYTES) -> BinaryIO:
        """Bytes, in a copy that has no name. Raises SourceUnreachable where it is gone."""
        url = self._url(path, params)
        return self._tried(lambda headers: self.http.file(url, most_bytes, headers=headers))

    def _tried(self, ask: Callable[[dict[str, str]], T]) -> T:
        """What passes is tried again; a token that is not taken is renewed once."""
        renewed = False
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                return ask(self._headers())
            except Expired:
                if renewed or last:
                    raise
                renewed, self._token = True, ""
            except TooOften:
                if last:
                    raise
                self.http.sleep(_pause_s(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _url(self, path: str, params: Params) -> str:
        return f"{self.base}/drive/v3/{path}" + (f"?{urlencode(params)}" if params else "")

    def _headers(self) -> dict[str, str]:
        if not self._token or time.monotonic() > self._until:
            self._sign_in()
        return {"authorization": f"Bearer {self._token}"}

    def _sign_in(self) -> None:
        assertion = self.key.assertion(self.sign_in, self.subject, int(time.time()))
        form = urlencode({"grant_type": _GRANT, "assertion": assertion})
        head = {"content-type": "application/x-www-form-urlencoded"}
        reply = self.http.ask("POST", self.sign_in, headers=head, content=form.encode())
        try:
            said = json.loads(reply.body)
            token, lasts_s = said["access_token"], float(said.get("expires_in", 0))
        except (ValueError, KeyError, TypeError):
            token, lasts_s = None, 0.0
        if not isinstance(token, str) or not token:
            raise SourceMisconfigured(
                f"{shown(self.sign_in)} は Google のサインインの窓口ではありません。"
            )
        self._token, self._until = token, time.monotonic() + max(lasts_s - _EARLY_S, 0.0)


def judge(answer: httpx2.Response, url: str) -> None:
    """Raises what a refusal means, by the reason that its body gives."""
    status = answer.status_code
    if status < 400 or status in (404, 410):
        return
    try:
        said = json.loads(b"".join(bounded(answer, url, _REFUSAL_BYTES)))
    except (ValueError, TooLarge):
        said = None
    if isinstance(error := of(said, "error"), str):
        _refused(error, str(of(said, "error_description") or ""))
    reason = _reason(error)
    if status == 401:
        raise Expired(f"{shown(url)}: サインインが取り消されました。鍵を確かめてください。")
    if status == 403 and reason in _OFTEN:
        raise TooOften(
            f"Google Drive が混み合っています ({reason})。しばらくして、また確認します。"
        )
    if reason in ("dailyLimitExceeded", "quotaExceeded"):
        raise SourceBusy("Google Drive API の一日の上限に達しました。", 3600.0)
    if reason in ("accessNotConfigured", "SERVICE_DISABLED"):
        raise SourceMisconfigured(
            "Google Drive API が使えません。サービスアカウントのプロジェクトで、Google Cloud コンソールから有効にしてください。"
        )
    if reason == "exportSizeLimitExceeded":
        raise TooLarge(
            "Google が書き出せる大きさ (10 MB) を超えているため読めません (文書を分けるか、Office 形式で置けば読めます)。"
        )
    if status == 403:
        why = _DENIED.get(reason, "このアカウントに読む権限がありません")
        raise SourceDenied(f"{shown(url)}: {why}。")
    raise SourceMisconfigured(f"{shown(url)} は要求を断りました ({status} {reason[:60]})。")


def _refused(error: str, why: str) -> None:
    """Of a sign-in."""
    if error in ("unauthorized_client", "access_denied"):
        raise SourceDenied(
            "このサービスアカウントは利用者の代理を許されていません。Google Workspace の管理コンソールで"
            f"「ドメイン全体の委任」に、クライアント ID と {SCOPE} を登録してください。"
        )
    if error == "invalid_grant" and "Token must be a short-lived" in why:
        raise SourceMisconfigured(
            "このマシンの時計がずれているため、Google にサインインできません。"
        )
    if error == "invalid_grant" and "User ID" in why:
        raise SourceDenied("代理する利用者がいません。メールアドレスを確かめてください。")
    if error in ("invalid_grant", "invalid_client"):
        raise SourceDenied(
            "Google にサインインできません。サービスアカウントの鍵が消されたか、無効です。新しい JSON を入れてください。"
        )
    raise SourceDenied(f"Google にサインインできません ({error[:60]})。")


def _reason(error: Any) -> str:
    """The word for it; newer services say it in `details`."""
    for name in ("details", "errors"):
        for one in of(error, name) if isinstance(of(error, name), list) else []:
            if isinstance(reason := of(one, "reason"), str):
                return reason
    return str(of(error, "status") or "")


def of(said: Any, *names: str) -> Any:
    """What lies inside an answer, name by name; None where there is none."""
    for name in names:
        said = said.get(name) if isinstance(said, dict) else None
    return said


def _pause_s(attempt: int) -> float:
    return 2.0**attempt + random.random()  # noqa: S311  as Google advises


def segment(id: str) -> str:
    return quote(id, safe="")


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
