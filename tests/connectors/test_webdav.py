"""WebDAV against a real server (WsgiDAV), and against one that answers as it likes."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Failed,
    Layer,
    Moved,
    Principal,
    Site,
    Upsert,
)
from connectors.webdav import WebDavConnector, WebDavSettings
from tests.connectors.test_http import Server, says

ALLOW = ["group:営業部"]


class Share:
    """A folder served by WsgiDAV under /共有/, to ito alone."""

    kind, missing = "webdav", "/共有/ がありません"

    def __init__(self, root: Path) -> None:
        self.root = root
        app = WsgiDAVApp(
            {
                "provider_mapping": {"/共有": str(root)},
                "http_authenticator": {
                    "accept_basic": True,
                    "accept_digest": False,
                    "default_to_digest": False,
                },
                "simple_dc": {"user_mapping": {"*": {"ito": {"password": "himitsu"}}}},
                "verbose": 0,
                "logging": {"enable": False},
                "lock_storage": False,
                "property_manager": False,
            }
        )
        self.server = wsgi.Server(("127.0.0.1", 0), app, numthreads=2)
        self.server.prepare()
        self.port = self.server.bind_addr[1]
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()

    @property
    def near(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, object]:
        return {
            "url": f"http://{self.near}/共有",
            "user": "ito",
            "password": "himitsu",
            "allow": ALLOW,
        }

    def connector(self, **more: object) -> WebDavConnector:
        site = Site(near=frozenset({self.near}))
        return WebDavConnector(WebDavSettings.model_validate(self.settings | more), site)

    def put(self, uri: str, text: str) -> None:
        (self.root / uri).parent.mkdir(parents=True, exist_ok=True)
        (self.root / uri).write_text(text, "utf-8")

    def move(self, uri: str, to: str) -> None:
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / uri).rename(self.root / to)

    def delete(self, uri: str) -> None:
        (self.root / uri).unlink()

    def take_away(self) -> None:
        self.root.rename(self.root.parent / "away")

    def close(self) -> None:
        self.server.stop()  # twice is once
        self.thread.join()


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Share]:
    root = tmp_path / "root"
    (root / "規程 #1/旧").mkdir(parents=True)
    (root / "規程 #1/旅費 100%.txt").write_text("宿泊費は12,000円。", "utf-8")
    (root / "規程 #1/旧/就業規則.txt").write_text("始業は9時。", "utf-8")
    (root / "案内&手順;1.txt").write_text("受付は1階。", "utf-8")
    (root / "~$開いている.txt").write_text("x", "utf-8")
    one = Share(root)
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, share: Share) -> WebDavConnector:
        return share.connector()


def files(changes: list[Change]) -> dict[str, str]:
    found = {}
    for change in changes:
        if isinstance(change, Upsert):
            with change.file.open() as stream:
                found[change.file.uri] = stream.read().decode()
    return found


def test_everything_below_is_listed_with_whom_the_administrator_admits(share: Share) -> None:
    changes = list(share.connector().changes(None))
    assert files(changes) == {
        "規程 #1/旅費 100%.txt": "宿泊費は12,000円。",
        "規程 #1/旧/就業規則.txt": "始業は9時。",
        "案内&手順;1.txt": "受付は1階。",
    }
    one = next(c.file for c in changes if isinstance(c, Upsert))
    assert one.access == (Layer(frozenset({Principal("group:営業部")})),)
    assert one.size_bytes and one.modified_at.year >= 2026
    assert all(
        c.file.access == NOBODY
        for c in share.connector(allow=[]).changes(None)
        if isinstance(c, Upsert)
    )


def test_a_changed_file_has_another_version_and_what_is_gone_is_not_mentioned(share: Share) -> None:
    first = list(share.connector().changes(None))
    (share.root / "案内&手順;1.txt").write_text("受付は2階に移りました。", "utf-8")
    (share.root / "規程 #1/旧/就業規則.txt").unlink()
    last = first[-1]
    assert isinstance(last, Checkpoint)
    second = list(share.connector().changes(last.cursor))
    versions = [
        {c.file.uri: c.file.version for c in some if isinstance(c, Upsert)}
        for some in (first, second)
    ]
    assert "規程 #1/旧/就業規則.txt" not in versions[1]
    changed = {uri for uri, version in versions[1].items() if version != versions[0][uri]}
    assert changed == {"案内&手順;1.txt"}
    assert second[-1] == Checkpoint(second[-1].cursor, complete=True)  # type: ignore[union-attr]


def test_a_change_in_the_second_of_the_last_one_is_seen(share: Share) -> None:
    """Its ETags have whole seconds: none of two writes in one may be read between them."""
    versions = []
    for text in ("宿泊費は一万円。", "宿泊費は二万円。", "宿泊費は三万円。"):
        share.put("規程 #1/旅費 100%.txt", text)
        one = share.connector().file("規程 #1/旅費 100%.txt")
        with one.open() as stream:
            assert stream.read().decode() == text
        versions.append(one.version)
    assert len(set(versions)) == 3


def test_a_file_written_after_it_was_listed_is_busy_not_mixed(share: Share) -> None:
    one = next(c.file for c in share.connector().changes(None) if isinstance(c, Upsert))
    (share.root / one.uri).write_text("別の文章になりました", "utf-8")
    with pytest.raises(SourceBusy, match="書き込み中"):
        one.open()


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": "x"}, SourceDenied, "サインイン"),
        ({"url": "http://127.0.0.1:{port}/ない/"}, SourceMisconfigured, "ありません"),
        (
            {"url": "http://127.0.0.1:{port}/共有/案内&手順;1.txt"},
            SourceMisconfigured,
            "フォルダーではありません",
        ),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"url": "ftp://127.0.0.1/"}, SourceMisconfigured, "URL"),
    ],
)
def test_a_wrong_setting_is_told(
    share: Share, wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    given = {k: v.format(port=share.port) if isinstance(v, str) else v for k, v in wrong.items()}
    with pytest.raises(error, match=words) as told:
        share.connector(**given).check()
    assert "himitsu" not in str(told.value)


# --- a server that answers as it likes --------------------------------------------


def listing(*entries: tuple[str, str, str]) -> bytes:
    """(href, fileid, etag); one that ends in a slash is a folder."""
    said = []
    for href, same, etag in entries:
        kind = "<d:collection/>" if href.endswith("/") else ""
        said.append(
            f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>"
            f"<d:getetag>{etag}</d:getetag><oc:fileid>{same}</oc:fileid></d:prop>"
            "<d:status>HTTP/1.1 200 OK</d:status></d:propstat><d:propstat><d:prop><d:getcontenttype>text/html"
            "</d:getcontenttype></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>"
        )
    return (
        f'<d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">{"".join(said)}</d:multistatus>'
    ).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def over(server: Server) -> WebDavConnector:
    settings = WebDavSettings(url=server.url + "/dav/", allow=ALLOW)
    return WebDavConnector(settings, Site(near=frozenset({server.near})))


def test_a_move_is_known_by_the_id_of_the_file(server: Server) -> None:
    root = ("/dav/", "1", "a")
    server.answers = {"/dav/": says(listing(root, ("/dav/a.txt", "7", "e1")), 207)}
    first = list(over(server).changes(None))
    server.answers = {
        "/dav/": says(listing(root, ("/dav/%E6%96%B0%e3%81%97%E3%81%84.txt", "7", "e1")), 207)
    }
    moved, upsert, last = over(server).changes(first[-1].cursor)  # type: ignore[union-attr]
    assert isinstance(moved, Moved) and (moved.old_uri, moved.uri) == ("a.txt", "新しい.txt")
    assert isinstance(upsert, Upsert) and isinstance(last, Checkpoint)
    assert upsert.file.media_type is None, "what was not found is not said"


def test_what_leads_out_or_round_is_not_followed(server: Server) -> None:
    server.answers = {
        "/dav/": says(
            listing(
                ("/dav/", "1", "a"),
                ("/dav/../etc/", "2", "a"),
                ("/other/x.txt", "3", "a"),
                ("http://evil.example/dav/y.txt", "4", "a"),
                ("/dav/%2e%2e/z.txt", "5", "a"),
                ("/dav/sub/", "6", "a"),
            ),
            207,
        ),
        "/dav/sub/": says(
            listing(("/dav/sub/", "6", "a"), ("/dav/", "1", "a"), ("/dav/sub/k.txt", "8", "a")), 207
        ),
    }
    found = [c.file.uri for c in over(server).changes(None) if isinstance(c, Upsert)]
    assert found == ["y.txt", "sub/k.txt"]
    assert [path for path, _ in server.asked] == ["/dav/", "/dav/sub/"]


def test_a_folder_that_does_not_open_hides_no_other_and_deletes_nothing(server: Server) -> None:
    server.answers = {
        "/dav/": says(
            listing(("/dav/", "1", "a"), ("/dav/sub/", "6", "a"), ("/dav/b.txt", "9", "a")), 207
        ),
        "/dav/sub/": says(status=403),
    }
    changes = list(over(server).changes(None))
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["sub/"]
    assert [c.file.uri for c in changes if isinstance(c, Upsert)] == ["b.txt"]
    assert isinstance(changes[-1], Checkpoint) and not changes[-1].complete


def test_xml_that_calls_for_more_is_not_obeyed(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("himitsu")
    body = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>'.encode() + listing(
        ("/dav/", "1", "a"), ("/dav/&e;.txt", "2", "a")
    )
    server.answers = {"/dav/": says(body, 207)}
    assert "himitsu" not in repr(list(over(server).changes(None)))
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    server.answers = {
        "/dav/": says(f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><x>&l11;</x>'.encode(), 207)
    }
    with pytest.raises(SourceUnreachable, match="一覧を読めません"):
        list(over(server).changes(None))


def test_a_page_instead_of_a_listing_is_told(server: Server) -> None:
    server.answers = {"/dav/": says(b"<html>sign in</html>", 200)}
    with pytest.raises(SourceMisconfigured, match="WebDAV ではありません"):
        over(server).check()


def test_the_whole_file_is_what_is_read(server: Server) -> None:
    big = b"0123456789" * 300_000
    server.answers = {"/dav/": says(listing(("/dav/", "1", "a"), ("/dav/b.bin", "9", "a")), 207)}
    one = next(c.file for c in over(server).changes(None) if isinstance(c, Upsert))

    def answer(handler: object) -> None:
        propfind = handler.command == "PROPFIND"  # type: ignore[attr-defined]
        says(listing(("/dav/b.bin", "9", "a")), 207)(handler) if propfind else says(big)(handler)  # type: ignore[arg-type]

    server.answers["/dav/b.bin"] = answer
    with one.open() as stream:
        assert io.BytesIO(stream.read()).getvalue() == big
