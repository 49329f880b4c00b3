"""Sources of some dozens of documents behind a proxy, each known by the number in its text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from tests.connectors.intranet import Intranet, html
from tests.connectors.rows import Rows
from tests.connectors.shells import Shell
from tests.connectors.stores import Store
from tests.connectors.test_http import certificate
from tests.connectors.test_webdav import Share
from tests.faults.between import HTTP, TCP, HttpProxy, Pipe


class Place:
    """`put` and `drop` are by a number; the text is whatever must be found in it."""

    kind: str
    faults: ClassVar[tuple[str, ...]] = ()
    proxy: HttpProxy | Pipe | None = None
    near: str = "none:1"
    ca_file: Path | None = None
    settings: dict[str, object]
    answers = 3  # requests, or kilobytes, of a run in which little happened

    def put(self, number: int, text: str) -> None:
        raise NotImplementedError

    def drop(self, number: int) -> None:
        raise NotImplementedError

    def hide(self) -> None:
        """It answers, and shows nothing: not mounted, or a permission that was lost."""
        raise NotImplementedError

    def show(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if self.proxy:
            self.proxy.close()


def path(number: int) -> str:
    return f"部署{number % 4}/規程 第{number}号.txt"


class Disk(Place):
    kind = "folder"
    faults: ClassVar[tuple[str, ...]] = ("nothing shown",)

    def __init__(self, folder: Path) -> None:
        self.root = folder / "棚"
        self.root.mkdir()
        self.settings = {"root": str(self.root)}

    def put(self, number: int, text: str) -> None:
        at = self.root / path(number)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text, "utf-8")

    def drop(self, number: int) -> None:
        (self.root / path(number)).unlink()

    def hide(self) -> None:
        self.root.rename(self.root.with_name("よそ"))
        self.root.mkdir()

    def show(self) -> None:
        self.root.rmdir()
        self.root.with_name("よそ").rename(self.root)


class Dav(Disk):
    """WebDAV over TLS."""

    kind = "webdav"
    faults: ClassVar[tuple[str, ...]] = (*HTTP, "half page", "wrong TLS", "nothing shown")
    answers = 8

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.share = Share(self.root)
        (folder / "よその証明書").mkdir()
        self.ca_file = certificate(folder, "localhost")
        stranger = certificate(folder / "よその証明書", "localhost")
        self.proxy = HttpProxy(self.share.port, self.ca_file, stranger)
        self.near = f"localhost:{self.proxy.port}"
        self.settings = self.share.settings | {"url": f"https://{self.near}/共有"}

    def close(self) -> None:
        super().close()
        self.share.close()


class Bucket(Place):
    kind = "s3"
    faults: ClassVar[tuple[str, ...]] = (*HTTP, "half page", "repeated page", "nothing shown")
    answers = 6

    def __init__(self, folder: Path) -> None:
        self.store, self.held = Store(), dict[str, str]()
        self.proxy = HttpProxy(self.store.port)
        self.near = f"127.0.0.1:{self.proxy.port}"
        self.settings = self.store.settings | {"endpoint": f"http://{self.near}"}

    def put(self, number: int, text: str) -> None:
        self.held[path(number)] = text
        self.store.put(path(number), text)

    def drop(self, number: int) -> None:
        del self.held[path(number)]
        self.store.delete(path(number))

    def hide(self) -> None:
        for key in self.held:
            self.store.delete(key)

    def show(self) -> None:
        for key, text in self.held.items():
            self.store.put(key, text)

    def close(self) -> None:
        super().close()
        self.store.close()


class Pages(Place):
    kind = "web"
    faults: ClassVar[tuple[str, ...]] = (*HTTP, "nothing shown")
    answers = 30

    def __init__(self, folder: Path) -> None:
        self.intranet, self.numbers = Intranet(), set[int]()
        self.proxy = HttpProxy(int(self.intranet.near.rpartition(":")[2]))
        self.near = f"127.0.0.1:{self.proxy.port}"
        self.settings = {"start": [f"http://{self.near}/"], "per_second": 0}

    def put(self, number: int, text: str) -> None:
        self.numbers.add(number)
        self.intranet.put(f"/{number}.html", html(f"<p>{text}</p>", title=f"第{number}号"))
        self._lead()

    def drop(self, number: int) -> None:
        self.numbers.remove(number)
        self.intranet.delete(f"/{number}.html")
        self._lead()

    def _lead(self) -> None:
        links = "".join(f'<a href="/{n}.html">第{n}号</a>' for n in sorted(self.numbers))
        self.intranet.put("/", html(links, title="入口"))

    def hide(self) -> None:
        self.intranet.put("/", html("メンテナンス中です。", title="入口"))

    def show(self) -> None:
        self._lead()

    def close(self) -> None:
        super().close()
        self.intranet.close()


class Remote(Place):
    kind = "sftp"
    faults: ClassVar[tuple[str, ...]] = (*TCP, "nothing shown")
    answers = 8

    def __init__(self, folder: Path) -> None:
        self.shell = Shell(folder / "sshd")
        self.proxy = Pipe(self.shell.port)
        self.near = f"127.0.0.1:{self.proxy.port}"
        self.settings = self.shell.settings | {"port": self.proxy.port}

    def put(self, number: int, text: str) -> None:
        self.shell.put(path(number), text)

    def drop(self, number: int) -> None:
        self.shell.delete(path(number))

    def hide(self) -> None:
        self.shell.root.rename(self.shell.folder / "よそ")
        self.shell.root.mkdir()

    def show(self) -> None:
        shutil.rmtree(self.shell.root)
        (self.shell.folder / "よそ").rename(self.shell.root)

    def close(self) -> None:
        super().close()
        self.shell.close()


class Table(Place):
    kind = "sql"
    faults: ClassVar[tuple[str, ...]] = (*TCP, "nothing shown")
    answers = 4

    def __init__(self, folder: Path) -> None:
        self.rows = Rows()
        self.proxy = Pipe(self.rows.port)
        self.near = f"localhost:{self.proxy.port}"
        self.settings = self.rows.settings | {
            "url": f"postgresql://localhost:{self.proxy.port}/台帳"
        }

    def put(self, number: int, text: str) -> None:
        self.rows.put(path(number), text)

    def drop(self, number: int) -> None:
        self.rows.delete(path(number))

    def hide(self) -> None:
        self.rows.execute("CREATE TABLE よそ AS TABLE 案件")
        self.rows.execute("DELETE FROM 案件")

    def show(self) -> None:
        self.rows.execute("INSERT INTO 案件 SELECT * FROM よそ")
        self.rows.execute("DROP TABLE よそ")

    def close(self) -> None:
        super().close()
        self.rows.close()


PLACES: dict[str, type[Place]] = {
    one.kind: one for one in (Disk, Dav, Bucket, Pages, Remote, Table)
}
