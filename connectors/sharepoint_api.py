"""Microsoft Graph over HTTP: signing in as an application, its answers, its listings to their end.

No link is followed that leaves the API; a token is sent to the API alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.types import Site
from connectors import http
from connectors.http import Http, Reply, bounded, shown

PAGES = 100_000  # answers of one listing
EARLY_S = 300.0  # a token is renewed so long before its end
ASSERTION_S = 600
_JWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_WRONG = {
    "7000215": "クライアント シークレットが違います。「値」のほうを入れてください",
    "7000222": "クライアント シークレットの期限が切れています。新しく発行してください",
    "700027": "証明書がアプリに登録されていません。公開証明書を登録してください",
    "700016": "アプリケーション (クライアント) ID のアプリがこのテナントにありません",
    "90002": "テナントがありません。ディレクトリ (テナント) ID を確かめてください",
    "900023": "テナントがありません。ディレクトリ (テナント) ID を確かめてください",
}


@dataclass
class SignIn:
    """Access tokens of an application, by certificate or else by secret, each as long as it holds."""

    login: str
    tenant: str
    client_id: str
    site: Site
    secret: str = field(default="", repr=False)
    certificate: str = ""
    key: str = field(default="", repr=False)
    _held: dict[str, tuple[str, float]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._http = Http([self.login], self.site, judge=_refused)

    def token(self, resource: str) -> str:
        """Raises SourceDenied, SourceMisconfigured."""
        token, until = self._held.get(resource, ("", 0.0))
        if time.monotonic() < until:
            return token
        url = f"{self.login}/{quote(self.tenant)}/oauth2/v2.0/token"
        form = {
            "client_id": self.client_id,
            "scope": f"{resource}/.default",
            "grant_type": "client_credentials",
        }
        if self.key:
            form |= {"client_assertion_type": _JWT, "client_assertion": self._assertion(url)}
        else:
            form["client_secret"] = self.secret
        reply = self._http.ask(
            "POST",
            url,
            headers={"content-type": "application/x-www-form-urlencoded"},
            content=urlencode(form).encode(),
        )
        said = parsed(reply.body, url)
        given = said.get("access_token")
        if not isinstance(given, str) or not given.isascii() or not given.isprintable():
            raise SourceMisconfigured(f"{shown(url)} はサインインの窓口ではありません。")
        seconds = said.get("expires_in")
        seconds = float(seconds) if isinstance(seconds, (int, float)) else 0.0
        self._held[resource] = (given, time.monotonic() + max(seconds - EARLY_S, 0.0))
        return given

    def _assertion(self, url: str) -> str:
        certificate, key = self.pair()
        der = certificate.public_bytes(serialization.Encoding.DER)
        now = int(time.time())
        head = {"alg": "PS256", "typ": "JWT", "x5t#S256": _url64(hashlib.sha256(der).digest())}
        claims = {
            "aud": url,
            "iss": self.client_id,
            "sub": self.client_id,
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "iat": now,
            "exp": now + ASSERTION_S,
        }
        said = ".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        return f"{said}.{_url64(key.sign(said.encode(), pss, hashes.SHA256()))}"

    def pair(self) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
        """The certificate and its key. Raises SourceMisconfigured."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.encode())
        except ValueError:
            raise SourceMisconfigured("証明書を読めません。PEM の形で入れてください。") from None
        try:
            key = serialization.load_pem_private_key(self.key.encode(), None)
        except (ValueError, TypeError):
            raise SourceMisconfigured(
                "秘密鍵を読めません。パスフレーズのない PEM の形で入れてください。"
            ) from None
        if not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != certificate.public_key():
            raise SourceMisconfigured("秘密鍵が証明書のものではないか、RSA ではありません。")
        if certificate.not_valid_after_utc < datetime.now(UTC):
            raise SourceMisconfigured("証明書の期限が切れています。新しいものを登録してください。")
        return certificate, key


class Page(NamedTuple):
    """A page of changes, and which of the preferences the service says it followed, if it says so."""

    said: dict[str, Any]
    applied: str


class Gone(NamedTuple):
    """A delta token that the service no longer takes. `link`: where to begin anew, if it said so."""

    link: str


