"""Signing in to a Windows server by NTLM or Kerberos: a connection is signed in, not a request.

The steps of a sign-in go over one connection, which the pool keeps for the request meanwhile; what
follows on it needs no more. Over TLS the sign-in is bound to the server's certificate (RFC 5929), so
that it is of no use to whoever stands between. A password that was refused once is not sent again:
directories lock accounts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import httpcore2
import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from appliance.errors import SourceDenied, SourceMisconfigured

Protocol = Literal["ntlm", "negotiate", "kerberos"]
STEPS = 6  # of one sign-in
_BODY_BYTES = 1_000_000  # of an answer that only goes on with a sign-in
_WEAK = ("md5", "sha1")  # for which RFC 5929 has SHA-256


@dataclass
class SignIn:
    user: str
    password: str = field(repr=False)
    protocol: Protocol = "ntlm"
    refused: str = field(default="", init=False)  # why, once it was

    @property
    def scheme(self) -> str:
        return "NTLM" if self.protocol == "ntlm" else "Negotiate"

    def context(self, host: str) -> Any:
        """Raises SourceMisconfigured where this machine cannot."""
        try:
            return spnego.client(
                self.user or None,
                self.password or None,
                hostname=host,
                service="HTTP",
                protocol=self.protocol,
            )
        except (ImportError, SpnegoError):
            why = "利用者名 (DOMAIN\\名前) とパスワードを確かめてください。"
            if self.protocol == "kerberos":
                why = "Kerberos には、このマシンに gssapi と krb5 のパッケージと設定が要ります。"
            raise SourceMisconfigured(f"{host} へのサインインを始められません。{why}") from None

    def pool(self, homes: Collection[tuple[str, str, int]]) -> partial[_Pool]:
        """For `Http`. `homes`: scheme, host and port of who is signed in to, and nobody else."""
        return partial(_Pool, sign_in=self, homes=frozenset(homes))


class _Pool(httpcore2.ConnectionPool):
    def __init__(
        self, *, sign_in: SignIn, homes: frozenset[tuple[str, str, int]], **more: Any
    ) -> None:
        super().__init__(**more)
        self._sign_in, self._homes = sign_in, homes

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.ConnectionInterface:
        host = origin.host.decode("ascii").strip("[]").lower()
        if (origin.scheme.decode("ascii"), host, origin.port) not in self._homes:
            return super().create_connection(origin)
        return _Connection(
            self._sign_in,
            host,
            origin=origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=self._keepalive_expiry,
            network_backend=self._network_backend,
        )


class _Connection(httpcore2.HTTPConnection):
    """One that signs in before its first request."""

    def __init__(self, sign_in: SignIn, host: str, **more: Any) -> None:
        super().__init__(**more)
        self._sign_in, self._host = sign_in, host
        self._signed = False

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        if self._sign_in.refused:
            raise SourceDenied(self._sign_in.refused)
        if self._signed:
            answer = super().handle_request(request)
            if answer.status != 401 or _says_why(answer):
                return answer
            self._read(answer)  # the server has forgotten who we are
            self._signed = False
        try:
            return self._signed_in(request)
        except BaseException:
            self.close()  # half signed in, it is of no use to anybody
            raise

    def _signed_in(self, request: httpcore2.Request) -> httpcore2.Response:
        own, context = self._sign_in, self._sign_in.context(self._host)
        # NTLM never ends with its first step: what is posted need not go along
        bare = own.protocol == "ntlm"
        # the others are bound to the certificate from their first step on: it must be known
        token: bytes | None = self._step(context, None, None) if bare else None
        bindings: GssChannelBindings | None = None
        for number in range(STEPS):
            last = token is not None and (not bare or context.complete)
            answer = super().handle_request(_with(request, own.scheme, token, bare=not last))
            if answer.status != 401:
                return self._through(context, request, answer, last=last)
            if context.complete and _says_why(answer):
                self._signed = True  # who we are is known, and may not
                return answer
            offered = dict(_offered(answer))
            bindings = bindings or _bindings(answer)
            self._read(answer)
            given = offered.get(own.scheme.lower())
            if given is None:
                others = "、".join(sorted(offered)) or "なし"
                raise SourceMisconfigured(
                    f"{self._host} は {own.scheme} のサインインを受けつけません (あるもの: {others})。"
                    "認証方式と URL (ゾーン) を確かめてください。"
                )
            if context.complete or (not given and number):
                own.refused = (
                    f"{self._host} に {own.user or 'Kerberos のチケット'} でサインインできません。"
                    "利用者名 (DOMAIN\\名前)、パスワード、アカウントの有効・ロックを確かめてください。"
                )
                raise SourceDenied(own.refused)
            token = self._step(context, given or None, bindings)
        raise SourceDenied(f"{self._host} とのサインインが終わりません。")

    def _through(
        self, context: Any, request: httpcore2.Request, answer: httpcore2.Response, *, last: bool
    ) -> httpcore2.Response:
        """The server went on to answer."""
        if last:
            given = dict(_offered(answer)).get(self._sign_in.scheme.lower())
            if given and not context.complete:
                self._step(context, given, None)  # that it is the server which was meant
            self._signed = True
        elif answer.status < 400 and request.method != b"GET":
            self._read(answer)  # it wants no sign-in here, and was asked without what is posted
            return super().handle_request(request)
        return answer

    def _step(
        self, context: Any, given: bytes | None, bindings: GssChannelBindings | None
    ) -> bytes | None:
        try:
            token: bytes | None = context.step(given, channel_bindings=bindings)
        except (SpnegoError, ValueError, ImportError):
            raise SourceDenied(
                f"{self._host} とのサインインが途中で失敗しました。認証方式を確かめてください。"
            ) from None
        return token

    def _read(self, answer: httpcore2.Response) -> None:
        """To its end: the next step goes over the same connection."""
        size = 0
        try:
            for block in answer.iter_stream():
                size += len(block)
                if size > _BODY_BYTES:
                    raise httpcore2.RemoteProtocolError("too long an answer to a sign-in")
        finally:
            answer.close()
        if self.is_closed():
            raise httpcore2.RemoteProtocolError("the connection ended amid a sign-in")


def _with(
    request: httpcore2.Request, scheme: str, token: bytes | None, *, bare: bool
) -> httpcore2.Request:
    dropped = {b"authorization"}
    if bare:
        dropped |= {b"content-length", b"transfer-encoding", b"content-type"}
    headers = [(k, v) for k, v in request.headers if k.lower() not in dropped]
    if token is not None:
        said = f"{scheme} {base64.b64encode(token).decode('ascii')}"
        headers.append((b"Authorization", said.encode("ascii")))
    if bare and request.method != b"GET":
        headers.append((b"Content-Length", b"0"))
    return httpcore2.Request(
        method=request.method,
        url=request.url,
        headers=headers,
        content=b"" if bare else request.stream,
        extensions=request.extensions,
    )


def _offered(answer: httpcore2.Response) -> Iterator[tuple[str, bytes]]:
    """Ways to sign in, in lower case, and what they go on with."""
    for name, value in answer.headers:
        if name.lower() == b"www-authenticate":
            for one in value.decode("latin-1").split(","):
                scheme, _, said = one.strip().partition(" ")
                try:
                    yield scheme.lower(), base64.b64decode(said.strip(), validate=True)
                except (binascii.Error, ValueError):
                    yield scheme.lower(), b""


def _says_why(answer: httpcore2.Response) -> bool:
    """Of a 401: the service itself refuses, not the sign-in before it."""
    return any(k.lower() == b"content-type" and b"json" in v.lower() for k, v in answer.headers)


def _bindings(answer: httpcore2.Response) -> GssChannelBindings | None:
    stream = answer.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream else None
    der = tls.getpeercert(True) if tls else None
    return endpoint(der) if der else None


def endpoint(der: bytes) -> GssChannelBindings:
    """`tls-server-end-point` of a certificate."""
    named = x509.load_der_x509_certificate(der).signature_hash_algorithm
    digest = hashes.Hash(hashes.SHA256() if named is None or named.name in _WEAK else named)
    digest.update(der)
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest.finalize())
