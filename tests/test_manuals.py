"""The manuals are true: every command in them is carried out, every picture and file they name is there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from tests import manual, ports
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
        "sudo systemctl dance kura.target",
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
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("導入手順書", id="install", marks=pytest.mark.long),  # minutes each
        pytest.param("運用手順書", id="operate", marks=pytest.mark.long),
        pytest.param("障害対応手順書", id="trouble", marks=pytest.mark.long),
        pytest.param("管理者ガイド", id="administer", marks=pytest.mark.long),
    ],
)
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


def test_what_the_manual_has_people_install(tmp_path: Path) -> None:
    """The lines of 導入手順書, in their order: taken out, verified, tried, installed, set anew."""
    usb, root = tmp_path / "media/usb", tmp_path / "host"
    usb.mkdir(parents=True)
    root.mkdir()
    manual.carry(usb, root)
    tls = root / "etc/kura-tls"
    tls.mkdir(parents=True)
    manual.certificate(tls)
    kept = root / "etc/kura/install.toml"
    more = [b for b in manual.fences("導入手順書", "toml") if "clients" not in b]
    done: list[str] = []
    for command in manual.commands("導入手順書"):
        said = manual.words(command)
        if said[:2] in (["kura-installer", "install"], ["kura-installer", "configure"]):
            if said[1] == "configure" and more and kept.exists():
                told = manual.below(root, more.pop(0)).replace("age1…", "age1qqqq")
                kept.write_text(written(kept.read_text("utf-8"), told), "utf-8")
            manual.install(command, usb, root)
            done.append(" ".join(said[1:2] + [w for w in said if w == "--dry-run"]))
            if done == ["install --dry-run"]:
                assert not kept.exists(), "nothing is written"
        elif said[0] == "tar" or said[:3] == ["kura-installer", "bundle", "verify"]:
            subprocess.run(["bash", "-c", command.replace("sudo ", "")], cwd=usb, check=True)
    assert done == ["install --dry-run", "install", *["configure"] * 4], "and each a second time"
    assert more == [], "a block of settings that no configure follows"
    settings = (root / "etc/kura/kura.env").read_text("utf-8")
    for one in (
        "TIME_ZONE='Asia/Tokyo'",
        "SEALED='true'",
        f"BACKUP_FOLDER='{root}/mnt/backup/kura'",
    ):
        assert f"KURA_{one}" in settings
    assert (root / "etc/kura/tls/cert.pem").read_bytes() == (tls / "kura.pem").read_bytes()
    work = (root / "etc/systemd/system/kura-work.service").read_text()
    assert f"ReadWritePaths=-{root}/mnt/backup/kura" in work and "10.0.0.20" in work


def written(kept: str, told: str) -> str:
    """As an administrator edits it: a line that is there is changed, another goes below [settings]."""
    lines = kept.splitlines()
    for line in told.splitlines():
        name = line.partition(" =")[0]
        at = next((n for n, one in enumerate(lines) if one.startswith(f"{name} =")), None)
        if at is None:
            lines.insert(lines.index("[settings]") + 1, line)
        else:
            lines[at] = line
    return "\n".join(lines) + "\n"


def test_a_bundle_that_was_changed_on_its_way_is_refused(tmp_path: Path) -> None:
    manual.carry(tmp_path, tmp_path)
    path = tmp_path / "kura-0.1.0-amd64.kura.tar"
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    path.write_bytes(spoilt)
    (tmp_path / "kura-installer.pyz").write_text("")
    (line,) = (c for c in manual.commands("導入手順書") if "bundle verify" in c)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "installer", *manual.words(line)[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0 and b"Traceback" not in done.stderr


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
    wire = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wire.load_cert_chain(tmp_path / "kura.pem", tmp_path / "kura.key")
    behind.socket = wire.wrap_socket(behind.socket, server_side=True)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    port = ports.free()
    block = block.replace("https://127.0.0.1:443", f"https://127.0.0.1:{behind.server_port}")
    block = block.replace("listen 192.0.2.10:443 ssl", f"listen 127.0.0.1:{port} ssl")
    block = block.replace("/etc/kura/tls/cert.pem", str(tmp_path / "kura.pem"))
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
