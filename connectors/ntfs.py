"""Who may read a file of Windows, from its security descriptor ([MS-DTYP] 2.4.6, 2.5.3.2).

Reading is FILE_READ_DATA, and the first entry of the DACL that names somebody decides for them, in
the order in which the entries lie. The file's own DACL is all that counts: Windows lets everybody
pass through the folders above (SeChangeNotifyPrivilege), and inherited entries are copied into it.
Owning a file gives no right to read it.

People are as Windows sees them over the network. What cannot be decided is decided against reading:

* an allowing entry for a SID without a counterpart in Kura, with a condition, or for kinds of
  objects, grants nobody;
* a denying entry for a SID without a counterpart covers everybody who has not been allowed before;
* a `Layer` has no order, so a denying entry also covers who is in a group that was allowed before it
  (an explicit "allow" above an inherited "deny"): Windows would let them read, Kura does not.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from appliance.types import EVERYONE, Layer, Principal

Sid = str  # "S-1-5-21-…-1105"
Table = Mapping[Sid, frozenset[Principal]]  # whom a SID means in Kura; the empty set: nobody

READ_DATA, GENERIC_READ, GENERIC_ALL = 0x0000_0001, 0x8000_0000, 0x1000_0000
READING = READ_DATA | GENERIC_READ | GENERIC_ALL
INHERIT_ONLY = 0x08
OWNER_RIGHTS = "S-1-3-4"
ADMINISTRATORS = "S-1-5-32-544"

# In the token of whoever comes over the network with an account.
WORLD = frozenset({
    "S-1-1-0",  # Everyone
    "S-1-5-2",  # NETWORK
    "S-1-5-11",  # Authenticated Users
    "S-1-5-15",  # This Organization
    "S-1-5-32-545",  # BUILTIN\Users, of which Authenticated Users are
})  # fmt: skip
DOMAIN_USERS = "-513"  # of S-1-5-21-…
# In no such token, or of no person: whether allowed or denied, nobody is meant.
_NOBODYS = frozenset({
    "S-1-0-0",  # nobody
    "S-1-2-0", "S-1-2-1",  # at the machine itself
    "S-1-3-0", "S-1-3-1",  # CREATOR OWNER and GROUP: only what is made below will name somebody
    "S-1-5-1", "S-1-5-3", "S-1-5-4", "S-1-5-6", "S-1-5-13", "S-1-5-14",  # ways to sign in there
    "S-1-5-7",  # ANONYMOUS LOGON
    "S-1-5-10",  # PRINCIPAL SELF: of objects in a directory
    "S-1-5-18", "S-1-5-19", "S-1-5-20",  # the machine
})  # fmt: skip
_NOBODYS_KINDS = ("S-1-5-80-", "S-1-15-2-", "S-1-15-3-")  # services and applications

_ALLOW, _DENY = 0x00, 0x01
_DENY_OBJECT, _DENY_CALLBACK, _DENY_CALLBACK_OBJECT = 0x06, 0x0A, 0x0C
_ALLOW_DOUBTFUL = frozenset({0x04, 0x05, 0x09, 0x0B})  # compound, object, with a condition
_AUDIT = frozenset({0x02, 0x03, 0x07, 0x08, *range(0x0D, 0x16)})  # nothing of it allows or denies
_OBJECT = frozenset({0x05, 0x06, 0x0B, 0x0C})
_DACL_PRESENT = 0x0004


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a DACL that may decide over reading. `sure`: it holds as it stands."""

    does: Literal["allow", "deny"]
    sid: Sid  # empty: nobody can tell whom
    mask: int
    flags: int = 0
    sure: bool = True

    @property
    def reading(self) -> bool:
        return bool(self.mask & READING) and not self.flags & INHERIT_ONLY


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`dacl`: in their order; None: there is no list, which to Windows means everybody."""

    owner: Sid | None
    dacl: tuple[Entry, ...] | None


def parse(data: bytes) -> Descriptor:
    """A self-relative security descriptor. Raises ValueError where it is none."""
    try:
        _, _, control, owner_at, _, _, dacl_at = struct.unpack_from("<BBHIIII", data)
        owner = _sid(data, owner_at) if owner_at else None
        if not control & _DACL_PRESENT or not dacl_at:
            return Descriptor(owner, None)
        return Descriptor(owner, tuple(_entries(data, dacl_at)))
    except struct.error:
        raise ValueError("the security descriptor is cut off") from None


def layer(of: Descriptor, table: Table, *, null_is_everyone: bool = False) -> Layer:
    """Who may read, in Kura's words."""
    if of.dacl is None:
        return Layer(frozenset({EVERYONE}) if null_is_everyone else frozenset())
    allow, deny, allowed = set[Principal](), set[Principal](), set[Sid]()
    for entry in of.dacl:
        sid = (of.owner or "") if entry.sid == OWNER_RIGHTS else entry.sid
        if not entry.reading or sid in allowed or _nobodys(sid, table):
            continue
        meant = known(sid, table)
        if entry.does == "allow":
            if entry.sure:
                allowed.add(sid)
                allow |= meant
                if EVERYONE in meant:
                    break  # whatever follows, everybody was allowed before it
        elif not meant or EVERYONE in meant:
            break  # it may mean anybody: who was not allowed until here will not be
        else:
            deny |= meant
    return Layer(frozenset(allow), frozenset(deny))


