"""A copy of a branch of a Git repository, without working files, made by the program `git`.

The program reads no configuration but ours, runs no hook, asks nobody, follows no redirect and speaks one
protocol, to the address that was judged (`connectors/wire.py`). Secrets are in its environment or in a
file of their own, never among its arguments. Several processes may use a copy: one at a time fetches.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import ipaddress
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO
from urllib.parse import quote, unquote

import asyncssh

from appliance.errors import (
    ApplianceError,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import Site
from connectors import ssh, wire

CONNECT_S = 30.0
FETCH_S = 3600.0  # in which it ends, or 1 kB/s came
ASK_S = 120.0
SLOWEST_BYTES_S = 1000.0
PACKS = 50  # one for each fetch; more make one slow
_URL = re.compile(
    r"(?P<scheme>https?|ssh)://(?:(?P<user>[A-Za-z0-9][A-Za-z0-9._-]*)@)?"
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]+)"
)
_PORTS = {"http": 80, "https": 443, "ssh": 22}
_TOLD: tuple[tuple[str, type[ApplianceError], str], ...] = (
    (r"couldn't find remote ref", SourceMisconfigured, "に、そのブランチがありません"),
    (
        r"Authentication failed|could not read (Username|Password)|Permission denied|error: 40[13]",
        SourceDenied,
        "を読む権限がありません。利用者名と、パスワードか鍵を確かめてください",
    ),
    (r"Host key|HOST IDENTIFICATION", SourceMisconfigured, "のホスト鍵が、設定したものと違います"),
    (
        r"not found|does not (appear|exist)|no such|not a git repository",
        SourceMisconfigured,
        "に、読めるリポジトリがありません",
    ),
    (
        r"certificate|SSL|TLS",
        SourceMisconfigured,
        "と安全な接続を作れません。証明書の名前を確かめ、社内認証局の証明書は設定 ca_file に加えてください",
    ),
    (
        r"dubious ownership",
        SourceDenied,
        "の所有者が、Kura を動かす利用者と違うため、読みません。https か ssh の URL にしてください",
    ),
    (r"redirect", SourceMisconfigured, "は転送を求めます。転送先の URL を書いてください"),
)


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is, read from a URL in one way."""

    scheme: str  # or "file"
    host: str
    port: int
    path: str  # as it is written in the URL
    user: str = ""  # of SSH

    @property
    def url(self) -> str:
        if self.scheme == "file":
            return self.path
        at = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{at}{host}:{self.port}{self.path}"

    def __str__(self) -> str:
        path = "".join(c for c in unquote(self.path) if c.isprintable())[:200]
        return f"{self.host}:{self.port}{path}" if self.host else path


def remote(url: str) -> Remote:
    """Raises ValueError; nothing of the URL is quoted, for it may hold a password."""
    if url.startswith("/") and "\0" not in url and "\n" not in url:
        return Remote("file", "", 0, url)
    found = _URL.fullmatch(quote(url, safe="%/:@[]!$&'()*+,;=~#?\\"))
    if not found or re.search(r"[\\#?@]|%(?![0-9A-Fa-f]{2})", found["path"]):
        raise ValueError(
            "https://…/….git か ssh://git@…/….git か /フォルダー の形で、パスワードを入れずに書いてください"
        )
    port = int(found["port"] or _PORTS[found["scheme"]])
    if not 0 < port < 65536 or ".." in found["host"]:
        raise ValueError("ホストとポートを確かめてください")
    if found["user"] and found["scheme"] != "ssh":
        raise ValueError("利用者名は別の欄です")
    host = found["host"].strip("[]").lower().rstrip(".")
    return Remote(found["scheme"], host, port, found["path"], found["user"] or "")


