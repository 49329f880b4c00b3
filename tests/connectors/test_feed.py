"""Feeds over HTTP, of the three kinds that there are and of some that there should not be."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from appliance.errors import SourceBusy, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import Change, Checkpoint, Cursor, Failed, RawFile, Site, Upsert
from connectors import feed, http
from connectors.feed import FeedConnector, FeedSettings
from tests.connectors.intranet import Intranet, html


def rss(*items: str) -> str:
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>総務</title>{"".join(items)}</channel></rss>'


def item(number: int, text: str, link: str = "") -> str:
    return (
        f"<item><title>お知らせ {number}</title><guid>n{number}</guid><link>{link}</link>"
        f"<media:title xmlns:media='m'>別</media:title><description>&lt;p&gt;{text}&lt;/p&gt;</description>"
        f"<pubDate>Wed, 0{number} Apr 2026 09:00:00 +0900</pubDate></item>"
    )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Intranet]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = Intranet()
    one.put("/news.xml", rss(item(1, "停電は3日。"), item(2, "健診は5日。")), "application/rss+xml")
    yield one
    one.close()


def connector(site: Intranet, *feeds: str, **more: object) -> FeedConnector:
    urls = [site.url + one for one in feeds or ("/news.xml",)]
    said = {"urls": urls, "allow": ["everyone"], "per_second": 0}
    return FeedConnector(
        FeedSettings.model_validate(said | more), Site(near=frozenset({site.near}))
    )


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, site: Intranet) -> FeedConnector:
        return connector(site)


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.title: c.file for c in changes if isinstance(c, Upsert)}


def text(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(one: FeedConnector, since: Cursor | None = None) -> tuple[list[Change], Cursor]:
    one.check()
    changes = list(one.changes(since))
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete
    return changes, changes[-1].cursor


def test_what_falls_out_stays_for_some_days_and_what_changed_is_another_version(
    site: Intranet,
) -> None:
    first, cursor = run(connector(site))
    assert told(first)["お知らせ 1"].modified_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert "停電は3日" in text(told(first)["お知らせ 1"])
    assert "停電" not in zlib.decompress(base64.b64decode(cursor)).decode()

    site.put("/news.xml", rss(item(2, "健診は6日に変わりました。"), item(3, "棚卸し。")))
    second, cursor = run(connector(site), cursor)
    assert set(told(second)) == {"お知らせ 1", "お知らせ 2", "お知らせ 3"}
    versions = [{t: f.version for t, f in told(some).items()} for some in (first, second)]
    assert versions[0]["お知らせ 1"] == versions[1]["お知らせ 1"]
    assert versions[0]["お知らせ 2"] != versions[1]["お知らせ 2"]
    with pytest.raises(SourceUnreachable, match="フィードから消えた"):
        text(told(second)["お知らせ 1"])

    third, same = run(connector(site), cursor)
    assert (set(told(third)), same) == (set(told(second)), cursor)
    assert "棚卸し" in text(told(third)["お知らせ 3"]), "read anew, where it is only remembered"
    assert set(told(run(connector(site, keep_days=0), cursor)[0])) == {"お知らせ 2", "お知らせ 3"}


def test_it_goes_when_its_days_are_over(site: Intranet, monkeypatch: pytest.MonkeyPatch) -> None:
    _, cursor = run(connector(site))
    site.put("/news.xml", rss(item(2, "健診は5日。")))
    _, cursor = run(connector(site), cursor)

    class Later(datetime):
        days = 29

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=cls.days)

    monkeypatch.setattr(feed, "datetime", Later)
    assert "お知らせ 1" in told(run(connector(site, keep_days=30), cursor)[0])
    Later.days = 31
    assert "お知らせ 1" not in told(run(connector(site, keep_days=30), cursor)[0])


def test_an_unchanged_feed_costs_a_304(site: Intranet) -> None:
    first, cursor = run(connector(site))
    site.counts.clear()
    second = list(connector(site).changes(cursor))
    assert site.counts == {304: 1}
    versions = [{t: f.version for t, f in told(some).items()} for some in (first, second)]
    assert versions[0] == versions[1]


def test_a_feed_that_is_away_keeps_its_entries_and_stops_no_other(site: Intranet) -> None:
    site.put("/b.xml", rss(item(4, "別の部の知らせ")))
    _, cursor = run(connector(site, "/news.xml", "/b.xml"))
    site.say("/news.xml", 500)
    changes, after = run(connector(site, "/news.xml", "/b.xml"), cursor)
    assert set(told(changes)) == {"お知らせ 1", "お知らせ 2", "お知らせ 4"}
    assert [c.transient for c in changes if isinstance(c, Failed)] == [True]
    assert after == cursor
    site.say("/b.xml", 404)
    with pytest.raises(SourceBusy, match="混み合って"):
        connector(site, "/news.xml", "/b.xml").check()


def test_rss_1_and_atom(site: Intranet) -> None:
    site.put(
        "/1.rdf",
        (
            '<?xml version="1.0" encoding="EUC-JP"?><rdf:RDF xmlns="http://purl.org/rss/1.0/" '
            'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            '<channel rdf:about="x"/><item rdf:about="http://h/r1"><title>規程の改正</title><link>http://h/r1</link>'
            "<description>旅費</description><dc:date>2026-04-01T09:00:00+09:00</dc:date></item></rdf:RDF>"
        ).encode("euc_jp"),
    )
    site.put(
        "/a.xml",
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>tag:h,2026:1</id><title type="html">A&amp;amp;B</title>'
        '<link rel="self" href="s"/><link href="/一"/><updated>2026-04-02T00:00:00Z</updated>'
        '<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>一割</p>引き</div></content></entry>'
        "<entry><id>2</id><title>二</title><summary>1 &lt; 2</summary></entry></feed>",
    )  # fmt: skip
    files = told(run(connector(site, "/1.rdf", "/a.xml"))[0])
    assert files["規程の改正"].uri == "http://h/r1"
    assert files["規程の改正"].modified_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert "<p>一割</p>引き" in text(files["A&B"])
    assert site.address("/一") in text(files["A&B"])
    assert files["A&B"].uri == "tag:h,2026:1"
    assert "1 &lt; 2" in text(files["二"])
    assert files["二"].uri == f"{site.url}/a.xml#2"


def test_the_linked_page_is_read_where_it_may_be(site: Intranet) -> None:
    other = Intranet()
    try:
        other.put("/x", html("よその頁"))
        links = [
            site.address("/全文"),
            f"{other.url}/x",
            site.address("/転送"),
            site.address("/ない"),
        ]
        items = [item(n, f"要約{n}", link) for n, link in enumerate(links, 1)]
        site.put("/news.xml", rss(*items))
        site.put("/全文", html("停電の全文"))
        site.say("/転送", 302, Location=f"{other.url}/x")
        files = told(run(connector(site, linked=True))[0])
        assert "停電の全文" in text(files["お知らせ 1"])
        assert [f"要約{n}" in text(files[f"お知らせ {n}"]) for n in (2, 3, 4)] == [True] * 3
        assert not other.asked
    finally:
        other.close()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html></html>", b"\x00\xff", b"{}", b"<rss", b"<rss>&nbsp;</rss>",
        b"<a>" * 5000, b'<?xml version="1.0" encoding="utf-16"?><rss/>',
    ],
)  # fmt: skip
def test_what_is_no_feed_is_said_to_be_none(site: Intranet, body: bytes) -> None:
    site.put("/news.xml", body)
    with pytest.raises(SourceMisconfigured, match="RSS でも Atom でもありません"):
        connector(site).check()


def test_an_entity_is_neither_fetched_nor_multiplied(site: Intranet) -> None:
    site.put("/canary", "himitsu-0451")
    named = f'<!ENTITY e0 "himitsu-0451"><!ENTITY f SYSTEM "{site.url}/canary">'
    named += '<!ENTITY g SYSTEM "file:///etc/passwd">'
    news = rss(item(1, "a&e0;&f;&g;b")).partition("?>")[2]
    site.put("/news.xml", f"<!DOCTYPE rss [{named}]>{news}")
    said = text(told(run(connector(site))[0])["お知らせ 1"])
    assert "himitsu" not in said
    assert "root:" not in said
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
    news = rss(item(1, "a&e8;b")).partition("?>")[2]
    site.put("/news.xml", f"<!DOCTYPE rss [{named}{bomb}]>{news}")
    with pytest.raises(SourceMisconfigured):
        connector(site).check()
    assert "/canary" not in site.asked
