"""A folder on a server that speaks SFTP (OpenSSH, a NAS), with all that is below.

Mode, owner and group are numbers of that server, not people, so the administrator says who may read.
The server is known by the fingerprint of its key, which the administrator enters: until then, and where
it is another, nothing is sent. No link is followed. A file is known again by its time and size; one
that moved is read again, because those are no proof.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import stat
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, NamedTuple, TypeVar, cast

import asyncssh
from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.shelf import Shelf
from appliance.types import ALONE, Access, Change, Cursor, RawFile, Site
from connectors import admit, ssh, wire
from connectors.form import LINES
from connectors.listing import DEEPEST, Listing, spelled, title

asyncssh.set_log_level("WARNING")

T = TypeVar("T")

CONNECT_S = 30.0
SILENT_S = 60.0  # without a byte of an answer, however long all of it takes
FAREWELL_S = 5.0
_BROKEN = "{} の応答が途中で切れたか、正しくありません。次の確認でやり直します。"
_TICK_S = 2.0  # times are whole seconds: two writes closer than this may leave the same behind
_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
         "rsa-sha2-512", "rsa-sha2-256")  # fmt: skip


class SftpSettings(BaseModel):
    host: str = Field(title="ホスト", description="サーバーの名前。")
    port: int = Field(default=22, ge=1, le=65535, title="ポート")
    folder: str = Field(
        default="", title="フォルダー", description="この下を読みます。空ならサインインした場所。"
    )
    host_fingerprint: str = Field(
        default="",
        title="ホスト鍵の指紋",
        description="SHA256:… の形。空のまま確認すると、相手の指紋が問題の欄に出ます。",
    )
    user: str = Field(title="利用者名")
    password: str = Field(default="", title="パスワード", repr=False)
    private_key: str = Field(
        json_schema_extra=LINES,
        default="",
        title="秘密鍵",
        description="PEM か OpenSSH の形。",
        repr=False,
    )
    key_password: str = Field(default="", title="秘密鍵のパスフレーズ", repr=False)
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )

    @field_validator("host")
    @classmethod
    def _name(cls, host: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+", host.strip()):
            raise ValueError("ホストの名前だけを書いてください")
        return host.strip().lower().rstrip(".")

    @field_validator("host_fingerprint")
    @classmethod
    def _fingerprints(cls, said: str) -> str:
        return ssh.fingerprints(said)

    @field_validator("private_key")
    @classmethod
    def _lines(cls, pem: str) -> str:
        return ssh.lines(pem)


class _File(NamedTuple):
    """What a folder says of a file in it. `path` is as the server spells it."""

    path: bytes
    size: int
    mtime: int

    @property
    def same(self) -> str:
        return f"{self.mtime}:{self.size}" if self.size else ""


class SftpConnector:
    """SFTP (SSH のサーバー)"""

    kind: ClassVar[str] = "sftp"
    Settings: ClassVar[type[BaseModel]] = SftpSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: SftpSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._line = wire.Line(lambda: _Session(settings, self.site))

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        with self._line.open() as session:
            self._root(session)

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All that is below the folder."""
        with self._line.open() as session:  # for the files too, which are read meanwhile
            walk = self._walk(session)
            yield from walk.changes(since, lambda one: one.same, self._file)

    def file(self, uri: str) -> RawFile:
        parts = uri.split("/")
        odd = any(part in ("", ".", "..") for part in parts) or "\0" in uri
        if odd or not admit.within(uri, self._settings.exclude):
            raise NotVisible(f"{uri} はありません。")
        with self._line.open() as session, suppress(_Gone):
            folders = [self._root(session)]
            for part in parts[:-1]:
                inner = [
                    entry.path
                    for folder in folders
                    for entry in session.listed(folder)
                    if entry.folder and entry.name == part
                ]
                folders = inner
            for folder in folders:
                for entry in session.listed(folder):
                    if entry.file and entry.name == parts[-1]:
                        return self._file(uri, entry.file)
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, one: _File) -> RawFile:
        # its name too: another file may have the same time and size
        name = hashlib.blake2s(uri.encode(), digest_size=8).hexdigest()
        return RawFile(
            uri=uri,
            version=f"{one.mtime}:{one.size}:{name}",
            open=partial(self._open, uri, one),
            access=self._access,
            title=title(uri),
            modified_at=_when(one.mtime),
            size_bytes=one.size,
        )

    def _open(self, uri: str, one: _File) -> BinaryIO:
        """The bytes that were listed, in a copy: SourceBusy where they are others by now."""
        if 0 < (wait_s := one.mtime + _TICK_S - time.time()) <= _TICK_S:
            time.sleep(wait_s)  # the next write will show in its time
        copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
        try:
            if not self._line.ask(lambda session: session.copied(one, copy)):
                raise SourceBusy(f"{uri} は書き込み中です。次の確認で読み直します。")
            copy.seek(0)
        except _Gone:
            copy.close()
            raise SourceUnreachable(f"{uri} がありません。") from None
        except BaseException:
            copy.close()
            raise
        return copy

    # --- listing ------------------------------------------------------------------

    def _root(self, session: _Session) -> bytes:
        folder = self._settings.folder
        try:
            if root := session.real_folder(folder.encode()):
                return root
        except _Gone:
            raise SourceMisconfigured(
                f"{session.name} に、フォルダー {folder} がありません。"
            ) from None
        raise SourceMisconfigured(f"{session.name} の {folder} は、フォルダーではありません。")

    def _walk(self, session: _Session) -> Listing[_File]:
        self._access  # noqa: B018
        walk, waiting = Listing(Shelf(_File._make)), [(self._root(session), "", 0)]
        while waiting:
            path, folder, depth = waiting.pop()
            try:
                entries = session.listed(path)
            except _Gone:
                continue  # or replaced, while we walked
            except (SourceDenied, SourceUnreachable) as error:
                if not folder or not session.alive:
                    raise
                walk.shut(folder, error, transient=isinstance(error, SourceUnreachable))
                continue
            for entry in entries:
                uri = folder + entry.name
                if not admit.wanted(uri, self._settings.exclude):
                    continue
                if entry.file:
                    walk.add(uri, entry.file, self._access)
                elif entry.folder and depth < DEEPEST:
                    waiting.append((entry.path, f"{uri}/", depth + 1))
                elif entry.folder:
                    walk.end(f"{uri}/")
        return walk


