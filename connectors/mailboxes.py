"""One connection to a server that speaks IMAP (RFC 3501), which only ever reads.

Answers are bounded in bytes and in time. No message holds what was sent or what the server said.
"""

from __future__ import annotations

import base64
import binascii
import email.message
import email.policy
import imaplib
import io
import re
import socket
import ssl
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors import wire

Security = Literal["tls", "starttls", "none"]

TIMEOUT_S = 60.0  # of silence
ANSWER_BYTES = 500_000_000
UIDS = 50_000  # asked for at once: a line of an answer has a limit
HEADS = 200
_LIST = re.compile(rb'\(([^)]*)\) (?:"(\\?.)"|NIL) (.*)', re.DOTALL)
_STATUS = re.compile(rb"(UIDVALIDITY|UIDNEXT|MESSAGES|HIGHESTMODSEQ) (\d+)")
_UID, _SIZE = re.compile(rb"\bUID (\d+)"), re.compile(rb"\bRFC822\.SIZE (\d+)")
_ARRIVED = re.compile(rb'\bINTERNALDATE "([^"]+)"')
_HEAD = "(UID RFC822.SIZE INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID SUBJECT)])"
_LATER = (b"[UNAVAILABLE]", b"[INUSE]", b"[LIMIT]", b"[SERVERBUG]")  # RFC 5530


@dataclass(frozen=True, slots=True)
class Box:
    """A folder. `raw` is its name as the server spells it, `name` as people do, "/" between."""

    raw: bytes
    name: str
    flags: frozenset[str]  # in lower case: \\trash, \\noselect


@dataclass(frozen=True, slots=True)
class State:
    """While it is the same, and has a `modseq`, so are the messages."""

    validity: int  # another one: the uids mean other messages
    next_uid: int
    messages: int
    modseq: int  # 0 where the server counts no changes (CONDSTORE, RFC 7162)


@dataclass(frozen=True, slots=True)
class Head:
    """What is told of a message without reading it."""

    uid: int
    size_bytes: int
    arrived: datetime
    message_id: str
    subject: str


