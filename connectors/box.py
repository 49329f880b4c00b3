"""Box: the files below some folders, each for those who may read it.

Not verified against the real service: written after Box's documentation, tested against a fake.

Whoever collaborates on a folder may read all below it (Box calls it a waterfall), so a file is read by
the collaborators of every folder above it, by its own, and by its owner. Every look lists all folders, a
thousand entries to a request; only what has other bytes (SHA-1) is read. Events are not asked: those of
an account may be late, twice, out of order or dropped after two weeks, those of the company need an
administrator, and neither is promised to tell of every change of rights.
A file is known by its id: renamed or moved it is the same document.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, Field, field_validator

from appliance.errors import ApplianceError, NotVisible, SourceMisconfigured
from appliance.types import (
    ALONE,
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Principal,
    RawFile,
    Remove,
    Site,
    Upsert,
)
from connectors import admit, box_api
from connectors.box_api import FIELDS, ID, Account, Api, File, Gone, Shut, nfc, of
from connectors.box_rights import Readers, Rights
from connectors.form import LATER, called
from connectors.listing import DEEPEST, FEW

AGAIN_S = 240.0  # while a run takes long, permissions are looked after as often
ASKED = 200  # files that a listing no longer shows, which are asked for one by one
ROOT = "0"  # the folder of all that an account sees
_FILE, _FOLDER = "https://app.box.com/file/", "https://app.box.com/folder/"


class BoxSettings(BaseModel):
    client_id: str = Field(
        min_length=1,
        title="クライアント ID",
        description="開発者コンソールで作る、クライアント資格情報許可 (CCG) のアプリのもの。"
        "管理コンソールでの承認が要ります。",
    )
    client_secret: str = Field(min_length=1, title="クライアントシークレット", repr=False)
    subject: Literal["enterprise", "user"] = Field(
        json_schema_extra=called(
            {"enterprise": "アプリのサービスアカウント (enterprise)", "user": "一人の利用者 (user)"}
        ),
        default="enterprise",
        title="主体",
        description="enterprise はアプリのサービスアカウント (読むフォルダーに招いてください)、"
        "user は一人の利用者として読みます。",
    )
    subject_id: str = Field(
        title="主体の ID", description="enterprise では企業 ID、user では利用者の ID (数字)。"
    )
    folders: list[str] = Field(
        min_length=1,
        title="フォルダー",
        description="読むフォルダーの ID (URL の末尾の数字)。0 は、アカウントに見えるすべて。",
    )
    file_shares: bool = Field(
        default=True,
        title="ファイルごとの招待も読む",
        description="招待のあるファイルごとに、要求を 1 回使います。"
        "切れば、ファイルだけに招かれた人には見せません。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="人とグループの対応表",
        description="Box の名前が Kura の誰かを、1 行に一つ (user:y.ito@example.co.jp = user:ito、"
        "group:sales = group:営業部)。左はログイン (メールアドレス) とグループ名です。ないものには何も許しません。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人とグループを、そのログインとグループ名のまま Kura の人とグループとみなします。",
    )
    domain: str = Field(
        default="",
        title="会社のメールのドメイン",
        description="書けば、対応表にない、このドメインのログインを、@ より前の名前の Kura の人とみなします"
        " (example.co.jp)。",
    )
    group_members: bool = Field(
        default=False,
        title="グループをメンバーに読み替える",
        description="対応表にないグループを、そのメンバーとして扱います"
        " (アプリに「グループを管理する」が要ります)。",
    )
    links: list[str] = Field(
        default_factory=list,
        title="共有リンクで見られるものを見せる人",
        description="会社の誰でも、またはリンクを知る誰でも開ける (パスワードのない) 共有リンクの付いたものを、"
        "招かれた人のほかに誰に見せるか (group:社員、everyone)。空なら、共有リンクは誰にも許しません。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="さらに絞る人",
        description="書けば、Box で読め、かつここに名のある人だけに見えます (group:営業部)。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    url: str = Field(
        default="https://api.box.com",
        title="API の URL",
        json_schema_extra=LATER,
        description="ふつうは変えません。",
    )
    downloads: list[str] = Field(
        default_factory=lambda: ["https://dl.boxcloud.com"],
        title="ファイルの配信元",
        json_schema_extra=LATER,
        description="ふつうは変えません。トークンはここへは送りません。",
    )
    per_second: float = Field(
        default=10.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。Box は 1 分に 1,000 回ほどまでです。0 は無制限。",
    )

    @field_validator("url", "client_id", "client_secret")
    @classmethod
    def _bare(cls, said: str) -> str:
        return said.strip().rstrip("/")

    @field_validator("subject_id")
    @classmethod
    def _number(cls, id: str) -> str:
        if not ID.fullmatch(id.strip()):
            raise ValueError("数字の ID を書いてください")
        return id.strip()

    @field_validator("folders")
    @classmethod
    def _numbers(cls, folders: list[str]) -> list[str]:
        folders = list(dict.fromkeys(one.strip().rpartition("/")[2] for one in folders))
        if odd := [one for one in folders if not ID.fullmatch(one)]:
            raise ValueError(f"「{odd[0]}」はフォルダーの ID ではありません")
        return folders

    @field_validator("domain")
    @classmethod
    def _bare_domain(cls, domain: str) -> str:
        return domain.strip().lstrip("@").lower()


class _Record(NamedTuple):
    """What is known of a file from the look before."""

    version: str
    access: str  # its digest
    folder: str


@dataclass(slots=True)
class _Known:
    """What a cursor holds."""

    files: dict[str, _Record] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)  # by id, the one above

    def below(self, folder: str, closed: set[str]) -> bool:
        """Whether a folder lies below one of these, or is one."""
        for _ in range(DEEPEST + 2):
            if folder in closed or not folder:
                break
            folder = self.folders.get(folder, "")
        return folder in closed


@dataclass(slots=True)
class _Folder:
    id: str
    path: str  # of names, "a/b/"
    depth: int
    readers: Readers


@dataclass(slots=True)
class _Look:
    """What there is at one time."""

    rights: Rights
    files: dict[str, File] = field(default_factory=dict)  # by id
    access: dict[str, Access] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)  # folders of which not all is known
    bad: set[str] = field(default_factory=set)  # files of which nothing could be read
    torn: bool = False  # some were found that the listing does not show, and not all were asked for


class BoxConnector:
    """Box"""

    kind: ClassVar[str] = "box"
    Settings: ClassVar[type[BaseModel]] = BoxSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: BoxSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        account = Account(own.client_id, own.client_secret, own.subject, own.subject_id)
        return Api(own.url, account, own.downloads, self.site, own.per_second)

    @cached_property
    def _allow(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _table(self) -> dict[str, frozenset[Principal]]:
        told = admit.rules("人とグループの対応表", self._settings.people, [])[:-1]
        return {_called(name): access[0].allow for name, access in told if access}

    @cached_property
    def _links(self) -> Readers:
        access = admit.access(self._settings.links)
        return access[0].allow if access else frozenset()

    def _rights(self) -> Rights:
        own = self._settings
        return Rights(
            self._api, self._table, own.same_names, own.domain, own.group_members, self._links
        )

    def check(self) -> None:
        """One folder that is not there does not stop the others."""
        self._allow, self._table, self._links  # noqa: B018  a setting may be wrong
        errors: list[ApplianceError] = []
        for id in self._settings.folders:
            try:
                self._api.get(f"folders/{id}", fields="name")
                if id != ROOT:
                    self._rights().collaborators("folders", id)
                return
            except Gone:
                errors.append(
                    SourceMisconfigured(
                        f"フォルダー {id} がありません。ID と、アプリの利用者がそのフォルダーに招かれているかを"
                        "確かめてください。"
                    )
                )
            except ApplianceError as error:
                errors.append(error)
        raise errors[0]

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All there is. First who may read what is known, then the files."""
        before = _load(since)
        look = self._look(before.files)
        yield from look.failures
        now = {
            id: _Record(one.version, _digest(look.access[id]), one.folder)
            for id, one in look.files.items()
        }
        for id, one in now.items():
            old, access = before.files.get(id), look.access[id]
            if old and old.access != one.access:
                # nobody new to what was read before, where it is another by now: soon that is read too
                yield AccessChanged(_FILE + id, access if old.version == one.version else NOBODY)
        gone = {i: old for i, old in before.files.items() if i not in now and i not in look.bad}
        for id, old in list(gone.items()):
            if before.below(old.folder, look.closed):
                yield AccessChanged(_FILE + id, NOBODY)
                now[id] = gone.pop(id)._replace(access="")
        held = {id: old.version for id, old in before.files.items() if id in look.files}
        looked_at = time.monotonic()
        for id, item in look.files.items():
            if time.monotonic() - looked_at > AGAIN_S:
                for other in self._again(look, held):
                    access = look.access[other]
                    now[other] = now[other]._replace(access=_digest(access))
                    same = look.files[other].version == held[other]
                    yield AccessChanged(_FILE + other, access if same else NOBODY)
                looked_at = time.monotonic()
            held[id] = item.version
            now[id] = now[id]._replace(access=_digest(look.access[id]))
            yield Upsert(self._file(item, look.access[id]))
        part = look.torn or bool(look.closed)
        if (
            look.closed
            and not look.torn
            and (len(gone) < FEW or 2 * len(gone) <= len(before.files))
        ):
            # one folder that does not open must not keep alive what was deleted elsewhere
            yield from (Remove(_FILE + id) for id in gone)
        elif part:
            now |= gone
        folders = (before.folders if part else {}) | look.folders
        yield Checkpoint(_save(now, folders), complete=not part)

    def _again(self, look: _Look, held: dict[str, str]) -> Iterator[str]:
        """Who may read, once more while reading takes long: what is another now of what is `held`."""
        anew = self._look()
        for id in look.files:
            access = anew.access.get(id, NOBODY)
            if access != look.access[id]:
                look.access[id] = access
                if id in held:
                    yield id

    def file(self, uri: str) -> RawFile:
        found = re.fullmatch(f"{re.escape(_FILE)}({ID.pattern})", uri)
        if found and (one := self._one(self._rights(), found[1])):
            return self._file(*one)
        raise NotVisible(f"{uri} はありません。")

    def _one(self, rights: Rights, id: str) -> tuple[File, Access] | None:
        """A file by its id, if it lies below the folders that are read."""
        try:
            said = self._api.get(f"files/{id}", fields=f"{FIELDS},path_collection")
        except Shut:
            return None
        above = _above(said)
        inside = [place for place, (folder, _) in enumerate(above) if folder in self._folders]
        one = box_api.file(said, above[-1][0] if above else "")
        if not (inside and one and _active(said)):
            return None
        names = [nfc(name) for _, name in above[inside[-1] + 1 :]]
        if not admit.within("/".join([*names, one.name]), self._settings.exclude):
            return None
        readers = rights.above(folder for folder, _ in above) | self._own(rights, said)
        return one, self._access(readers)

    # --- one document -------------------------------------------------------------

    @property
    def _folders(self) -> list[str]:
        return self._settings.folders

    def _file(self, one: File, access: Access) -> RawFile:
        return RawFile(
            uri=_FILE + one.id,
            version=one.version,
            open=partial(self._api.open, one),
            access=access,
            title=one.name,
            modified_at=one.at,
            media_type=mimetypes.guess_type(one.name)[0],
            size_bytes=one.size_bytes,
        )

    def _access(self, readers: Readers) -> Access:
        return (*self._allow, Layer(readers)) if readers else NOBODY

    def _own(self, rights: Rights, said: dict[str, Any]) -> Readers:
        """Whom a file admits, beside its folder."""
        return rights.own(said, invited=self._settings.file_shares)

    # --- listing ------------------------------------------------------------------

    def _look(self, known: Collection[str] = ()) -> _Look:
        """All there is now. `known`: files that are asked for where the listing does not show them."""
        look = _Look(self._rights())
        waiting, errors = list[_Folder](), list[ApplianceError]()
        for id in self._folders:
            try:
                waiting.append(self._root(look, id))
            except (Shut, SourceMisconfigured) as error:
                errors.append(error)
                self._shut(look, id, id, error)
        if not waiting:
            raise errors[0]
        waiting.reverse()
        same: dict[Readers, Access] = {}
        while waiting:
            folder = waiting.pop()
            try:
                for said in self._api.items(folder.id):
                    self._add(look, folder, said, waiting, same)
            except (Shut, SourceMisconfigured) as error:
                self._shut(look, folder.id, folder.path.strip("/"), error)
        # what is moved while we list may be where we have been already
        lost = [id for id in known if id not in look.files and id not in look.bad]
        for id in lost[:ASKED]:
            if one := self._one(look.rights, id):
                look.files[id], look.access[id] = one
                look.torn = len(lost) > ASKED
        look.failures += look.rights.failures
        return look

    def _root(self, look: _Look, id: str) -> _Folder:
        look.folders.setdefault(id, "")
        said = self._api.get(f"folders/{id}", fields=f"{FIELDS},path_collection")
        if not _active(said):
            raise Gone(f"フォルダー {id} はごみ箱にあります。")
        readers = look.rights.above(above for above, _ in _above(said))
        return _Folder(id, "", 0, readers | look.rights.own(said))

    def _add(
        self,
        look: _Look,
        folder: _Folder,
        said: Any,
        waiting: list[_Folder],
        same: dict[Readers, Access],
    ) -> None:
        kind, id, name = of(said, "type"), str(of(said, "id") or ""), of(said, "name")
        if kind == "web_link" or (isinstance(said, dict) and not _active(said)):
            return
        path = folder.path + nfc(name) if isinstance(name, str) else ""
        if path and not admit.wanted(path, self._settings.exclude):
            return
        if kind == "folder" and ID.fullmatch(id) and path:
            if id in look.folders:
                return
            look.folders[id] = folder.id
            if folder.depth >= DEEPEST:
                reason = "フォルダーが深すぎるため、ここから下は読みません"
                look.failures.append(Failed(_FOLDER + id, path, reason, False))
                return
            readers = folder.readers | look.rights.own(said)
            waiting.append(_Folder(id, f"{path}/", folder.depth + 1, readers))
        elif kind == "file" and (one := box_api.file(said, folder.id)):
            if id not in look.files:
                readers = folder.readers | self._own(look.rights, said)
                look.files[id] = one
                look.access[id] = same.setdefault(readers, self._access(readers))
        else:
            known = kind == "file" and ID.fullmatch(id)
            uri = _FILE + id if known else f"{_FOLDER}{folder.id}#{id[:40]}"
            look.failures.append(Failed(uri, path or uri, "一覧の答えを読めません。", False))
            look.bad.add(id)

    def _shut(self, look: _Look, id: str, path: str, why: ApplianceError) -> None:
        look.closed.add(id)
        reason = f"フォルダーを開けないため、中は誰にも見えません ({why})"
        look.failures.append(Failed(_FOLDER + id, path or id, reason, False))


