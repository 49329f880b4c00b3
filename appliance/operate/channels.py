"""Ways by which an alert leaves the machine, each to the one place that its settings name.

Every address is judged as those of sources are (`connectors/wire.py`): this machine and its link
are reached only where `near_hosts` names them. A way raises what went wrong, in a sentence.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol

from appliance.errors import SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.settings import Settings
from appliance.store.alerts import Event
from appliance.types import Site
from connectors.http import Http
from connectors.wire import addresses, dial, trust, untrusted

TIMEOUT_S = 10.0
SHOWN_EVENTS = 20
DEV_LOG = Path("/dev/log")
DATAGRAM_BYTES = 2048  # what every receiver of RFC 5424 should take
_KINDS = {
    "begin": "発生",
    "again": "継続中",
    "end": "解消",
    "over": "発生後に解消",
    "test": "試験",
}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_FACILITY = 3  # daemon
_LEVELS = {"critical": 2, "warning": 4}
_NOTICE = 5


@dataclass(frozen=True)
class Message:
    """What one way tells at once. `id` stays the same however often it is tried."""

    id: str
    machine: str
    origin: str
    zone: tzinfo
    at: datetime
    events: Sequence[Event]

    @classmethod
    def of(cls, settings: Settings, id: str, events: Sequence[Event]) -> Message:
        at = max(event.at for event in events)
        return cls(id, socket.gethostname(), settings.origin, settings.zone, at, tuple(events))

    @property
    def subject(self) -> str:
        first = min(self.events, key=_urgency)
        rest = f" ほか {len(self.events) - 1} 件" if len(self.events) > 1 else ""
        return f"[蔵 {plain(self.machine)}] {_KINDS[first.kind]}: {plain(first.title)}{rest}"

    @property
    def body(self) -> str:
        lines = []
        for event in sorted(self.events, key=_urgency)[:SHOWN_EVENTS]:
            grave = "（重大）" if event.severity == "critical" and event.kind != "end" else ""
            lines.append(f"■ {_KINDS[event.kind]}{grave}: {plain(event.title)}")
            lines.append(f"  {plain(event.said)}")
            lines.append(f"  {self._when(event)}\n")
        if (more := len(self.events) - SHOWN_EVENTS) > 0:
            lines.append(f"ほか {more} 件。\n")
        lines.append(f"管理画面: {self.origin}/admin/status")
        lines.append(f"このメールは {plain(self.machine)} の蔵 (Kura) が自動で送りました。")
        return "\n".join(lines) + "\n"

    def _when(self, event: Event) -> str:
        since, at = (f"{m.astimezone(self.zone):%Y-%m-%d %H:%M}" for m in (event.since, event.at))
        return f"{since} から" if event.kind in ("begin", "again") else f"{since} から {at} まで"


class Channel(Protocol):
    def send(self, message: Message) -> None:
        """Raises an ApplianceError that says what went wrong."""


def plain(text: str) -> str:
    """One line, whatever a name holds."""
    return _UNSAFE.sub(" ", text)[:1000]


def _urgency(event: Event) -> tuple[bool, bool, str]:
    return event.kind in ("end", "over"), event.severity != "critical", event.key


# --- mail -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    host: str
    port: int
    security: str  # starttls, tls or none
    user: str
    password: str = field(repr=False)
    sender: str
    to: tuple[str, ...]
    site: Site

    def send(self, message: Message) -> None:
        where = f"メールサーバー {self.host}:{self.port}"
        try:
            with _Smtp(self) as smtp:
                smtp.connect(self.host, self.port)
                if self.security == "starttls":
                    smtp._host = self.host  # type: ignore[attr-defined]  # what the certificate must name
                    smtp.starttls(context=trust(self.site))
                if self.user:
                    self._sign_in(smtp)
                refused = smtp.send_message(self._written(message), self.sender, self.to)
        except ssl.SSLError as error:
            raise SourceMisconfigured(f"{where}: {untrusted(error)}。") from None
        except smtplib.SMTPNotSupportedError:
            raise SourceMisconfigured(
                f"{where} は、STARTTLS か、この方法のサインインに対応していません。"
            ) from None
        except smtplib.SMTPAuthenticationError:
            raise SourceDenied(f"{where} にサインインできません。") from None
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
            what = "宛先" if isinstance(error, smtplib.SMTPRecipientsRefused) else "差出人"
            raise SourceMisconfigured(f"{where} は、{what}を断りました。") from None
        except smtplib.SMTPResponseException as error:
            raise SourceUnreachable(f"{where} が断りました ({error.smtp_code})。") from None
        except (smtplib.SMTPException, OSError) as error:
            raise SourceUnreachable(f"{where} と話せません ({type(error).__name__})。") from None
        if refused:
            raise SourceMisconfigured(f"{where} は、宛先のうち {len(refused)} 件を断りました。")

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        """PLAIN is UTF-8 (RFC 4616), which `login` does not write; of other ways it knows better."""
        smtp.ehlo_or_helo_if_needed()
        if "PLAIN" not in smtp.esmtp_features.get("auth", "").upper().split():
            try:
                smtp.login(self.user, self.password)
            except UnicodeEncodeError:
                raise SourceMisconfigured(
                    f"メールサーバー {self.host} には、ASCII のパスワードしか渡せません。"
                ) from None
            return
        said = base64.b64encode(f"\0{self.user}\0{self.password}".encode()).decode()
        code, answer = smtp.docmd("AUTH", f"PLAIN {said}")
        if code != 235:
            raise smtplib.SMTPAuthenticationError(code, answer)

    def _written(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = message.subject
        mail["From"] = self.sender
        mail["To"] = ", ".join(self.to)
        mail["Date"] = format_datetime(message.at.astimezone(message.zone))
        domain = self.sender.rpartition("@")[2]
        mail["Message-ID"] = f"<{message.id}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.body, charset="utf-8", cte="base64")
        return mail


class _Smtp(smtplib.SMTP):
    """Reaches what was judged, and looks no name up by itself."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        super().__init__(timeout=TIMEOUT_S, local_hostname=_own_name())

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        line = dial(host, port, self._mail.site, timeout)
        if self._mail.security != "tls":
            return line
        return trust(self._mail.site).wrap_socket(line, server_hostname=host)


