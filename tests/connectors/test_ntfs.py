"""Effective access beside Windows' own rule, in a table that is written anew by every run."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from appliance.types import EVERYONE, Layer, Principal, admits
from connectors import ntfs
from tests.connectors.descriptors import (
    DENY,
    EXECUTE,
    FULL,
    INHERIT_ONLY,
    INHERITED,
    READ,
    WRITE,
    Ace,
    acl,
    allow,
    deny,
    descriptor,
)

DOMAIN = "S-1-5-21-100-200-300"
ITO, SATO = f"{DOMAIN}-1001", f"{DOMAIN}-1002"
SALES, HR, TEMPS, ALL = (f"{DOMAIN}-{rid}" for rid in (1101, 1102, 1103, 1104))
STRANGERS = f"{DOMAIN}-1999"  # a group that no table knows
USERS = f"{DOMAIN}-513"
AUTHENTICATED, WORLD, NETWORK = "S-1-5-11", "S-1-1-0", "S-1-5-2"
CREATOR, OWNER_RIGHTS, SYSTEM, INTERACTIVE = "S-1-3-0", "S-1-3-4", "S-1-5-18", "S-1-5-4"
ADMINISTRATORS = "S-1-5-32-544"

TABLE = {
    ITO: frozenset({Principal("user:ito")}),
    SATO: frozenset({Principal("user:sato")}),
    SALES: frozenset({Principal("group:営業部")}),
    HR: frozenset({Principal("group:人事部")}),
    TEMPS: frozenset({Principal("group:派遣")}),
    ALL: frozenset({Principal("group:全社")}),
}


@dataclass(frozen=True)
class Person:
    """Somebody as Windows' token and Kura's principals have them; groups hold groups."""

    name: str
    sid: str
    groups: tuple[str, ...]  # of the table, nested ones too
    strangers: bool = False  # in a group that Kura does not know

    @property
    def token(self) -> frozenset[str]:
        more = {STRANGERS} if self.strangers else set()
        return frozenset(
            {self.sid, *self.groups, WORLD, AUTHENTICATED, NETWORK, USERS, "S-1-5-32-545", *more}
        )

    @property
    def principals(self) -> frozenset[Principal]:
        groups = {p for g in self.groups for p in TABLE[g]}
        return frozenset({EVERYONE, Principal(f"user:{self.name}"), *groups})


PEOPLE = (
    Person("ito", ITO, (SALES, ALL)),  # 営業部 is in 全社
    Person("sato", SATO, (HR, ALL), strangers=True),
    Person("suzuki", f"{DOMAIN}-1003", (TEMPS, SALES, ALL)),
    Person("kato", f"{DOMAIN}-1004", ()),
)
ito, sato, suzuki, kato = PEOPLE


def windows(token: frozenset[str], owner: str, aces: Sequence[Ace] | None) -> bool:
    """[MS-DTYP] 2.5.3.2 for FILE_READ_DATA alone, word for word and no quicker."""
    remaining = 0x1
    if aces is None:
        return True
    for ace in aces:
        if ace.flags & INHERIT_ONLY:
            continue
        mask = ace.mask | (0x1 if ace.mask & 0x9000_0000 else 0)  # generic read, generic all
        sid = owner if ace.sid == OWNER_RIGHTS else ace.sid
        if sid not in token:
            continue
        if ace.kind == DENY and mask & remaining:
            return False
        if ace.kind != DENY:
            remaining &= ~mask
            if not remaining:
                return True
    return False


def kura(person: Person, owner: str, aces: Sequence[Ace] | None, **more: bool) -> bool:
    layer = ntfs.layer(ntfs.parse(descriptor(owner, aces)), TABLE, **more)
    return admits((layer,), person.principals)


def undecided(token: frozenset[str], owner: str, aces: Sequence[Ace]) -> bool:
    """Whom an entry allowed before another, of a group or of a stranger, denied: Kura says no."""
    allowed = set[str]()
    for ace in aces:
        if not ace.mask & 0x9000_0001 or ace.flags & INHERIT_ONLY or ace.sid in (CREATOR, SYSTEM):
            continue
        sid = owner if ace.sid == OWNER_RIGHTS else ace.sid
        if ace.kind != DENY:
            if sid in (WORLD, AUTHENTICATED, NETWORK, USERS):
                return False
            allowed |= {sid} if sid in token else set()
        elif allowed and sid in token and sid not in allowed and sid in TABLE:
            return True
        elif sid not in TABLE and sid not in allowed:
            return False
    return False


def stranger_decides(token: frozenset[str], owner: str, aces: Sequence[Ace]) -> bool:
    """A SID that nobody knows comes before anything that allows: Kura cannot know whom it means."""
    for ace in aces:
        if not ace.mask & 0x9000_0001 or ace.flags & INHERIT_ONLY:
            continue
        sid = owner if ace.sid == OWNER_RIGHTS else ace.sid
        if sid == STRANGERS:
            return ace.kind == DENY or sid in token
        if sid in token and ace.kind != DENY:
            return False
    return False


def table() -> Iterator[tuple[str, tuple[Ace, ...]]]:
    """Lists of entries: every pair of two, and longer ones, in Windows' order and in others."""
    sids = (
        ITO,
        SALES,
        HR,
        TEMPS,
        ALL,
        WORLD,
        AUTHENTICATED,
        USERS,
        STRANGERS,
        CREATOR,
        OWNER_RIGHTS,
    )
    masks = (READ, WRITE, EXECUTE, FULL, 0x1, 0x8000_0000, 0x1000_0000, 0x2000_0000)
    for kind, sid, mask in itertools.product((0, 1), sids, masks):
        yield ITO, (Ace(kind, sid, mask), allow(ALL))
    for first, second in itertools.permutations(sids, 2):
        yield ITO, (allow(first), deny(second))
        yield SATO, (deny(first), allow(second, FULL, INHERITED))
    chance = random.Random(20261126)
    for _ in range(600):
        explicit = [_entry(chance, sids, masks, 0) for _ in range(chance.randint(0, 3))]
        inherited = [_entry(chance, sids, masks, INHERITED) for _ in range(chance.randint(0, 4))]
        for some in (explicit, inherited):
            if chance.random() < 0.7:  # Windows' order: what denies comes first
                some.sort(key=lambda ace: ace.kind != DENY)
        yield chance.choice((ITO, SATO, STRANGERS)), (*explicit, *inherited)


