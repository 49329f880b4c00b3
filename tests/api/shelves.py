"""One document in each kind of source, on its real server, changed as the people there would.

A step that a source does not have is in `lacks`, one that leaves another document behind in `anew`,
each with the reason: the test leaves that step out, not the source.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from appliance.types import Site
from tests.connectors.descriptors import allow
from tests.connectors.intranet import Intranet, html
from tests.connectors.mariadbs import MariaDb
from tests.connectors.posts import Post, letter
from tests.connectors.redmines import Redmine
from tests.connectors.repositories import Repository
from tests.connectors.rows import QUERY, Rows
from tests.connectors.samba import ITO, SATO, Samba
from tests.connectors.shells import Shell
from tests.connectors.stores import Store
from tests.connectors.test_feed import item, rss
from tests.connectors.test_langchain import KEY, LISTED, NOTICES, lines
from tests.connectors.test_webdav import Share
from tests.connectors.wikis import DokuWiki, MediaWiki
from tests.connectors.wordpresses import WordPress

Settings = dict[str, object]


class Shelf:
    """A source with one document at most; `create` gives it a text that must be found."""

    kind: str
    lacks: ClassVar[Mapping[str, str]] = {}
    anew: ClassVar[Mapping[str, str]] = {}
    missing = ""  # what is said where its documents were
    near: str
    settings: Settings  # nobody is admitted by them

    @property
    def site(self) -> Site:
        return Site(near=frozenset({self.near}))

    def create(self, text: str) -> None:
        raise NotImplementedError

    def change(self, text: str) -> None:
        self.create(text)

    def rename(self, uri: str) -> None:
        raise NotImplementedError

    def move(self, uri: str) -> None:
        raise NotImplementedError

    def delete(self, uri: str) -> None:
        raise NotImplementedError

    def admit(self, who: str) -> Settings:
        """Only `who` reads from now on: ito or sato. What of the settings does it."""
        return {"allow": [f"user:{who}"]}

    def take_away(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """The server is away; twice is once."""


class Paths(Shelf):
    """Whatever names its documents by paths that its users choose."""

    first, renamed, moved = "営業/青山商事.txt", "営業/青山(改).txt", "総務/青山(改).txt"

    def __init__(self, server: Any) -> None:
        self.server = server
        self.kind, self.missing = server.kind, server.missing

    @property
    def near(self) -> str:  # type: ignore[override]
        return str(self.server.near)

    @property
    def settings(self) -> Settings:  # type: ignore[override]
        return dict(self.server.settings)

    def create(self, text: str) -> None:
        self.server.put(self.first, text)

    def rename(self, uri: str) -> None:
        self.server.move(self.first, self.renamed)

    def move(self, uri: str) -> None:
        self.server.move(self.renamed, self.moved)

    def delete(self, uri: str) -> None:
        self.server.delete(self.moved)

    def take_away(self) -> None:
        self.server.take_away()

    def close(self) -> None:
        self.server.close()


class Dav(Paths):
    anew: ClassVar[Mapping[str, str]] = {
        "rename": "plain WebDAV has no number that a file keeps, as Nextcloud has",
        "move": "plain WebDAV has no number that a file keeps, as Nextcloud has",
    }

    def __init__(self, folder: Path) -> None:
        (folder / "root").mkdir()
        super().__init__(Share(folder / "root"))


class Doku(Paths):
    first, renamed, moved = "営業/青山商事", "営業/青山_改", "総務/青山_改"

    def change(self, text: str) -> None:
        """As the wiki writes it: later than what it keeps of the page as HTML."""
        self.create(text)
        later = time.time() + 2
        os.utime(self.server.folder / f"data/pages/{self.first}.txt", (later, later))


class Disk(Shelf):
    """A folder of this machine, as NFS mounts it too."""

    kind, missing, near = "folder", "が見えません", "none:1"
    lacks: ClassVar[Mapping[str, str]] = {"close": "a folder has no server"}

    def __init__(self, folder: Path) -> None:
        self.root = folder / "棚"
        (self.root / "営業").mkdir(parents=True)
        self.settings = {"root": str(self.root)}

    def create(self, text: str) -> None:
        (self.root / Paths.first).write_text(text, "utf-8")

    def rename(self, uri: str) -> None:
        (self.root / uri).rename(self.root / Paths.renamed)

    def move(self, uri: str) -> None:
        (self.root / "総務").mkdir()
        (self.root / uri).rename(self.root / Paths.moved)

    def delete(self, uri: str) -> None:
        (self.root / uri).unlink()

    def take_away(self) -> None:
        self.root.rename(self.root.parent / "away")


class Windows(Disk):
    """A share of a file server, whose own permissions decide."""

    kind, missing = "smb", "がありません"
    lacks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, samba: Samba) -> None:
        self.samba, self.share = samba, samba.share()
        self.root, self.who = self.share.root, ITO
        self.settings = self.share.settings | {"access_minutes": 0}
        (self.near,) = self.share.near

    def create(self, text: str) -> None:
        self.share.write(Paths.first, text, allow(self.who))

    def admit(self, who: str) -> Settings:
        self.who = {"ito": ITO, "sato": SATO}[who]
        for path in self.root.rglob("*.txt"):
            self.share.permit(str(path.relative_to(self.root)), allow(self.who))
        return {}

    def take_away(self) -> None:
        self.root.rename(self.root.with_name(f"{self.root.name}-away"))

    def close(self) -> None:
        self.samba.stop()


class Ledger(Shelf):
    """A table in a file of SQLite."""

    kind, missing, near = "sql", "no such table", "none:1"
    lacks: ClassVar[Mapping[str, str]] = {"close": "a file has no server"}

    def __init__(self, folder: Path) -> None:
        self.path = folder / "台帳.db"
        self.execute("CREATE TABLE 案件 (番号, 件名, 本文, 更新, 部署)")
        self.settings = {
            "url": f"sqlite:///{self.path}",
            "query": QUERY,
            "id_columns": ["番号"],
            "title": "{件名}",
            "body": "# {件名}\n\n{本文}",
        }

    def execute(self, statement: str, *values: str) -> None:
        with sqlite3.connect(self.path) as db:
            db.execute(statement, values)
        db.close()

    def create(self, text: str) -> None:
        self.execute("DELETE FROM 案件")
        row = (Paths.first, "青山商事", text)
        self.execute("INSERT INTO 案件 VALUES (?, ?, ?, '2026-04-01', '')", *row)

    def rename(self, uri: str) -> None:
        self.execute("UPDATE 案件 SET 番号 = ?", Paths.renamed)

    def move(self, uri: str) -> None:
        self.execute("UPDATE 案件 SET 番号 = ?", Paths.moved)

    def delete(self, uri: str) -> None:
        self.execute("DELETE FROM 案件")

    def take_away(self) -> None:
        self.execute("ALTER TABLE 案件 RENAME TO 昔の案件")


class Tracker(Shelf):
    """An issue of Redmine, whose roles decide. The server is everybody's, and stays."""

    kind = "redmine"
    lacks: ClassVar[Mapping[str, str]] = {
        "close": "one Redmine serves all tests: it takes long to start"
    }
    missing = "チケットを断りました|REST API|サインインできません|権限"

    def __init__(self, redmine: Redmine) -> None:
        self.redmine, self.near = redmine, redmine.near
        self.settings = {
            "url": redmine.url,
            "api_key": redmine.key,
            "projects": ["eigyo", "soumu"],
        }
        redmine.do("""
            Project.create!(name: "総務", identifier: "soumu", is_public: false,
              enabled_module_names: %w[issue_tracking], tracker_ids: [1])
            %w[ito sato].each { |login| $user.call(login) }
        """)

    def create(self, text: str) -> None:
        self.redmine.do(f'$issue.call(Project.find("eigyo"), "青山商事", description: "{text}").id')

    def change(self, text: str) -> None:
        self._update(f'description: "{text}"')

    def rename(self, uri: str) -> None:
        self._update('subject: "青山商事 (改)"')

    def move(self, uri: str) -> None:
        self._update('project: Project.find("soumu")')

    def _update(self, what: str) -> None:
        self.redmine.do(f'$at.call(Issue.last, "", {what})')

    def delete(self, uri: str) -> None:
        self.redmine.do("Issue.last.destroy")

    def admit(self, who: str) -> Settings:
        self.redmine.do(f"""
            Member.all.to_a.each(&:destroy)
            %w[eigyo soumu].each {{ |name| $member.call(Project.find(name), User.find_by_login("{who}"), 3) }}
        """)
        return {}

    def take_away(self) -> None:
        self.redmine.do('Setting.rest_api_enabled = "0"')


