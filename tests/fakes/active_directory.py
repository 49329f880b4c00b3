"""What answers as a domain controller does, over LDAP on loopback, as [MS-ADTS] and RFC 4511 say.

It is strict: questions without a bind, without pages, with attributes, filters or controls that it does
not know are refused with the code that Active Directory gives. Members come in ranges, named by GUID
and SID where the control for it is there; whose primary group it is is in no list.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from connectors import ber
from connectors.ber import Part

DOMAIN = "S-1-5-21-100-200-300"
BASE = "DC=example,DC=co,DC=jp"
USER, PASSWORD = "kura@example.co.jp", "himitsu-no-kotoba"
MOST = 1000  # MaxPageSize
RANGE = 1500  # MaxValRange
_PAGED, _EXTENDED_DN = "1.2.840.113556.1.4.319", "1.2.840.113556.1.4.529"
_ATTRIBUTES = {
    "objectguid", "objectsid", "objectclass", "samaccountname", "userprincipalname", "mail",
    "displayname", "cn", "useraccountcontrol", "accountexpires", "primarygroupid", "grouptype",
    "member", "usnchanged",
}  # fmt: skip


@dataclass
class Object:
    dn: str
    kind: str  # user, group, computer, contact
    rid: int = 0  # 0: no SID
    fields: dict[str, str] = field(default_factory=dict)
    members: list[Object] = field(default_factory=list)
    guid: uuid.UUID = field(default_factory=uuid.uuid4)
    foreign: str = ""  # a SID of another domain
    usn: int = 0

    @property
    def sid(self) -> str:
        return self.foreign or (f"{DOMAIN}-{self.rid}" if self.rid else "")


class ActiveDirectory:
    """Its objects, and the questions that came: base, filter as parsed, attributes, page."""

    def __init__(self, service: str = "CN=NTDS Settings,CN=DC01") -> None:
        self.objects: list[Object] = []
        self.asked: list[tuple[str, Any, list[str]]] = []
        self.usn, self.service = 1000, service
        self.refuse = b""  # answered to a bind: the diagnostic message of a refusal
        self.spoil: bytes | None = None  # sent in place of an answer to a search
        self.endless = False  # each page says that another one follows
        self.groups_at = 0  # how often a group was asked for more of its members
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    # --- objects ------------------------------------------------------------------

    def add(self, kind: str, name: str, rid: int = 0, **fields: str) -> Object:
        base = {"sAMAccountName": name, "cn": name} if kind in ("user", "group") else {"cn": name}
        usual = {"user": {"userAccountControl": "512", "primaryGroupID": "513"},
                 "group": {"groupType": "-2147483646"}}.get(kind, {})  # fmt: skip
        made = Object(f"CN={name},OU=社員,{BASE}", kind, rid, base | usual | fields)
        self.objects.append(made)
        self.touch(made)
        return made

    def touch(self, one: Object, **fields: str) -> None:
        self.usn += 1
        one.usn = self.usn
        one.fields |= fields

    def put(self, group: Object, *members: Object) -> None:
        group.members += members
        self.touch(group)

    def leave(self, group: Object, member: Object) -> None:
        group.members.remove(member)
        self.touch(group)

    def rename(self, one: Object, name: str) -> None:
        """Groups that list it show its new name, and have not changed."""
        one.dn = f"CN={name},OU=別の部,{BASE}"
        self.touch(one, cn=name)

    # --- the wire -----------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):  # who asked has gone
            self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        bound, pages, rest = False, dict[bytes, list[Object]](), b""
        with connection:
            while True:
                while (size := ber.size(rest[:6])) is None or len(rest) < size:
                    try:
                        more = connection.recv(65536)
                    except OSError:
                        return
                    if not more:
                        return
                    rest += more
                data, rest = rest[:size], rest[size:]
                number, operation, *controls = ber.parts(data, ber.part(data, 0, len(data)))
                told = {}
                for one in ber.parts(data, controls[0]) if controls else []:
                    oid, *more_parts = ber.parts(data, one)
                    value = data[more_parts[-1].start : more_parts[-1].stop]
                    told[data[oid.start : oid.stop].decode()] = value
                if operation.tag == 0x42:
                    return
                if operation.tag == 0x60:
                    bound = self._bind(connection, data, number, operation)
                elif operation.tag == 0x63:
                    if self.spoil is not None and bound:
                        connection.sendall(self.spoil)
                        continue
                    for answer in self._search(data, number, operation, told, bound, pages):
                        connection.sendall(answer)
                else:
                    return

    def _bind(self, connection: socket.socket, data: bytes, number: Part, operation: Part) -> bool:
        _, name, password = ber.parts(data, operation)
        right = (
            data[name.start : name.stop] == USER.encode()
            and data[password.start : password.stop] == PASSWORD.encode()
            and not self.refuse
        )
        said = (
            self.refuse
            or b"80090308: LdapErr: DSID-0C09, comment: AcceptSecurityContext error, data 52e, v4563"
        )
        done = _done(0x61, 0 if right else 49, b"" if right else said)
        connection.sendall(_message(data, number, done))
        return right

    def _search(
        self, data: bytes, number: Part, operation: Part, controls: dict[str, bytes],
        bound: bool, pages: dict[bytes, list[Object]],
    ) -> Iterator[bytes]:  # fmt: skip
        base_at, scope_at, _, _, _, _, condition_at, attributes_at = ber.parts(data, operation)
        base = data[base_at.start : base_at.stop].decode()
        scope = ber.number(data, scope_at)
        condition = _condition(data, condition_at)
        wanted = [data[p.start : p.stop].decode() for p in ber.parts(data, attributes_at)]
        self.asked.append((base, condition, wanted))

        def end(code: int, *told: bytes) -> bytes:
            return _message(data, number, _done(0x65, code), *told)

        if not base and scope == 0:
            yield _message(data, number, self._root())
            yield end(0)
            return
        if not bound:
            yield end(1)
            return
        if unknown := set(controls) - {_PAGED, _EXTENDED_DN}:
            raise AssertionError(f"controls {unknown}")
        asked = {one.lower().partition(";")[0] for one in wanted} - {"1.1"}
        assert asked <= _ATTRIBUTES, asked - _ATTRIBUTES
        if scope == 0:
            found = [one for one in self.objects if one.dn == base]
            if not found and base != BASE:
                yield end(32)
                return
            for one in found:
                yield _message(data, number, self._entry(one, wanted, _EXTENDED_DN in controls))
            yield end(0)
            return
        if base != BASE:
            yield end(32)
            return
        matching = [one for one in self.objects if _fits(one, condition)]
        if _PAGED not in controls:
            if len(matching) > MOST:
                matching, code = matching[:MOST], 4
            else:
                code = 0
            for one in matching:
                yield _message(data, number, self._entry(one, wanted, False))
            yield end(code)
            return
        value = controls[_PAGED]
        size_at, cookie_at = ber.parts(value, ber.part(value, 0, len(value)))
        size = min(ber.number(value, size_at), MOST)
        cookie = value[cookie_at.start : cookie_at.stop]
        left = pages.pop(cookie, matching) if self.endless or not cookie else pages.pop(cookie)
        for one in left[:size]:
            yield _message(data, number, self._entry(one, wanted, _EXTENDED_DN in controls))
        after = b""
        if left[size:] or self.endless:
            after = uuid.uuid4().bytes
            pages[after] = left if self.endless else left[size:]
        paged = ber.tlv(0x30, ber.integer(0), ber.octets(after))
        yield end(0, ber.tlv(0x30, ber.octets(_PAGED), ber.octets(paged)))

    def _root(self) -> bytes:
        return _entry("", {
            "supportedCapabilities": [b"1.2.840.113556.1.4.800"],
            "defaultNamingContext": [BASE.encode()],
            "namingContexts": [BASE.encode(), f"CN=Configuration,{BASE}".encode()],
            "dsServiceName": [self.service.encode()],
        })  # fmt: skip

    def _entry(self, one: Object, wanted: list[str], extended: bool) -> bytes:
        found: dict[str, list[bytes]] = {}
        for name in wanted:
            key, _, option = name.partition(";")
            lower = key.lower()
            if lower == "objectguid":
                found[key] = [one.guid.bytes_le]
            elif lower == "objectsid" and one.sid:
                found[key] = [_sid(one.sid)]
            elif lower == "objectclass":
                found[key] = [
                    b"top",
                    *([b"person"] if one.kind == "user" else []),
                    one.kind.encode(),
                ]
            elif lower == "usnchanged":
                found[key] = [str(one.usn).encode()]
            elif lower == "member" and one.kind == "group":
                found |= self._members(one, option, extended)
            elif (value := {k.lower(): v for k, v in one.fields.items()}.get(lower)) is not None:
                found[key] = [value.encode()]
        return _entry(_extended(one) if extended else one.dn, found)

    def _members(self, group: Object, option: str, extended: bool) -> dict[str, list[bytes]]:
        values = [(_extended(m) if extended else m.dn).encode() for m in group.members]
        if not option:
            if len(values) <= RANGE:
                return {"member": values} if values else {}
            return {"member": [], f"member;range=0-{RANGE - 1}": values[:RANGE]}
        self.groups_at += 1
        start = int(option.removeprefix("range=").partition("-")[0])
        last = min(start + RANGE, len(values))
        if last == len(values):
            return {f"member;range={start}-*": values[start:]}
        return {f"member;range={start}-{last - 1}": values[start:last]}


def _extended(one: Object) -> str:
    sid = f"<SID={one.sid}>;" if one.sid else ""
    return f"<GUID={one.guid}>;{sid}{one.dn}"


def _fits(one: Object, condition: Any) -> bool:
    match condition:
        case ("&", *some):
            return all(_fits(one, c) for c in some)
        case ("|", *some):
            return any(_fits(one, c) for c in some)
        case ("!", c):
            return not _fits(one, c)
        case ("=", "objectcategory", value):
            kinds = {b"person": ("user", "contact"), b"group": ("group",)}
            return one.kind in kinds[value]
        case ("=", "objectclass", value):
            return value.decode() == one.kind
        case ("=", "objectguid", value):
            return bool(value == one.guid.bytes_le)
    raise AssertionError(f"a filter that is not known: {condition}")


def _condition(data: bytes, at: Part) -> Any:
    if at.tag in (0xA0, 0xA1, 0xA2):
        return ("&|!"[at.tag - 0xA0], *(_condition(data, one) for one in ber.parts(data, at)))
    if at.tag == 0x87:
        return ("*", data[at.start : at.stop].decode().lower())
    assert at.tag == 0xA3, hex(at.tag)
    name, value = ber.parts(data, at)
    return ("=", data[name.start : name.stop].decode().lower(), data[value.start : value.stop])


def _entry(dn: str, attributes: dict[str, list[bytes]]) -> bytes:
    some = [
        ber.tlv(0x30, ber.octets(name), ber.tlv(0x31, *map(ber.octets, values)))
        for name, values in attributes.items()
    ]
    return ber.tlv(0x64, ber.octets(dn), ber.tlv(0x30, *some))


def _done(tag: int, code: int, said: bytes = b"") -> bytes:
    return ber.tlv(tag, ber.integer(code, 0x0A), ber.octets(b""), ber.octets(said))


def _message(data: bytes, number: Part, operation: bytes, *controls: bytes) -> bytes:
    told = [ber.tlv(0xA0, *controls)] if controls else []
    return ber.tlv(0x30, ber.integer(ber.number(data, number)), operation, *told)


def _sid(text: str) -> bytes:
    _, revision, authority, *parts = text.split("-")
    head = struct.pack("<BB", int(revision), len(parts)) + int(authority).to_bytes(6, "big")
    return head + struct.pack(f"<{len(parts)}I", *map(int, parts))