class Mailboxes:
    """Signed in. Raises SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured."""

    def __init__(
        self, host: str, port: int, security: Security, user: str, password: str, site: Site
    ) -> None:
        self.name, self.alive, self._selected = f"{host}:{port}", True, (b"", 0)
        if security == "none" and not wire.is_near(host, port, site.near):
            raise SourceMisconfigured(
                f"{self.name} へは暗号化せずにつなぎません。本当につなぐ場合は、設定 near_hosts に加えてください。"
            )
        with self._told(self.name):
            self._imap = _Imap(host, port, security, site)
        try:
            with self._told(self.name):
                if security == "starttls":
                    self._start_tls(wire.trust(site))
                self._sign_in(user, password)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with suppress(OSError, imaplib.IMAP4.error):
            if self.alive:
                self._imap.logout()
        with suppress(OSError):
            self._imap.shutdown()

    def boxes(self) -> list[Box]:
        """All that the account sees, those of others that are shared with it as well."""
        extended = {"LIST-EXTENDED", "SPECIAL-USE"} <= set(self._imap.capabilities)
        with self._told(self.name):
            said = self._ask("LIST", '""', '"*" RETURN (SPECIAL-USE)' if extended else '"*"')
            found = [_box(*pair) for pair in _paired(said)]
        return sorted((box for box in found if box), key=lambda box: box.name)

    def state(self, box: Box) -> State:
        known = "CONDSTORE" in self._imap.capabilities
        wanted = f"(UIDVALIDITY UIDNEXT MESSAGES{' HIGHESTMODSEQ' if known else ''})"
        with self._told(self._of(box)):
            said = self._ask("STATUS", _quoted(box.raw), wanted)
            text = b" ".join(head + b" " + tail for head, _, tail in _paired(said))
        found = {name.decode(): int(number) for name, number in _STATUS.findall(text)}
        if not found.get("UIDVALIDITY"):
            raise SourceUnreachable(f"{self._of(box)} の様子が分かりません。")
        return State(
            found["UIDVALIDITY"],
            found.get("UIDNEXT", 0),
            found.get("MESSAGES", 0),
            found.get("HIGHESTMODSEQ", 0),
        )

    def uids(self, box: Box, state: State) -> list[int]:
        """Of the messages in it, less those that are marked as deleted."""
        self._select(box, state.validity)
        spans = [f"{first}:{first + UIDS - 1}" for first in range(1, state.next_uid, UIDS)]
        found: list[int] = []
        with self._told(self._of(box)):
            for span in spans if state.messages > UIDS and spans else ["1:*"]:
                for line, _, _ in _paired(self._uid("SEARCH", f"UID {span}", "UNDELETED")):
                    found += map(int, line.split())
        return found

    def heads(self, box: Box, validity: int, uids: Sequence[int]) -> Iterator[Head]:
        for start in range(0, len(uids), HEADS):
            wanted = ",".join(map(str, uids[start : start + HEADS]))
            self._select(box, validity)
            with self._told(self._of(box)):
                found = [_head(*part) for part in _paired(self._uid("FETCH", wanted, _HEAD))]
            yield from (head for head in found if head)

    def message(self, box: Box, validity: int, uid: int) -> io.BytesIO | None:
        """The whole of it, as it came; None where it is gone."""
        self._select(box, validity)
        with self._told(self._of(box)):
            parts = _paired(self._uid("FETCH", str(uid), "(UID BODY.PEEK[])"))
        for said, data, more in parts:
            found = _UID.search(said + b" " + more)
            if data is not None and found and int(found[1]) == uid:
                return io.BytesIO(data)
        return None

    # --- asking -------------------------------------------------------------------

    def _start_tls(self, context: ssl.SSLContext) -> None:
        if "STARTTLS" not in self._imap.capabilities:
            raise SourceMisconfigured(f"{self.name} は STARTTLS に対応していません。")
        self._imap.starttls(context)
        self._imap.bound()

    def _sign_in(self, user: str, password: str) -> None:
        try:
            if "AUTH=PLAIN" in self._imap.capabilities:
                self._imap.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
            else:
                self._imap.login(_quoted(user.encode()).decode("latin-1"), password)
            self._imap.refresh()
        except imaplib.IMAP4.abort:
            raise
        except (imaplib.IMAP4.error, UnicodeError) as error:
            if any(code in str(error).encode() for code in _LATER):
                raise SourceBusy(
                    f"{self.name} が混み合っています。しばらくして、また確認します。"
                ) from None
            raise SourceDenied(
                f"{self.name} にサインインできません。利用者名とパスワードを確かめてください。"
            ) from None

    def _select(self, box: Box, validity: int) -> None:
        """Opened to read only: nothing is marked as seen."""
        if self._selected == (box.raw, validity):
            return
        with self._told(self._of(box)):
            self._selected = (b"", 0)
            self._imap.budget()
            kind, _ = self._imap.select(cast(str, _quoted(box.raw)), readonly=True)
            said = self._imap.response("UIDVALIDITY")[1]
        if kind != "OK":
            raise SourceDenied(f"{self._of(box)} を開く権限が、この接続の利用者にありません。")
        if not said or not said[-1] or int(said[-1]) != validity:
            raise SourceBusy(f"{self._of(box)} が作り直されました。次の確認で読み直します。")
        self._selected = (box.raw, validity)

    def _ask(self, command: str, *args: str | bytes) -> list[bytes | tuple[bytes, bytes] | None]:
        self._imap.budget()
        kind, said = self._imap.plain(command, *args)
        if kind != "OK":
            raise SourceDenied(f"{self.name} は {command} を断りました。")
        return said

    def _uid(self, command: str, *args: str) -> list[bytes | tuple[bytes, bytes] | None]:
        self._imap.budget()
        kind, said = self._imap.uid(command, *args)
        if kind != "OK":
            raise SourceUnreachable(f"{self.name} は {command} に答えません。")
        return said

    def _of(self, box: Box) -> str:
        return f"{self.name} の {box.name}"

    @contextmanager
    def _told(self, where: str) -> Iterator[None]:
        """Errors in our words; theirs may hold what was sent."""
        try:
            yield
        except ApplianceError:
            raise
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self.alive = False
            raise SourceUnreachable(
                f"{where} の応答が途中で切れました。次の確認でやり直します。"
            ) from None
        except ssl.SSLError as error:
            self.alive = False
            raise SourceMisconfigured(f"{where}: {wire.untrusted(error)}。") from None
        except TimeoutError:
            self.alive = False
            raise SourceUnreachable(
                f"{where} が時間内に応えません。次の確認でやり直します。"
            ) from None
        except (
            OSError,
            ValueError,
            LookupError,
            imaplib.IMAP4.error,
        ):  # what comes may be anything
            self.alive = False
            raise SourceUnreachable(
                f"{where} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
            ) from None


