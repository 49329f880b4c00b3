"""An LDAP client that binds and searches (RFC 4511), and does nothing else.

Our own, because what Python has is LGPL (ldap3) or a wrapper of OpenLDAP's C library that must be
built: of the protocol a reader needs six messages. Answers are bounded in bytes and in time, no
referral is followed, and nothing that was sent or that the server said is in a message.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors import ber, wire
from connectors.ber import Part

Security = Literal["tls", "starttls", "none"]
Scope = Literal["base", "one", "sub"]

TIMEOUT_S = 60.0  # of silence
MESSAGE_BYTES = 64_000_000  # a group of hundreds of thousands is one message
EMPTY_PAGES = 1000  # in a row; a server that gives only those has no end
PAGED, START_TLS = "1.2.840.113556.1.4.319", "1.3.6.1.4.1.1466.20037"

_BIND, _BOUND, _UNBIND = 0x60, 0x61, 0x42
_SEARCH, _ENTRY, _DONE, _REFERENCE = 0x63, 0x64, 0x65, 0x73
_EXTENDED, _EXTENDED_DONE = 0x77, 0x78
_SCOPES: Mapping[Scope, int] = {"base": 0, "one": 1, "sub": 2}
_BUSY = {3, 51, 52}  # timeLimitExceeded, busy, unavailable
# what Active Directory adds to "wrong password"
_REFUSED = {
    "525": "その利用者はいません",
    "530": "いまの時間帯にはサインインできないアカウントです",
    "531": "このマシンからはサインインできないアカウントです",
    "532": "パスワードの期限が切れています。更新してください",
    "533": "アカウントが無効です",
    "701": "アカウントの期限が切れています",
    "773": "パスワードの変更が必要なアカウントです",
    "775": "アカウントがロックされています。しばらく待つか、解除してください",
}


class Entry(NamedTuple):
    dn: str
    attributes: dict[str, list[bytes]]  # by name in lower case, options (";range=0-1499") included


class Ldap:
    """A connection, for one thread. Raises SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured."""

    def __init__(self, host: str, port: int, security: Security, site: Site) -> None:
        self.name = f"{host}:{port}"
        self._id, self._held, self._at, self._pulse = 0, bytearray(), 0, wire.Pulse()
        if security == "none" and not wire.is_near(host, port, site.near):
            raise SourceMisconfigured(
                f"{self.name} へは暗号化せずにつなぎません。ldaps (tls) か starttls にしてください。"
            )
        trusted = wire.trust(site)
        self._socket = wire.dial(host, port, site, TIMEOUT_S)
        try:
            self._socket.settimeout(TIMEOUT_S)
            if security == "starttls":
                self._start_tls()
            if security != "none":
                self._socket = self._secured(trusted, host)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        with suppress(OSError):
            self._send(ber.tlv(_UNBIND))
        with suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Ldap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bind(self, user: str, password: str) -> None:
        """As a DN, or as Active Directory also takes it: ito@example.co.jp, EXAMPLE\\ito."""
        if (
            user and not password
        ):  # servers take that for nobody, and say it went well (RFC 4513 5.1.2)
            raise SourceMisconfigured("パスワードが空です。入れてください。")
        asked = ber.tlv(_BIND, ber.integer(3), ber.octets(user), ber.octets(password, 0x80))
        data, done = self._asked(asked, _BOUND)
        code, said = _result(data, done)
        if code == 49:
            found = re.search(r"\bdata ([0-9a-f]{3})\b", said)
            why = _REFUSED.get(found[1] if found else "", "名前かパスワードが違います")
            raise SourceDenied(f"{self.name} に {user or '匿名'} でサインインできません ({why})。")
        self._judge(code, f"{user or '匿名'} のサインイン")

    def root(self) -> dict[str, list[bytes]]:
        """What the server says of itself; empty where it does not."""
        wanted = ("*", "+")
        found = list(self.search("", "(objectClass=*)", wanted, scope="base", page=0))
        return found[0].attributes if found else {}

    def search(
        self,
        base: str,
        condition: str,
        attributes: Sequence[str],
        *,
        scope: Scope = "sub",
        page: int = 500,
        controls: Sequence[bytes] = (),
    ) -> Iterator[Entry]:
        """Entries as they come. `page`: so many at a time; 0 asks for all in one."""
        cookie, empty, self._pulse = b"", 0, wire.Pulse()
        head = (
            ber.octets(base), ber.integer(_SCOPES[scope], ber.ENUMERATED),
            ber.integer(0, ber.ENUMERATED),  # aliases are not followed
            ber.integer(0), ber.integer(0), ber.boolean(False),
            filtered(condition), ber.tlv(ber.SEQUENCE, *map(ber.octets, attributes)),
        )  # fmt: skip
        while True:
            more = [*controls, control(PAGED, _pages(page, cookie))] if page else list(controls)
            number = self._send(ber.tlv(_SEARCH, *head), more)
            some = list[Entry]()  # a page: who takes it may ask other questions meanwhile
            while True:
                data, operation, told = self._receive(number)
                if operation.tag == _ENTRY:
                    with self._sound():
                        some.append(_entry(data, operation))
                elif operation.tag == _DONE:
                    break
                elif operation.tag != _REFERENCE:
                    raise self._broken()
            with self._sound():
                code, _ = _result(data, operation)
                self._judge(code, base or "ルート")
                after = _cookie(data, told) if page else b""
            yield from some
            empty = 0 if some else empty + 1
            if not after:
                return
            if empty > EMPTY_PAGES:
                raise SourceUnreachable(f"{self.name} の答えに終わりがありません。")
            cookie = after

    # --- messages -----------------------------------------------------------------

    def _start_tls(self) -> None:
        data, done = self._asked(ber.tlv(_EXTENDED, ber.octets(START_TLS, 0x80)), _EXTENDED_DONE)
        code, _ = _result(data, done)
        if code:
            raise SourceMisconfigured(
                f"{self.name} は StartTLS を受け付けません。サーバーに証明書を設定するか、tls (636 番) にしてください。"
            )
        if len(self._held) > self._at:  # whoever put that there is not behind the encryption
            raise self._broken()

    def _secured(self, trusted: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        try:
            return trusted.wrap_socket(self._socket, server_hostname=host)
        except ssl.SSLError as error:
            raise SourceMisconfigured(f"{self.name}: {wire.untrusted(error)}。") from None
        except OSError:
            raise SourceUnreachable(
                f"{self.name} が TLS の途中で切れました。ポートと暗号化の設定を確かめてください。"
            ) from None

    def _asked(self, operation: bytes, answer: int) -> tuple[bytes, Part]:
        data, done, _ = self._receive(self._send(operation))
        if done.tag != answer:
            raise self._broken()
        return data, done

    def _send(self, operation: bytes, controls: Sequence[bytes] = ()) -> int:
        self._id += 1
        told = [ber.tlv(0xA0, *controls)] if controls else []
        try:
            self._socket.sendall(ber.tlv(ber.SEQUENCE, ber.integer(self._id), operation, *told))
        except OSError:
            raise self._lost() from None
        return self._id

    def _receive(self, number: int) -> tuple[bytes, Part, Part | None]:
        """A message: its bytes, the operation, and the controls where there are any."""
        with self._sound():
            data = self._message()
            found = ber.parts(data, ber.part(data, 0, len(data)))
            said = ber.number(data, found[0])
            if said == 0:  # a notice that nobody asked for: the server hangs up
                raise self._lost()
            if said != number:
                raise ValueError("an answer to another question")
            told = next((p for p in found[2:] if p.tag == 0xA0), None)
            return data, found[1], told
        raise AssertionError

    def _message(self) -> bytes:
        while (wanted := ber.size(bytes(self._held[self._at : self._at + 6]))) is None or (
            len(self._held) - self._at < wanted
        ):
            if wanted is not None and wanted > MESSAGE_BYTES:
                raise ValueError("a message too large")
            if self._at:
                del self._held[: self._at]
                self._at = 0
            self._pulse.wait()
            try:
                more = self._socket.recv(262_144)
            except OSError:
                raise self._lost() from None
            if not more:
                raise self._lost()
            if not self._pulse.came(len(more)):
                raise SourceUnreachable(
                    f"{self.name} の答えが終わりません。相手と、途中の回線を確かめてください。"
                )
            self._held += more
        if self._held[self._at] != ber.SEQUENCE:
            raise ValueError("no message of LDAP")
        found = bytes(self._held[self._at : self._at + wanted])
        self._at += wanted
        return found

    def _judge(self, code: int, what: str) -> None:
        if not code:
            return
        if code in _BUSY:
            raise SourceBusy(f"{self.name} が混み合っています ({what})。")
        told = {
            1: "サインインしていない問い合わせは受け付けません。利用者名とパスワードを入れてください",
            4: "一度に返す件数の上限に達しました。サーバーの上限か、ページの件数を変えてください",
            8: "暗号化した接続を求めています。tls か starttls にしてください",
            10: "ほかのサーバーを指しています。その場所を持つサーバーを指定してください",
            11: "サーバーの上限に達しました。サーバーの上限か、ページの件数を変えてください",
            12: "この問い合わせ方 (ページ分け) を知らないサーバーです",
            13: "暗号化した接続を求めています。tls か starttls にしてください",
            32: "その場所がありません。検索の起点 (DN) を確かめてください",
            34: "DN の書き方が正しくありません",
            48: "この方法でのサインインを許していません",
            50: "読む権限がありません。アカウントに読み取りを許してください",
        }.get(code, f"エラー {code} を返しました")
        kind = SourceDenied if code in (1, 50) else SourceMisconfigured
        raise kind(f"{self.name} ({what}): {told}。")

    def _sound(self) -> _Sound:
        return _Sound(self)

    def _broken(self) -> ApplianceError:
        return SourceUnreachable(
            f"{self.name} の答えが LDAP として読めません。ポートと暗号化の設定を確かめてください。"
        )

    def _lost(self) -> ApplianceError:
        return SourceUnreachable(f"{self.name} との接続が切れました。次の確認でやり直します。")


class _Sound:
    """What does not parse is told as one sentence."""

    def __init__(self, line: Ldap) -> None:
        self._line = line

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        if kind is not None and issubclass(kind, ValueError | IndexError):
            raise self._line._broken() from None


def control(oid: str, value: bytes, *, critical: bool = True) -> bytes:
    return ber.tlv(ber.SEQUENCE, ber.octets(oid), ber.boolean(critical), ber.octets(value))


def escaped(value: str | bytes) -> str:
    """A value within a filter (RFC 4515)."""
    data = value.encode() if isinstance(value, str) else value
    return "".join(f"\\{b:02x}" if b > 0x7E or b < 0x20 or b in b"*()\\" else chr(b) for b in data)


def filtered(condition: str) -> bytes:
    """A filter as it is written (RFC 4515) → as it is sent. Raises SourceMisconfigured."""
    try:
        made, at = _filter(condition.strip(), 0, 0)
        if at != len(condition.strip()):
            raise ValueError
    except (ValueError, IndexError):
        raise SourceMisconfigured(
            f"フィルター「{condition}」が読めません。(objectClass=person) のように書いてください。"
        ) from None
    return made


_ITEM = re.compile(r"([A-Za-z0-9.;:-]+?)(:=|>=|<=|~=|=)([^()]*)")


def _filter(text: str, at: int, depth: int) -> tuple[bytes, int]:
    if text[at] != "(" or depth > 20:
        raise ValueError
    at += 1
    if (tag := {"&": 0xA0, "|": 0xA1, "!": 0xA2}.get(text[at])) is not None:
        at += 1
        some = []
        while text[at] == "(":
            one, at = _filter(text, at, depth + 1)
            some.append(one)
        if not some or (tag == 0xA2 and len(some) > 1):
            raise ValueError
        made = ber.tlv(tag, *some)
    else:
        found = _ITEM.match(text, at)
        if not found:
            raise ValueError
        made, at = _item(*found.groups()), found.end()
    if text[at] != ")":
        raise ValueError
    return made, at + 1


def _item(name: str, how: str, value: str) -> bytes:
    if how == ":=":
        name, _, rule = name.partition(":")
        matching = [ber.octets(rule, 0x81)] if rule else []
        return ber.tlv(0xA9, *matching, ber.octets(name, 0x82), ber.octets(_plain(value), 0x83))
    if how == "=" and value == "*":
        return ber.octets(name, 0x87)
    if how == "=" and "*" in value:
        first, *middle, last = value.split("*")
        some = [ber.octets(_plain(first), 0x80)] if first else []
        some += [ber.octets(_plain(one), 0x81) for one in middle if one]
        some += [ber.octets(_plain(last), 0x82)] if last else []
        return ber.tlv(0xA4, ber.octets(name), ber.tlv(ber.SEQUENCE, *some))
    tag = {"=": 0xA3, ">=": 0xA5, "<=": 0xA6, "~=": 0xA8}[how]
    return ber.tlv(tag, ber.octets(name), ber.octets(_plain(value)))


def _plain(value: str) -> bytes:
    pieces = re.split(r"\\([0-9a-fA-F]{2})", value)
    if any("\\" in piece for piece in pieces[::2]):
        raise ValueError
    return b"".join(
        bytes.fromhex(piece) if n % 2 else piece.encode() for n, piece in enumerate(pieces)
    )


def _pages(size: int, cookie: bytes) -> bytes:
    return ber.tlv(ber.SEQUENCE, ber.integer(size), ber.octets(cookie))


def _cookie(data: bytes, controls: Part | None) -> bytes:
    for one in ber.parts(data, controls) if controls else ():
        oid, *rest = ber.parts(data, one)
        if data[oid.start : oid.stop] == PAGED.encode() and rest:
            value = data[rest[-1].start : rest[-1].stop]
            _, cookie = ber.parts(value, ber.part(value, 0, len(value)))
            return value[cookie.start : cookie.stop]
    return b""


def _result(data: bytes, done: Part) -> tuple[int, str]:
    """The code, and what the server adds: for telling cases apart, never for a person."""
    code, _, said, *_ = ber.parts(data, done)
    return ber.number(data, code), data[said.start : said.stop].decode("utf-8", "replace")


def _entry(data: bytes, operation: Part) -> Entry:
    name, attributes = ber.parts(data, operation)
    found: dict[str, list[bytes]] = {}
    for one in ber.parts(data, attributes):
        kind, values = ber.parts(data, one)
        key = data[kind.start : kind.stop].decode("ascii", "replace").lower()
        found[key] = [data[v.start : v.stop] for v in ber.parts(data, values)]
    return Entry(data[name.start : name.stop].decode("utf-8", "replace"), found)
