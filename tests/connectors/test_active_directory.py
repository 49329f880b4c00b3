"""Active Directory's own ways, and answers that are none."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from appliance.errors import SourceDenied, SourceUnreachable
from appliance.types import Listed, Site
from connectors import ber, directory, ldap
from connectors.directory import Directory, DirectorySettings
from tests.fakes.active_directory import BASE, DOMAIN, PASSWORD, USER, ActiveDirectory


@pytest.fixture
def domain() -> Iterator[ActiveDirectory]:
    made = ActiveDirectory()
    yield made
    made.close()


def connected(domain: ActiveDirectory, **more: object) -> Directory:
    own = {"server": "127.0.0.1", "port": domain.port, "security": "none", "user": USER}
    settings = DirectorySettings.model_validate({**own, "password": PASSWORD, **more})
    return Directory(settings, Site(near=frozenset({f"127.0.0.1:{domain.port}"})))


def entries(domain: ActiveDirectory, **more: object) -> dict[str, Listed]:
    with connected(domain, **more) as server:
        return {one.name: one for one in server.entries()}


def test_people_by_sid_primary_group_and_account_control(domain: ActiveDirectory) -> None:
    domain.add("user", "ito", 1105, mail="Ito@example.co.jp", displayName="伊藤 花子",
               userPrincipalName="ito@example.co.jp", accountExpires="9223372036854775807")  # fmt: skip
    domain.add("user", "left", 1106, userAccountControl="514")
    domain.add("user", "haken", 1107, primaryGroupID="1200", accountExpires="134117856000000000")
    domain.add("computer", "PC01", 1108)
    domain.add("contact", "社外の人")
    domain.add("group", "Domain Users", 513)
    found = entries(domain)
    assert found.keys() == {"ito", "left", "haken", "Domain Users"}
    ito = found["ito"]
    assert (ito.sid, ito.node) == (f"{DOMAIN}-1105", f"sid:{DOMAIN}-1105")
    assert (ito.title, ito.upn, ito.mail) == ("伊藤 花子", "ito@example.co.jp", "Ito@example.co.jp")
    assert ito.into == (f"sid:{DOMAIN}-513",) and not ito.disabled and ito.expires_at is None
    assert found["left"].disabled
    assert found["haken"].into == (f"sid:{DOMAIN}-1200",)
    assert found["haken"].expires_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert found["Domain Users"].node == f"sid:{DOMAIN}-513"


def test_a_group_of_four_thousand_comes_in_ranges(domain: ActiveDirectory) -> None:
    group = domain.add("group", "全社", 1200)
    domain.put(group, *(domain.add("user", f"u{n:04}", 2000 + n) for n in range(4000)))
    found = entries(domain, page=1000)
    assert len(found) == 4001 and domain.groups_at == 2
    expected = {f"sid:{DOMAIN}-{2000 + n}" for n in range(4000)}
    assert set(found["全社"].members) == expected and len(found["全社"].members) == 4000
    with connected(domain) as server:
        assert server.versions()[str(group.guid)] == found["全社"].version


def test_a_group_that_changes_between_its_ranges_is_read_again(
    domain: ActiveDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = domain.add("group", "全社", 1200)
    domain.put(group, *(domain.add("user", f"u{n:04}", 2000 + n) for n in range(1600)))
    members = domain._members

    def meanwhile(one: object, option: str, extended: bool) -> dict[str, list[bytes]]:
        if option:
            domain.touch(group)
        return members(one, option, extended)  # type: ignore[arg-type]

    monkeypatch.setattr(domain, "_members", meanwhile)
    found = entries(domain)["全社"]
    with connected(domain) as server:
        assert server.versions()[str(group.guid)] != found.version


def test_nesting_other_domains_and_lists_for_mail(domain: ActiveDirectory) -> None:
    ito = domain.add("user", "ito", 1105)
    section, local = domain.add("group", "営業一課", 1201), domain.add("group", "営業DL", 1202, groupType="-2147483644")  # fmt: skip
    stranger = domain.add("foreignSecurityPrincipal", "S-1-5-21-9-9-9-1104")
    stranger.foreign = "S-1-5-21-9-9-9-1104"
    mail = domain.add("group", "営業ML", 1203, groupType="2", mail="eigyo@example.co.jp")
    contact = domain.add("contact", "社外")
    domain.put(section, ito)
    domain.put(local, section, stranger, mail)
    domain.put(mail, ito, contact)
    found = entries(domain)
    assert found["営業DL"].members == (
        f"sid:{DOMAIN}-1201", "sid:S-1-5-21-9-9-9-1104", f"sid:{DOMAIN}-1203",
    )  # fmt: skip
    lists = found["営業ML"]
    assert lists.node == f"list:{DOMAIN}-1203" and lists.sid == ""
    assert f"sid:{DOMAIN}-1105" in lists.members
    # nobody is in 営業DL because they are on a list that is in it: nothing leads to sid:…-1203
    assert not any(f"sid:{DOMAIN}-1203" in (one.node, *one.into) for one in found.values())


def test_another_server_counts_otherwise(domain: ActiveDirectory) -> None:
    one = domain.add("user", "ito", 1105)
    with connected(domain) as server:
        before = server.versions()
    domain.service = "CN=NTDS Settings,CN=DC02"
    with connected(domain) as server:
        assert server.versions()[str(one.guid)] != before[str(one.guid)]


def test_renamed_it_stays_who_it_is_and_only_what_changed_is_asked_for(
    domain: ActiveDirectory,
) -> None:
    ito, group = domain.add("user", "ito", 1105), domain.add("group", "営業部", 1200)
    domain.put(group, ito)
    with connected(domain) as server:
        before = server.versions()
        domain.rename(ito, "伊藤 (旧姓 佐藤)")
        after = server.versions()
        changed = [one for one in after if after[one] != before[one]]
        (read,) = server.entries(changed)
    assert read.node == f"sid:{DOMAIN}-1105" and read.dn == ito.dn
    assert domain.asked[-1][1][2][1] == ("=", "objectguid", ito.guid.bytes_le)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"80090308: LdapErr: DSID-0C0903, data 52e, v4563", "名前かパスワードが違います"),
        (b"80090308: LdapErr: DSID-0C0903, data 775, v4563", "ロックされています"),
        (b"80090308: LdapErr: DSID-0C0903, data 533, v4563", "アカウントが無効"),
        (b"80090308: LdapErr: DSID-0C0903, data 532, v4563", "期限が切れています"),
    ],
)
def test_why_it_does_not_sign_in(domain: ActiveDirectory, data: bytes, words: str) -> None:
    domain.refuse = data
    with pytest.raises(SourceDenied, match=words) as caught:
        connected(domain)
    assert PASSWORD not in str(caught.value)


def message(operation: bytes, number: int = 3) -> bytes:
    return ber.tlv(0x30, ber.integer(number), operation)


@pytest.mark.parametrize(
    "spoiled",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x84\x7f\xff\xff\xff" + b"\x00" * 100,  # two gigabytes, it says
        b"\x30\x80\x02\x01\x03",  # an indefinite length
        b"\x30\x88" + b"\xff" * 20,
        b"\x1f\x81\x01\x02\x03\x04",
        b"\x30\x03\x02\x01",  # and then nothing more
        message(b"\x64\x05\x04\x7fabc"),  # a part that says it is longer than the whole
        message(ber.tlv(0x64, ber.octets("cn=x"))),
        message(ber.tlv(0x64, ber.octets("cn=x"), ber.tlv(0x30, ber.tlv(0x30, b"\x04\x00")))),
        message(ber.tlv(0x65, ber.integer(0, 0x0A)), number=99),  # to another question
        message(ber.tlv(0x65, b"\x0a\x09" + b"\x01" * 9)),
        message(ber.tlv(0x77, b"")),
        ber.tlv(0x30, ber.integer(0), ber.tlv(0x78, ber.octets(b""))),  # it hangs up
        message(ber.tlv(0x65)),
        b"\x30\x00",
        b"\x04\x03abc",
    ],
)
def test_an_answer_that_is_none_is_one_sentence(
    domain: ActiveDirectory, spoiled: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "TIMEOUT_S", 0.5)
    domain.add("user", "ito", 1105)
    with connected(domain) as server:
        domain.spoil = spoiled
        with pytest.raises(SourceUnreachable, match=r"LDAP として読めません|切れました"):
            server.versions()


def test_a_listing_without_an_end_ends(
    domain: ActiveDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "EMPTY_PAGES", 20)
    monkeypatch.setattr(directory, "TWICE", 20)
    domain.endless = True
    for _ in range(2):
        with (
            connected(domain) as server,
            pytest.raises(SourceUnreachable, match="終わりがありません"),
        ):
            server.versions()
        domain.add("user", "ito", 1105)  # the same page again and again


def test_filters_are_what_they_say() -> None:
    eq = ber.tlv(0xA3, ber.octets("cn"), ber.octets("a*(b)"))
    assert ldap.filtered(r"(cn=a\2a\28b\29)") == eq
    assert ldap.filtered(f"(cn={ldap.escaped('a*(b)')})") == eq
    assert ldap.filtered("(!(cn=*))") == ber.tlv(0xA2, ber.octets("cn", 0x87))
    some = ber.tlv(0x30, ber.octets("a", 0x80), ber.octets("b", 0x81), ber.octets("c", 0x82))
    assert ldap.filtered("(cn=a*b*c)") == ber.tlv(0xA4, ber.octets("cn"), some)
    bits = "(userAccountControl:1.2.840.113556.1.4.803:=2)"
    assert ldap.filtered(bits)[0] == 0xA9
    for wrong in ("cn=a", "(cn=a", "(cn=a))", "()", "(&)", "(cn)", r"(cn=\zz)", "(" * 50):
        with pytest.raises(Exception, match="読めません"):
            ldap.filtered(wrong)


def test_a_sid_of_every_machine_is_nobodys() -> None:
    builtin = struct.pack("<BB", 1, 2) + (5).to_bytes(6, "big") + struct.pack("<II", 32, 545)
    assert directory._sid([builtin]) == "" and directory._sid([b"\x01\x0f"]) == ""
    assert BASE.startswith("DC=")