@dataclass(frozen=True)
class Keys:
    """What opens a repository."""

    user: str = ""
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    host_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of a commit. `path` is as Git has it."""

    path: bytes
    mode: str
    id: str
    size_bytes: int


class _Large(SourceMisconfigured):
    def __init__(self, at: Remote, most_bytes: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        super().__init__(
            f"{at} は、写しの上限 ({most_bytes // 1_000_000:,} MB) より大きいため、取り込めません。"
        )


class Mirror:
    """Raises SourceUnreachable, SourceDenied, SourceMisconfigured."""

    def __init__(
        self, at: Remote, branch: str, keys: Keys, site: Site, folder: Path, most_bytes: int
    ) -> None:
        self._at, self._branch, self._keys, self._site = at, branch, keys, site
        self._folder, self._most_bytes = folder, most_bytes

    def tip(self) -> str:
        """The commit that the branch is at, as the remote says now."""
        return self._asked()[1]

    def fetched(self) -> str:
        """That commit, and all before it, are here."""
        ref, tip = self._asked()
        with self._alone():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self._has(tip):
                self._fetch(ref)
            os.utime(self._folder)
        return tip

    def blobs(self, commit: str) -> Iterator[Blob]:
        said = self._git("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
        for line in filter(None, said.split(b"\0")):
            facts, _, path = line.partition(b"\t")
            mode, _, id, size = facts.decode().split()
            yield Blob(path, mode, id, int(size) if size.isdecimal() else 0)

    def changed_at(self, commit: str) -> dict[bytes, int]:
        """When a commit last touched each file: seconds. Kept, and taken up from there."""
        kept = self._folder / "times.json"
        old, times = _times(kept)
        grew = old and self._has(old) and self._is_before(old, commit)
        if old == commit:
            return times
        span = f"{old}..{commit}" if grew else commit
        log = ["log", "-z", "--format=%x01%ct", "--name-only", "--no-renames", span]
        now, found = 0, times if grew else {}
        for part in self._git(*log, most_s=FETCH_S).split(b"\0"):
            if when := re.fullmatch(rb"\x01([0-9]{1,15})", part):
                now = int(when[1])
            elif name := part.removeprefix(b"\n"):
                found[name] = max(now, found.get(name, 0))  # merged ones may be older
        names = {path.decode("utf-8", "surrogateescape"): when for path, when in found.items()}
        draft = kept.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        draft.write_text(json.dumps({"commit": commit, "times": names}))
        draft.replace(kept)
        return found

    def copied(self, id: str, copy: BinaryIO) -> None:
        self._git("cat-file", "blob", id, out=copy)
        copy.seek(0)

    def heads(self, ids: list[str]) -> list[bytes]:
        """The content of small files, in that order."""
        said = self._git("cat-file", "--batch", put="".join(f"{id}\n" for id in ids).encode())
        found, at = [], 0
        for _ in ids:
            end = said.index(b"\n", at)
            size = int(said[at:end].split()[2])
            found.append(said[end + 1 : end + 1 + size])
            at = end + size + 2
        return found

    def _fetch(self, ref: str) -> None:
        large = self._folder.with_suffix(".large")  # a day's word: it is not fetched in vain again
        if large.exists() and large.stat().st_mtime > time.time() - 86_400:
            self._fits(int(large.read_text()))
        for left in (*self._folder.glob("*.lock"), *self._folder.glob("refs/kura/*.lock")):
            left.unlink()  # by a fetch that was killed: we are alone
        self._git("init", "--bare", "--quiet", "--template=")
        ask = ["fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head"]
        try:
            with self._remote() as more:
                what = f"+{ref}:refs/kura/tip"
                self._git(*ask, "--", self._at.url, what, most_s=FETCH_S, more=more)
            self._fits(_size_bytes(self._folder))
        except _Large as error:
            shutil.rmtree(self._folder)
            large.write_text(str(error.size_bytes))
            raise
        if len(list(self._folder.glob("objects/pack/*.pack"))) > PACKS:
            self._git("gc", "--quiet", most_s=FETCH_S)

    def _fits(self, size_bytes: int) -> None:
        if size_bytes > self._most_bytes:
            raise _Large(self._at, self._most_bytes, size_bytes)

    # --- asking ---------------------------------------------------------------------

    def _asked(self) -> tuple[str, str]:
        """The branch's full name, and its commit."""
        name = f"refs/heads/{self._branch}" if self._branch else "HEAD"
        with self._remote() as more:
            said = self._git("ls-remote", "--symref", "--", self._at.url, name, more=more).decode()
        for line in said.splitlines():
            id, _, ref = line.partition("\t")
            if ref == name and re.fullmatch(r"[0-9a-f]{40,64}", id):
                return name, id
        what = f"ブランチ「{self._branch}」" if self._branch else "ブランチ"
        raise SourceMisconfigured(f"{self._at} に、{what}がありません。")

    def _has(self, commit: str) -> bool:
        with suppress(ApplianceError):
            self._git("cat-file", "-e", f"{commit}^{{commit}}")
            # whole only if what was fetched says so: a fetch may have broken off
            return self._is_before(commit, "refs/kura/tip")
        return False

    def _is_before(self, old: str, new: str) -> bool:
        with suppress(ApplianceError):
            self._git("merge-base", "--is-ancestor", old, new)
            return True
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _remote(self) -> Iterator[dict[str, str]]:
        """What `git` must be told to reach the remote, as long as the block lasts."""
        at, site = self._at, self._site
        if at.scheme == "file":
            path = Path(at.path).resolve()
            if site.own and path.is_relative_to(site.own.resolve()):
                raise SourceDenied(f"{at} は Kura 自身のデータなので、取り込めません。")
            if not path.is_dir():
                raise SourceMisconfigured(f"{at} というフォルダーがありません。")
            yield _config({"protocol.file.allow": "always"})
            return
        if at.scheme == "http" and not wire.is_near(at.host, at.port, site.near):
            raise SourceDenied(
                f"{at.host}:{at.port} には、暗号化せずにはつなぎません。https の URL にしてください。"
            )
        sock = wire.dial(at.host, at.port, site, CONNECT_S)
        address = sock.getpeername()[0]
        with tempfile.TemporaryDirectory() as own, sock:
            if at.scheme == "ssh":
                key = _host_key(at, sock, self._keys.host_fingerprint)
                yield _config({"protocol.ssh.allow": "always"}) | {
                    "GIT_SSH_COMMAND": _ssh(Path(own), address, key, self._keys),
                    "GIT_SSH_VARIANT": "ssh",
                }
                return
            sock.close()
            trusted = Path(own, "trusted.pem")
            trusted.write_text(wire.authorities(site))
            told = {f"protocol.{at.scheme}.allow": "always", "http.sslCAInfo": str(trusted)}
            if not _is_number(at.host):
                shown = f"[{address}]" if ":" in address else address
                told["http.curloptResolve"] = f"{at.host}:{at.port}:{shown}"
            if self._keys.password:
                pair = f"{self._keys.user or 'git'}:{self._keys.password}".encode()
                told["http.extraHeader"] = f"Authorization: Basic {base64.b64encode(pair).decode()}"
            yield _config(told)

    def _git(
        self,
        *arguments: str,
        most_s: float = ASK_S,
        more: dict[str, str] | None = None,
        put: bytes = b"",
        out: IO[bytes] | None = None,
    ) -> bytes:
        if (program := shutil.which("git")) is None:
            raise SourceMisconfigured(
                "このマシンに git がありません。パッケージ git を入れてください。"
            )
        where = self._folder if self._folder.is_dir() else Path("/")
        env = _ENVIRONMENT | {"PATH": os.environ.get("PATH", os.defpath)} | (more or _config({}))
        if where == self._folder:
            env["GIT_DIR"] = str(where)
        with (
            tempfile.TemporaryFile() as said,
            tempfile.TemporaryFile() as wrong,
            tempfile.TemporaryFile() as asked,
        ):
            asked.write(put)
            asked.seek(0)
            process = subprocess.Popen(
                [program, *arguments], cwd=where, env=env, stdin=asked, stdout=out or said,
                stderr=wrong, start_new_session=True,
            )  # fmt: skip
            try:
                self._watch(process, most_s, grows=more is not None)
            finally:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, 9)  # and what it started
                    process.wait()
            said.seek(0)
            wrong.seek(0)
            if process.returncode:
                raise self._told(wrong.read(100_000).decode("utf-8", "replace"))
            return said.read()

    def _watch(self, process: subprocess.Popen[bytes], most_s: float, *, grows: bool) -> None:
        """Waits, within a size, and a time that begins anew while enough comes."""
        began = time.monotonic()
        before = now = _size_bytes(self._folder) if grows else 0
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
                return
            if grows:
                self._fits(now := _size_bytes(self._folder))
            if time.monotonic() > began + most_s:
                if now - before < SLOWEST_BYTES_S * most_s:
                    raise SourceUnreachable(f"{self._at} の応答が終わりません。")
                before, began = now, time.monotonic()  # it is large, or the line slow

    def _told(self, said: str) -> ApplianceError:
        """In our words: those of the other side may be anything."""
        for pattern, kind, words in _TOLD:
            if re.search(pattern, said, re.IGNORECASE):
                return kind(f"{self._at} {words}。")
        return SourceUnreachable(
            f"{self._at} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
        )