def _entry(chance: random.Random, sids: Sequence[str], masks: Sequence[int], flags: int) -> Ace:
    only = INHERIT_ONLY if chance.random() < 0.15 else 0
    sid, mask = chance.choice(sids), chance.choice(masks)
    return Ace(chance.choice((0, 0, 1)), sid, mask, flags | only)


CASES = list(table())


def test_the_table_is_large() -> None:
    assert len(CASES) >= 500
    decided = [windows(p.token, owner, aces) for owner, aces in CASES for p in PEOPLE]
    assert 0.2 < sum(decided) / len(decided) < 0.8, "both answers are asked for"


def test_effective_access_is_that_of_windows() -> None:
    differ = 0
    for owner, aces in CASES:
        for person in PEOPLE:
            real, ours = windows(person.token, owner, aces), kura(person, owner, aces)
            assert real or not ours, f"wider than Windows: {person.name} {owner} {aces}"
            if real == ours:
                continue
            differ += 1
            assert undecided(person.token, owner, aces) or stranger_decides(
                person.token, owner, aces
            ), f"narrower without a reason: {person.name} {owner} {aces}"
    assert differ < 0.1 * len(CASES) * len(PEOPLE)


# --- by hand: (entries, who reads) ------------------------------------------------

OBJECT_GUID = struct.pack("<I", 1) + bytes(16)  # of an object entry: a type of objects
CONDITION = b"artx" + bytes(8)

