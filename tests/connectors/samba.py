"""A real file server: Debian's smbd on a port of loopback, with its state, users and groups its own.

The machine's accounts are not touched: nss_wrapper gives smbd a passwd file of ours. NTFS
permissions lie in extended attributes (acl_xattr), as Samba keeps them for Windows' clients.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from smbprotocol.connection import Connection
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    ImpersonationLevel,
    Open,
    ShareAccess,
    SMB2SetInfoRequest,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from appliance.types import Access, Change, Checkpoint, Layer, Principal, Site, Upsert
from connectors.smb import SmbConnector, SmbSettings
from tests import ports
from tests.connectors.descriptors import FULL, Ace, allow, descriptor

PASSWORD = "himitsu-no-kotoba"
USERS = {"kura": 5000, "ito": 5001, "sato": 5002}
DOMAIN = "S-1-5-21-100-200-300"
STRANGERS = f"{DOMAIN}-1999"  # a group that no table knows
ITO, SATO, KURA = f"{DOMAIN}-5001", f"{DOMAIN}-5002", f"{DOMAIN}-5000"
_ALL = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE

_CONF = """
[global]
server role = standalone server
netbios name = FILESV
workgroup = KURA
passdb backend = tdbsam:{home}/passdb.tdb
private dir = {home}
pid directory = {home}
lock directory = {home}
state directory = {home}
cache directory = {home}
ncalrpc dir = {home}/ncalrpc
log file = {home}/log
smb ports = {port}
interfaces = 127.0.0.1
bind interfaces only = yes
disable netbios = yes
load printers = no
printcap name = /dev/null
disable spoolss = yes
usershare max shares = 0
server min protocol = SMB2_02
{more}
[共有]
path = {home}/share
read only = no
vfs objects = acl_xattr
acl_xattr:ignore system acls = yes
acl_xattr:default acl style = windows
admin users = kura
"""


def missing() -> str:
    """Why it cannot run here; empty where it can."""
    if os.geteuid() != 0:
        return "smbd keeps NTFS permissions where only root may write"
    if not shutil.which("smbd") or not list(Path("/usr/lib").glob("*/libnss_wrapper.so")):
        return "needs Debian's samba and libnss-wrapper: sh installer/test-machine.sh"
    return ""


@dataclass
class Samba:
    more: str = ""  # lines of [global]
    home: Path = field(init=False)
    port: int = field(init=False)
    _smbd: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kura-smb-"))
        self.home.chmod(0o711)  # smbd looks with a colleague's rights
        (self.home / "share").mkdir()
        (self.home / "ncalrpc").mkdir()
        self.port = ports.free()
        conf = _CONF.format(home=self.home, port=self.port, more=self.more)
        (self.home / "smb.conf").write_text(conf, "utf-8")
        people = {"root": 0, "nobody": 65534} | USERS
        accounts = [f"{name}:x:{uid}:{uid}::/:/bin/false\n" for name, uid in people.items()]
        (self.home / "passwd").write_text("".join(accounts))
        groups = [f"{name}:x:{uid}:\n" for name, uid in people.items()]
        (self.home / "group").write_text("".join(groups))
        self._run("net", "setlocalsid", DOMAIN)
        self._run("net", "setdomainsid", DOMAIN)
        for name, uid in USERS.items():
            told = f"{PASSWORD}\n{PASSWORD}\n".encode()
            self._run("pdbedit", "-t", "-a", "-u", name, "-U", str(uid), told=told)

    def start(self) -> Samba:
        conf = self.home / "smb.conf"
        argv = ["smbd", "--foreground", "--no-process-group", "-s", conf, "-d", "0"]
        with (self.home / "out").open("wb") as out:
            self._smbd = subprocess.Popen(
                argv, env=self._env, stdout=out, stderr=out, start_new_session=True
            )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            time.sleep(0.02)
        raise AssertionError((self.home / "log").read_text("utf-8", "replace"))

    def stop(self) -> None:
        """The server is away; twice is once."""
        if self._smbd is not None:
            os.killpg(self._smbd.pid, signal.SIGKILL)
            self._smbd.wait()
            self._smbd = None
            for pid in self._helpers():  # what answers for its pipes left the group
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.home)

    def _helpers(self) -> list[int]:
        found = []
        for told in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(self.home) in told.read_bytes():
                    found.append(int(told.parent.name))
        return found

    def share(self) -> Share:
        """An empty folder of its own, to everybody on the server."""
        name = f"棚-{uuid.uuid4().hex[:8]}"
        (self.home / "share" / name).mkdir()
        (self.home / "share" / name).chmod(0o777)
        share = Share(self, name)
        share.permit("", allow("S-1-1-0", FULL, 0x03))
        return share

    @property
    def _env(self) -> dict[str, str]:
        return os.environ | {
            "LD_PRELOAD": "libnss_wrapper.so",
            "NSS_WRAPPER_PASSWD": str(self.home / "passwd"),
            "NSS_WRAPPER_GROUP": str(self.home / "group"),
        }

    def _run(self, program: str, *argv: str, told: bytes | None = None) -> None:
        done = subprocess.run(
            [program, "-s", self.home / "smb.conf", *argv],
            env=self._env,
            input=told,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


@dataclass
class Share:
    """A folder of the share, as Kura's account sees it and as colleagues use it."""

    samba: Samba
    name: str

    @property
    def root(self) -> Path:
        return self.samba.home / "share" / self.name

    @property
    def settings(self) -> dict[str, object]:
        return {
            "server": "127.0.0.1",
            "port": self.samba.port,
            "share": "共有",
            "folder": self.name,
            "user": r"KURA\kura",
            "password": PASSWORD,
            "sids": [f"{ITO} = user:ito", f"{SATO} = user:sato", f"{KURA} = nobody"],
        }

    @property
    def near(self) -> frozenset[str]:
        return frozenset({f"127.0.0.1:{self.samba.port}"})

    def connector(self, **more: object) -> SmbConnector:
        settings = SmbSettings.model_validate(self.settings | more)
        return SmbConnector(settings, Site(near=self.near))

    def write(self, path: str, text: str, *aces: Ace) -> None:
        """As a program of this machine writes; its permissions, if any are given."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        if aces:
            self.permit(path, *aces)

    def permit(self, path: str, *aces: Ace, owner: str = KURA) -> None:
        self.describe(path, descriptor(owner, aces))

    def describe(self, path: str, data: bytes) -> None:
        """What Windows' security tab does: WRITE_DAC and WRITE_OWNER, then the descriptor."""
        with self.opened(path, access=0x000C_0000) as file:
            info = SMB2SetInfoRequest()
            info["info_type"] = 3
            info["additional_information"] = 0x5
            info["file_id"] = file.file_id
            info["buffer"] = data
            tree = file.tree_connect
            sent = file.connection.send(info, tree.session.session_id, tree.tree_connect_id)
            file.connection.receive(sent)

    @contextlib.contextmanager
    def opened(
        self, path: str, *, user: str = "kura", access: int = 0x1, sharing: int = _ALL
    ) -> Iterator[Open]:
        """A file as a colleague has it open."""
        connection = Connection(uuid.uuid4(), "127.0.0.1", self.samba.port)
        connection.connect()
        try:
            session = Session(connection, user, PASSWORD, False, auth_protocol="ntlm")
            session.connect()
            tree = TreeConnect(session, r"\\127.0.0.1\共有")
            tree.connect()
            file = Open(tree, "\\".join([self.name, *filter(None, path.split("/"))]))
            file.create(
                ImpersonationLevel.Impersonation,
                access,
                0,
                sharing,
                CreateDisposition.FILE_OPEN,
                CreateOptions.FILE_OPEN_FOR_BACKUP_INTENT,
            )
            yield file
            file.close()
        finally:
            connection.disconnect()


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    if why := missing():
        pytest.skip(why)
    one = Samba()
    try:
        yield one.start()
    finally:
        one.close()


@pytest.fixture
def share(samba: Samba) -> Iterator[Share]:
    yield samba.share()


@pytest.fixture
def shelf(share: Share) -> Share:
    """A few documents of a few people."""
    share.write("営業/青山商事.txt", "値引きは八分まで。", allow(ITO))
    share.write("営業/旧/北見.txt", "北見商店は廃業。", allow(ITO), allow(SATO))
    share.write("案内.txt", "受付は1階。", allow("S-1-5-11"))
    return share


# --- what a connector told ---


def only(*names: str) -> Access:
    return (Layer(frozenset(map(Principal, names))),)


def upserts(changes: list[Change]) -> dict[str, Upsert]:
    return {c.file.uri: c for c in changes if isinstance(c, Upsert)}


def texts(changes: list[Change]) -> dict[str, str]:
    found = {}
    for uri, change in upserts(changes).items():
        with change.file.open() as stream:
            found[uri] = stream.read().decode()
    return found


def run(connector: SmbConnector, before: list[Change] | None = None) -> list[Change]:
    last = before[-1] if before else None
    return list(connector.changes(last.cursor if isinstance(last, Checkpoint) else None))
