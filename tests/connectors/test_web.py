"""A site of an intranet, crawled over HTTP from a server that is as odd as such servers are."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from appliance.errors import (
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Principal,
    Remove,
    Upsert,
)
from connectors import crawl, http, page, robots
from connectors.urls import Fence, canonical, leads
from connectors.web import WebConnector
from tests.connectors.intranet import PASSWORD, Intranet, html

PDF = b"%PDF-1.7\n1 0 obj"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ATTEMPTS", 1)


@pytest.fixture
def site() -> Iterator[Intranet]:
    one = Intranet()
    one.put(
        "/",
        html('<a href="規程/旅費.html#宿泊">旅費</a> <a href="申請書.pdf?utm_source=top">申請</a>'),
    )
    one.put("/規程/旅費.html", html('宿泊費は12,000円。<a href="../">戻る</a>', title="旅費規程"))
    one.put("/申請書.pdf", PDF, "application/octet-stream")
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, site: Intranet) -> WebConnector:
        return site.connector()


def run(connector: WebConnector, since: Cursor | None = None) -> list[Change]:
    connector.check()
    return list(connector.changes(since))


def cursor(changes: list[Change]) -> Cursor:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def paths(site: Intranet, changes: list[Change]) -> set[str]:
    uris = [c.file.uri for c in changes if isinstance(c, Upsert)]
    assert len(uris) == len(set(uris))
    return {next(p for p in site.pages if site.address(p) == uri) for uri in uris}


def failed(changes: list[Change]) -> list[Failed]:
    return [c for c in changes if isinstance(c, Failed)]


def test_pages_and_what_they_link_to_are_documents_with_their_bytes(site: Intranet) -> None:
    told = {}
    for change in site.connector().changes(None):
        if isinstance(change, Upsert):
            with change.file.open() as first, change.file.open() as second:
                data = first.read()
                assert second.read() == data
            told[change.file.uri] = (change.file.title, change.file.media_type, data)
    assert told[site.address("/規程/旅費.html")][:2] == ("旅費規程", "text/html")
    assert told[site.address("/申請書.pdf")] == ("申請書.pdf", "application/octet-stream", PDF)
    assert [p for p in site.asked if p == "/申請書.pdf"] == ["/申請書.pdf"], "one copy serves"
    left = paths(site, run(site.connector(exclude=["*/規程/*", "*.PDF", "*.pdf"])))
    assert left == {"/"}


def test_a_page_in_shift_jis_is_read_for_its_links_and_its_name(site: Intranet) -> None:
    text = html('<a href="年表.html">年表</a>', '<meta charset="Shift_JIS">', "ソフト表示")
    site.put("/規程/旅費.html", text.encode("cp932"))
    site.put("/規程/年表.html", html("年表"))
    changes = run(site.connector())
    assert "/規程/年表.html" in paths(site, changes)
    assert "ソフト表示" in {c.file.title for c in changes if isinstance(c, Upsert)}


def test_what_did_not_change_costs_a_304_and_is_told_all_the_same(site: Intranet) -> None:
    first = run(site.connector())
    site.counts.clear()
    second = list(site.connector().changes(cursor(first)))
    assert site.counts == {304: 3, 404: 1}  # robots.txt
    versions = [
        [(c.file.uri, c.file.version, c.file.title) for c in some if isinstance(c, Upsert)]
        for some in (first, second)
    ]
    assert versions[0] == versions[1]
    assert cursor(first) == cursor(second)


def test_nothing_outside_is_asked_not_by_a_link_nor_by_a_redirect(site: Intranet) -> None:
    other = Intranet()
    try:
        other.put("/", html("よその"))
        links = [other.url, "/人事/給与.html", "../人事/給与.html", "a/%2e%2e/%2e%2e/人事/給与.html",
                 "a%2f..%2f..%2f人事/給与.html", "よそへ", "隣へ", f"//evil@{other.near}/"]  # fmt: skip
        site.put("/公開/", html("".join(f'<a href="{link}">x</a>' for link in links)))
        site.put("/公開2/", html("名前が似ているだけ"))
        site.put("/人事/給与.html", html("給与"))
        site.say("/公開/よそへ", 302, Location=other.url)
        site.say("/公開/隣へ", 302, Location="/人事/給与.html")
        changes = run(site.connector(start=[f"{site.url}/公開/"], within=[f"{site.url}/公開"]))
        assert paths(site, changes) == {"/公開/"}
        assert not failed(changes)
        assert set(site.asked) == {"/robots.txt", "/公開/", "/公開/よそへ", "/公開/隣へ"}
        assert not other.asked
    finally:
        other.close()


def test_robots_txt_and_what_pages_ask_of_robots_is_obeyed(site: Intranet) -> None:
    site.put(
        "/robots.txt", "User-agent: *\nAllow: /\nDisallow: /規程\nDisallow: /*.pdf$\n", "text/plain"
    )
    site.put("/", html('<a href="規程/旅費.html">a</a><a href="申請書.pdf">b</a><a href="隠す">c</a>'
                       '<a href="見るな" rel="nofollow">d</a><a href="止まれ">e</a>'))  # fmt: skip
    site.put("/隠す", html('<a href="奥">f</a>', '<meta name="robots" content="noindex">'))
    site.put("/止まれ", html('<a href="先">g</a>'), X_Robots_Tag="nofollow")
    for path in ("/奥", "/先", "/見るな"):
        site.put(path, html(path))
    assert paths(site, run(site.connector())) == {"/", "/奥", "/止まれ"}
    assert not {"/規程/旅費.html", "/申請書.pdf", "/見るな", "/先"} & set(site.asked)
    assert "/規程/旅費.html" in paths(site, run(site.connector(ignore_robots=True)))
    with pytest.raises(SourceMisconfigured, match=r"robots\.txt"):
        site.connector(start=[site.address("/規程/旅費.html")]).check()


def test_a_sitemap_names_pages_that_nobody_links_to(site: Intranet) -> None:
    ns = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    site.put(
        "/map.xml",
        f"<sitemapindex {ns}><sitemap><loc>{site.url}/2.xml.gz</loc></sitemap></sitemapindex>",
    )
    inner = f"<urlset {ns}><url><loc>{site.address('/島')}</loc></url><url><loc>http://evil/</loc></url></urlset>"
    site.put("/2.xml.gz", gzip.compress(inner.encode()))
    site.put("/島", html("島"))
    changes = run(site.connector(sitemaps=[f"{site.url}/map.xml"]))
    assert "/島" in paths(site, changes)
    site.delete("/2.xml.gz")
    later = run(site.connector(sitemaps=[f"{site.url}/map.xml"]), cursor(changes))
    assert "/島" in paths(site, later), "a sitemap that is gone takes no page with it"
    assert [f.title for f in failed(later)] == ["サイトマップ"]
    assert not later[-1].complete  # type: ignore[union-attr]


def test_a_calendar_without_end_ends_and_says_so(site: Intranet) -> None:
    for n in range(30):
        site.put(f"/予定?月={n}", html(f'<a href="/予定?月={n + 1}">次</a>'))
        site.put("/a" + "/b/c" * n + "/", html('<a href="b/c/">輪</a>'))
    site.put("/", html('<a href="/予定?月=0">予定</a><a href="/a/">輪</a>'))
    changes = run(site.connector(same_pattern=5))
    months = [p for p in site.asked if p.startswith("/予定")]
    assert len(months) == 5
    assert max(p.count("/b") for p in site.asked) == 2
    (told,) = failed(changes)
    assert "同じ形" in told.reason
    assert isinstance(changes[-1], Checkpoint) and changes[-1].complete


def test_limits_of_depth_and_pages(site: Intranet) -> None:
    for n in range(6):
        site.put(f"/p{n}x", html(f'<a href="/p{n + 1}x">次</a>'))
    site.put("/", html('<a href="/p0x">x</a>'))
    assert paths(site, run(site.connector(depth=2))) == {"/", "/p0x", "/p1x"}
    changes = run(site.connector(pages=3))
    assert paths(site, changes) == {"/", "/p0x", "/p1x"}
    assert "上限" in failed(changes)[0].reason
    site.put("/", html('<a href="/p5x">x</a><a href="/p4x">x</a><a href="/p3x">x</a>'))
    changes = run(site.connector(pages=3), cursor(changes))
    assert paths(site, changes) == {"/", "/p4x", "/p5x", "/p0x", "/p1x"}, "who was there is asked"
    assert isinstance(changes[-1], Checkpoint) and not changes[-1].complete


def test_a_copy_points_to_its_original_and_a_redirect_to_its_end(site: Intranet) -> None:
    site.put(
        "/", html('<a href="印刷">a</a><a href="旧">b</a><a href="正">c</a><a href="迷子">d</a>')
    )
    site.put("/印刷", html("写し", f'<link rel="canonical" href="{site.address("/正")}">'))
    site.put("/迷子", html("原本なし", '<link rel=canonical href="/ない">'))
    site.put("/正", html("原本", f'<link rel="canonical" href="{site.address("/印刷")}">'))
    site.say("/旧", 301, Location=site.address("/正") + "#top")
    first = run(site.connector())
    assert paths(site, first) == {"/", "/正", "/迷子"}
    site.counts.clear()
    assert paths(site, run(site.connector(), cursor(first))) == {"/", "/正", "/迷子"}
    assert site.counts[200] == 1, "what check asks"


def test_what_is_gone_is_removed_and_what_fails_is_kept_with_all_below_it(site: Intranet) -> None:
    site.put("/", html('<a href="目次">a</a><a href="申請書.pdf">b</a>'))
    site.put("/目次", html('<a href="規程/旅費.html">c</a>', title="目次"))
    first = run(site.connector())
    site.say("/目次", 500)
    site.delete("/申請書.pdf")
    second = run(site.connector(), cursor(first))
    assert paths(site, second) == {"/", "/規程/旅費.html"}
    (told,) = failed(second)
    assert (told.uri, told.title, told.transient) == (site.address("/目次"), "目次", True)
    assert told.access == (Layer(frozenset({Principal("group:営業部")})),)
    assert isinstance(second[-1], Checkpoint) and second[-1].complete, "the pdf is gone"
    site.say("/目次", 403)
    assert failed(run(site.connector(), cursor(second)))[0].access == NOBODY
    site.put("/目次", html("空になった"))
    third = run(site.connector(), cursor(second))
    assert paths(site, third) == {"/", "/目次"}, "what nobody links to is no longer there"
    assert isinstance(third[-1], Checkpoint) and third[-1].complete


def test_where_not_all_was_seen_only_what_the_server_denies_is_gone(site: Intranet) -> None:
    first = run(site.connector())
    site.put("/", html('<a href="壊れた">x</a>'))
    site.say("/壊れた", 500)
    site.delete("/申請書.pdf")
    second = run(site.connector(), cursor(first))
    assert [c.uri for c in second if isinstance(c, Remove)] == [site.address("/申請書.pdf")]
    assert paths(site, second) == {"/", "/規程/旅費.html"}
    site.put("/規程/旅費.html", html("隠した", '<meta name="robots" content="noindex">'))
    site.put("/", html('<a href="壊れた">x</a><a href="壊れた2">x</a>'))
    site.say("/壊れた2", 500)
    hidden = run(site.connector(), cursor(second))
    assert [c.uri for c in hidden if isinstance(c, Remove)] == [site.address("/規程/旅費.html")]
    site.put("/", html('<a href="壊れた">x</a>'))
    third = run(site.connector(), cursor(second))
    assert failed(third), "it is told of as long as it fails"
    assert isinstance(third[-1], Checkpoint) and third[-1].complete, "it holds nothing up for ever"


def test_a_server_that_goes_away_in_the_middle_loses_nothing(
    site: Intranet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl, "AWAY", 2)
    first = run(site.connector())
    told: list[Change] = []
    with pytest.raises(SourceUnreachable):
        for change in site.connector().changes(cursor(first)):
            told.append(change)
            site.away = True
    assert not [c for c in told if isinstance(c, Remove)]
    (saved,) = [c for c in told if isinstance(c, Checkpoint)]
    assert not saved.complete
    site.away = False
    site.counts.clear()
    again = list(site.connector().changes(saved.cursor))
    assert cursor(again) == cursor(first)
    assert site.counts == {304: 3, 404: 1}, "and what was seen is not read again"


def test_signing_in_by_a_form_with_its_token_and_again_when_the_session_ran_out(
    site: Intranet,
) -> None:
    site.guarded = "/"
    form = {"sign_in": "form", "user": "ito", "password": PASSWORD, "form_url": f"{site.url}/login"}
    changes = site.connector(**form).changes(None)
    next(changes)
    site.sessions.clear()
    rest = list(changes)
    assert len([c for c in rest if isinstance(c, Upsert)]) == 2
    assert not failed(rest)
    assert [set(p) for p in site.posted] == [{"csrf", "account", "pin"}] * 2
    assert "/elsewhere/home" not in site.asked or "/elsewhere/home" not in paths(site, rest)
    with pytest.raises(SourceDenied, match="サインインできません") as told:
        site.connector(**form | {"password": "chigau-9"}).check()
    assert "chigau-9" not in str(told.value)
    assert len(site.posted) == 3, "a wrong password is sent once"
    site.sessions.clear()
    walk = site.connector(**form)
    started = walk.changes(cursor(rest))
    next(started)
    site.sessions.clear()
    walk._settings.password = "kigengire"
    with pytest.raises(SourceDenied):
        list(started)


def test_a_header_and_a_name_go_to_the_start_and_to_no_other_host(site: Intranet) -> None:
    other = Intranet()
    try:
        site.basic = "Basic aXRvOmhpbWl0c3UtMDQ1MQ=="
        other.put("/", html("隣の部"))
        site.put("/", html(f'<a href="{other.url}/">隣</a>'))
        connector = site.connector(
            within=[site.url, other.url], sign_in="basic", user="ito", password=PASSWORD
        )
        connector.site = type(connector.site)(near=frozenset({site.near, other.near}))
        assert len([c for c in run(connector) if isinstance(c, Upsert)]) == 2
        assert other.asked == ["/robots.txt", "/"]
        assert not [h for h in other.headers if "authorization" in h]
        assert PASSWORD not in repr(connector._settings) + repr(connector._http)
        with pytest.raises(SourceDenied):
            site.connector(sign_in="header", header="X-Key", header_token="1").check()
    finally:
        other.close()


def test_who_may_read_by_place(site: Intranet) -> None:
    by_place = [f"{site.url}/規程 = group:人事部, user:ito"]
    told = {
        c.file.uri: c.file.access
        for c in run(site.connector(readers=by_place))
        if isinstance(c, Upsert)
    }
    assert told[site.address("/規程/旅費.html")] == (
        Layer(frozenset({Principal("group:人事部"), Principal("user:ito")})),
    )
    assert told[site.address("/")] == (Layer(frozenset({Principal("group:営業部")})),)
    with pytest.raises(SourceMisconfigured, match="場所"):
        site.connector(readers=["規程 = everyone"]).check()


@pytest.mark.parametrize(
    ("url", "one"),
    [
        ("HTTP://Intra.Example.CO.JP:80", "http://intra.example.co.jp/"),
        ("http://h/%7eito/%e8%a6%8f?a=1&utm_source=x#top", "http://h/~ito/%E8%A6%8F?a=1"),
        ("http://h/規程/../案内;jsessionid=AB12", "http://h/%E6%A1%88%E5%86%85"),
        ("http://h/a/./b//c/?", "http://h/a/b/c/"),
        ("http://h/a/..", "http://h/"),
        ("http://h/100%", "http://h/100%25"),
        ("http://日本語.jp/", "http://xn--wgv71a119e.jp/"),
        ("http://h/a\\..\\b", ""),
        ("http://h/a%2f..%2fb", ""),
        ("http://h/..%5cb", ""),
        ("http://user@h/", ""),
        ("http://h\t/", ""),
        ("javascript:alert(1)", ""),
        ("http://[::1", ""),
        ("http://h:99999/", ""),
        ("ftp://h/", ""),
        ("http://h/" + "a" * 3000, ""),
    ],
)
def test_a_url_has_one_spelling_or_none(url: str, one: str) -> None:
    assert canonical(url) == one
    assert not one or canonical(one) == one


def test_under_new_settings_nothing_stays_that_was_not_come_by(site: Intranet) -> None:
    """It would keep the readers that it had."""
    site.put("/", html('<a href="壊れた">x</a><a href="規程/旅費.html">y</a>'))
    site.say("/壊れた", 500)
    whole = run(site.connector())[-1]
    assert isinstance(whole, Checkpoint) and whole.complete
    assert crawl.load(whole.cursor)[1] is False
    assert crawl.load(crawl.save({}, anew=True)) == ({}, True), (
        "a walk that broke off does not end it"
    )


def test_the_sign_in_page_of_a_front_controller_is_told_from_its_other_pages() -> None:
    door = "http://h/index.php?page=login"
    assert leads("http://h/index.php?page=login&next=%2F", door)
    assert not leads("http://h/index.php?page=home", door)
    assert not Fence(["http://h/docs/"], {door}).admits("http://h/index.php?page=home")


def test_a_fence_reads_a_redirect_as_its_server_would() -> None:
    fence = Fence(["http://h/docs"])
    assert fence.admits("http://h/docs?page=1")
    assert not any(
        map(
            fence.admits,
            [
                "http://h/docs-2",
                "http://h/docs/%2e%2e/x",
                "http://h/docs/..%2fx",
                "http://h2/docs/",
            ],
        )
    )


def test_robots_txt_by_the_longest_rule() -> None:
    rules = robots.parse(
        b"\xef\xbb\xbfUser-Agent: other\nDisallow: /\n\nuser-agent: KURA\nuser-agent: x\n"
        b"Disallow: /a/ # no\nAllow: /a/b$\nDisallow: /*/old*.html\nDisallow:\nnonsense\n"
    )
    allowed = [
        p
        for p in ("/", "/a/", "/a/b", "/a/bc", "/x/oldest.html", "/x/new.html")
        if rules.allows(f"http://h{p}")
    ]
    assert allowed == ["/", "/a/b", "/x/new.html"]
    assert robots.parse(b"\x00\xff<html>").allows("http://h/")
    assert robots.parse(b"User-agent: *\nDisallow: /" + b"*a" * 500 + b"b").allows(
        "http://h/" + "a" * 1900
    )


@pytest.mark.parametrize(
    "hostile",
    [
        "<!--",
        "<a ",
        "<a x='",
        '<a x="',
        "<script>",
        "</",
        "<a a=",
        "< ",
        "<title>",
        "<a\t\n",
        "<form><input ",
    ],
)
def test_a_hostile_page_costs_one_pass(hostile: str) -> None:
    """Were a step to begin again where another ended, this would take hours."""
    page.read((hostile * 300_000).encode(), "http://h/")


def test_what_a_page_says() -> None:
    body = html(
        "<!-- <a href=no> --><script>'<a href=no2>'</script><A HREF='x?a=1&amp;b=2'>x</A>"
        '<frame src="menu.html"><area href=map>',
        '<base href="/基/"><meta http-equiv=refresh content="0; URL=次.html">',
    )
    told = page.read(body.encode("euc_jp"), "http://h/", "text/html; charset=EUC-JP")
    assert told.links == ["http://h/基/次.html", "http://h/基/x?a=1&b=2", "http://h/基/menu.html", "http://h/基/map"]  # fmt: skip