class Portal(Shelf):
    """A page of WordPress; its address is its number, wherever it stands."""

    kind, missing = "wordpress", WordPress.missing

    def __init__(self, folder: Path) -> None:
        self.database = MariaDb()
        self.wordpress = WordPress(folder / "site", self.database)
        self.near = self.wordpress.near
        self.settings = {
            "url": self.wordpress.url,
            "user": "yomu",
            "password": self.wordpress.passwords["yomu"],
        }

    def create(self, text: str) -> None:
        self.uri = self.wordpress.post("青山商事", f"<p>{text}</p>", "pages")

    def change(self, text: str) -> None:
        self.wordpress.change(self.uri, content=f"<p>{text}</p>")

    def rename(self, uri: str) -> None:
        self.wordpress.change(self.uri, title="青山商事 (改)", slug="aoyama-kai")

    def move(self, uri: str) -> None:
        above = self.wordpress.post("総務", "<p>総務の頁。</p>", "pages")
        self.wordpress.change(self.uri, parent=int(above.split("/")[1]))

    def delete(self, uri: str) -> None:
        self.wordpress.delete(self.uri)

    def take_away(self) -> None:
        self.wordpress.take_away()

    def close(self) -> None:
        self.wordpress.close()
        self.database.close()


class Mailbox(Shelf):
    kind = "imap"
    lacks: ClassVar[Mapping[str, str]] = {
        "change": "a mail is never changed",
        "rename": "a mail has no name that is another's to change",
        "take_away": "a mailbox is gone with its account",
    }

    def __init__(self, folder: Path) -> None:
        self.post = Post()
        self.near, self.settings = self.post.near, dict(self.post.settings)
        self.closed = False

    @property
    def site(self) -> Site:
        return self.post.site

    def create(self, text: str) -> None:
        self.post.put("INBOX", letter("青山商事", text))

    def move(self, uri: str) -> None:
        self.post.move(uri, "処理済み")

    def delete(self, uri: str) -> None:
        self.post.delete(uri)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.post.close()