def _own_name() -> str:
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name) else "kura"


# --- webhook --------------------------------------------------------------------------


@dataclass(frozen=True)
class Webhook:
    """POST of JSON. `X-Kura-Signature: t=…,v1=…` is HMAC-SHA256 of `t.body`; a delivery that is
    tried again has the same `X-Kura-Delivery`.
    """

    url: str
    secret: str = field(repr=False)
    site: Site

    def send(self, message: Message) -> None:
        body = json.dumps(self._written(message), ensure_ascii=False).encode()
        at = int(time.time())
        headers = {
            "content-type": "application/json; charset=utf-8",
            "x-kura-delivery": message.id,
            "x-kura-signature": f"t={at},v1={signature(self.secret, at, body)}",
        }
        with Http(
            [self.url],
            self.site,
            timeout_s=TIMEOUT_S,
            sleep=lambda seconds: time.sleep(min(seconds, 1.0)),  # the outbox waits, not we
            fence=lambda url: url == self.url,  # a redirect would be followed without its body
        ) as http:
            reply = http.ask("POST", self.url, headers=headers, content=body, most_bytes=100_000)
        if not 200 <= reply.status < 300:
            raise SourceMisconfigured(f"Webhook の相手が断りました ({reply.status})。")

    def _written(self, message: Message) -> dict[str, Any]:
        return {
            "id": message.id,
            "machine": message.machine,
            "summary": message.subject,
            "events": [
                {
                    "kind": event.kind,
                    "key": event.key,
                    "severity": event.severity,
                    "title": event.title,
                    "said": event.said,
                    "since": event.since.isoformat(),
                    "at": event.at.isoformat(),
                }
                for event in message.events
            ],
        }


def signature(secret: str, at: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


# --- syslog ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Syslog:
    """RFC 5424 over UDP (RFC 5426), TCP (RFC 6587, counted) or TLS (RFC 5425), or the local log."""

    transport: str
    host: str
    port: int
    site: Site

    def send(self, message: Message) -> None:
        where = f"syslog {self.transport}://{self.host}:{self.port}"
        if self.transport == "local":
            where = f"syslog {DEV_LOG}"
        try:
            match self.transport:
                case "local":
                    self._local(message)
                case "udp":
                    self._datagrams(message)
                case _:
                    self._stream(message)
        except ssl.SSLError as error:
            raise SourceMisconfigured(f"{where}: {untrusted(error)}。") from None
        except OSError as error:
            raise SourceUnreachable(f"{where} に書けません ({type(error).__name__})。") from None

    def _local(self, message: Message) -> None:
        """In the form of the machine's own logger, which wants no version and no host."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.settimeout(TIMEOUT_S)
            log.connect(str(DEV_LOG))
            for event in message.events:
                log.send(_cut(f"<{_priority(event)}>kura[{os.getpid()}]: {_told(event)}".encode()))

    def _datagrams(self, message: Message) -> None:
        self.site.reach(self.host)
        try:
            address = addresses(self.host, self.port, self.site.near)[0]
        except (OSError, UnicodeError):
            raise SourceUnreachable(f"名前 {self.host} が見つかりません。") from None
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as line:
            line.settimeout(TIMEOUT_S)
            line.connect((address, self.port))
            for event in message.events:
                line.send(_cut(rfc5424(message, event)))

    def _stream(self, message: Message) -> None:
        line = dial(self.host, self.port, self.site, TIMEOUT_S)
        with line:
            if self.transport == "tls":
                line = trust(self.site).wrap_socket(line, server_hostname=self.host)
            with line:
                for event in message.events:
                    text = rfc5424(message, event)
                    line.sendall(str(len(text)).encode() + b" " + text)
                line.shutdown(socket.SHUT_WR)


def rfc5424(message: Message, event: Event) -> bytes:
    at = event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    host = re.sub(r"[^!-~]", "", message.machine)[:255] or "-"
    head = f"<{_priority(event)}>1 {at} {host} kura {os.getpid()} {event.kind} - "
    return head.encode("ascii") + b"\xef\xbb\xbf" + _told(event).encode()


def _told(event: Event) -> str:
    grave = f"[{event.severity}] " if event.kind in ("begin", "again") else ""
    return f"{_KINDS[event.kind]}: {grave}{plain(event.title)}: {plain(event.said)} ({plain(event.key)})"


def _priority(event: Event) -> int:
    grave = event.kind in ("begin", "again")
    return _FACILITY * 8 + (_LEVELS[event.severity] if grave else _NOTICE)


def _cut(text: bytes) -> bytes:
    """Within a datagram, and no character halved."""
    return (
        text[:DATAGRAM_BYTES].decode("utf-8", "ignore").encode()
        if len(text) > DATAGRAM_BYTES
        else text
    )
