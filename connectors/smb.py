"""A share of a Windows file server (or a NAS, or Samba) with all that is below, and who may read it.

Who may read a file is what its NTFS permissions say (`connectors/ntfs.py`), less whom the share
itself keeps out. SIDs become people and groups of Kura by a table, or are left to the directory
that knows them; one that is in neither grants nobody, and is told to the administrator. A file is known again by its id, time and size: a rename or
a move is `Moved`. Where the server's ChangeTime tells of new permissions (Windows), a file that is as
it was costs no request; where it does not (Samba), permissions are read again every few minutes.
Content is read only if its time or size changed. No link and no mount is followed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import cached_property, partial
from typing import ClassVar

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import (
    ALONE,
    EVERYONE,
    Access,
    Change,
    Cursor,
    Failed,
    Layer,
    Principal,
    RawFile,
    Site,
)
from connectors import admit, fileserver, ntfs
from connectors.fileserver import Entry, FileServer, Protocol
from connectors.form import LATER, called
from connectors.round import Round, Walk, load, title

DEEPEST = 100  # folders inside folders
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_SID = re.compile(r"[Ss]-1-\d+(-\d+)*")


class SmbSettings(BaseModel):
    server: str = Field(
        title="サーバー", description="ファイルサーバーの名前 (fs01.example.co.jp)。"
    )
    share: str = Field(title="共有名", description=r"\\サーバー\共有名 の共有名。")
    folder: str = Field(
        default="", title="フォルダー", description="共有の中のフォルダー。空なら共有のすべて。"
    )
    user: str = Field(
        title="利用者名",
        description=r"DOMAIN\名前。すべてのファイルと、そのアクセス許可を読める、読み取り専用のアカウントを勧めます。",
    )
    password: str = Field(title="パスワード", repr=False)
    sids: list[str] = Field(
        default_factory=list,
        title="Windows の人とグループの対応表",
        description="Windows の人とグループが Kura の誰かを、1 行に一つ書きます "
        r"(DOMAIN\営業部 = group:営業部、S-1-5-21-…-1203 = user:ito)。Kura にいない人は = nobody。"
        "ここになくても、ディレクトリ (Active Directory) から分かる人とグループは、そのまま効きます。"
        "どちらにもないものは誰にも許さず、取り込みのあと「文書」に一覧が出ます。",
    )
    share_allow: list[str] = Field(
        default_factory=list,
        title="共有のアクセス許可",
        description="共有そのものが読み取りを許す人 (group:社員、everyone)。"
        "空なら、NTFS のアクセス許可だけで決まります。",
    )
    share_deny: list[str] = Field(
        default_factory=list,
        title="共有のアクセス拒否",
        description="共有そのものが拒む人 (group:派遣)。",
    )
    null_dacl: bool = Field(
        default=False,
        title="アクセス許可のないファイルを全員に見せる",
        description="アクセス許可の一覧そのもの (DACL) がないファイルを、Windows は全員に許します。"
        "切ってあれば、誰にも見えません。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    hidden: bool = Field(default=False, title="隠しファイルとシステムファイルも読む")
    port: int = Field(default=445, ge=1, le=65535, title="ポート")
    protocol: Protocol = Field(
        json_schema_extra=called(
            {
                "ntlm": "NTLMv2 (ntlm)",
                "negotiate": "相手に合わせる (negotiate)",
                "kerberos": "Kerberos (kerberos)",
            }
        ),
        default="ntlm",
        title="認証方式",
        description="ntlm は NTLMv2 だけを使います。kerberos は実際の環境では確かめていません。",
    )
    encrypt: bool = Field(
        default=False,
        title="暗号化",
        description="SMB 3 の暗号化を必ず使います。署名は、いつも必ず使います。",
    )
    access_minutes: float = Field(
        default=5.0,
        ge=0,
        title="アクセス許可を読み直す間隔 (分)",
        description="アクセス許可の変更を時刻 (ChangeTime) に表さないサーバー (Samba を使う NAS など) での間隔。"
        "ほかのサーバーでは、変わったときに読みます。",
    )
    per_second: float = Field(
        default=0.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )

    @field_validator("server")
    @classmethod
    def _host(cls, server: str) -> str:
        server = server.strip().strip("\\/").strip("[]").rstrip(".").lower()
        if not _HOST.fullmatch(server) or ".." in server:
            raise ValueError("サーバーの名前だけを書いてください (fs01.example.co.jp)")
        return server

    @field_validator("share")
    @classmethod
    def _share(cls, share: str) -> str:
        share = share.strip().strip("\\/")
        if not share or re.search(r'[\\/:*?"<>|\0]', share):
            raise ValueError(
                r"共有名だけを書いてください (\\サーバー\ と、その下のフォルダーは除く)"
            )
        return share

    @field_validator("folder")
    @classmethod
    def _folder(cls, folder: str) -> str:
        """Its names between backslashes."""
        parts = [part for part in re.split(r"[\\/]", folder.strip()) if part]
        if any(part in (".", "..") or "\0" in part for part in parts):
            raise ValueError("共有の中のフォルダーを、. や .. を使わずに書いてください")
        return "\\".join(parts)


class SmbConnector:
    """ファイルサーバー (Windows、NAS、Samba)"""

    kind: ClassVar[str] = "smb"
    Settings: ClassVar[type[BaseModel]] = SmbSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True

    def __init__(self, settings: SmbSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._met: set[ntfs.Sid] = set()  # whose names were asked for
        self._listed: dict[ntfs.Sid, bool] = {}  # whether a directory knows them

    @cached_property
    def _server(self) -> FileServer:
        own = self._settings
        return FileServer(
            *(own.server, own.port, own.share, own.user, own.password, own.protocol),
            encrypt=own.encrypt,
            per_second=own.per_second,
            site=self.site,
        )

    @cached_property
    def _table(self) -> dict[ntfs.Sid, frozenset[Principal]]:
        """By SID; those that were written by name join it as they are met."""
        return {who: meant for who, meant in self._written.items() if _SID.fullmatch(who)}

    @cached_property
    def _by_name(self) -> dict[str, frozenset[Principal]]:
        return {who: meant for who, meant in self._written.items() if not _SID.fullmatch(who)}

    @cached_property
    def _written(self) -> dict[str, frozenset[Principal]]:
        table: dict[str, frozenset[Principal]] = {}
        for line in self._settings.sids:
            who, _, name = (part.strip() for part in line.partition("="))
            if not name or not (_SID.fullmatch(who) or re.fullmatch(r"[^\\]+(\\[^\\]+)?", who)):
                raise SourceMisconfigured(
                    f"対応表の「{line}」は「DOMAIN\\営業部 = group:営業部」や"
                    "「S-1-5-21-… = user:ito」の形ではありません。"
                )
            meant = frozenset() if name == "nobody" else _principals("対応表", [name])
            who = who.upper() if _SID.fullmatch(who) else _folded(who)
            table[who] = table.get(who, frozenset()) | meant
        return table

    @cached_property
    def _share(self) -> Access:
        """What the share itself says; empty where it says nothing."""
        own = self._settings
        deny = _principals("共有のアクセス拒否", own.share_deny)
        allow = _principals("共有のアクセス許可", own.share_allow)
        return (Layer(allow or frozenset({EVERYONE}), deny),) if allow or deny else ()

    def check(self) -> None:
        self._written, self._share  # noqa: B018  a setting may be wrong
        self._listed_root()
        try:
            ntfs.parse(self._server.descriptor(self._settings.folder))
        except (SourceDenied, ValueError):
            raise SourceDenied(
                f"{self._shown} のアクセス許可を読めません。{self._settings.user} に"
                "「アクセス許可の読み取り」を与えてください。"
            ) from None
        if self._by_name and not self.names(["S-1-1-0"]):
            raise SourceMisconfigured(
                f"{self._settings.server} は SID の名前を教えません。対応表を SID (S-1-5-…) で書いてください。"
            )

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All that is below; a checkpoint, complete if every folder could be listed."""
        yield from Round(self, load(since), self.walk()).changes()

    def file(self, uri: str) -> RawFile:
        parts = uri.split("/")
        if any(part in ("", ".", "..") or re.search(r"[\\\0]", part) for part in parts):
            raise NotVisible(f"{uri} はありません。")
        for path, entry in self._found(self._settings.folder, "", parts):
            return self.raw_file(uri, path, entry, self.access(self.descriptor(path)))
        raise NotVisible(f"{uri} はありません。")

    def access(self, descriptor: bytes) -> Access:
        of, null = ntfs.parse(descriptor), self._settings.null_dacl
        if self._by_name:
            self._meet(ntfs.sids(of))
        return (*self._share, ntfs.layer(of, self._known(of), null_is_everyone=null))

    def _known(self, of: ntfs.Descriptor) -> ntfs.Table:
        """The table, and of those that it lacks whom a directory knows: they stay who they are,
        whoever is in them later."""
        lacking = ntfs.sids(of) - self._table.keys()
        if new := lacking - self._listed.keys():
            known = self.site.sids(new)
            self._listed |= {sid: sid in known for sid in new}
        listed = {sid: frozenset({Principal(f"sid:{sid}")}) for sid in lacking if self._listed[sid]}
        return {**self._table, **listed} if listed else self._table

    def _meet(self, sids: frozenset[ntfs.Sid]) -> None:
        """Those that the table has by name. Raises what the server's answer raises: it is no guess."""
        new = sorted(sids - self._met - self._table.keys())
        for sid, name in self._server.names(new).items() if new else ():
            if (meant := self._by_name.get(_folded(name))) is not None:
                self._table[sid] = meant
        self._met |= sids

    def names(self, sids: Collection[ntfs.Sid]) -> dict[ntfs.Sid, str]:
        """What the server calls them; nothing where it does not say."""
        try:
            return self._server.names(sids)
        except ApplianceError:
            return {}

    def unmapped(self, descriptor: bytes) -> frozenset[ntfs.Sid]:
        of = ntfs.parse(descriptor)
        return ntfs.unmapped(of, self._known(of))

    def descriptor(self, path: str) -> bytes:
        """Owner and DACL. Raises what `FileServer` raises, SourceDenied where they are none."""
        data = self._server.descriptor(path)
        try:
            ntfs.parse(data)
        except ValueError as error:
            raise SourceDenied(f"アクセス許可が読めない形をしています ({error})。") from None
        return data

    def raw_file(self, uri: str, path: str, entry: Entry, access: Access) -> RawFile:
        return RawFile(
            uri=uri,
            # not ChangeTime: new permissions for 100,000 files would have them all read again
            version=f"{entry.id:x}:{entry.written:x}:{entry.size_bytes:x}",
            open=partial(self._server.copy, path, entry),
            access=access,
            title=title(uri),
            modified_at=fileserver.moment(entry.written),
            size_bytes=entry.size_bytes,
        )

    # --- listing ------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        own = self._settings
        return rf"\\{own.server}\{own.share}\{own.folder}".rstrip("\\")

    def _listed_root(self) -> list[Entry]:
        try:
            return self._server.entries(self._settings.folder)
        except NotVisible:
            raise SourceMisconfigured(
                f"{self._shown} というフォルダーがありません。共有の中の場所を確かめてください。"
            ) from None

    def walk(self) -> Walk:
        self._written, self._share  # noqa: B018
        walk, seen = Walk(), set[int]()
        waiting = [(self._settings.folder, "", 0)]
        while waiting:
            path, folder, depth = waiting.pop()
            try:
                entries = self._server.entries(path) if folder else self._listed_root()
            except SourceUnreachable:
                raise  # the server is away: nothing is known
            except ApplianceError as error:
                if not folder:
                    raise
                passes = not isinstance(error, SourceDenied)
                walk.closed[folder] = passes
                reason = f"フォルダーを開けません ({error})"
                walk.failures.append(Failed(folder, title(folder), reason, passes))
                continue
            itself = next((e.id for e in entries if e.name == "."), 0)
            if depth > DEEPEST or (itself and itself in seen):
                reason = "リンクで同じフォルダーに戻るか、深すぎるため、ここから下は読みません"
                walk.failures.append(Failed(folder, title(folder), reason, False))
                continue
            seen.add(itself)
            for entry in sorted(entries, key=lambda e: (_spelled(e.name), e.name)):
                uri, at = folder + _spelled(entry.name), _joined(path, entry.name)
                if not self._wanted(uri, entry):
                    continue
                if why := _unreadable(entry):
                    walk.failures.append(Failed(uri, title(uri), why, False))
                elif entry.folder:
                    waiting.append((at, f"{uri}/", depth + 1))
                else:
                    _add(walk, uri, at, entry)
        return walk

    def _found(self, path: str, folder: str, parts: list[str]) -> Iterator[tuple[str, Entry]]:
        """Files of that name, by the way that a listing would go."""
        entries = self._server.entries(path) if folder else self._listed_root()
        for entry in sorted(entries, key=lambda e: (_spelled(e.name), e.name)):
            uri = folder + parts[0]
            if _spelled(entry.name) != parts[0] or not self._wanted(uri, entry):
                continue
            if _unreadable(entry) or entry.folder == (len(parts) == 1):
                continue
            if entry.folder:
                yield from self._found(_joined(path, entry.name), f"{uri}/", parts[1:])
            else:
                yield _joined(path, entry.name), entry

    def _wanted(self, uri: str, entry: Entry) -> bool:
        if entry.leads_elsewhere or not admit.wanted(uri, self._settings.exclude):
            return False
        apart = entry.attributes & (fileserver.HIDDEN | fileserver.SYSTEM)
        return not apart or self._settings.hidden

    @property
    def access_s(self) -> float:
        return self._settings.access_minutes * 60


def _add(walk: Walk, uri: str, path: str, entry: Entry) -> None:
    if uri in walk.files:
        reason = "同じ名前のファイルがあります (濁点などの文字コードだけが違います)"
        walk.failures.append(Failed(f"{uri}#2", title(uri), reason, False))
        return
    walk.files[uri] = path, entry


def _unreadable(entry: Entry) -> str | None:
    if re.search("[/\\\\\0\ufffd]", entry.name):
        return "名前に使えない文字があり、開けません"
    if not entry.folder and entry.attributes & fileserver.AWAY:
        return "別の保管場所へ移されたファイルです (オフライン)。戻すと読みます"
    return None


def _principals(setting: str, names: list[str]) -> frozenset[Principal]:
    try:
        return admit.principals(names)
    except ValueError as error:
        raise SourceMisconfigured(f"{setting}の{error}。") from None


def _folded(name: str) -> str:
    return _spelled(name).casefold()


def _spelled(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _joined(folder: str, name: str) -> str:
    return f"{folder}\\{name}" if folder else name
