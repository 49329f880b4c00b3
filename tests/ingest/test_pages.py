"""Pages that wait to be read: kept one by one, through kills, changes and closed doors."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from appliance.errors import Transient, Unreadable
from appliance.ingest import kept, pages
from appliance.ingest.sync import sync
from appliance.settings import Settings
from appliance.store import access, catalog, database, scans, sources
from appliance.store.tables import ScanRow
from appliance.testing.contracts import PageReaderContract
from appliance.testing.fakes import PUBLIC, HashEmbedder, MemoryConnector, ScriptedPages
from appliance.text import readings
from appliance.text.personal import Handling
from appliance.types import (
    EVERYONE,
    NOBODY,
    Access,
    Document,
    Layer,
    Mark,
    Page,
    Principal,
    RawFile,
    Viewer,
)

SCAN = "\fSCAN"
ITO: Access = (Layer(frozenset({Principal("user:ito")})),)


def parse(file: RawFile) -> tuple[Document, str]:
    """A form feed between pages; a page that says SCAN is a picture."""
    with file.open() as stream:
        told = stream.read().decode().split("\f")
    text, marks, states = "", [], []
    for number, page in enumerate(told, 1):
        read = (file.read or {}).get(number)
        if page == "SCAN":
            states.append(Page(number, "scanned", read="ocr" if read else "none"))
            page = "\n".join(line.text for line in read.lines) if read else ""
        else:
            states.append(Page(number, "fine"))
        label = readings.label(number, read) if read else f"p. {number}"
        marks.append(Mark(len(text), label, "page", number))
        text += page + "\n"
    text = text.rstrip()
    marks = [m for m in marks if m.start < len(text)]
    return Document(text, tuple(marks), pages=tuple(states)), "application/pdf"


class Site:
    def __init__(self, engine: Engine, data: Path, reader: ScriptedPages) -> None:
        self.engine, self.reader = engine, reader
        self.settings = Settings(data=data)
        self.embedder = HashEmbedder()
        self.connector = MemoryConnector({})
        self.source = sources.create(engine, "共有", "memory", {})
        self.stop = threading.Event()

    def sync(self, **files: str) -> None:
        self.connector.files = {f"{name}.pdf": text for name, text in files.items()}
        source = sources.get(self.engine, self.source.id)
        sync(self.engine, source, self.connector, self.embedder, parse, self.settings)

    def turn(self, owner: str = "a") -> bool:
        room = pages.Room(self.engine, self.reader, parse, self.embedder, self.settings)
        return pages.turn(room, owner, self.stop)

    def read(self) -> None:
        while self.turn():
            pass

    def listed(self, name: str = "a") -> catalog.Listed:
        return catalog.listed(self.engine, self.source.id, [f"{name}.pdf"])[f"{name}.pdf"]

    def text(self, *principals: str) -> str:
        """All that this person may find."""
        viewer = Viewer("x", frozenset({EVERYONE, *map(Principal, principals)}))
        wanted = [(i, 0.0) for i, _ in catalog.chunk_accesses(self.engine)]
        found = access.passages(self.engine, viewer, wanted)
        return "\n".join(f"{p.label}: {p.text}" for p in found)

    @property
    def asked(self) -> list[int]:
        return [number for _, number in self.reader.asked]


@pytest.fixture
def reader() -> ScriptedPages:
    return ScriptedPages({n: f"{n} ページ目の旅費の表" for n in range(2, 8)})


@pytest.fixture
def site(sqlite_engine: Engine, tmp_path: Path, reader: ScriptedPages) -> Site:
    return Site(sqlite_engine, tmp_path, reader)


def test_a_document_is_found_at_once_and_its_pictures_later(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    assert "はじめに" in site.text()
    assert site.listed().problem == "p. 2–3 は文字の読み取り (OCR) を待っています"
    assert scans.counts(site.engine).waiting == 2
    site.read()
    assert site.asked == [2, 3]
    assert site.listed().problem is None
    assert site.listed().status == "ready"
    assert "2 ページ目の旅費の表" in site.text()
    assert scans.counts(site.engine).done == 2
    assert not site.turn()


def test_a_document_of_pictures_alone_waits_without_text(site: Site) -> None:
    site.reader.pages[1] = "表紙"
    site.sync(a="SCAN")
    assert site.text() == ""
    assert site.listed().status == "problem"
    site.read()
    assert site.text() == "p. 1（OCR）: 表紙"


def test_what_was_read_with_little_confidence_says_so(site: Site) -> None:
    site.reader.sure, site.reader.pages[1] = 0.6, "かすれた表紙"
    site.sync(a="SCAN")
    site.read()
    assert site.text() == "p. 1（OCR、要確認）: かすれた表紙"


def test_pictures_without_any_letter_are_a_problem_that_shows(site: Site) -> None:
    site.reader.pages[1] = ""
    site.sync(a="SCAN")
    site.read()
    assert "読み取れませんでした" in (site.listed().problem or "")


def test_the_bytes_are_kept_until_the_last_page_is_read(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")
    held = list(kept.folder(site.settings).iterdir())
    assert [stat.st_mode & 0o077 for stat in map(Path.stat, held)] == [0]
    for one in held:
        os.utime(one, (0, 0))
    assert kept.tidy(site.engine, site.settings) == 0
    site.read()
    assert list(kept.folder(site.settings).iterdir()) == []


def test_a_page_that_cannot_be_read_fails_alone_after_two_tries(site: Site) -> None:
    site.reader.pages[3] = Unreadable("解析が 120 秒で終わりませんでした")
    site.sync(a=f"はじめに{SCAN}{SCAN}{SCAN}")
    site.read()
    assert site.asked == [2, 3, 3, 4]
    assert (
        site.listed().problem == "p. 3 を読み取れませんでした (解析が 120 秒で終わりませんでした)"
    )
    assert "4 ページ目" in site.text()
    assert scans.counts(site.engine).failed == 1


def test_a_page_given_up_is_tried_again_when_the_administrator_says_so(site: Site) -> None:
    site.reader.pages[3] = Unreadable("だめ")
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    site.read()
    site.reader.pages[3] = "直りました"
    sources.run_now(site.engine, site.source.id, retry=True)
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    site.read()
    assert site.asked == [2, 3, 3, 3]
    assert "直りました" in site.text()
    assert site.listed().problem is None


def test_the_machines_trouble_is_not_the_pages(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")
    well, site.reader.pages[2] = site.reader.pages[2], Transient("忙しい")
    for _ in range(scans.BEGUN + 1):
        assert site.turn()
        _let_pass(site.engine)
    site.reader.pages[2] = well
    site.read()
    assert site.listed().problem is None


def test_the_same_bytes_are_never_read_twice(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")
    site.read()
    site.embedder = HashEmbedder(name="another")
    site.sync(a=f"はじめに{SCAN}")
    assert site.asked == [2]
    assert "2 ページ目" in site.text()
    assert site.listed().problem is None


def test_new_bytes_cancel_what_waited_for_the_old(site: Site) -> None:
    site.sync(a=f"旧版{SCAN}{SCAN}")
    site.reader.before = lambda n: site.sync(a=f"新版{SCAN}") if len(site.asked) == 1 else None
    site.read()
    assert site.asked == [2, 2]
    assert "新版" in site.text()
    assert scans.counts(site.engine) == scans.Counts(
        0, 1, 0, scans.counts(site.engine).per_minute, {site.source.id: (0, 1, 0)}
    )


def test_a_page_that_has_text_now_waits_no_more(site: Site) -> None:
    site.sync(a=f"旧版{SCAN}")
    site.sync(a="新版\f文字のあるページ")
    assert not site.turn()
    assert site.listed().problem is None


def test_a_document_deleted_while_it_is_read_leaves_nothing(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    site.reader.before = lambda n: site.sync()
    site.read()
    assert site.asked == [2]
    assert site.text() == ""
    assert scans.counts(site.engine) == scans.Counts()


def test_whoever_lost_access_while_it_was_read_finds_nothing_of_it(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")

    def revoke(number: int) -> None:
        catalog.set_access(site.engine, site.source.id, "a.pdf", ITO)

    site.reader.before = revoke
    site.read()
    assert site.text() == ""
    assert "2 ページ目" in site.text("user:ito")


def test_what_nobody_may_read_is_not_read(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")
    catalog.set_access(site.engine, site.source.id, "a.pdf", NOBODY)
    assert not site.turn()
    catalog.set_access(site.engine, site.source.id, "a.pdf", PUBLIC)
    site.read()
    assert "2 ページ目" in site.text()


def test_the_pages_of_a_paused_source_wait(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    pause = partial(sources.update, site.engine, site.source.id, enabled=False)
    site.reader.before = lambda n: pause() and None
    site.read()
    assert site.asked == [2]
    assert "2 ページ目" not in site.text()
    sources.update(site.engine, site.source.id, enabled=True)
    site.reader.before = lambda n: None
    site.read()
    assert "3 ページ目" in site.text()


def test_a_source_that_is_deleted_takes_its_pages_along(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")
    site.reader.before = lambda n: sources.delete(site.engine, site.source.id) and None
    site.read()
    assert scans.counts(site.engine) == scans.Counts()


def test_bytes_that_are_gone_are_brought_again(site: Site) -> None:
    site.sync(a=f"はじめに{SCAN}")
    for one in kept.folder(site.settings).iterdir():
        one.unlink()
    site.read()
    assert site.asked == []
    site.sync(a=f"はじめに{SCAN}")
    _let_pass(site.engine)
    site.read()
    assert "2 ページ目" in site.text()


def test_a_long_document_lets_others_have_their_turn(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "TURN_S", 1e-9)
    site.sync(a=f"甲{SCAN}{SCAN}{SCAN}", b=f"乙{SCAN}{SCAN}")
    monkeypatch.setattr(pages.time, "monotonic", iter(range(1000)).__next__)
    monkeypatch.setattr(pages, "TURN_S", 1.5)  # of such a clock: one page a turn
    for _ in range(4):
        site.turn()
    assert len({name for name, _ in site.reader.asked}) == 2


@pytest.fixture
def lives(engine: Engine, tmp_path: Path, reader: ScriptedPages) -> Iterator[Callable[[], int]]:
    """A worker in a process of its own, which dies of its second page; the pages it was asked for."""
    site = Site(engine, tmp_path, reader)
    site.sync(a=f"はじめに{SCAN}{SCAN}{SCAN}")
    url = engine.url.render_as_string(hide_password=False)
    engine.dispose()

    def die() -> int:
        child = os.fork()
        if child == 0:
            try:
                site.engine = database.connect(url)
                reader.before = lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == 3 else None
                site.turn("dead")
            finally:
                os._exit(1)
        return os.WTERMSIG(os.waitpid(child, 0)[1])

    yield die


def test_a_worker_killed_at_a_page_is_followed_by_one_that_reads_on(
    lives: Callable[[], int], engine: Engine, tmp_path: Path, reader: ScriptedPages
) -> None:
    assert lives() == signal.SIGKILL
    site = Site.__new__(Site)
    site.engine, site.reader, site.settings = engine, reader, Settings(data=tmp_path)
    site.embedder, site.stop = HashEmbedder(), threading.Event()
    assert not site.turn("b"), "the lease of the dead was not waited for"
    _let_pass(engine)
    while site.turn("b"):
        pass
    assert site.asked == [3, 4]
    assert "2 ページ目" in site.text()
    assert "4 ページ目" in site.text()


def test_two_workers_never_read_one_page(
    engine: Engine, tmp_path: Path, reader: ScriptedPages
) -> None:
    site = Site(engine, tmp_path, reader)
    site.sync(**{f"f{n}": f"{n}{SCAN}{SCAN}" for n in range(6)})

    def work(owner: str) -> None:
        while site.turn(owner):
            pass

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, ["a", "b"]))
    assert len(site.reader.asked) == 12
    assert len(set(site.reader.asked)) == 12
    assert catalog.counts(engine).problems == 0


class TestScriptedPages(PageReaderContract):
    @pytest.fixture
    def reader(self) -> ScriptedPages:
        return ScriptedPages({1: "出張旅費規程\n第1条", 2: ""})

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "a.pdf"


# --- personal data ------------------------------------------------------------------

NUMBER = "123456789018"
FORM = f"扶養控除等申告書\n個人番号 {NUMBER}"


def handle(site: Site, handling: Handling) -> None:
    sources.update(site.engine, site.source.id, personal_data=handling)


def in_the_database(site: Site, what: str) -> bool:
    """In any byte of its files, once the log is folded in."""
    with site.engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    files = [Path(str(site.engine.url.database) + end) for end in ("", "-wal")]
    return any(what.encode() in f.read_bytes() for f in files if f.exists())


def bytes_kept(site: Site) -> list[Path]:
    folder = kept.folder(site.settings)
    return list(folder.iterdir()) if folder.is_dir() else []


def test_what_a_scan_holds_is_counted(site: Site) -> None:
    site.reader.pages[2] = FORM
    site.sync(a=f"はじめに{SCAN}")
    site.read()
    assert NUMBER in site.text()
    assert site.listed().personal == {"my_number": 1}


def test_a_scanned_number_is_masked_wherever_it_was_kept(site: Site) -> None:
    handle(site, "mask")
    site.reader.pages |= {2: FORM, 3: Unreadable(f"個人番号 {NUMBER} で止まりました")}
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    site.read()
    assert "個人番号 ＊＊＊＊＊＊＊＊＊＊＊＊" in site.text()
    assert "p. 3 を読み取れませんでした" in str(site.listed().problem)
    assert site.listed().personal == {"my_number": 1}
    assert not in_the_database(site, NUMBER)
    assert bytes_kept(site) == []
    assert scans.counts(site.engine).failed == 1
    handle(site, "show")  # what was masked is read again
    site.sync(a=f"はじめに{SCAN}{SCAN}")
    site.read()
    assert f"個人番号 {NUMBER}" in site.text()


@pytest.mark.parametrize("where", ["text", "picture", "both"])
def test_a_scan_in_quarantine_leaves_nothing_of_its_pages(site: Site, where: str) -> None:
    handle(site, "quarantine")
    if where != "text":
        site.reader.pages[2] = FORM
    begin = "はじめに" if where == "picture" else FORM
    site.sync(a=f"{begin}{SCAN}", b=f"はじめに{SCAN}{SCAN}")
    site.read()
    site.sync(a=f"{begin}{SCAN}", b=f"はじめに{SCAN}{SCAN}")
    one = site.listed()
    assert (one.status, one.searchable) == ("problem", False)
    assert one.personal == {"my_number": 1}
    assert "マイナンバー 1 件" in str(one.problem)
    assert not in_the_database(site, NUMBER)
    assert bytes_kept(site) == []
    assert scans.state(site.engine, one.id) == scans.State()
    assert not scans.wanted(site.engine, [kept_digest(f"{begin}{SCAN}")])


def test_what_was_read_is_withheld_too_once_its_source_says_so(site: Site) -> None:
    site.reader.pages[2] = FORM
    site.sync(a=f"はじめに{SCAN}")
    site.read()
    handle(site, "quarantine")
    assert site.text() == ""
    assert not in_the_database(site, NUMBER)
    site.sync(a=f"はじめに{SCAN}")
    site.read()
    assert site.text() == ""
    assert "マイナンバー 1 件" in str(site.listed().problem)
    assert bytes_kept(site) == []
    handle(site, "show")
    site.sync(a=f"はじめに{SCAN}")
    site.read()
    assert NUMBER in site.text()


def test_a_source_that_becomes_stricter_while_a_page_is_read_is_obeyed(site: Site) -> None:
    site.reader.pages[2] = FORM
    site.reader.before = lambda number: handle(site, "mask")
    site.sync(a=f"はじめに{SCAN}")
    site.read()  # nothing has a turn until the source was looked at
    assert NUMBER not in site.text()
    assert not in_the_database(site, NUMBER)
    site.reader.before = lambda number: None
    site.sync(a=f"はじめに{SCAN}")
    site.read()
    assert "個人番号 ＊＊＊＊＊＊＊＊＊＊＊＊" in site.text()
    assert not in_the_database(site, NUMBER)


def kept_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _let_pass(engine: Engine) -> None:
    """Every lease and every pause is over."""
    with database.writing(engine) as s:
        past = datetime(2026, 1, 1, tzinfo=UTC)
        s.connection().execute(update(ScanRow).values(lease_until=None, turn_at=past))
