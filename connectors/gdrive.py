"""Google Drive: shared drives and folders, each document for those whom its permissions name.

Not verified against the real service: written after Google's documentation, tested against a fake.

A document is known by its id: a new name or another folder leaves it the same. Google's own documents
are exported as Office files, of all others the bytes are read. In a shared drive who may read is told
for the drive and for what differs from what is above it; all below changes with a folder, so the tree
is kept in the cursor, and every look tells of all of it, though it asks for what changed alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, BinaryIO, ClassVar, NamedTuple

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
)
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
    RawFile,
    Remove,
    Site,
    Upsert,
)
from connectors import admit, gdrive_look
from connectors.form import LATER, LINES
from connectors.gdrive_api import EXPORT_BYTES, Api, Key, Params, judge, of, segment
from connectors.gdrive_look import BOTH, EXPORTS, FIELDS, FOLDER, ID, Found, Node, Rights, Root, nfc
from connectors.gdrive_rights import Grant, People, spelled
from connectors.http import Http
from connectors.listing import FEW

AGAIN_S = 240.0  # while a run takes long, permissions are looked after as often
_LINK = "https://drive.google.com/open?id="
_KNOWN = re.compile(r"(user|group|domain):.|anyone$")
_IN_LINK = re.compile(r"/folders/([A-Za-z0-9_-]+)")


class GDriveSettings(BaseModel):
    key: str = Field(
        json_schema_extra=LINES,
        title="サービスアカウントの鍵 (JSON)",
        description="Google Cloud で作った鍵のファイルの中身をそのまま。プロジェクトで Google Drive API を有効にします。",
        repr=False,
    )
    subject: str = Field(
        default="",
        title="代理する利用者",
        description="ドメイン全体の委任を使うときだけ、その人のメールアドレス。"
        "空ならサービスアカウント自身が読むので、共有ドライブのメンバー (投稿者以上。権限を読むため) に加えます。",
    )
    drives: list[str] = Field(
        default_factory=list,
        title="共有ドライブ",
        description="名前、ID、または URL。フォルダーも空なら、このアカウントがメンバーであるすべて。",
    )
    folders: list[str] = Field(
        default_factory=list,
        title="フォルダー",
        description="マイドライブや共有されたフォルダーの ID か URL。その下のすべてを読みます (編集者以上。権限を読むため)。",
    )
    people: list[str] = Field(
        default_factory=list,
        title="人とグループの対応表",
        description="Drive の名前が Kura の誰かを、1 行に一つ (user:ito@example.co.jp = user:ito、"
        "group:sales@example.co.jp = group:営業部、domain:example.co.jp = group:社員、anyone = everyone)。"
        "ないものには何も許しません。",
    )
    same_names: bool = Field(
        default=False,
        title="同じ名前なら同じ人とみなす",
        description="対応表にない人を、メールアドレス (小文字) のまま Kura の利用者とみなします。グループは対応表だけです。",
    )
    links: bool = Field(
        default=False,
        title="「リンクを知っている人」への共有も数える",
        description="切ってあれば、リンクがなくても見つけられる共有だけが domain: と anyone の行に当たります。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="さらに絞る人",
        description="書けば、Drive で閲覧でき、かつここに名のある人だけに見えます (group:営業部)。",
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    per_second: float = Field(
        default=10.0,
        ge=0,
        title="毎秒の要求数",
        json_schema_extra=LATER,
        description="これより速くは問い合わせません。0 は無制限。",
    )
    api: str = Field(
        default="https://www.googleapis.com",
        title="API の場所",
        json_schema_extra=LATER,
        description="ふつうは変えません。",
    )
    sign_in: str = Field(
        default="https://oauth2.googleapis.com/token",
        title="サインインの窓口",
        json_schema_extra=LATER,
        description="ふつうは変えません。",
    )

    @field_validator("api", "sign_in", "subject")
    @classmethod
    def _bare(cls, text: str) -> str:
        return text.strip().rstrip("/")


class _Told(NamedTuple):
    """What is known of a document from the look before."""

    version: str
    access: str  # its digest
    root: str


@dataclass(slots=True)
class _Memory:
    """What a cursor holds."""

    roots: dict[str, Root] = field(default_factory=dict)  # shared drives
    told: dict[str, _Told] = field(default_factory=dict)


class _Doc(NamedTuple):
    node: Node
    access: Access
    root: str


@dataclass(slots=True)
class _Look:
    """What there is at one time."""

    roots: dict[str, Root] = field(default_factory=dict)
    docs: dict[str, _Doc] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    opened: set[str] = field(default_factory=set)  # roots
    closed: bool = False  # another root did not open


class GDriveConnector:
    """Google ドライブ"""

    kind: ClassVar[str] = "gdrive"
    Settings: ClassVar[type[BaseModel]] = GDriveSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    unverified: ClassVar[bool] = True

    def __init__(self, settings: GDriveSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._accesses: dict[tuple[frozenset[Grant], frozenset[Grant] | None], Access] = {}

    @cached_property
    def _api(self) -> Api:
        own = self._settings
        http = Http([own.api, own.sign_in], self.site, per_second=own.per_second, judge=judge)
        return Api(own.api, own.sign_in, Key(own.key), own.subject, http)

    @cached_property
    def _allow(self) -> Access:
        return admit.access(self._settings.allow)

    @cached_property
    def _people(self) -> People:
        own = self._settings
        told = admit.rules("人とグループの対応表", own.people, [])[:-1]
        for name, _ in told:
            if not _KNOWN.match(spelled(name)):
                raise SourceMisconfigured(
                    f"人とグループの対応表「{name}」は user:… でも group:… でも domain:… でも anyone でもありません。"
                )
        table = {spelled(name): access[0].allow for name, access in told if access}
        return People(table, own.same_names, own.links)

    def check(self) -> None:
        self._allow, self._people  # noqa: B018  a setting may be wrong
        roots, failures = self._roots()
        error: ApplianceError | None = None
        for root in roots.values():
            try:
                Rights(self._api, root, ()).enter()
                if not root.drive and root.own.get(root.id) is None:
                    raise SourceDenied(
                        f"フォルダー「{root.title}」の権限を読めません。アカウントの役割を編集者にしてください。"
                    )
                return  # one that opens is enough; of the others a look tells
            except (SourceDenied, SourceMisconfigured) as why:
                error = why
        raise error or self._nothing(failures)

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All there is. First who may read what is known, then the documents."""
        before = _load(since)
        look = self._look(before.roots)
        yield from look.failures
        accesses = {id: doc.access for id, doc in look.docs.items()}
        now = {id: _Told(d.node.version, _digest(d.access), d.root) for id, d in look.docs.items()}
        for id, one in now.items():
            old = before.told.get(id)
            if old and old.access != one.access:
                # nobody new to what was read before, where it is another by now: soon that is read too
                yield AccessChanged(
                    _uri(id), accesses[id] if old.version == one.version else NOBODY
                )
        gone = {id: old for id, old in before.told.items() if id not in now}
        for id, old in list(gone.items()):
            if look.closed and old.root not in look.opened:
                yield AccessChanged(_uri(id), NOBODY)
                now[id] = gone.pop(id)._replace(access="")
        held = {id: old.version for id, old in before.told.items() if id in look.docs}
        looked_at = time.monotonic()
        for id, doc in look.docs.items():
            if time.monotonic() - looked_at > AGAIN_S:
                for other, access in self._again(look, accesses, held):
                    now[other] = now[other]._replace(access=_digest(access))
                    yield AccessChanged(_uri(other), access)
                looked_at = time.monotonic()
            held[id] = doc.node.version
            now[id] = now[id]._replace(access=_digest(accesses[id]))
            yield Upsert(self._file(id, doc.node, accesses[id]))
        if look.closed and (len(gone) < FEW or 2 * len(gone) <= len(before.told)):
            # one drive that does not open must not keep alive what was deleted elsewhere
            yield from (Remove(_uri(id)) for id in gone)
        elif look.closed:
            now |= gone
        yield Checkpoint(_save(_Memory(look.roots, now)), complete=not look.closed)

    def _again(
        self, look: _Look, accesses: dict[str, Access], held: dict[str, str]
    ) -> Iterator[tuple[str, Access]]:
        """Who may read, once more while reading takes long: what is another now of what is `held`."""
        anew = self._look(look.roots)
        for id in look.docs:
            there = anew.docs.get(id)
            access = there.access if there else NOBODY
            if access != accesses[id]:
                accesses[id] = access
                if id in held:
                    same = there is not None and there.node.version == held[id]
                    yield id, access if same else NOBODY

    def file(self, uri: str) -> RawFile:
        id = uri.removeprefix(_LINK)
        if uri.startswith(_LINK) and ID.fullmatch(id):
            for root in self._around(id):
                rights = Rights(self._api, root, self._settings.exclude)
                rights.enter()
                node = root.nodes[id]
                if node.document and (found := rights.document(id, node)):
                    return self._file(id, node, self._access(found))
        raise NotVisible(f"{uri} はありません。")

    # --- one document -------------------------------------------------------------

    def _file(self, id: str, node: Node, access: Access) -> RawFile:
        return RawFile(
            uri=_uri(id),
            version=node.version,
            open=partial(self._open, id, node),
            access=access,
            title=node.name,
            modified_at=_when(node.at),
            media_type=EXPORTS.get(node.kind, node.kind),
            size_bytes=node.size_bytes if node.size_bytes >= 0 else None,
        )

    def _open(self, id: str, node: Node) -> BinaryIO:
        """The content that was listed: SourceBusy where it is another by now."""
        path = f"files/{segment(id)}"
        if node.kind in EXPORTS:
            form: Params = {"mimeType": EXPORTS[node.kind]}
            copy = self._api.file(f"{path}/export", form, EXPORT_BYTES)
        else:
            copy = self._api.file(path, BOTH | {"alt": "media"})
        try:
            if re.fullmatch(r"[0-9a-f]{64}", node.version):
                same = _sha256(copy) == node.version
            else:
                said = self._get(id)
                same = said is not None and gdrive_look.read(said)[1].version == node.version
            if not same:
                raise SourceBusy(f"「{node.name}」は書き換えられました。次の確認で読み直します。")
        except BaseException:
            copy.close()
            raise
        return copy

    def _access(self, found: Found) -> Access:
        """Whom Drive names, of the administrator's."""
        if found.readers is None:
            return NOBODY
        told = found.readers, found.within
        if told not in self._accesses:
            meant = [self._people.of(grants) for grants in told if grants is not None]
            layers = (*self._allow, *map(Layer, meant)) if all(meant) else NOBODY
            self._accesses[told] = tuple(dict.fromkeys(layers))
        return self._accesses[told]

    # --- listing ------------------------------------------------------------------

    def _look(self, before: dict[str, Root]) -> _Look:
        self._allow, self._people  # noqa: B018
        self._accesses.clear()  # what is granted for a time may be over
        look, error = _Look(), None
        roots, look.failures = self._roots()
        look.closed = bool(look.failures)
        for id, root in roots.items():
            try:
                full = gdrive_look.filled(self._api, root, before.get(id))
                rights = Rights(self._api, full, self._settings.exclude)
                found = {i: _Doc(f.node, self._access(f), id) for i, f in rights.documents()}
            except (SourceDenied, SourceMisconfigured) as why:
                error = why
                self._shut(look.failures, id, root.title, why)
                look.closed = True
                continue
            look.opened.add(id)
            look.docs = found | look.docs
            if full.whole:
                look.roots[id] = full
            if rights.denied:  # of some; that closes nothing
                named = "、".join(rights.denied[:5]) + (" など" if len(rights.denied) > 5 else "")
                reason = f"{len(rights.denied)} 件の権限を読めないため、共有を数えていません ({named})。アカウントの役割を投稿者 (編集者) 以上にしてください。"
                title = f"{root.title} の権限"
                look.failures.append(Failed(f"{_uri(id)}#permissions", title, reason, False))
        if not look.opened:
            raise error or self._nothing(look.failures)
        if look.closed:
            look.roots = before | look.roots
        return look

    def _nothing(self, failures: list[Failed]) -> ApplianceError:
        if failures:
            return SourceMisconfigured(failures[0].reason)
        return SourceDenied(
            "このアカウントがメンバーである共有ドライブがありません。メンバーに加えるか、フォルダーを指定してください。"
        )

    def _roots(self) -> tuple[dict[str, Root], list[Failed]]:
        """What the settings name, and what of it is not there."""
        roots, failures, own = dict[str, Root](), list[Failed](), self._settings
        member = self._drives() if own.drives or not own.folders else {}
        for wanted in own.drives or ([] if own.folders else list(member)):
            wanted = _id(wanted)
            named = [i for i, (name, _) in member.items() if wanted in (i, name)]
            if len(named) == 1:
                id = named[0]
                roots[id] = Root(id, member[id][0], id, member[id][1])
                continue
            why = "同じ名前の共有ドライブがあります。ID を書いてください。" if named else (
                f"共有ドライブ「{wanted}」がないか、このアカウントがメンバーではありません。"
            )  # fmt: skip
            self._shut(failures, wanted, wanted, why)
        for wanted in map(_id, own.folders):
            said = self._get(wanted) if ID.fullmatch(wanted) else None
            if said is None or of(said, "mimeType") != FOLDER or of(said, "trashed") is True:
                why = f"フォルダー「{wanted}」がないか、このアカウントに共有されていません。"
                self._shut(failures, wanted, wanted, why)
            elif wanted not in roots:
                drive, name = str(of(said, "driveId") or ""), gdrive_look.read(said)[1].name
                member = member or (self._drives() if drive else {})
                closed = drive in member and member[drive][1]
                roots[wanted] = Root(wanted, name, drive, closed)
                gdrive_look.add(roots[wanted], said)
        return roots, failures

    def _shut(self, failures: list[Failed], id: str, title: str, why: object) -> None:
        reason = str(why) if isinstance(why, str) else f"開けないため、誰にも見えません ({why})"
        failures.append(Failed(_uri(id), title, reason, False))

    def _drives(self) -> dict[str, tuple[str, bool]]:
        """The shared drives that the account is a member of: their names, and whether they are closed
        to all who are not.
        """
        fields = "nextPageToken,drives(id,name,restrictions(driveMembersOnly))"
        query: Params = {"pageSize": 100, "fields": fields}
        found = dict[str, tuple[str, bool]]()
        for said in self._api.pages("drives", query):
            for one in said.get("drives") or []:
                if isinstance(id := of(one, "id"), str) and ID.fullmatch(id):
                    closed = of(one, "restrictions", "driveMembersOnly") is True
                    found[id] = nfc(str(of(one, "name") or id)), closed
        return found

    def _get(self, id: str) -> dict[str, Any] | None:
        return self._api.get(f"files/{segment(id)}", BOTH | {"fields": FIELDS})

    def _around(self, id: str) -> Iterator[Root]:
        """The roots that hold it, in the order of a look, with it and the folders above it."""
        roots, _ = self._roots()
        up, said = id, dict[str, Any]()
        while ID.fullmatch(up) and up not in said and len(said) <= gdrive_look.DEEPEST:
            one = self._get(up)
            if one is None or of(one, "trashed") is True:
                break
            said[up] = one
            up = gdrive_look.read(one)[1].parent
            if up == of(one, "driveId"):
                break
        for root in roots.values():
            inside = of(said.get(id), "driveId") == root.id or root.id in said or up == root.id
            if id in said and inside:
                for one in said.values():
                    gdrive_look.add(root, one)
                yield root


