"""From a release with one embedder to a release with another, and back, at each moment of the move.

The real appliance; its models are fakes in which texts of the same meaning lie close (`fake_models.py`),
in other places for each embedder: a vector that is compared with one of the other embedder finds nothing.
What is quick of it is in test_switch_embedder.py (the installer) and in ../api/test_new_embedder.py (the move).
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from installer.upgrade import files
from tests import ports
from tests.conftest import Cluster
from tests.installer import releases
from tests.installer.hosts import Host
from tests.installer.hosts import host as a_host

pytestmark = [pytest.mark.slow, pytest.mark.long]

OLD, NEW = "1.0.0", "2.0.0"
A, B = "fumi-v1", "fumi-v2"
WHO, PASSWORD = "ito", "kura-no-mon-27"
QUICK = {"ingest/anew.py": ("AGAIN_S = 30.0", "AGAIN_S = 0.2")}
OLDER = {f"旧館の手引き{n}.txt": f"旧館の{n}号室の鍵は{n}番の棚に置く。" for n in range(5)}
TRAVEL, ASKS_TRAVEL = "旧館への旅費は一日三千円とする。", "トラベル"  # no word in common
RENT, ASKS_RENT = "社宅の家賃は月三万円とする。", "レント"
DRESS, ASKS_DRESS = "制服は四月に配る。", "ユニフォーム"


class Site:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.texts: dict[str, str] = {}  # document -> its text
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{host.settings['KURA_WEB_PORT']}",
            timeout=60,
            trust_env=False,
        )

    def sign_in(self) -> None:
        body = {"user_id": WHO, "password": PASSWORD}
        told = good(self.http.post("/api/v1/session", json=body))
        self.http.headers["x-csrf-token"] = told["csrf_token"]

    def health(self) -> tuple[str, str]:
        try:
            told = self.http.get("/api/v1/health").json()
            return told["version"], told["status"]
        except (httpx2.HTTPError, ValueError):
            return "", ""

    def put(self, files: Mapping[str, str]) -> list[str]:
        """Take texts in. Returns their documents."""
        sent = {}
        for name, text in files.items():
            form = {"file": (name, text.encode(), "text/plain")}
            sent[good(self.http.post("/api/v1/uploads", files=form))["id"]] = text

        def shelf() -> dict[str, Any]:
            listed = good(self.http.get("/api/v1/uploads"))["uploads"]
            return {one["id"]: one for one in listed if one["id"] in sent}

        until(lambda: all(one["status"] == "ready" for one in shelf().values()))
        documents = {shelf()[item]["document_id"]: text for item, text in sent.items()}
        self.texts |= documents
        return list(documents)

    def weighed(self, question: str) -> list[Any]:
        """What a search weighs, nearest vectors first."""
        body = {"question": question, "k": 20}
        told = good(self.http.post("/api/v1/search/candidates", json=body))
        return sorted(told["considered"], key=lambda one: -one["dense"])

    def by_meaning(self, question: str, document: str) -> bool:
        """Whether its vector alone tells; nothing else comes near, as it would among vectors of two."""
        found = self.weighed(question)
        if not found or found[0]["dense"] < 0.8:
            return False
        assert found[0]["passage"]["document_id"] == document
        assert found[0]["keyword"] == 0 and all(one["dense"] < 0.5 for one in found[1:])
        body = {"question": question, "k": 1}
        (best,) = good(self.http.post("/api/v1/search", json=body))["passages"]
        return bool(best["document_id"] == document)

    def by_words(self, question: str, document: str) -> bool:
        body = {"question": question, "k": 3}
        found = good(self.http.post("/api/v1/search", json=body))["passages"]
        return any(one["document_id"] == document for one in found)

    def status(self) -> Any:
        return good(self.http.get("/api/v1/admin/status"))

    def said(self) -> str:
        return self.host.kura("status").stdout

    def hold(self, version: str, texts: int | None) -> None:
        """So many of the older texts more are embedded by that release's own; None: all."""
        place = self.host.places.release(version) / "held"
        place.unlink(missing_ok=True)
        if texts is not None:
            place.write_text(str(texts))

    def indexes(self) -> set[str]:
        return {one.name for one in (self.host.data / "index").iterdir()}

    def nothing_lost(self) -> None:
        for document, text in self.texts.items():
            assert text in str(good(self.http.get(f"/api/v1/documents/{document}")))