def sids(of: Descriptor) -> frozenset[Sid]:
    """All that may decide over reading."""
    named = {entry.sid for entry in of.dacl or () if entry.reading} | {of.owner or ""}
    return frozenset(sid for sid in named if sid and sid != OWNER_RIGHTS)


def unmapped(of: Descriptor, table: Table) -> frozenset[Sid]:
    """SIDs that would decide over reading, if it were known whom they mean."""
    named = {
        (of.owner or "") if entry.sid == OWNER_RIGHTS else entry.sid
        for entry in of.dacl or ()
        if entry.reading
    }
    silent = {"", ADMINISTRATORS}  # who is on every file, and reads nothing as a rule
    return frozenset(
        sid for sid in named - silent if not _nobodys(sid, table) and not known(sid, table)
    )


def known(sid: Sid, table: Table) -> frozenset[Principal]:
    """Whom a SID means: what the table says, else everyone if it is everybody's in Windows."""
    if (said := table.get(sid)) is not None:
        return said
    world = sid in WORLD or (sid.startswith("S-1-5-21-") and sid.endswith(DOMAIN_USERS))
    return frozenset({EVERYONE}) if world else frozenset()


def _nobodys(sid: Sid, table: Table) -> bool:
    said = table.get(sid)
    return not said if said is not None else sid in _NOBODYS or sid.startswith(_NOBODYS_KINDS)


def _entries(data: bytes, at: int) -> list[Entry]:
    _, _, size, count, _ = struct.unpack_from("<BBHHH", data, at)
    end, found = at + size, list[Entry]()
    if end > len(data):
        raise ValueError("the list of entries is cut off")
    at += 8
    for _ in range(count):
        kind, flags, length = struct.unpack_from("<BBH", data, at)
        if length < 4 or at + length > end:
            raise ValueError("an entry is cut off")
        if kind not in _AUDIT:
            found.append(_entry(kind, flags, data[at : at + length]))
        at += length
    return found


def _entry(kind: int, flags: int, data: bytes) -> Entry:
    if kind in (_ALLOW, _DENY):
        (mask,) = struct.unpack_from("<I", data, 4)
        return Entry("allow" if kind == _ALLOW else "deny", _sid(data, 8), mask, flags)
    if kind in _ALLOW_DOUBTFUL:
        return Entry("allow", "", READING, flags, sure=False)
    if kind not in (_DENY_OBJECT, _DENY_CALLBACK, _DENY_CALLBACK_OBJECT):
        return Entry("deny", "", READING, flags, sure=False)  # of a kind that nobody knows
    mask, at = *struct.unpack_from("<I", data, 4), 8
    if kind in _OBJECT:
        (present,) = struct.unpack_from("<I", data, 8)
        at = 12 + 16 * (present & 1) + 16 * (present >> 1 & 1)
    return Entry("deny", _sid(data, at), mask, flags, sure=False)


def _sid(data: bytes, at: int) -> Sid:
    revision, count = struct.unpack_from("<BB", data, at)
    if revision != 1 or count > 15:
        raise ValueError("a SID of an unknown form")
    authority = int.from_bytes(data[at + 2 : at + 8], "big")
    parts = struct.unpack_from(f"<{count}I", data, at + 8)
    return "-".join(map(str, ("S", revision, authority, *parts)))
