"""A directory, read from a real slapd, and from what answers as Active Directory does."""

from __future__ import annotations

import pytest

from appliance.errors import ApplianceError, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.types import Listed, Site
from connectors.directory import Directory, folded
from tests.connectors.slapd import BASE, READER, Slapd, slapd

__all__ = ["slapd"]  # a fixture


def everything(slapd: Slapd, **more: object) -> dict[str, Listed]:
    with Directory(slapd.made(**more), slapd.site) as server:
        return {one.dn: one for one in server.entries()}


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
def test_people_and_groups_are_read_however_it_is_connected(slapd: Slapd, security: str) -> None:
    ito = slapd.person("ito", "伊藤 花子", "ito@example.co.jp")
    sales = slapd.group("営業一課", ito)
    above = slapd.group("営業部", sales)
    found = everything(slapd, security=security)
    assert found.keys() == {ito, sales, above}
    assert found[ito].kind == "person" and found[ito].name == "ito"
    assert found[ito].title == "伊藤 花子" and found[ito].mail == "ito@example.co.jp"
    assert found[sales].name == "営業一課" and found[sales].members == (found[ito].node,)
    assert found[above].members == (found[sales].node,)
    assert len({one.id for one in found.values()}) == 3
    with Directory(slapd.made(security=security), slapd.site) as server:
        assert server.check() == f"LDAP、{BASE}: 人 1、グループ 2"


def test_only_what_changed_has_another_version(slapd: Slapd) -> None:
    ito, sato = slapd.person("ito", "伊藤"), slapd.person("sato", "佐藤")
    group = slapd.group("営業部", ito, sato)
    with Directory(slapd.made(), slapd.site) as server:
        before = server.versions()
        assert len(before) == 3 and all(before.values())
        assert server.versions() == before
        slapd.leave(group, sato)
        after = server.versions()
        (changed,) = {one for one in after if after[one] != before[one]}
        (read,) = server.entries([changed])
        assert read.dn == group and len(read.members) == 1 and read.version == after[changed]
        slapd.delete(sato)
        assert len(before.keys() - server.versions().keys()) == 1


def test_pages_bring_all_where_the_server_gives_no_more_at_once(slapd: Slapd) -> None:
    """slapd here gives 200 without pages."""
    people = [
        f"dn: uid=u{n:04},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: u{n:04}\ncn: u\nsn: u\n"
        for n in range(450)
    ]
    slapd.change("\n".join(people))
    assert len(everything(slapd, page=100)) == 450
    with Directory(slapd.made(page=100), slapd.site) as server:
        assert len(list(server.entries(list(server.versions())[:120]))) == 120


def test_posix_groups_and_locked_accounts(slapd: Slapd) -> None:
    slapd.change(
        f"dn: uid=ito,ou=people,{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n"
        "objectClass: shadowAccount\nuid: ito\ncn: ito\nsn: ito\nuidNumber: 1\ngidNumber: 100\n"
        "homeDirectory: /x\nshadowExpire: 1"
    )
    slapd.change(
        f"dn: cn=staff,ou=groups,{BASE}\nobjectClass: posixGroup\ncn: staff\ngidNumber: 100"
    )
    slapd.change(
        f"dn: cn=soumu,ou=groups,{BASE}\nobjectClass: posixGroup\ncn: soumu\ngidNumber: 101\n"
        "memberUid: ito"
    )
    found = {one.name: one for one in everything(slapd).values()}
    assert set(found["ito"].into) == {"uid:ito", "gid:100"}
    assert found["ito"].expires_at and found["ito"].expires_at.year == 1970
    assert "gid:100" in found["staff"].members and "uid:ito" in found["soumu"].members


def test_filters_narrow(slapd: Slapd) -> None:
    slapd.person("ito", "伊藤", title="課長")
    slapd.person("sato", "佐藤", title="退職 (2026)")
    slapd.group("営業部")
    found = everything(slapd, people="(!(title=退職*))")
    assert {one.name for one in found.values()} == {"ito", "営業部"}


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"password": "ちがう"}, SourceDenied, "名前かパスワードが違います"),
        ({"password": ""}, SourceMisconfigured, "パスワードが空"),
        ({"user": f"cn=nobody,{BASE}"}, SourceDenied, "名前かパスワードが違います"),
        ({"user": "これはDNではない"}, SourceMisconfigured, "DN の書き方"),
        ({"base": "ou=nothing,dc=example,dc=co,dc=jp"}, SourceMisconfigured, "検索の起点"),
        ({"base": f"ou=hidden,{BASE}"}, ApplianceError, "起点"),
        ({"port": 1}, SourceUnreachable, "つながりません"),
        ({"server": "nowhere.invalid"}, SourceUnreachable, "見つかりません"),
        ({"people": "(uid=*"}, ValueError, "読めません"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    slapd: Slapd, more: dict[str, object], kind: type[Exception], words: str
) -> None:
    slapd.person("ito", "伊藤")
    with pytest.raises(kind, match=words) as caught:
        near = slapd.site.near | {"localhost:1"}
        with Directory(slapd.made(**more), Site(slapd.pem, near)) as server:
            server.check()
    assert "himitsu" not in str(caught.value)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_certificate_that_nobody_vouches_for_is_refused(slapd: Slapd, security: str) -> None:
    with pytest.raises(SourceMisconfigured, match="ca_file"):
        Directory(slapd.made(security=security), Site(near=slapd.site.near))
    named = slapd.made(security=security, server="127.0.0.1")
    with pytest.raises(SourceMisconfigured, match="証明書の名前"):
        Directory(named, slapd.site)


def test_nothing_is_sent_in_the_clear_over_a_network(slapd: Slapd) -> None:
    far = Site(slapd.pem, frozenset())
    with pytest.raises(SourceMisconfigured, match="暗号化せずに"):
        Directory(slapd.made(security="none"), far)


def test_a_server_that_wants_encryption_says_so(slapd: Slapd) -> None:
    slapd.stop()
    slapd.security = "simple_bind=128"
    slapd.start()
    with pytest.raises(SourceMisconfigured, match="starttls"):
        Directory(slapd.made(security="none"), slapd.site)
    with Directory(slapd.made(security="starttls"), slapd.site) as server:
        assert READER and not server.active


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=営業部, OU=Groups,DC=Example", "cn=営業部,ou=groups,dc=example"),
        (r"cn=\E5\96\B6\E6\A5\AD,dc=x", "cn=営業,dc=x"),
        (r"cn=A\2C B,dc=x", r"cn=a\, b,dc=x"),
    ],
)
def test_one_dn_in_two_spellings(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_two_dns_that_only_look_alike() -> None:
    assert folded(r"cn=a\,b,dc=x") != folded("cn=a,b,dc=x")