def good(answer: httpx2.Response) -> Any:
    assert not answer.is_error, answer.text
    return answer.json()


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def begun(**settings: str) -> Iterator[Site]:
    """A site on the old release, with documents."""
    port = ports.free()
    quick = {
        "KURA_WEB_PORT": str(port),
        "KURA_OCR": "false",
        "KURA_FOLLOW_SECONDS": "0.1",
        "KURA_EVIDENCE_THRESHOLD": "0.01",  # what vectors alone find is shown
    }
    with a_host(**quick, **settings) as host:
        host.settings["KURA_MODELS"] = str(host.places.current / "models")
        for version, embedders in ((OLD, (A,)), (NEW, (B, A))):
            folder = host.places.release(version)
            releases.make(folder, version, embedders=embedders, edits=QUICK)
        host.begin(OLD)
        words = ("user", "add", WHO, "--name", "伊藤", "--administrator", "--password-stdin")
        done = host.kura(*words, stdin=PASSWORD)
        assert done.returncode == 0, done.stderr
        site = Site(host)
        with site.http:
            host.start()
            until(lambda: site.health() == (OLD, "ready"), 300)
            site.sign_in()
            yield site


def first(site: Site) -> str:
    *_, travel = site.put({**OLDER, "旅費規程.txt": TRAVEL})
    until(lambda: site.by_meaning(ASKS_TRAVEL, travel))
    return travel


def test_the_old_index_serves_across_an_upgrade_and_the_way_back_loses_nothing() -> None:
    with begun() as site:
        host = site.host
        travel = first(site)
        site.hold(NEW, 0)
        host.installer("upgrade", NEW)
        print(host.said)
        assert f"{A} から {B} に変わります" in host.said
        assert site.health() == (NEW, "ready")
        # nothing is embedded anew yet
        assert site.status()["embedder"] == A and site.indexes() == {"dense", "keyword"}
        assert site.by_meaning(ASKS_TRAVEL, travel)
        # in the middle, and what comes in meanwhile
        site.hold(NEW, 3)
        (rent,) = site.put({"社宅.txt": RENT})
        until(lambda: site.by_meaning(ASKS_RENT, rent))
        until(lambda: (site.status()["embedding_anew"] or {}).get("done", 0) >= 4)
        move = site.status()["embedding_anew"]
        assert (move["origin"], move["target"], move["done"], move["total"]) == (A, B, 4, 7)
        assert not move["complete"] and site.status()["embedder"] == A
        assert f"埋め込み直し: 4 / 7 単位（{A} → {B}。終わるまで {A} で検索します）" in site.said()
        assert site.by_meaning(ASKS_TRAVEL, travel)
        # a kill goes on
        worker = files.held(host.data, "work")
        os.kill(worker, signal.SIGKILL)
        until(lambda: files.held(host.data, "work") not in (0, worker))
        assert site.by_meaning(ASKS_TRAVEL, travel) and site.by_meaning(ASKS_RENT, rent)
        site.hold(NEW, None)
        until(lambda: site.status()["embedder"] == B)
        until(lambda: site.status()["embedding_anew"] is None)
        until(lambda: site.indexes() == {f"dense-{B}", "keyword"})
        assert site.by_meaning(ASKS_TRAVEL, travel) and site.by_meaning(ASKS_RENT, rent)
        site.nothing_lost()
        # and back, to a release that has never heard of the new embedder
        site.hold(OLD, 0)
        host.installer("rollback", "--yes")
        print(host.said)
        assert "書かれたものはすべて残ります" in host.said and "言葉だけで探されます" in host.said
        assert site.health() == (OLD, "ready") and site.status()["embedder"] == A
        assert site.by_words("旅費は一日いくら", travel) and site.by_words("社宅の家賃", rent)
        assert all(one["dense"] <= 0.5 for one in site.weighed("旅費は一日いくら")), (
            "none is compared"
        )
        until(lambda: (site.status()["embedding_anew"] or {}).get("target") == A)
        move = site.status()["embedding_anew"]
        assert (move["origin"], move["total"]) == ("", 7) and move["done"] <= 1
        assert "まだのものは、終わるまで言葉で探します" in site.said()
        (dress,) = site.put({"制服.txt": DRESS})
        until(lambda: site.by_meaning(ASKS_DRESS, dress))
        site.hold(OLD, None)
        until(lambda: site.by_meaning(ASKS_TRAVEL, travel) and site.by_meaning(ASKS_RENT, rent))
        until(lambda: site.status()["embedding_anew"] is None)
        assert f"dense-{B}" not in site.indexes()
        site.nothing_lost()
        assert "Traceback" not in (host.data / "kura.log").read_text("utf-8")


def middle(site: Site, version: str) -> None:
    """Until the move is held back half-way: the older texts but three are not embedded anew."""
    site.hold(version, 3)
    until(lambda: (site.status()["embedding_anew"] or {}).get("done", 0) >= 3)
    assert site.status()["embedder"] == A