BY_HAND: dict[str, tuple[Sequence[Ace] | None, str]] = {
    "a group": ([allow(SALES)], "ito suzuki"),
    "a person": ([allow(ITO)], "ito"),
    "a nested group": ([allow(ALL)], "ito sato suzuki"),
    "two groups": ([allow(SALES), allow(HR)], "ito sato suzuki"),
    "group allowed, person denied": ([deny(ITO), allow(SALES)], "suzuki"),
    "group allowed, group denied": ([deny(TEMPS), allow(SALES)], "ito"),
    "denied below what was inherited": ([deny(SALES), allow(ALL, flags=INHERITED)], "sato"),
    "explicit allow above an inherited deny of the same": (
        [allow(SALES), deny(SALES, flags=INHERITED)],
        "ito suzuki",
    ),
    # Windows would let suzuki read as well: a Layer has no order, so the denial of 派遣 counts
    "explicit allow above an inherited deny of another": (
        [allow(SALES), deny(TEMPS, flags=INHERITED), allow(HR, flags=INHERITED)],
        "ito sato",
    ),
    "deny first, whatever order it was meant in": ([deny(ALL), allow(ITO)], ""),
    "everyone": ([allow(WORLD)], "ito sato suzuki kato"),
    "everyone, after which no denial counts": ([allow(WORLD), deny(ITO)], "ito sato suzuki kato"),
    "everyone but one": ([deny(ITO), allow(WORLD)], "sato suzuki kato"),
    "authenticated users": ([allow(AUTHENTICATED)], "ito sato suzuki kato"),
    "BUILTIN\\Users": ([allow("S-1-5-32-545")], "ito sato suzuki kato"),
    "domain users": ([allow(USERS)], "ito sato suzuki kato"),
    "from the network": ([allow(NETWORK)], "ito sato suzuki kato"),
    "not from the network": ([deny(NETWORK), allow(WORLD)], ""),
    "allowed before not from the network": ([allow(ITO), deny(NETWORK), allow(WORLD)], "ito"),
    "only at the machine": ([allow(INTERACTIVE)], ""),
    "not at the machine": ([deny(INTERACTIVE), allow(SALES)], "ito suzuki"),
    "the machine itself": ([allow(SYSTEM), allow(ADMINISTRATORS), allow(ITO)], "ito"),
    "denied to the machine": ([deny(SYSTEM), allow(ITO)], "ito"),
    "anonymous": ([deny("S-1-5-7"), allow(ITO)], "ito"),
    "nobody": ([allow("S-1-0-0"), deny("S-1-0-0"), allow(ITO)], "ito"),
    "a service": ([allow("S-1-5-80-1-2-3-4-5"), deny("S-1-15-2-1"), allow(ITO)], "ito"),
    "write only": ([allow(SALES, WRITE)], ""),
    "execute only": ([allow(SALES, EXECUTE)], ""),
    "attributes only": ([allow(SALES, 0x80)], ""),
    "read data alone": ([allow(SALES, 0x1)], "ito suzuki"),
    "generic read": ([allow(SALES, 0x8000_0000)], "ito suzuki"),
    "generic all": ([allow(SALES, 0x1000_0000)], "ito suzuki"),
    "generic execute": ([allow(SALES, 0x2000_0000)], ""),
    "write denied": ([deny(ITO, 0x0000_0116), allow(SALES)], "ito suzuki"),
    "full denied": ([deny(ITO, FULL), allow(SALES)], "suzuki"),
    "creator owner": ([allow(CREATOR, FULL)], ""),
    "creator owner denied": ([deny(CREATOR, FULL), allow(ITO)], "ito"),
    "inherit only": ([allow(SALES, flags=INHERIT_ONLY)], ""),
    "inherit only denied": ([deny(SALES, flags=INHERIT_ONLY), allow(SALES)], "ito suzuki"),
    "owner rights": ([allow(OWNER_RIGHTS)], "ito"),
    "owner rights denied": ([deny(OWNER_RIGHTS), allow(SALES)], "suzuki"),
    "owning gives no right to read": ([allow(HR)], "sato"),
    "an unknown group": ([allow(STRANGERS)], ""),
    "an unknown group beside a known one": ([allow(STRANGERS), allow(SALES)], "ito suzuki"),
    "an unknown group denied: whoever is in it": ([deny(STRANGERS), allow(WORLD)], ""),
    "allowed before an unknown group is denied": ([allow(ITO), deny(STRANGERS)], "ito"),
    "an empty list": ([], ""),
    "no list": (None, ""),
    "a condition allowed": ([Ace(0x09, SALES, after=CONDITION)], ""),
    "a condition denied": ([Ace(0x0A, SALES, after=CONDITION), allow(ALL)], "sato"),
    "kinds of objects allowed": ([Ace(0x05, SALES, between=OBJECT_GUID)], ""),
    "kinds of objects denied": ([Ace(0x06, SALES, between=OBJECT_GUID), allow(ALL)], "sato"),
    "an entry of a kind nobody knows": ([allow(ITO), Ace(0x40, HR), allow(WORLD)], "ito"),
    "an audit entry": ([Ace(0x02, SALES), allow(SALES)], "ito suzuki"),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_who_reads(case: str) -> None:
    aces, readers = BY_HAND[case]
    assert [p.name for p in PEOPLE if kura(p, ITO, aces)] == readers.split()


def test_no_list_is_everybody_only_where_an_administrator_says_so() -> None:
    for present in (True, False):
        none = ntfs.parse(descriptor(ITO, None, present=present))
        assert ntfs.layer(none, TABLE) == Layer(frozenset())
        assert ntfs.layer(none, TABLE, null_is_everyone=True) == Layer(frozenset({EVERYONE}))
    empty = ntfs.parse(descriptor(ITO, []))
    assert ntfs.layer(empty, TABLE, null_is_everyone=True) == Layer(frozenset())


def test_the_share_and_the_file_must_both_admit() -> None:
    """Every pair of a share's rights and a file's, beside Windows asked twice."""
    shares = [[allow(WORLD)], [allow(SALES)], [deny(TEMPS), allow(ALL)], []]
    for share, (owner, aces) in itertools.product(shares, CASES[:400:4]):
        layers = [ntfs.layer(ntfs.parse(descriptor(owner, a)), TABLE) for a in (share, aces)]
        for person in PEOPLE:
            both = windows(person.token, owner, share) and windows(person.token, owner, aces)
            assert both or not admits(tuple(layers), person.principals)
    top = Layer(frozenset({Principal("group:営業部")}))
    file = ntfs.layer(ntfs.parse(descriptor(ITO, [allow(HR), allow(ITO)])), TABLE)
    assert [p.name for p in PEOPLE if admits((top, file), p.principals)] == ["ito"]


def test_what_the_table_says_of_a_well_known_sid_holds() -> None:
    of = ntfs.parse(descriptor(ITO, [allow(AUTHENTICATED)]))
    staff = frozenset({Principal("group:社員")})
    assert ntfs.layer(of, {AUTHENTICATED: staff}) == Layer(staff)


def test_a_sid_that_is_nobody_here_covers_nobody() -> None:
    of = ntfs.parse(descriptor(ITO, [deny(STRANGERS), allow(SALES)]))
    assert ntfs.layer(of, TABLE | {STRANGERS: frozenset()}) == Layer(TABLE[SALES])


def test_unknown_sids_are_named_where_they_decide() -> None:
    aces = [
        allow(STRANGERS),
        allow(f"{DOMAIN}-1", WRITE),
        allow(f"{DOMAIN}-2", flags=INHERIT_ONLY),
        allow(OWNER_RIGHTS),
        *(allow(sid) for sid in (ADMINISTRATORS, SYSTEM, CREATOR, WORLD, SALES)),
    ]
    of = ntfs.parse(descriptor(f"{DOMAIN}-3", aces))
    assert ntfs.unmapped(of, TABLE) == {STRANGERS, f"{DOMAIN}-3"}
    assert ntfs.unmapped(of, TABLE | {STRANGERS: frozenset()}) == {f"{DOMAIN}-3"}


def test_what_is_no_descriptor_is_refused() -> None:
    whole = descriptor(ITO, [allow(SALES), Ace(0x06, HR, between=OBJECT_GUID), deny(TEMPS)])
    for end in range(len(whole)):
        with pytest.raises(ValueError):
            ntfs.parse(whole[:end])
    long = bytearray(whole)
    long[20 + 1] = 200  # more parts than a SID has
    with pytest.raises(ValueError, match="SID"):
        ntfs.parse(bytes(long))
    many = bytearray(descriptor(ITO, [allow(SALES)]))
    at = len(many) - len(acl([allow(SALES)]))
    many[at + 4 : at + 6] = b"\xff\xff"  # more entries than there are
    with pytest.raises(ValueError):
        ntfs.parse(bytes(many))


def test_noise_is_refused_or_read_and_nothing_else() -> None:
    chance = random.Random(7)
    whole = descriptor(ITO, [allow(SALES), deny(TEMPS)])
    read = 0
    for _ in range(3000):
        harmed = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            harmed[chance.randrange(len(harmed))] = chance.randrange(256)
        try:
            ntfs.layer(ntfs.parse(bytes(harmed)), TABLE)
            read += 1
        except ValueError:
            continue
    assert 0 < read < 3000
