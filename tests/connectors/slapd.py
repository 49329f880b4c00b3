"""A real directory: Debian's slapd on ports of loopback, its configuration and data its own."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.types import Site
from connectors.directory import DirectorySettings
from tests import ports
from tests.connectors.test_http import certificate

PASSWORD = "himitsu-no-kotoba"
BASE = "dc=example,dc=co,dc=jp"
READER = f"cn=kura,{BASE}"
_ROOT = f"cn=admin,{BASE}"

_CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {home}/pid
TLSCertificateFile {pem}
TLSCertificateKeyFile {pem}
sizelimit size.soft=100 size.hard=200
security {security}
database mdb
maxsize 268435456
dbnosync
suffix "{base}"
rootdn "{root}"
rootpw {password}
directory {home}/data
limits dn.exact="{reader}" size.prtotal=unlimited size.pr=1000
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=hidden,{base}" by * none
access to * by dn.exact="{reader}" read by * none
"""


@dataclass
class Slapd:
    home: Path
    ports: tuple[int, int]  # plain, TLS
    security: str = "ssf=0"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pem(self) -> Path:
        return self.home / "localhost.pem"

    @property
    def site(self) -> Site:
        near = frozenset(f"{host}:{p}" for p in self.ports for host in ("localhost", "127.0.0.1"))
        return Site(ca_file=self.pem, near=near)

    def settings(self, **more: object) -> dict[str, Any]:
        own = {"server": "localhost", "security": "tls", "user": READER, "password": PASSWORD}
        tls = more.get("security", "tls") == "tls"
        return {**own, "base": BASE, "port": self.ports[tls], **more}

    def made(self, **more: object) -> DirectorySettings:
        return DirectorySettings.model_validate(self.settings(**more))

    def start(self) -> None:
        (self.home / "data").mkdir(exist_ok=True)
        conf = self.home / "slapd.conf"
        conf.write_text(
            _CONF.format(
                home=self.home, base=BASE, root=_ROOT, password=PASSWORD, pem=self.pem,
                reader=READER, security=self.security,
            )
        )  # fmt: skip
        urls = f"ldap://127.0.0.1:{self.ports[0]} ldaps://127.0.0.1:{self.ports[1]}"
        with (self.home / "log").open("ab") as log:
            argv = ["/usr/sbin/slapd", "-f", conf, "-h", urls, "-d", "0"]
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        for _ in range(1200):  # a minute: other tests want the cores, too
            if self._process.poll() is not None:
                break
            if all(_answers(port) for port in self.ports):
                return
            time.sleep(0.05)
        raise AssertionError((self.home / "log").read_text())

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def change(self, ldif: str) -> None:
        """Entries to add, or changes, as LDIF in UTF-8."""
        text = "\n".join(_line(line) for line in ldif.strip().splitlines())
        argv = ["ldapmodify", "-x", "-a", "-D", _ROOT, "-w", PASSWORD]
        url = f"ldap://127.0.0.1:{self.ports[0]}"
        subprocess.run(
            [*argv, "-H", url], input=text.encode(), check=True, stdout=subprocess.DEVNULL
        )

    def person(self, uid: str, name: str, mail: str = "", **more: str) -> str:
        dn = f"uid={uid},ou=people,{BASE}"
        lines = [f"dn: {dn}", "objectClass: inetOrgPerson", f"uid: {uid}", f"cn: {name}"]
        lines += [f"sn: {name}", *([f"mail: {mail}"] if mail else [])]
        lines += [f"{key}: {value}" for key, value in more.items()]
        self.change("\n".join(lines))
        return dn

    def group(self, name: str, *members: str) -> str:
        dn = f"cn={name},ou=groups,{BASE}"
        lines = [f"dn: {dn}", "objectClass: groupOfNames", f"cn: {name}"]
        self.change("\n".join([*lines, *(f"member: {one}" for one in members or ("",))]))
        return dn

    def leave(self, group: str, member: str) -> None:
        self.change(f"dn: {group}\nchangetype: modify\ndelete: member\nmember: {member}\n-")

    def enter(self, group: str, member: str) -> None:
        self.change(f"dn: {group}\nchangetype: modify\nadd: member\nmember: {member}\n-")

    def delete(self, dn: str) -> None:
        self.change(f"dn: {dn}\nchangetype: delete")


def _line(line: str) -> str:
    """What is not ASCII goes in base64."""
    name, colon, value = line.partition(": ")
    if not colon or value.isascii():
        return line
    return f"{name}:: {base64.b64encode(value.encode()).decode()}"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def slapd() -> Iterator[Slapd]:
    home = Path(tempfile.mkdtemp(prefix="kura-slapd-"))
    certificate(home, "localhost")
    made = Slapd(home, (ports.free(), ports.free()))
    try:
        made.start()
        root = f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: 例"
        made.change(root)
        made.change(
            f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
            f"cn: kura\nuserPassword: {PASSWORD}"
        )
        for name in ("people", "groups", "hidden"):
            made.change(f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}")
        yield made
    finally:
        made.stop()
        shutil.rmtree(home)
