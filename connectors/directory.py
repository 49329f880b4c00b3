"""The people and groups of a directory: Active Directory, or what speaks LDAP (OpenLDAP, 389).

A look lists the id and the version of every entry (uSNChanged, entryCSN, modifyTimestamp), and reads
those whose version is another: what was deleted, renamed or moved out of sight is known by the list,
without any right to look at tombstones. Groups of Active Directory name their members by SID and come
in ranges; people whose primary group it is are in no list. No referral is followed.
"""

from __future__ import annotations

import re
import struct
import time
import unicodedata
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from appliance.errors import SourceMisconfigured, SourceUnreachable
from appliance.types import ALONE, Listed, Site
from connectors import ber
from connectors.form import LATER, called
from connectors.ldap import Entry, Ldap, Security, control, escaped, filtered

Match = Literal["name", "upn", "mail"]

AT_ONCE = 50  # entries that one question asks for
SETTLED_S = 10.0  # a timestamp counts seconds: what is younger may change again under the same one
TWICE = 1000  # entries that may come twice, as others come and go meanwhile
_ACTIVE = "1.2.840.113556.1.4.800"  # the capability of Active Directory
_EXTENDED_DN = "1.2.840.113556.1.4.529"
_RANGE = re.compile(r"member;range=(\d+)-(\d+|\*)")
_GUID, _SID = re.compile(r"<GUID=([0-9A-Fa-f-]+)>;"), re.compile(r"<SID=(S-1-[0-9-]+)>;")
_DISABLED, _SECURITY = 0x2, 0x8000_0000
_NEVER = 0x7FFF_FFFF_FFFF_FFFF
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)  # where Windows begins to count

_PEOPLE = {
    True: "(&(objectCategory=person)(objectClass=user))",
    False: "(|(objectClass=person)(objectClass=posixAccount))",
}
_GROUPS = {
    True: "(objectCategory=group)",
    False: "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
}
_READ = {
    True: (
        "objectGUID objectSid objectClass sAMAccountName userPrincipalName mail displayName cn "
        "userAccountControl accountExpires primaryGroupID groupType member uSNChanged"
    ),
    False: (
        "entryUUID objectClass uid cn mail displayName member uniqueMember memberUid gidNumber "
        "pwdAccountLockedTime nsAccountLock shadowExpire entryCSN modifyTimestamp"
    ),
}


class DirectorySettings(BaseModel):
    server: str = Field(
        title="サーバー",
        description="ドメインコントローラーか LDAP サーバーの名前 (dc01.example.co.jp)。1 台を名指ししてください。",
    )
    security: Security = Field(
        default="tls",
        title="暗号化",
        description="暗号化なしでつなげるのは、設定 near_hosts にあるサーバーだけです。",
        json_schema_extra=called(
            {"tls": "LDAPS (tls)", "starttls": "StartTLS", "none": "なし (none)"}
        ),
    )
    port: int = Field(
        default=0, ge=0, le=65535, title="ポート", description="0 は 636 (tls) か 389。"
    )
    user: str = Field(
        title="利用者名",
        description="読み取りだけのアカウント (kura@example.co.jp、EXAMPLE\\kura、または DN)。",
    )
    password: str = Field(title="パスワード", repr=False)
    base: str = Field(
        default="",
        title="検索の起点 (DN)",
        description="DC=example,DC=co,DC=jp など。空ならサーバーの既定。",
    )
    people: str = Field(
        default="",
        title="人の絞り込み",
        json_schema_extra=LATER,
        description="加えるフィルター (!(title=退職)) など。",
    )
    groups: str = Field(
        default="",
        title="グループの絞り込み",
        json_schema_extra=LATER,
        description="加えるフィルター。",
    )
    match: Match = Field(
        default="name",
        title="Kura の利用者と合わせる項目",
        description="この項目を小文字にしたものが、Kura の利用者 ID と同じ人です。",
        json_schema_extra=called(
            {
                "name": "ログオン名 (name: sAMAccountName、uid)",
                "upn": "userPrincipalName (upn)",
                "mail": "メールアドレス (mail)",
            }
        ),
    )
    mails: bool = Field(
        default=True,
        title="メールアドレスでも同じ人とみなす",
        description="メールアドレスで人とグループを指す取り込み元 (Google ドライブ、Box など) の許可が効きます。",
    )
    suspend: bool = Field(
        default=True,
        title="無効になった人を Kura でも無効にする",
        description="有効に戻れば戻します。Kura の管理者のアカウントには触れません。",
    )
    hold_percent: int = Field(
        default=20,
        ge=1,
        le=100,
        title="確認を待つ減り方 (%)",
        json_schema_extra=LATER,
        description="人とグループ、または所属がこの割合より多く一度に消えるときは、確かめるまで反映しません。",
    )
    page: int = Field(default=500, ge=1, le=1000, title="ページの件数", json_schema_extra=LATER)

    @field_validator("server")
    @classmethod
    def _host(cls, server: str) -> str:
        server = server.strip().rstrip(".").lower()
        if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*", server):
            raise ValueError("サーバーの名前だけを書いてください (dc01.example.co.jp)")
        return server

    @field_validator("people", "groups")
    @classmethod
    def _filter(cls, condition: str) -> str:
        if condition.strip():
            try:
                filtered(condition)
            except SourceMisconfigured as error:
                raise ValueError(str(error)) from None
        return condition.strip()


