"""`kura web` over TLS: a real server, a client that checks the certificate, and what is refused."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings
from pathlib import Path
from urllib.request import urlopen

import pytest

from installer.deploy import certificate
from tests.cli.test_cli import home, kura, told

__all__ = ["home"]


@pytest.fixture
def tls(home: dict[str, str], tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "tls"
    folder.mkdir()
    certificate.main(str(folder), "kura.example.co.jp", "蔵.example.jp", "127.0.0.1")
    return home | {
        "KURA_TLS_CERTIFICATE": str(folder / "cert.pem"),
        "KURA_TLS_KEY": str(folder / "key.pem"),
    }


def test_it_serves_over_tls_alone_and_the_commands_find_it(tls: dict[str, str]) -> None:
    port = int(tls["KURA_WEB_PORT"])
    serving = subprocess.Popen([sys.executable, "-m", "appliance.cli", "web"], env=tls, stderr=-3)
    try:
        context = ssl.create_default_context(cafile=tls["KURA_TLS_CERTIFICATE"])
        url = f"https://127.0.0.1:{port}/api/v1/health"
        deadline = time.monotonic() + 60
        while True:
            try:
                with urlopen(url, context=context) as answer:
                    assert answer.headers["Strict-Transport-Security"]
                    break
            except OSError as error:
                assert "CERTIFICATE" not in str(error)
                assert time.monotonic() < deadline and serving.poll() is None
                time.sleep(0.2)
        told_of = json.loads(
            subprocess.run(
                [sys.executable, "-m", "appliance.cli", "status", "--json"],
                env=tls,
                capture_output=True,
                check=False,
            ).stdout
        )
        assert told_of["web"] in ("ready", "degraded")
        assert told_of["address"] == f"https://127.0.0.1:{port}"
        kura(tls, "user", "add", "ito", "--administrator")
        assert told(tls, "search", "宿泊費は?", "--as", "ito") == {"passages": [], "partial": False}

        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            plain.settimeout(10)
            assert b"200" not in plain.recv(100)
        old = ssl.create_default_context(cafile=tls["KURA_TLS_CERTIFICATE"])
        old.set_ciphers("DEFAULT@SECLEVEL=0")  # this client would speak the old ones
        with warnings.catch_warnings(action="ignore"):
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", port)) as wire,
            pytest.raises(ssl.SSLError, match=r"EOF|alert protocol"),
        ):
            old.wrap_socket(wire, server_hostname="127.0.0.1")
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(30)
    assert serving.returncode == 0


def test_another_certificate_than_its_own_is_not_believed(
    tls: dict[str, str], tmp_path: Path
) -> None:
    """Somebody else who listens on the port gets no key."""
    other = tmp_path / "other"
    other.mkdir()
    certificate.main(str(other), "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other / "cert.pem", other / "key.pem")
    heard: list[bytes] = []
    kura(tls, "user", "add", "ito", "--administrator")
    with socket.create_server(("127.0.0.1", int(tls["KURA_WEB_PORT"]))) as listening:
        asking = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "search", "x", "--as", "ito"],
            env=tls,
            stderr=subprocess.PIPE,
            text=True,
        )
        wire, _ = listening.accept()
        with wire, pytest.raises(OSError):
            heard.append(context.wrap_socket(wire, server_side=True).recv(1000))
        said = asking.communicate(timeout=60)[1]
    assert asking.returncode == 78 and "動いていません" in said and not any(heard)


def test_a_key_that_others_read_or_of_another_certificate_serves_nothing(
    tls: dict[str, str], tmp_path: Path
) -> None:
    key = Path(tls["KURA_TLS_KEY"])
    key.chmod(0o644)
    assert "chmod o=" in kura(tls, "web", status=78).stderr
    other = tmp_path / "other"
    other.mkdir()
    certificate.main(str(other), "x")
    wrong = tls | {"KURA_TLS_KEY": str(other / "key.pem")}
    assert "組になりません" in kura(wrong, "web", status=78).stderr
    gone = tls | {"KURA_TLS_KEY": str(tmp_path / "gone")}
    assert "gone" in kura(gone, "web", status=78).stderr
    half = {k: v for k, v in tls.items() if k != "KURA_TLS_KEY"}
    assert "両方書くか" in kura(half, "status", status=78).stderr
    assert key.stat().st_mode & 0o777 == 0o644


def test_a_new_code_for_the_console_takes_the_place_of_the_old(home: dict[str, str]) -> None:
    first, second = (kura(home, "setup-code").stdout.strip() for _ in range(2))
    assert first != second and len(second) == 19
    kura(home, "user", "add", "ito", "--administrator")
    assert "すでに" in kura(home, "setup-code", status=1).stderr
