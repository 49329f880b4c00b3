"""Mailboxes on a server that speaks IMAP (Dovecot, Exchange), shared ones above all: a message, a document.

The rights of folders name accounts of the server, so the administrator says who may read, for the whole
source or by folder. A message never changes: what is new is fetched, what went to another folder is
known by its Message-ID and size, and by reading it again. Messages that are marked as deleted are gone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import BinaryIO, ClassVar

from pydantic import BaseModel, Field, field_validator

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import (
    ALONE,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    RawFile,
    Remove,
    Site,
    Upsert,
)
from connectors import admit
from connectors.form import called
from connectors.mailboxes import Box, Head, Mailboxes, Security, State
from connectors.wire import Line

FEW = 20  # messages; fewer than this may vanish at once without a doubt
NO_SUBJECT = "(件名なし)"
_LEFT_OUT = {r"\trash", r"\junk", r"\drafts", r"\all", r"\flagged", r"\noselect", r"\nonexistent"}
_LEFT_OUT_NAMES = {
    "trash", "junk", "spam", "drafts", "deleted items", "deleted messages", "junk e-mail",
    "ごみ箱", "ゴミ箱", "迷惑メール", "下書き", "削除済みアイテム",
}  # fmt: skip
_URI = re.compile(r"(.+)/([0-9]{1,10})-([0-9]{1,10})\.eml")


class ImapSettings(BaseModel):
    host: str = Field(title="ホスト", description="サーバーの名前。証明書の名前と同じもの。")
    port: int = Field(default=993, ge=1, le=65535, title="ポート")
    security: Security = Field(
        json_schema_extra=called(
            {"tls": "TLS (tls)", "starttls": "StartTLS (starttls)", "none": "なし (none)"}
        ),
        default="tls",
        title="暗号化",
        description="tls は 993 番、starttls は 143 番が普通です。"
        "none は、設定 near_hosts に書いた相手にだけ使えます。",
    )
    user: str = Field(title="利用者名")
    password: str = Field(default="", title="パスワード", repr=False)
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元のメールを読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    folders: list[str] = Field(
        default_factory=list,
        title="フォルダーごとの閲覧者",
        description="「人事/* = group:人事部, user:ito」の形。先に合った行が「閲覧できる人」に代わります。",
    )
    include: list[str] = Field(
        default_factory=list,
        title="対象のフォルダー",
        description="INBOX や 案件/* などの型。空なら、ごみ箱・迷惑メール・下書きを除くすべて。",
    )
    exclude: list[str] = Field(default_factory=list, title="除くフォルダー", description="除く型。")

    @field_validator("host")
    @classmethod
    def _name(cls, host: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+", host.strip()):
            raise ValueError("ホストの名前だけを書いてください")
        return host.strip().lower().rstrip(".")

    @field_validator("user", "password")
    @classmethod
    def _one_line(cls, said: str) -> str:
        if any(ord(c) < 32 for c in said):
            raise ValueError("改行などは使えません")
        return said


@dataclass(frozen=True, slots=True)
class _Kept:
    """A folder as it was last seen. `uids` says what each message keeps when it moves."""

    state: State
    uids: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Look:
    """All folders, and of the messages in them those that are new since the last look."""

    kept: dict[str, _Kept] = field(default_factory=dict)
    new: dict[str, tuple[Box, Head]] = field(default_factory=dict)  # by uri
    failures: list[Failed] = field(default_factory=list)


class ImapConnector:
    """IMAP (共有メールボックス)"""

    kind: ClassVar[str] = "imap"
    Settings: ClassVar[type[BaseModel]] = ImapSettings

    def __init__(self, settings: ImapSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site
        self._line = Line(self._sign_in)

    def check(self) -> None:
        self._rules  # noqa: B018  its settings may be wrong
        with self._line.open() as mail:
            if not self._boxes(mail):
                raise SourceMisconfigured(f"{mail.name} に、対象のフォルダーがありません。")

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """What is new, moved and gone; all there is where nothing is known, or where most is gone.

        Most of a mailbox does not go at once: then the run is a whole listing, of which the loss is
        believed when two of them say so.
        """
        before = _load(since)
        with self._line.open() as mail:
            look = self._look(mail, before)
            known, there = _uris(before), _uris(look.kept)
            gone = {uri: same for uri, same in known.items() if uri not in there}
            origin = _origins(gone, look)
            lost = gone.keys() - origin.values()
            much = len(known) >= FEW and 2 * len(lost) > len(known)
            if much:
                look = self._look(mail, before, anew=True)
            yield from look.failures
            for uri, (box, head) in look.new.items():
                file = self._file(uri, box, head)
                if uri in origin:
                    yield Moved(origin[uri], uri, file.title, file.access)
                yield Upsert(file)
            whole = much or not before
            yield from map(Remove, () if whole else sorted(lost))
            if whole and look.failures:  # what is gone is known once all of it could be listed
                yield Checkpoint(since or Cursor(""))
            else:
                yield Checkpoint(_save(look.kept), complete=whole)

    def file(self, uri: str) -> RawFile:
        if found := _URI.fullmatch(uri):
            name, validity, uid = found[1], int(found[2]), int(found[3])
            with self._line.open() as mail:
                for box in self._boxes(mail):
                    if box.name != name or mail.state(box).validity != validity:
                        continue
                    for head in mail.heads(box, validity, [uid]):
                        if head.uid == uid:
                            return self._file(uri, box, head)
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, box: Box, head: Head) -> RawFile:
        validity = int(_URI.fullmatch(uri)[2])  # type: ignore[index]
        return RawFile(
            uri=uri,
            version=f"{validity}-{head.uid}",
            open=partial(self._open, uri, box, validity, head.uid),
            access=self._access(box.name),
            title=head.subject or NO_SUBJECT,
            modified_at=head.arrived,
            media_type="message/rfc822",
            size_bytes=head.size_bytes,
        )

    def _open(self, uri: str, box: Box, validity: int, uid: int) -> BinaryIO:
        message = self._line.ask(lambda mail: mail.message(box, validity, uid))
        if message is None:
            raise SourceUnreachable(f"{uri} がありません。")
        return message

    def _sign_in(self) -> Mailboxes:
        own = self._settings
        return Mailboxes(own.host, own.port, own.security, own.user, own.password, self.site)

    # --- who may read -------------------------------------------------------------

    @cached_property
    def _rules(self) -> list[tuple[str, Access]]:
        """By folder, the first that fits; the last fits all."""
        own = self._settings
        return admit.rules("フォルダーごとの閲覧者", own.folders, own.allow)

    def _access(self, folder: str) -> Access:
        return next(access for pattern, access in self._rules if admit.fits(folder, [pattern]))

    # --- listing ------------------------------------------------------------------

    def _boxes(self, mail: Mailboxes) -> list[Box]:
        include, exclude = self._settings.include, self._settings.exclude
        return [
            box
            for box in mail.boxes()
            if (admit.fits(box.name, include) if include else not _apart(box))
            and not box.flags & {r"\noselect", r"\nonexistent"}
            and not admit.fits(box.name, exclude)
        ]

    def _look(self, mail: Mailboxes, before: dict[str, _Kept], *, anew: bool = False) -> _Look:
        """`anew`: all messages are told of, not only new ones."""
        self._rules  # noqa: B018
        look, seen = _Look(), set[str]()
        for box in self._boxes(mail):
            old = before.get(box.name)
            try:
                if box.name in seen:
                    raise SourceMisconfigured("同じ名前のフォルダーがあります")
                seen.add(box.name)
                look.kept[box.name] = self._one(mail, box, None if anew else old, look)
            except (SourceDenied, SourceMisconfigured, SourceUnreachable, SourceBusy) as error:
                if not mail.alive:
                    raise
                transient = isinstance(error, (SourceUnreachable, SourceBusy))
                reason = f"フォルダーを開けません ({error}) 読めないままなら、除いてください。"
                look.failures.append(Failed(f"{box.name}/", box.name, reason, transient))
                if old:  # it hides no other, and what was in it stays
                    look.kept.setdefault(box.name, old)
        return look

    def _one(self, mail: Mailboxes, box: Box, old: _Kept | None, look: _Look) -> _Kept:
        state = mail.state(box)
        if old and old.state == state and state.modseq:
            return old
        known = old.uids if old and old.state.validity == state.validity else {}
        there = mail.uids(box, state)
        heads = list(mail.heads(box, state.validity, [uid for uid in there if uid not in known]))
        for head in heads:
            look.new[_uri(box.name, state.validity, head.uid)] = (box, head)
        uids = {uid: known[uid] for uid in there if uid in known}
        return _Kept(state, uids | {head.uid: _same(head) for head in heads})


def _apart(box: Box) -> bool:
    """Folders of what is thrown away, not yet said, or shown in another place as well."""
    return bool(box.flags & _LEFT_OUT) or box.name.rpartition("/")[2].lower() in _LEFT_OUT_NAMES


def _uris(folders: dict[str, _Kept]) -> dict[str, str]:
    return {
        _uri(name, kept.state.validity, uid): same
        for name, kept in folders.items()
        for uid, same in kept.uids.items()
    }


def _uri(folder: str, validity: int, uid: int) -> str:
    return f"{folder}/{validity}-{uid}.eml"


def _same(head: Head) -> str:
    """What a message keeps in another folder; empty where it has no id."""
    said = f"{head.message_id}\n{head.size_bytes}".encode()
    return hashlib.blake2s(said, digest_size=8).hexdigest() if head.message_id else ""


def _origins(gone: dict[str, str], look: _Look) -> dict[str, str]:
    """New uris and those they had before, where one alone came and one alone went."""
    come = {uri: _same(head) for uri, (_, head) in look.new.items()}
    went, came = Counter(gone.values()), Counter(come.values())
    old = {same: uri for uri, same in gone.items() if same and went[same] == 1}
    return {uri: old[same] for uri, same in come.items() if same in old and came[same] == 1}


def _load(cursor: Cursor | None) -> dict[str, _Kept]:
    try:
        folders = json.loads(cursor or "{}").get("folders", {})
        return {
            str(name): _Kept(
                State(**one["state"]), {int(u): str(s) for u, s in one["uids"].items()}
            )
            for name, one in folders.items()
        }
    except (ValueError, AttributeError, TypeError, KeyError):
        return {}  # another version's: everything is listed anyway


def _save(folders: dict[str, _Kept]) -> Cursor:
    kept = {name: {"state": asdict(one.state), "uids": one.uids} for name, one in folders.items()}
    return Cursor(json.dumps({"folders": kept}, ensure_ascii=False, separators=(",", ":")))