_ENVIRONMENT = {
    "LC_ALL": "C",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PROTOCOL_FROM_USER": "0",
}
_ALWAYS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "http.proxy": "",
    "http.sslVersion": "tlsv1.2",  # or newer
    "log.showSignature": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}


def _config(told: dict[str, str]) -> dict[str, str]:
    """Settings by the environment, where no list of processes shows them."""
    found = {"GIT_CONFIG_COUNT": str(len(_ALWAYS | told))}
    for number, (name, value) in enumerate((_ALWAYS | told).items()):
        found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _host_key(at: Remote, sock: socket.socket, known: str) -> asyncssh.SSHKey:
    """The key that the server shows, if it is the one that is known."""

    async def shown() -> asyncssh.SSHKey | None:
        found = asyncssh.get_server_host_key(at.host, at.port, sock=sock, config=None)
        return await asyncio.wait_for(found, CONNECT_S)

    name = f"{at.host}:{at.port}"
    try:
        key = asyncio.run(shown())
    except (OSError, ValueError, LookupError, TimeoutError, asyncssh.Error):
        key = None
    if key is None:
        raise SourceUnreachable(f"{name} は、SSH に正しく応えません。")
    seen = key.get_fingerprint("sha256").rstrip("=")
    if seen not in known.split():
        raise SourceMisconfigured(ssh.stranger(name, seen, known.split()))
    return key


