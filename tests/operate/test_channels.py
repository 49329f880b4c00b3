"""Alerts arrive at real servers on loopback, and nowhere that was not named."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import ApplianceError, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.operate import channels
from appliance.operate.channels import Mail, Message, Syslog, Webhook, signature
from appliance.settings import Settings
from appliance.store.alerts import Event
from appliance.types import Site
from tests.fakes import receivers
from tests.fakes.certificates import certificate

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
DISK = Event("begin", "disk:data", "critical", "ディスクの空き", "空きが 1.0 GB です。", NOW, NOW)
OVER = Event("end", "model", "critical", "モデルが応答しない", "応答しません。", NOW, NOW)
SETTINGS = Settings(time_zone="Asia/Tokyo", public_origin="https://kura.example.co.jp")


def message(*events: Event) -> Message:
    return Message.of(SETTINGS, "ab" * 12, events or (DISK, OVER))


def near(*ports: int, host: str = "localhost", ca: Path | None = None) -> Site:
    return Site(ca, frozenset(f"{host}:{port}" for port in ports))


def mail(port: int, site: Site, **more: object) -> Mail:
    made = Mail(
        "localhost", port, "starttls", "", "", "kura@example.co.jp", ("it@example.co.jp",), site
    )
    return replace(made, **more)  # type: ignore[arg-type]


# --- mail -----------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_in_japanese_over_tls_of_the_companys_authority(
    security: str, tmp_path: Path
) -> None:
    own = certificate(tmp_path)
    with receivers.smtp(own.context(), at_once=security == "tls", password="合言葉 9") as mails:
        site = near(mails.port, ca=own.cert)
        way = mail(mails.port, site, security=security, user="kura", password="合言葉 9")
        way.send(message())
    (got,) = mails.got
    assert mails.encrypted == [True] and mails.signed_in == [("kura", "合言葉 9")]
    assert got["subject"].startswith("[蔵 ") and "発生: ディスクの空き ほか 1 件" in got["subject"]
    assert got["auto-submitted"] == "auto-generated" and "ab" * 12 in got["message-id"]
    body = got.get_content()
    assert "■ 発生（重大）: ディスクの空き" in body and "■ 解消: モデルが応答しない" in body
    assert "2026-11-27 12:00 から" in body and "https://kura.example.co.jp/admin/status" in body


def test_a_password_goes_nowhere_unencrypted_and_to_nobody_unknown(tmp_path: Path) -> None:
    own, other = certificate(tmp_path), certificate(tmp_path, days=364)
    with receivers.smtp(password="geheim") as bare, pytest.raises(SourceMisconfigured):
        mail(bare.port, near(bare.port), user="kura", password="geheim").send(message())
    assert bare.signed_in == [] and bare.got == []
    with receivers.smtp(own.context(), password="geheim") as stranger:
        site = near(stranger.port, ca=other.cert)
        with pytest.raises(SourceMisconfigured, match="証明書"):
            mail(stranger.port, site, user="kura", password="geheim").send(message())
    assert stranger.signed_in == []
    with receivers.smtp(own.context(), password="geheim") as strict:
        site = near(strict.port, ca=own.cert)
        with pytest.raises(SourceDenied) as refused:
            mail(strict.port, site, user="kura", password="falsch").send(message())
    assert "falsch" not in str(refused.value)


def test_a_name_cannot_write_a_header_or_a_line(tmp_path: Path) -> None:
    odd = replace(DISK, title="a\r\nBcc: x@evil.example", said="b\r\n.\r\nMAIL FROM:<x>\x1b[2J")
    with receivers.smtp() as mails:
        mail(mails.port, near(mails.port), security="none").send(message(odd))
    (got,) = mails.got
    assert got["bcc"] is None and "\x1b" not in got.get_content()
    assert "b . MAIL FROM:<x>" in got.get_content()


# --- webhook ----------------------------------------------------------------------------


def test_a_webhook_is_signed() -> None:
    with receivers.hooks() as posts:
        Webhook(f"http://localhost:{posts.port}/in?key=1", "s" * 16, near(posts.port)).send(
            message()
        )
    ((path, headers, body),) = posts.got
    assert path == "/in?key=1" and headers["x-kura-delivery"] == "ab" * 12
    at, mark = (part.split("=")[1] for part in headers["x-kura-signature"].split(","))
    assert signature("s" * 16, int(at), body) == mark
    told = json.loads(body)
    assert [e["kind"] for e in told["events"]] == ["begin", "end"]
    assert told["events"][0]["said"] == "空きが 1.0 GB です。"


def test_a_webhook_that_fails_for_a_moment_is_tried_again() -> None:
    answers = iter([503, 502, 204])
    with receivers.hooks() as posts:
        posts.answer = lambda path: (next(answers), {"retry-after": "0"})
        Webhook(f"http://localhost:{posts.port}/", "s" * 16, near(posts.port)).send(message())
    assert len({headers["x-kura-delivery"] for _, headers, _ in posts.got}) == 1
    assert len(posts.got) == 3


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_a_webhook_refuses_is_said(status: int) -> None:
    with receivers.hooks() as posts:
        posts.answer = lambda path: (status, {})
        with pytest.raises(ApplianceError):
            Webhook(f"http://localhost:{posts.port}/", "s" * 16, near(posts.port)).send(message())


@pytest.mark.parametrize(  # S1, S2
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "ok.example@127.0.0.1",
        "127.0.0.1\\@ok.example",
        "127.0.0.1#@ok.example",
        "127.0.0.1\t",
    ],
)
def test_this_machine_and_odd_addresses_are_not_reached(host: str) -> None:
    with receivers.hooks() as posts:
        with pytest.raises(ApplianceError):
            Webhook(f"http://{host}:{posts.port}/", "s" * 16, near(1)).send(message())
        assert posts.got == []


def test_a_redirect_is_not_followed() -> None:  # S3
    with receivers.hooks() as inner, receivers.hooks() as posts:
        for target in (f"http://localhost:{inner.port}/secret", "/elsewhere"):
            posts.answer = lambda path, to=target: (302, {"location": to})  # type: ignore[misc]
            with pytest.raises(ApplianceError):
                Webhook(
                    f"http://localhost:{posts.port}/", "s" * 16, near(posts.port, inner.port)
                ).send(message())
    assert inner.got == [] and {path for path, _, _ in posts.got} == {"/"}


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:  # S6
    asked: list[str] = []
    real = socket.getaddrinfo

    def answered(host: str, *rest: object, **more: object) -> object:
        if host != "hook.example":
            return real(host, *rest, **more)  # type: ignore[arg-type]
        asked.append(host)
        address = "10.255.255.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    connected: list[str] = []

    def refuse(self: object, host: str, *rest: object) -> None:
        connected.append(host)
        raise channels.httpcore2.ConnectError(host)  # type: ignore[attr-defined]

    monkeypatch.setattr(socket, "getaddrinfo", answered)
    monkeypatch.setattr("connectors.http.ATTEMPTS", 1)
    monkeypatch.setattr("httpcore2.SyncBackend.connect_tcp", refuse)
    monkeypatch.setattr(channels, "httpcore2", __import__("httpcore2"), raising=False)
    with pytest.raises(SourceUnreachable):
        Webhook("http://hook.example/", "s" * 16, near(1)).send(message())
    assert connected == ["10.255.255.1"] and len(asked) == 1


def test_mail_and_syslog_do_not_reach_this_machine_unless_named() -> None:  # S5
    with receivers.smtp() as mails, pytest.raises(SourceDenied, match="near_hosts"):
        mail(mails.port, near(1), security="none").send(message())
    assert mails.got == []
    with receivers.datagrams() as (port, got):
        with pytest.raises(SourceDenied, match="near_hosts"):
            Syslog("udp", "127.0.0.1", port, near(1)).send(message())
        assert got == []


# --- syslog -----------------------------------------------------------------------------


def test_syslog_over_udp() -> None:
    with receivers.datagrams() as (port, got):
        Syslog("udp", "localhost", port, near(port)).send(message())
        receivers.until(lambda: len(got) == 2)
    begin, end = got
    assert begin.startswith(b"<26>1 2026-11-27T03:00:00.000Z ") and end.startswith(b"<29>1 ")
    assert (
        "\ufeff発生: [critical] ディスクの空き: 空きが 1.0 GB です。 (disk:data)" in begin.decode()
    )


def test_a_datagram_holds_no_half_of_a_character() -> None:
    long = replace(DISK, said="あ" * 900)
    with receivers.datagrams() as (port, got):
        Syslog("udp", "localhost", port, near(port)).send(message(long))
        receivers.until(lambda: got)
    assert len(got[0]) <= 2048 and got[0].decode().endswith("あ")


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_syslog_over_a_stream_is_counted(transport: str, tmp_path: Path) -> None:
    own = certificate(tmp_path)
    tls = own.context() if transport == "tls" else None
    with receivers.stream(tls) as (port, got):
        Syslog(transport, "localhost", port, near(port, ca=own.cert)).send(message())
        receivers.until(lambda: got)
    rest, frames = got[0], []
    while rest:
        size, _, rest = rest.partition(b" ")
        frames.append(rest[: int(size)])
        rest = rest[int(size) :]
    assert [frame[:5] for frame in frames] == [b"<26>1", b"<29>1"]


def test_the_local_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(place))
        log.settimeout(5)
        monkeypatch.setattr(channels, "DEV_LOG", place)
        odd = replace(DISK, said="一\n<0>二\x1b[0m")
        Syslog("local", "", 0, Site()).send(message(odd))
        said = log.recv(4096).decode()
    assert said.startswith("<26>kura[") and "\n" not in said and "\x1b" not in said
    monkeypatch.setattr(channels, "DEV_LOG", tmp_path / "nowhere")
    with pytest.raises(SourceUnreachable, match="nowhere"):
        Syslog("local", "", 0, Site()).send(message())