def _id(wanted: str) -> str:
    """Of a URL, the id in it; a name or an id as it is."""
    found = _IN_LINK.search(wanted)
    return found[1] if found else nfc(wanted)


def _uri(id: str) -> str:
    return f"{_LINK}{id}"


def _when(said: str) -> datetime:
    try:
        at = datetime.fromisoformat(said)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _sha256(copy: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := copy.read(1 << 20):
        digest.update(block)
    copy.seek(0)
    return digest.hexdigest()


def _digest(access: Access) -> str:
    said = [[sorted(layer.allow), sorted(layer.deny)] for layer in access]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _load(cursor: Cursor | None) -> _Memory:
    try:
        said = json.loads(cursor or "{}")
        told = {str(id): _Told(*map(str, row)) for id, row in said.get("told", {}).items()}
        roots = {}
        for id, (title, token, at, nodes, asked) in said.get("drives", {}).items():
            roots[id] = Root(id, title, id, token=token, whole_at=float(at))
            roots[id].nodes = {i: Node(*row) for i, row in nodes.items()}
            roots[id].asked = {i: (s, [Grant(*g) for g in gs]) for i, (s, gs) in asked.items()}
        return _Memory(roots, told)
    except (ValueError, TypeError, AttributeError):
        return _Memory()  # another version's: everything is listed anyway


def _save(memory: _Memory) -> Cursor:
    drives = {
        id: [
            root.title, root.token, root.whole_at, root.nodes,
            {i: one for i, one in root.asked.items() if i in root.nodes},
        ]
        for id, root in memory.roots.items()
    }  # fmt: skip
    said = {"drives": drives, "told": memory.told}
    return Cursor(json.dumps(said, ensure_ascii=False, separators=(",", ":")))