def _ssh(own: Path, address: str, host_key: asyncssh.SSHKey, keys: Keys) -> str:
    """The command of OpenSSH, which is given nothing of this account."""
    if shutil.which("ssh") is None:
        raise SourceMisconfigured(
            "このマシンに ssh がありません。パッケージ openssh-client を入れてください。"
        )
    (own / "known").write_bytes(b"kura " + host_key.export_public_key())
    pem = ssh.private_key(keys.private_key, keys.password)
    (own / "key").touch(mode=0o600)
    (own / "key").write_bytes(pem.export_private_key())
    options = {
        "HostName": address,
        "HostKeyAlias": "kura",
        "UserKnownHostsFile": own / "known",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentityFile": own / "key",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
        "UpdateHostKeys": "no",
        "ForwardAgent": "no",
        "ConnectTimeout": int(CONNECT_S),
        "ServerAliveInterval": 30,
    }
    return " ".join(
        ["ssh -F none", *(shlex.quote(f"-o{name}={value}") for name, value in options.items())]
    )


def _times(kept: Path) -> tuple[str, dict[bytes, int]]:
    with suppress(OSError, ValueError, KeyError, AttributeError):
        found = json.loads(kept.read_text())
        times = {
            str(n).encode("utf-8", "surrogateescape"): int(t) for n, t in found["times"].items()
        }
        return str(found["commit"]), times
    return "", {}


def _size_bytes(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += (Path(place) / name).stat().st_size
    return size


def _is_number(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False
