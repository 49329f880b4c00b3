"""OpenSSH's own server (Debian: openssh-server), for whoever runs the tests, with files in a folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import asyncssh

from appliance.types import Site
from connectors.sftp import SftpConnector, SftpSettings
from tests import ports

OLD_S = 1_770_000_000  # long before the test: nobody waits for a second to pass


class Shell:
    """A folder served by sshd, to one key."""

    kind, missing = "sftp", "がありません"

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self._time = folder, folder / "棚", OLD_S
        self.root.mkdir(parents=True)
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = ports.free()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks itself in
        (folder / "allowed").write_bytes(self.key.export_public_key())
        self.start()

    def start(self) -> None:
        host = self.folder / "host"
        host.unlink(missing_ok=True)
        host.write_bytes(self.host_key.export_private_key())
        host.chmod(0o600)
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {host}\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder}/allowed\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "Subsystem sftp internal-sftp\n"
        )
        sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or "sshd"
        self.log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([sshd, "-D", "-e", "-f", config], stderr=self.log)
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def hang_up(self) -> None:
        """Ends the processes that serve one connection each."""
        subprocess.run(["pkill", "-P", str(self.process.pid)], check=True)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()

    close = stop  # twice is once

    @property
    def near(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, object]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "folder": str(self.root),
            "user": getpass.getuser(),
            "private_key": self.key.export_private_key().decode(),
            "host_fingerprint": self.host_key.get_fingerprint(),
            "allow": ["group:営業部"],
        }

    def connector(self, **more: object) -> SftpConnector:
        site = Site(near=frozenset({self.near}))
        return SftpConnector(SftpSettings.model_validate(self.settings | more), site)

    def put(self, uri: str, text: str | bytes) -> None:
        path = self.root / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self._time += 10
        os.utime(path, (self._time, self._time))

    def move(self, uri: str, to: str) -> None:
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / uri).rename(self.root / to)

    def delete(self, uri: str) -> None:
        (self.root / uri).unlink()

    def take_away(self) -> None:
        self.root.rename(self.folder / "away")