class Pages(Shelf):
    """A page of the intranet that another one leads to."""

    kind, missing = "web", "がありません"
    anew: ClassVar[Mapping[str, str]] = {
        "rename": "a page is its address",
        "move": "a page is its address",
    }

    def __init__(self, folder: Path) -> None:
        self.intranet, self.at, self.text = Intranet(), "/営業/青山商事.html", ""
        self.near = self.intranet.near
        self.settings = {"start": [f"{self.intranet.url}/"], "per_second": 0}
        self.closed = False

    def create(self, text: str) -> None:
        self.text = text
        self.intranet.put("/", html(f'<a href="{self.at}">一覧</a>', title="入口"))
        self.intranet.put(self.at, html(f"<p>{text}</p>", title="青山商事"))

    def _elsewhere(self, at: str) -> None:
        self.intranet.delete(self.at)
        self.at = at
        self.create(self.text)

    def rename(self, uri: str) -> None:
        self._elsewhere("/営業/青山-改.html")

    def move(self, uri: str) -> None:
        self._elsewhere("/総務/青山-改.html")

    def delete(self, uri: str) -> None:
        self.intranet.delete(self.at)

    def take_away(self) -> None:
        self.intranet.delete("/")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.intranet.close()


class News(Pages):
    """An item of a feed."""

    kind = "feed"
    anew: ClassVar[Mapping[str, str]] = {}
    lacks: ClassVar[Mapping[str, str]] = {
        "move": "an item is in its feed",
        "delete": "what fell out of a feed is kept: it was published",
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = {"urls": [f"{self.intranet.url}/news.xml"], "per_second": 0}

    def create(self, text: str) -> None:
        self.text = text
        self.intranet.put("/news.xml", rss(item(1, text)))

    def rename(self, uri: str) -> None:
        said = rss(item(1, self.text)).replace("お知らせ 1", "青山商事 (改)")
        self.intranet.put("/news.xml", said)

    def take_away(self) -> None:
        self.intranet.delete("/news.xml")


class Loader(Shelf):
    """A document that a loader of LangChain gives."""

    kind, missing, near = "langchain", "ローダーが失敗しました", "none:1"
    lacks: ClassVar[Mapping[str, str]] = {
        "close": "what a loader asks is its own affair",
    }
    anew: ClassVar[Mapping[str, str]] = {
        "rename": "a loader says where a document is, and nothing else",
        "move": "a loader says where a document is, and nothing else",
    }

    def __init__(self, folder: Path) -> None:
        self.path, self.at, self.text = folder / "知らせ.jsonl", Paths.first, ""
        self.settings = {
            "loader": NOTICES,
            "arguments": json.dumps({"path": str(self.path)}),
            "secret_arguments": json.dumps({"key": KEY}),
        }

    @property
    def site(self) -> Site:
        return replace(super().site, loaders=LISTED)

    def create(self, text: str) -> None:
        self.text = text
        self.path.write_text(lines({"text": text, "source": self.at}), "utf-8")

    def rename(self, uri: str) -> None:
        self.at = Paths.renamed
        self.create(self.text)

    def move(self, uri: str) -> None:
        self.at = Paths.moved
        self.create(self.text)

    def delete(self, uri: str) -> None:
        self.path.write_text("", "utf-8")

    def take_away(self) -> None:
        self.path.unlink()


# Those of None need a server that is started once for all: the fixture of that name.
SHELVES: dict[str, Callable[[Path], Shelf] | None] = {
    "folder": Disk,
    "smb": None,
    "sftp": lambda folder: Paths(Shell(folder / "sshd")),
    "webdav": Dav,
    "s3": lambda folder: Paths(Store()),
    "imap": Mailbox,
    "mediawiki": lambda folder: Paths(MediaWiki(folder)),
    "dokuwiki": lambda folder: Doku(DokuWiki(folder / "wiki")),
    "redmine": None,
    "wordpress": Portal,
    "postgresql": lambda folder: Paths(Rows()),
    "mariadb": lambda folder: Paths(MariaDb()),
    "sqlite": Ledger,
    "git": lambda folder: Paths(Repository(folder)),
    "web": Pages,
    "feed": News,
    "langchain": Loader,
}