class Directory:
    """One connection. Raises SourceUnreachable, SourceBusy, SourceDenied, SourceMisconfigured."""

    def __init__(self, settings: DirectorySettings, site: Site = ALONE) -> None:
        self._settings = own = settings
        port = own.port or (636 if own.security == "tls" else 389)
        self._line = Ldap(own.server, port, own.security, site)
        try:
            self._line.bind(own.user, own.password)
            said = self._line.root()
            self.active = _ACTIVE.encode() in said.get("supportedcapabilities", ())
            self._root = {name: _text(values) for name, values in said.items()}
            self._base = own.base or self._usual(said)
        except BaseException:
            self._line.close()
            raise

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()

    def check(self) -> str:
        """What is there, for a person."""
        list(self._line.search(self._base, "(objectClass=*)", ["1.1"], scope="base", page=0))
        kinds = [self._people, self._groups]
        people, groups = (
            sum(1 for _ in self._line.search(self._base, kind, ["1.1"], page=self._settings.page))
            for kind in kinds
        )
        if not people or not groups:
            what = "人" if not people else "グループ"
            raise SourceMisconfigured(
                f"{self._base} の下に{what}が見つかりません。検索の起点、絞り込み、アカウントの読み取り権限を確かめてください。"
            )
        kind = "Active Directory" if self.active else "LDAP"
        return f"{kind}、{self._base}: 人 {people:,}、グループ {groups:,}"

    def versions(self) -> dict[str, str]:
        """Of every entry, by its id. An empty version: nobody can tell whether it is as it was."""
        found: dict[str, str] = {}
        twice = 0
        for entry in self._search(self._all, self._naming):
            if not (name := self._id(entry)):
                continue
            twice += name in found
            if twice > TWICE:
                raise SourceUnreachable(f"{self._line.name} の答えに終わりがありません。")
            found[name] = self._version(entry)
        return found

    def entries(self, ids: Collection[str] | None = None) -> Iterator[Listed]:
        """Those, or all. What has gone meanwhile is left out."""
        if ids is None:
            yield from filter(None, map(self._listed, self._search(self._all, self._reading)))
            return
        left = sorted(ids)
        for start in range(0, len(left), AT_ONCE):
            some = "".join(self._named(one) for one in left[start : start + AT_ONCE])
            found = self._search(f"(&{self._all}(|{some}))", self._reading)
            yield from filter(None, map(self._listed, found))

    # --- questions ----------------------------------------------------------------

    @property
    def _people(self) -> str:
        return f"(&{_PEOPLE[self.active]}{self._settings.people})"

    @property
    def _groups(self) -> str:
        return f"(&{_GROUPS[self.active]}{self._settings.groups})"

    @property
    def _all(self) -> str:
        return f"(|{self._people}{self._groups})"

    @property
    def _naming(self) -> list[str]:
        if self.active:
            return ["objectGUID", "uSNChanged"]
        return ["entryUUID", "entryCSN", "modifyTimestamp"]

    @property
    def _reading(self) -> list[str]:
        return _READ[self.active].split()

    def _search(self, condition: str, wanted: list[str]) -> Iterator[Entry]:
        controls = []
        if self.active:  # names others by GUID and SID too, which stay when they are renamed
            flag = ber.tlv(ber.SEQUENCE, ber.integer(1))
            controls = [control(_EXTENDED_DN, flag)]
        yield from self._line.search(
            self._base, condition, wanted, page=self._settings.page, controls=controls
        )

    def _usual(self, said: Mapping[str, list[bytes]]) -> str:
        contexts = said.get("defaultnamingcontext") or said.get("namingcontexts", [])
        if len(contexts) != 1:
            raise SourceMisconfigured(
                "検索の起点 (DN) を書いてください。サーバーの既定が一つに決まりません。"
            )
        return _text(contexts)

    def _named(self, one: str) -> str:
        if self.active:
            return f"(objectGUID={escaped(uuid.UUID(one).bytes_le)})"
        return f"(entryUUID={escaped(one)})"

    # --- entries ------------------------------------------------------------------

    def _id(self, entry: Entry) -> str:
        """Empty where it has none: it is nobody who could be known again."""
        if not self.active:
            return _text(entry.attributes.get("entryuuid", []))
        with suppress(ValueError, IndexError):
            return str(uuid.UUID(bytes_le=entry.attributes["objectguid"][0]))
        return ""

    def _version(self, entry: Entry) -> str:
        has = entry.attributes
        if self.active:  # counted by each server for itself
            number = _text(has.get("usnchanged", []))
            return f"{self._root.get('dsservicename', '')}:{number}" if number else ""
        if stamp := _text(has.get("entrycsn", [])):
            return stamp
        stamp = _text(has.get("modifytimestamp", []))
        with suppress(ValueError):
            at = datetime.strptime(stamp[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            if abs(time.time() - at.timestamp()) > SETTLED_S:
                return stamp
        return ""

    def _listed(self, entry: Entry) -> Listed | None:
        if not (name := self._id(entry)):
            return None
        return self._of_active(name, entry) if self.active else self._of_ldap(name, entry)

    def _of_active(self, guid: str, entry: Entry) -> Listed:
        has, dn = entry.attributes, _own_dn(entry.dn)
        version, classes = self._version(entry), _texts(has.get("objectclass", []))
        sid = _sid(has.get("objectsid", []))
        common: dict[str, Any] = {
            "id": guid, "dn": dn, "sid": sid,
            "name": _text(has.get("samaccountname", [])) or _text(has.get("cn", [])),
            "mail": _text(has.get("mail", [])),
            "title": _text(has.get("displayname", [])) or _text(has.get("cn", [])),
        }  # fmt: skip
        node = f"sid:{sid}" if sid else f"guid:{guid}"
        if "group" in classes:
            values, same = self._members(dn, has)
            members = tuple(dict.fromkeys(filter(None, map(_member, values))))
            if not _number(has.get("grouptype", [])) & _SECURITY:
                # a list for mail gives no rights to who is in it, nor to what it is in
                node = f"list:{guid}" if not sid else f"list:{sid}"
                members += tuple(m.replace("sid:", "list:", 1) for m in members)
                common["sid"] = ""
            return Listed(
                kind="group", node=node, members=members, version=version if same else "", **common
            )
        primary = _number(has.get("primarygroupid", []))
        domain = sid.rpartition("-")[0]
        return Listed(
            kind="person",
            node=node,
            version=version,
            upn=_text(has.get("userprincipalname", [])),
            disabled=bool(_number(has.get("useraccountcontrol", [])) & _DISABLED),
            expires_at=_expiry(_number(has.get("accountexpires", []))),
            into=(f"sid:{domain}-{primary}",) if domain and primary else (),
            **common,
        )

    def _members(self, dn: str, has: Mapping[str, list[bytes]]) -> tuple[list[str], bool]:
        """All of them, and whether the group stayed as it was while they were read."""
        values = _texts(has.get("member", []))
        same, last = True, self._range(has, values)
        while last is not None:
            flag = ber.tlv(ber.SEQUENCE, ber.integer(1))
            found = list(
                self._line.search(
                    dn, "(objectClass=*)", [f"member;range={last + 1}-*", "uSNChanged"],
                    scope="base", page=0, controls=[control(_EXTENDED_DN, flag)],
                )
            )  # fmt: skip
            if len(found) != 1:
                return values, False  # it has gone, or moved: the next look tells
            more = found[0].attributes
            same &= more.get("usnchanged") == has.get("usnchanged")
            before, after = last, self._range(more, values)
            if after is not None and after <= before:
                raise SourceUnreachable(f"{self._line.name} の答えに終わりがありません。")
            last = after
        return values, same

    @staticmethod
    def _range(has: Mapping[str, list[bytes]], values: list[str]) -> int | None:
        """Adds what a range holds; the last number of it, None where no more follows."""
        for name, some in has.items():
            if found := _RANGE.fullmatch(name):
                values += _texts(some)
                return None if found[2] == "*" else int(found[2])
        return None

    def _of_ldap(self, name: str, entry: Entry) -> Listed:
        has = entry.attributes
        classes = {one.lower() for one in _texts(has.get("objectclass", []))}
        number = _text(has.get("gidnumber", []))
        common: dict[str, Any] = {
            "id": name, "version": self._version(entry), "dn": entry.dn,
            "node": f"dn:{folded(entry.dn)}", "mail": _text(has.get("mail", [])),
            "title": _text(has.get("displayname", [])) or _text(has.get("cn", [])),
        }  # fmt: skip
        uid, cn = _text(has.get("uid", [])), _text(has.get("cn", []))
        if classes & {"groupofnames", "groupofuniquenames", "posixgroup"}:
            named = [*has.get("member", []), *has.get("uniquemember", [])]
            members = [f"dn:{folded(_without_uid(one))}" for one in _texts(named)]
            members += [f"uid:{one}" for one in _texts(has.get("memberuid", []))]
            members += [f"gid:{number}"] if number else []
            return Listed(kind="group", name=cn, members=tuple(dict.fromkeys(members)), **common)
        into = [f"uid:{uid}"] if uid and "posixaccount" in classes else []
        into += [f"gid:{number}"] if number else []
        return Listed(
            kind="person", name=uid or cn, into=tuple(into), disabled=_locked(has),
            expires_at=_day(_text(has.get("shadowexpire", []))), **common,
        )  # fmt: skip


def folded(dn: str) -> str:
    """A DN as it is compared: case, blanks between its parts and ways to escape do not count."""
    spelled = re.sub(
        r"(?:\\[0-9A-Fa-f]{2})+",
        lambda found: _unescaped(found[0]),
        dn,
    )
    spelled = re.sub(r"\s*(?<!\\)([,=+])\s*", r"\1", spelled.replace(";", ","), count=0)
    return unicodedata.normalize("NFKC", spelled).casefold().strip()


def _unescaped(hexes: str) -> str:
    text = bytes.fromhex(hexes.replace("\\", "")).decode("utf-8", "replace")
    return "".join(f"\\{one}" if one in ',=+<>#;"\\' else one for one in text)


def _without_uid(value: str) -> str:
    return re.sub(r"#'[01]*'B$", "", value)  # of uniqueMember


def _own_dn(dn: str) -> str:
    return _SID.sub("", _GUID.sub("", dn, count=1), count=1)


def _member(value: str) -> str:
    if found := _SID.search(value):
        return f"sid:{found[1]}"
    found = _GUID.search(value)
    return f"guid:{found[1].lower()}" if found else ""


def _sid(values: list[bytes]) -> str:
    """Of a domain alone: BUILTIN's mean others on every machine."""
    with suppress(struct.error, IndexError):
        data = values[0]
        revision, count = struct.unpack_from("<BB", data)
        parts = struct.unpack_from(f"<{count}I", data, 8)
        text = "-".join(map(str, ("S", revision, int.from_bytes(data[2:8], "big"), *parts)))
        if revision == 1 and text.startswith("S-1-5-21-"):
            return text
    return ""


def _number(values: list[bytes]) -> int:
    with suppress(ValueError, IndexError):
        return int(values[0])
    return 0


def _expiry(ticks: int) -> datetime | None:
    if ticks in (0, _NEVER):
        return None
    with suppress(OverflowError):
        return _EPOCH + timedelta(microseconds=ticks // 10)
    return None


def _locked(has: Mapping[str, list[bytes]]) -> bool:
    forever = _text(has.get("pwdaccountlockedtime", [])).startswith("00000101")
    return forever or _text(has.get("nsaccountlock", [])).lower() == "true"


def _day(days: str) -> datetime | None:
    with suppress(ValueError, OverflowError):
        return (
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(days)) if int(days) > 0 else None
        )
    return None


def _texts(values: list[bytes]) -> list[str]:
    return [
        unicodedata.normalize("NFC", one.decode("utf-8", "replace")).replace("\0", "").strip()
        for one in values
    ]


def _text(values: list[bytes]) -> str:
    return _texts(values)[0] if values else ""
