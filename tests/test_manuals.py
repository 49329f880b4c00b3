"""The manuals are true: every command in them is carried out, every picture and file they name is there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests import manual
from tests.manual import MANUALS, NAME, ROOT, Site

IMAGES = ROOT / "docs" / "ja" / "images"
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
LARGEST = 160_000  # bytes of one picture
# users, and a source with documents, that a manual begins with
GIVEN = {
    "導入手順書": ((), ""),
    "運用手順書": (("kobayashi", "sato", "ito"), "社内規程"),
    "障害対応手順書": (("kobayashi", "sato"), "社内規程"),
    "管理者ガイド": (("sato",), ""),
    "利用者ガイド": ((), ""),
}


# --- commands -----------------------------------------------------------------------


@pytest.mark.parametrize("name", MANUALS)
def test_every_command_is_carried_out_or_proved_elsewhere(name: str) -> None:
    """A new one that is neither fails here, at once."""
    for command in manual.commands(name):
        if (key := manual.elsewhere(command)) is not None:
            assert manual.ELSEWHERE[key](manual.words(command)) == [], command
        else:
            assert manual.words(command)[0] in manual.RUN, f"{name}: {command}"


@pytest.mark.parametrize(
    "command",
    [
        "sudo systemctl dance kura",
        "sudo systemctl restart other",
        "sudo journalctl --no-such",
        "sudo apt-get install -y no-such-package",
        "sudo useradd --no-such kura",
        "make no-such-target",
        "kura-installer dance",
        "kura migrate-db onlyone",
        "nginx -s stop",
    ],
)
def test_a_wrong_one_is_noticed(command: str) -> None:
    key = manual.elsewhere(command)
    assert key is not None
    assert manual.ELSEWHERE[key](manual.words(command)) != []


def test_there_is_something_to_carry_out() -> None:
    counts = {name: len(manual.commands(name)) for name in MANUALS}
    assert counts["導入手順書"] > 30 and counts["運用手順書"] > 25, counts
    assert counts["障害対応手順書"] > 50 and counts["管理者ガイド"] > 25, counts
    assert counts["利用者ガイド"] == 0
    assert "kura status" in manual.commands("障害対応手順書")  # in a list, with a margin


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.parametrize("name", MANUALS[:4], ids=("install", "operate", "trouble", "administer"))
def test_the_commands_of_a_manual_in_its_order(name: str, tmp_path: Path) -> None:
    users, source = GIVEN[name]
    site = Site(tmp_path, users, source)
    try:
        if source:
            site.start()
            site.take_in()
            site.run(["kura", "backup", "create"])
        for command in manual.commands(name):
            site.carry_out(command)
    finally:
        site.stop()


# --- files that a manual has people write ------------------------------------------------


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    (unit,) = (b for b in manual.fences("導入手順書", "ini") if "ExecStart" in b)
    program = tmp_path / "kura"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / "kura.service"
    path.write_text(
        unit.replace("/opt/kura/.venv/bin/kura", str(program)).replace("=kura\n", "=root\n")
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "kura.service" not in done.stderr, done.stderr
    path.write_text(path.read_text().replace("TimeoutStopSec=60", "TimeoutStopSec=soon"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "kura.service" in done.stderr  # a wrong one is noticed


class Behind(BaseHTTPRequestHandler):
    """What stands for Kura: it says who asked, by which name and how."""

    def do_GET(self) -> None:
        said = [self.headers.get(h, "") for h in ("Host", "X-Forwarded-For", "X-Forwarded-Proto")]
        body = " ".join(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_proxy(tmp_path: Path) -> None:
    """nginx takes the manual's configuration, ends TLS, and passes on what Kura must know."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx, "nginx is not installed; `make test` installs it"
    (block,) = manual.fences("導入手順書", "nginx")
    manual.certificate(tmp_path)
    behind = HTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    block = block.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    block = block.replace("127.0.0.1:8400", f"127.0.0.1:{behind.server_port}")
    block = block.replace("/etc/kura-tls", str(tmp_path))
    paths = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""  # pytest's folder is closed to others
    configuration.write_text(
        f"{user}daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{block}}}\n"
    )
    call = [nginx, "-c", str(configuration), "-e", f"{tmp_path}/error.log"]
    checked = subprocess.run([*call, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    serving = subprocess.Popen(call)
    try:
        trust = ssl.create_default_context(cafile=str(tmp_path / "company-ca.pem"))
        assert asked(port, trust) == f"{NAME} 127.0.0.1 https"
    finally:
        serving.send_signal(signal.SIGQUIT)
        serving.wait(10)
        behind.shutdown()
        behind.server_close()


def asked(port: int, trust: ssl.SSLContext) -> str:
    for _ in range(100):
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 5) as plain,
                trust.wrap_socket(plain, server_hostname=NAME) as wire,
            ):
                wire.sendall(
                    f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
                )
                told = b"".join(iter(lambda: wire.recv(4096), b""))
                return told.partition(b"\r\n\r\n")[2].decode()
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("nginx does not listen")


# --- pictures and links -------------------------------------------------------------------


def pictures(name: str) -> list[tuple[str, str]]:
    return [(alt, unquote(path)) for alt, path in _PICTURE.findall(manual.text(name))]


@pytest.mark.parametrize("name", MANUALS)
def test_pictures_are_there_small_and_described(name: str) -> None:
    for alt, path in pictures(name):
        file = ROOT / "docs" / "ja" / path
        assert alt, path
        assert file.is_file(), path
        assert file.stat().st_size < LARGEST, path
        with Image.open(file) as image:
            assert image.width <= 1280, path


def test_every_picture_is_shown_and_can_be_taken_again() -> None:
    from tests.browser.pictures import SHOTS

    shown = {Path(path).name for name in MANUALS for _, path in pictures(name)}
    assert shown == {p.name for p in IMAGES.iterdir()} == {f"{name}.png" for name in SHOTS}


def test_the_manuals_lead_to_each_other() -> None:
    for name in MANUALS[:4]:
        others = set(MANUALS[:4]) - {name}
        assert {o for o in others if f"({o}.md" not in manual.text(name)} == set(), name


def test_each_failure_has_all_its_parts() -> None:
    sections = re.split(r"^## ", manual.text("障害対応手順書"), flags=re.MULTILINE)[2:]
    assert len(sections) == 12
    for section in sections:
        title = section.splitlines()[0]
        assert "判断" in section and "復旧" in section, title
        for part in ("**記録すること**", "**連絡先**"):
            assert part in section, f"{title}: {part}"
        assert "```sh" in section, title
