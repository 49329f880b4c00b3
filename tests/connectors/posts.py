"""Dovecot (Debian: dovecot-imapd), for whoever runs the tests, with mail in a folder of its own."""

from __future__ import annotations

import base64
import getpass
import imaplib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from appliance.types import Site
from connectors.imap import ImapConnector, ImapSettings
from tests import ports

PASSWORD = "himitsu-0451 秘密"

CONFIG = """
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
default_internal_user = {internal}
default_login_user = {login}
default_internal_group = {group}
first_valid_uid = 1
mail_location = maildir:~/Maildir
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=plain {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
  mailbox 捨てる {{
    auto = create
    special_use = \\Junk
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


class Post:
    """The mailbox of 代表 (info), which its users change with a mail client."""

    kind = "imap"

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="kura-imap-")
        )  # pytest's own is closed to others
        self.folder.chmod(0o755)
        self._anew = 0
        self.port, self.tls_port = ports.free(), ports.free()
        root = os.geteuid() == 0
        mail = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
        (self.folder / "users").write_text(f"info:{PASSWORD}\n")
        home = self.folder / "home"
        home.mkdir()
        os.chown(home, mail.pw_uid, mail.pw_gid)
        self.certify("localhost")
        (self.folder / "dovecot.conf").write_text(
            CONFIG.format(
                folder=self.folder,
                internal="dovecot" if root else getpass.getuser(),
                login="dovenull" if root else getpass.getuser(),
                group="dovecot" if root else os.getgid(),
                uid=mail.pw_uid,
                gid=mail.pw_gid,
                port=self.port,
                tls_port=self.tls_port,
            )
        )
        self.start()

    def certify(self, name: str) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
             "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip

    def start(self) -> None:
        dovecot = shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin") or "dovecot"
        self.process = subprocess.Popen([dovecot, "-F", "-c", self.folder / "dovecot.conf"])
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def near(self) -> str:
        return f"localhost:{self.tls_port}"

    @property
    def site(self) -> Site:
        near = frozenset({self.near, f"localhost:{self.port}"})
        return Site(ca_file=self.folder / "cert.pem", near=near)

    @property
    def settings(self) -> dict[str, object]:
        return {
            "host": "localhost",
            "port": self.tls_port,
            "user": "info",
            "password": PASSWORD,
            "allow": ["group:営業部"],
        }

    def connector(self, site: Site | None = None, **more: object) -> ImapConnector:
        return ImapConnector(ImapSettings.model_validate(self.settings | more), site or self.site)

    # --- what its users do --------------------------------------------------------

    @contextmanager
    def client(self) -> Iterator[imaplib.IMAP4]:
        with imaplib.IMAP4("127.0.0.1", self.port) as one:
            one.authenticate("PLAIN", lambda _: f"\0info\0{PASSWORD}".encode())
            yield one

    def empty(self) -> None:
        with self.client() as one:
            for line in one.list()[1]:
                assert isinstance(line, bytes)
                name = re.sub(rb'.* "/" ', b"", line).decode().strip('"')
                if name == "INBOX":
                    one.select(name)
                    one.uid("STORE", "1:*", "+FLAGS", r"(\Deleted)")
                    one.expunge()
                    one.unselect()
                elif name != "Trash" and r"\Junk" not in line.decode():
                    one.delete(f'"{name}"')

    def put(self, folder: str, data: bytes) -> None:
        with self.client() as one:
            name = coded(folder)
            if folder != "INBOX":
                one.create(name)
            done, said = one.append(name, "", imaplib.Time2Internaldate(1_770_000_000), data)
            assert done == "OK", said

    def move(self, uri: str, folder: str) -> None:
        old, _, uid = uri.rpartition("/")
        with self.client() as one:
            one.create(coded(folder))
            one.select(coded(old))
            done, said = one.uid("MOVE", uid.partition("-")[2].removesuffix(".eml"), coded(folder))
            assert done == "OK", said

    def delete(self, uri: str, *, expunge: bool = True) -> None:
        folder, _, uid = uri.rpartition("/")
        with self.client() as one:
            one.select(coded(folder))
            one.uid("STORE", uid.partition("-")[2].removesuffix(".eml"), "+FLAGS", r"(\Deleted)")
            if expunge:
                one.expunge()

    def number_anew(self, folder: str = "INBOX") -> None:
        """Another UIDVALIDITY, as after a restore."""
        path = self.folder / "home/info/Maildir"
        path = path if folder == "INBOX" else path / f".{coded(folder)[1:-1]}"
        for file in [*path.glob("dovecot*")]:
            file.unlink()
        uidlist = path / "dovecot-uidlist"
        self._anew += 1
        uidlist.write_text(
            f"3 V{int(time.time()) + 1000 * self._anew} N900 G{os.urandom(16).hex()}\n"
        )
        owner = path.stat()
        os.chown(uidlist, owner.st_uid, owner.st_gid)


def coded(name: str) -> str:
    """Modified UTF-7, quoted."""

    def part(found: re.Match[str]) -> str:
        packed = base64.b64encode(found[0].encode("utf-16-be")).rstrip(b"=").replace(b"/", b",")
        return f"&{packed.decode()}-"

    return '"' + re.sub(r"[^\x20-\x7e]+", part, name.replace("&", "&-")) + '"'


def letter(subject: str, text: str, attached: str = "") -> bytes:
    """As Japanese mail is: ISO-2022-JP, in its head too."""
    one = EmailMessage()
    one["From"], one["To"] = "田中 <tanaka@example.co.jp>", "info@example.co.jp"
    one["Message-ID"] = f"<{zlib.crc32((subject + text).encode())}@example.co.jp>"
    one.set_content(text, charset="iso-2022-jp")
    if attached:
        one.add_attachment(attached.encode(), "text", "plain", filename="見積.txt")
    coded = base64.b64encode(subject.encode("iso2022_jp")).decode()
    return f"Subject: =?ISO-2022-JP?B?{coded}?=\r\n".encode() + one.as_bytes(policy=SMTP)