class _Imap(imaplib.IMAP4):
    """Dials as connectors do, and reads no more, and for no longer, than is reasonable."""

    def __init__(self, host: str, port: int, security: Security, site: Site) -> None:
        self._security, self._site = security, site
        super().__init__(host, port, TIMEOUT_S)

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        super().open(host, port, timeout)
        self.bound()

    def bound(self) -> None:
        """Whatever comes from here on; again after STARTTLS, which opens the file anew."""
        self.file.close()
        self._bounds = _Bounded(self.sock)
        self.file = io.BufferedReader(self._bounds)

    def budget(self) -> None:
        """For the next answer."""
        self._bounds.renew()

    def plain(
        self, command: str, *args: str | bytes
    ) -> tuple[str, list[bytes | tuple[bytes, bytes] | None]]:
        kind, said = self._simple_command(command, *args)
        return self._untagged_response(kind, said, command)  # type: ignore[no-any-return]

    def refresh(self) -> None:
        """Servers tell more of what they can do to whom they know."""
        self._get_capabilities()

    def _create_socket(self, timeout: float | None) -> socket.socket:
        sock = wire.dial(self.host, self.port, self._site, TIMEOUT_S)
        if self._security != "tls":
            return sock
        try:
            return wire.trust(self._site).wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise

    def read(self, size: int) -> bytes:
        if size > ANSWER_BYTES:
            raise self.abort("too much")
        data = bytearray()  # as it comes: the size is only what the server says
        while block := cast(bytes, self.file.read(min(size - len(data), 1 << 20))):
            data += block
        if len(data) < size:
            raise self.abort("cut off")
        return bytes(data)


class _Bounded(io.RawIOBase):
    """A socket to read from, until an answer was too large or took too long."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.renew()

    def renew(self) -> None:
        self._left, self._pulse = ANSWER_BYTES, wire.Pulse()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._pulse.wait()
        size = self._sock.recv_into(buffer)
        self._left -= size
        if self._left < 0 or not self._pulse.came(size):
            raise imaplib.IMAP4.abort("too much")
        return size


# --- what comes back --------------------------------------------------------------

Part = tuple[bytes, bytes | None, bytes]  # what is said, a literal, what is said after it


def _paired(said: Sequence[bytes | tuple[bytes, bytes] | None]) -> list[Part]:
    """One part a response: what comes next after a literal still belongs to it."""
    parts: list[Part] = []
    open_ = False
    for one in said:
        if isinstance(one, tuple):
            parts.append((one[0], one[1], b""))
        elif open_:
            parts[-1] = (*parts[-1][:2], one or b"")
        elif one:
            parts.append((one, None, b""))
        open_ = isinstance(one, tuple)
    return parts


def _box(said: bytes, literal: bytes | None, _: bytes) -> Box | None:
    if not (found := _LIST.fullmatch(said)):
        return None
    flags, between, rest = found.groups()
    raw = literal if literal is not None else _unquoted(rest)
    between = (between or b"")[-1:].decode("latin-1")
    parts = _decoded(raw).split(between) if between else [_decoded(raw)]
    name = unicodedata.normalize("NFC", "/".join(part.replace("/", "∕") for part in parts))
    return Box(raw, name, frozenset(flags.decode("latin-1").lower().split()))


def _head(said: bytes, literal: bytes | None, more: bytes) -> Head | None:
    text = said + b" " + more
    uid, size, arrived = _UID.search(text), _SIZE.search(text), _ARRIVED.search(text)
    if not uid or not size:
        return None
    fields = email.message_from_bytes(literal or b"", policy=email.policy.default)
    return Head(
        uid=int(uid[1]),
        size_bytes=int(size[1]),
        arrived=_when(arrived[1].decode("latin-1") if arrived else ""),
        message_id=_field(fields, "message-id"),
        subject=_field(fields, "subject"),
    )


def _field(fields: email.message.EmailMessage, name: str) -> str:
    try:
        text = str(fields[name] or "")
    except (ValueError, LookupError, AttributeError, TypeError):  # headers may be anything
        return ""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join(unicodedata.normalize("NFC", text).split())


def _when(said: str) -> datetime:
    try:
        return datetime.strptime(said.strip(), "%d-%b-%Y %H:%M:%S %z")
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _quoted(raw: bytes) -> bytes:
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _unquoted(said: bytes) -> bytes:
    if len(said) >= 2 and said[:1] == said[-1:] == b'"':
        return re.sub(rb"\\(.)", rb"\1", said[1:-1])
    return said


def _decoded(raw: bytes) -> str:
    """Modified UTF-7 (RFC 3501, 5.1.3); what is none is read as UTF-8."""

    def part(found: re.Match[bytes]) -> bytes:
        if not found[1]:
            return b"&"
        packed = found[1].replace(b",", b"/")
        data = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        return data.decode("utf-16-be").encode()

    try:
        return re.sub(rb"&([^-]*)-", part, raw).decode()
    except (binascii.Error, UnicodeError):
        return raw.decode("utf-8", "replace")