@dataclass(frozen=True)
class Graph:
    """Version 1.0 below `root`. Raises what `Http` raises."""

    root: str
    http: Http  # of whose hosts the API alone gets a token: what leads to another takes none along
    sign_in: SignIn

    @property
    def base(self) -> str:
        return f"{self.root}/v1.0"

    def ask(self, url: str, **more: str) -> Reply:
        headers = {"authorization": f"Bearer {self.sign_in.token(self.root)}"}
        return self.http.ask("GET", url, headers=headers | {"accept": "application/json"} | more)

    def file(self, path: str, most_bytes: int) -> BinaryIO:
        """A file, from wherever the API says that it lies."""
        headers = {"authorization": f"Bearer {self.sign_in.token(self.root)}"}
        return self.http.file(f"{self.base}{path}", most_bytes, headers=headers)

    def json(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The answer; None where there is none (404)."""
        url = f"{self.base}{path}" + (f"?{urlencode(query, safe='$,')}" if query else "")
        reply = self.ask(url)
        return None if reply.status in (404, 410) else parsed(reply.body, url)

    def listed(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """All of a collection. Raises NotThere, and SourceUnreachable where it does not end."""
        url = f"{self.base}{path}" + (f"?{urlencode(query, safe='$,')}" if query else "")
        seen = set[str]()
        while url:
            if url in seen or len(seen) > PAGES:
                raise SourceUnreachable(
                    f"{shown(url)} の一覧が同じ所を繰り返します。次の確認でやり直します。"
                )
            seen.add(url)
            reply = self.ask(url)
            if reply.status in (404, 410):
                raise NotThere(f"{shown(url)} がありません。名前と ID を確かめてください。")
            said = parsed(reply.body, url)
            yield from values(said, url)
            url = self.here(said.get("@odata.nextLink"))

    def delta(self, url: str, prefer: str) -> Page | Gone:
        """One page of changes. Raises NotThere."""
        reply = self.ask(url, prefer=prefer)
        if reply.status == 404:
            raise NotThere(f"{shown(url)} がありません。")
        if reply.status == 410:
            return Gone(self.here(reply.headers.get("location")))
        applied = reply.headers.get("preference-applied", "")
        return Page(parsed(reply.body, url), applied.lower())

    def here(self, link: Any) -> str:
        """A link that the service gave, where it stays in the API; empty where it gave none."""
        if not isinstance(link, str) or not link:
            return ""
        if urlsplit(link)[:2] != urlsplit(self.base)[:2] or not link.startswith(f"{self.base}/"):
            raise SourceDenied(f"一覧の続きが別の場所 ({shown(link)}) を指しています。")
        return link


class NotThere(SourceMisconfigured):
    """What a setting names is not there."""


def parsed(body: bytes, url: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        if not body.lstrip().startswith(b"<"):
            raise SourceUnreachable(
                f"{shown(url)} の答えが途中で切れました。次の確認でやり直します。"
            ) from None
        said = None
    if not isinstance(said, dict):
        raise SourceMisconfigured(f"{shown(url)} は Microsoft Graph ではありません。")
    return said


def values(said: dict[str, Any], url: str) -> list[dict[str, Any]]:
    found = said.get("value")
    if not isinstance(found, list):
        raise SourceMisconfigured(f"{shown(url)} は Microsoft Graph の一覧ではありません。")
    return [one for one in found if isinstance(one, dict)]


def of(said: Any, *names: str) -> Any:
    """What lies inside an answer, name by name; None where there is none."""
    for name in names:
        said = said.get(name) if isinstance(said, dict) else None
    return said


def judge(answer: httpx2.Response, url: str) -> None:
    """Raises what a refusal means, and which permission the application lacks."""
    if answer.status_code == 401:
        raise SourceDenied(f"{shown(url)} がアプリのサインインを受けつけません。")
    if answer.status_code == 403:
        raise SourceDenied(
            f"{shown(url)} を読む権限がアプリにありません。アプリケーションの許可"
            " (Sites.FullControl.All、GroupMember.Read.All、User.Read.All など) と、"
            "管理者の同意を確かめてください。"
        )
    http.judge(answer, url)


def _refused(answer: httpx2.Response, url: str) -> None:
    """Why the sign-in was: by the number that the service gives, never in its own words."""
    if answer.status_code not in (400, 401):
        judge(answer, url)
        return
    try:
        said = json.loads(b"".join(bounded(answer, url, 1_000_000)))
        codes = [str(code) for code in said["error_codes"]]
    except (ValueError, TypeError, KeyError):
        codes = []
    why = next(
        (_WRONG[code] for code in codes if code in _WRONG), "ID と資格情報を確かめてください"
    )
    number = f" (AADSTS{codes[0][:12]})" if codes and codes[0].isdecimal() else ""
    raise SourceDenied(f"Microsoft にサインインできません。{why}{number}。")


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