def moved(site: Site, version: str) -> None:
    site.hold(version, None)
    until(lambda: site.status()["embedder"] == B)
    until(lambda: site.status()["embedding_anew"] is None)
    until(lambda: site.indexes() == {f"dense-{B}", "keyword"})


def back(site: Site, *words: str) -> None:
    site.host.installer("rollback", OLD, *words, "--yes")
    print(site.host.said)
    assert site.health() == (OLD, "ready") and site.status()["embedder"] == A
    until(lambda: site.status()["embedding_anew"] is None)


def test_the_way_back_before_it_began() -> None:
    with begun() as site:
        host = site.host
        travel = first(site)
        site.hold(NEW, 0)
        host.installer("upgrade", NEW)
        (rent,) = site.put({"社宅.txt": RENT})
        back(site)
        assert "すべて残ります" in host.said and "言葉" not in host.said
        assert site.by_meaning(ASKS_TRAVEL, travel)
        until(lambda: site.by_meaning(ASKS_RENT, rent))
        site.nothing_lost()
        assert "Traceback" not in (host.data / "kura.log").read_text("utf-8")


def test_the_way_back_in_the_middle() -> None:
    with begun() as site:
        host = site.host
        travel = first(site)
        site.hold(NEW, 0)
        host.installer("upgrade", NEW)
        middle(site, NEW)
        (rent,) = site.put({"社宅.txt": RENT})
        until(lambda: site.by_meaning(ASKS_RENT, rent))
        back(site)
        assert "すべて残ります" in host.said and "言葉" not in host.said
        assert site.by_meaning(ASKS_TRAVEL, travel) and site.by_meaning(ASKS_RENT, rent)
        assert site.indexes() == {"dense", "keyword"}
        site.nothing_lost()
        assert "Traceback" not in (host.data / "kura.log").read_text("utf-8")


def test_the_way_back_to_a_database_of_another_form_finds_by_the_vectors_of_then() -> None:
    with begun() as site:
        host = site.host
        travel = first(site)
        folder = host.places.release("3.0.0")
        releases.make(folder, "3.0.0", embedders=(B, A), edits=QUICK, revisions={"0900": ""})
        host.installer("upgrade", "3.0.0")
        moved(site, "3.0.0")
        (late,) = site.put({"食堂.txt": "食堂は十一時に開く。"})
        until(lambda: site.by_meaning("キッチン", late))
        back(site)
        assert "文書 / documents: +1" in host.said
        assert site.by_meaning(ASKS_TRAVEL, travel)
        del site.texts[late]  # put aside, as was said
        assert site.http.get(f"/api/v1/documents/{late}").status_code == 404
        assert any((host.data / "upgrade/after").glob("3.0.0-*/kura.db"))
        site.nothing_lost()
        assert "Traceback" not in (host.data / "kura.log").read_text("utf-8")


@pytest.mark.postgres
def test_on_postgresql_an_upgrade_in_the_middle_goes_on_and_the_snapshot_has_the_old_vectors(
    cluster: Cluster,
) -> None:
    name = f"kura_{uuid.uuid4().hex[:12]}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    cluster.execute(f"CREATE DATABASE {name} OWNER {name}")
    url = cluster.url(name).replace(f"//{cluster.user}@", f"//{name}@")
    try:
        with begun(KURA_DATABASE_URL=url) as site:
            host = site.host
            travel = first(site)
            site.hold(NEW, 0)
            host.installer("upgrade", NEW)
            assert site.by_meaning(ASKS_TRAVEL, travel)
            (rent,) = site.put({"社宅.txt": RENT})
            middle(site, NEW)
            folder = host.places.release("3.0.0")
            releases.make(folder, "3.0.0", embedders=(B, A), edits=QUICK)
            site.hold("3.0.0", 0)
            host.installer("upgrade", "3.0.0")
            until(lambda: (site.status()["embedding_anew"] or {}).get("done", 0) == 4)
            assert site.status()["embedder"] == A, "the vectors of both came over"
            assert site.by_meaning(ASKS_TRAVEL, travel) and site.by_meaning(ASKS_RENT, rent)
            moved(site, "3.0.0")
            assert site.by_meaning(ASKS_TRAVEL, travel) and site.by_meaning(ASKS_RENT, rent)
            back(site, "--snapshot")
            assert site.by_meaning(ASKS_TRAVEL, travel)
            assert site.http.get(f"/api/v1/documents/{rent}").status_code == 404
            del site.texts[rent]
            site.nothing_lost()
            assert "Traceback" not in (host.data / "kura.log").read_text("utf-8")
    finally:
        cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
        cluster.execute(f"DROP ROLE {name}")