def _active(said: dict[str, Any]) -> bool:
    """Not in the trash."""
    return of(said, "item_status") in (None, "active")


def _above(said: dict[str, Any]) -> list[tuple[str, str]]:
    """Id and name of each folder above, from the top."""
    found = of(said, "path_collection", "entries")
    return [
        (str(of(one, "id")), str(of(one, "name") or ""))
        for one in (found if isinstance(found, list) else [])
        if ID.fullmatch(str(of(one, "id")))
    ]


def _called(name: str) -> str:
    """A name of the table: a login is a mail address, in lower case."""
    return nfc(name).lower() if name.startswith("user:") else nfc(name)


def _digest(access: Access) -> str:
    said = [[sorted(layer.allow), sorted(layer.deny)] for layer in access]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _load(cursor: Cursor | None) -> _Known:
    try:
        said = json.loads(cursor or "{}")
        files = {str(id): _Record(*map(str, row)) for id, row in said["files"].items()}
        return _Known(files, {str(id): str(up) for id, up in said["folders"].items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        return _Known()  # another version's: everything is listed anyway


def _save(files: dict[str, _Record], folders: dict[str, str]) -> Cursor:
    said: dict[str, Iterable[Any]] = {"files": files, "folders": folders}
    return Cursor(json.dumps(said, separators=(",", ":")))