# --- one connection ---------------------------------------------------------------


class _Gone(ApplianceError):
    """There is no such file or folder any more."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str  # NFC
    path: bytes
    folder: bool
    file: _File | None


class _Session:
    """Signed in. Raises SourceUnreachable, SourceDenied, SourceMisconfigured, _Gone."""

    def __init__(self, own: SftpSettings, site: Site) -> None:
        self.name = f"{own.host}:{own.port}"
        self._own = own
        key = ssh.private_key(own.private_key, own.key_password) if own.private_key else None
        sock = wire.dial(own.host, own.port, site, CONNECT_S)
        self._runner = asyncio.Runner()
        self._guard = _HostKey(own.host_fingerprint.split())
        try:
            self._ssh, self._sftp = self._run(self._sign_in(sock, key), CONNECT_S)
        except BaseException:
            self._guard.hang_up()
            self._runner.close()
            sock.close()
            raise

    async def _sign_in(
        self, sock: Any, key: asyncssh.SSHKey | None
    ) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]:
        own = self._own
        # nothing of this machine's account is asked: no configuration, agent, keys or tickets
        line = await asyncssh.connect(
            own.host,
            own.port,
            sock=sock,
            config=None,
            agent_path=None,
            gss_kex=False,
            gss_auth=False,
            host_based_auth=False,
            x509_trusted_certs=None,
            known_hosts=([], [], []),
            server_host_key_algs=_KEYS,
            kex_algs="-*-sha1",
            client_factory=lambda: self._guard,
            username=own.user,
            password=own.password or None,
            client_keys=[key] if key else None,
            compression_algs=None,
        )
        return line, await line.start_sftp_client(path_encoding=None)

    @property
    def alive(self) -> bool:
        return not self._ssh.is_closed()

    def close(self) -> None:
        async def end() -> None:
            self._ssh.close()
            await self._ssh.wait_closed()

        try:
            with suppress(OSError, asyncssh.Error):
                self._runner.run(self._unless_silent(end(), FAREWELL_S))
        finally:
            self._guard.hang_up()
            self._runner.close()

    def real_folder(self, path: bytes) -> bytes | None:
        async def found() -> bytes | None:
            real = await self._sftp.realpath(path or b".")
            return real if stat.S_ISDIR((await self._sftp.stat(real)).permissions or 0) else None

        return self._run(found(), SILENT_S, path)

    def listed(self, path: bytes) -> list[_Entry]:
        """What a folder holds, but links; the NFC spelling first: it is the one that keeps the name."""

        async def found() -> list[_Entry]:
            entries = []
            async for entry in self._sftp.scandir(path):
                self._heard = time.monotonic()
                if entry.filename not in (b".", b".."):
                    entries.append(_entry(path, entry))
            return entries

        entries = self._run(found(), SILENT_S, path)
        return sorted(entries, key=lambda e: (e.name, not e.path.endswith(e.name.encode())))

    def copied(self, one: _File, copy: BinaryIO) -> bool:
        """Whether the file was the one that was listed, from its first byte to its last."""

        async def done() -> bool:
            copy.seek(0)
            copy.truncate()
            if _known(one.path, await self._sftp.lstat(one.path)) != one:
                return False
            async with self._sftp.open(one.path, "rb", encoding=None) as file:
                if _known(one.path, await file.stat()) != one:
                    return False
                size = 0
                async for at, block in await file.read_parallel(one.size, 0):  # in any order
                    self._heard = time.monotonic()
                    size += len(block)
                    if size > one.size:
                        return False
                    copy.seek(at)
                    copy.write(block)
                return size == one.size and _known(one.path, await file.stat()) == one

        return self._run(done(), SILENT_S, one.path)

    async def _unless_silent(self, what: Coroutine[Any, Any, T], silent_s: float) -> T:
        """Hangs up on a server that falls silent: who is only told to stop waits for its farewell."""
        task = asyncio.create_task(what)
        self._heard = time.monotonic()
        while not task.done() and (left_s := self._heard + silent_s - time.monotonic()) > 0:
            await asyncio.wait([task], timeout=left_s)
        if not task.done():
            self._guard.hang_up()
            await asyncio.wait([task], timeout=FAREWELL_S)  # what it waits for fails now
            if not task.cancel():
                task.exception()
            raise TimeoutError
        return task.result()

    def _run(self, what: Coroutine[Any, Any, T], silent_s: float, path: bytes = b"") -> T:
        """In our words: theirs may hold what was sent."""
        where = f"{self.name} の {spelled(path)}" if path else self.name
        try:
            return self._runner.run(self._unless_silent(what, silent_s))
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory):
            raise _Gone(where) from None
        except asyncssh.SFTPPermissionDenied:
            raise SourceDenied(f"{where} を読む権限が、この接続の利用者にありません。") from None
        except asyncssh.PermissionDenied:
            raise SourceDenied(
                f"{self.name} にサインインできません。利用者名と、パスワードか秘密鍵を確かめてください。"
            ) from None
        except asyncssh.HostKeyNotVerifiable:
            raise SourceMisconfigured(self._guard.told(self.name)) from None
        except asyncssh.KeyExchangeFailed:
            raise SourceMisconfigured(
                f"{self.name} は、安全と認められる暗号方式に対応していません。"
            ) from None
        except asyncssh.ChannelOpenError:
            if self._guard.lost:  # it broke off while it was asked
                raise SourceUnreachable(_BROKEN.format(where)) from None
            raise SourceMisconfigured(
                f"{self.name} では SFTP を使えません。サーバーの設定で SFTP を有効にしてください。"
            ) from None
        except TimeoutError:
            raise SourceUnreachable(
                f"{where} が時間内に応えません。次の確認でやり直します。"
            ) from None
        except (OSError, ValueError, LookupError, asyncssh.Error):  # what it sends may be anything
            raise SourceUnreachable(_BROKEN.format(where)) from None


class _HostKey(asyncssh.SSHClient):
    """Lets in the server whose key is known, before anything is told to it."""

    def __init__(self, known: list[str]) -> None:
        self._known, self._seen, self.lost = known, "", False
        self._connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def hang_up(self) -> None:
        if self._connection:
            self._connection.abort()

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        self._seen = key.get_fingerprint("sha256").rstrip("=")
        return self._seen in self._known

    def told(self, name: str) -> str:
        return ssh.stranger(name, self._seen, self._known)


def _entry(folder: bytes, said: asyncssh.SFTPName) -> _Entry:
    name = cast(bytes, said.filename)
    path = folder.rstrip(b"/") + b"/" + name
    is_folder = stat.S_ISDIR(said.attrs.permissions or 0)
    return _Entry(spelled(name), path, is_folder, _known(path, said.attrs))


def _known(path: bytes, said: asyncssh.SFTPAttrs) -> _File | None:
    """Nothing of what is no plain file."""
    if not stat.S_ISREG(said.permissions or 0) or said.size is None:
        return None
    return _File(path, said.size, int(said.mtime or 0))


def _when(seconds: int) -> datetime:
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromtimestamp(0, UTC)
