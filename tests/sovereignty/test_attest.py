"""The report: made by the command, read by a person, doubted by an auditor (threat E7 beside it)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from sqlalchemy import text

from appliance.attest import report, shelf, sign
from appliance.backup import files
from appliance.settings import Settings
from appliance.store import alerts, audit, database, secrets, signing, sources
from tests import forked

pytestmark = pytest.mark.slow  # two whole reports: every model and every installed file is read
ROOT = Path(__file__).resolve().parents[2]
NFT = {
    "nftables": [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "kura", "handle": 1}},
        {"counter": {"family": "inet", "name": "web_refused", "table": "kura", "handle": 2, "packets": 7, "bytes": 420}},
        {"rule": {"family": "inet", "table": "kura", "chain": "ours", "handle": 3, "expr": []}},
    ]
}  # fmt: skip


def kura(data: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return forked.kura(*words, env=os.environ | {"PYTHONPATH": str(ROOT), "KURA_DATA": str(data)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A site with two reports, and the folder `報告` with what was handed over."""
    home = tmp_path_factory.mktemp("site")
    data, out = home / "データ", home / "報告"
    data.mkdir(mode=0o700)
    out.mkdir()
    engine = database.connect(f"sqlite:///{data / 'kura.db'}")
    database.migrate(engine)
    for n in range(5):
        audit.record(engine, "user:伊藤", "ask", {"n": n})
    site = {"start": "https://intra.example.co.jp/top/", "password": "hidden-word"}
    sources.create(engine, "社内サイト", "web", site)
    told = {"mail_server": "mail.example.co.jp:587", "mail_password": "hidden-word"}
    alerts.set_destinations(engine, told, secrets.keyring(data / "secrets.key"))
    engine.dispose()
    rules = home / "規則.json"
    for packets in (7, 12):
        NFT["nftables"][2]["counter"]["packets"] = packets
        rules.write_text(json.dumps(NFT))
        (data / "egress").mkdir(exist_ok=True)
        (data / "egress" / "work.count").write_bytes((packets - 5).to_bytes(8, "little"))
        done = kura(data, "attest", "--out", out, "--firewall", rules, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["number"] == (1 if packets == 7 else 2)
    yield home


@pytest.fixture
def handed(made: Path, tmp_path: Path) -> Path:
    """A copy of what was handed over, to be spoilt."""
    return Path(shutil.copytree(made / "報告", tmp_path / "報告"))


def one(folder: Path, number: int, ending: str = ".json") -> Path:
    (found,) = folder.glob(f"kura-attest-{number:06}-*{ending}")
    return found


def test_what_is_in_it(made: Path) -> None:
    first, second = (sign.read(one(made / "報告", n)) for n in (1, 2))
    assert list(second["sections"]) == list(report.TITLES)
    s = second["sections"]
    assert s["audit"]["first_bad"] is None
    at = first["sections"]["audit"]["sequence"]
    assert s["audit"]["sequence"] > at == s["audit"]["holds_checkpoint"], (
        "the first report is in it"
    )
    assert second["head"]["previous"] == sign.digest(first["head"])
    rules = s["network"]["firewall"]
    assert rules["counters"]["web_refused"]["packets"] == 12
    assert rules["since"]["web_refused"]["packets"] == 5 and rules["changed"] is False
    assert s["network"]["blocked"]["work"] == 7 and s["network"]["blocked_since"]["work"] == 5
    assert s["network"]["sealed"] is False and s["network"]["walls"] == []
    names = {c["name"]: c for c in s["materials"]["components"]}
    assert len(names["torch"]["sha256"]) == 64 and s["materials"]["changed_files"] == []
    used = {m["name"]: m["use"] for m in s["models"]["catalogue"]}
    assert used["kura-270m"] == "回答" == used[s["models"]["generator"]] and used["PP-OCRv6"]
    assert "kura-e5-v1 の土台" in used["multilingual-e5-small"] and used["gemma-3-270m"] == ""
    peers = [(p["what"], p["kind"], p["hosts"]) for p in s["network"]["peers"]]
    assert ("取り込み元", "社内の Web サイト", ["intra.example.co.jp"]) in peers
    assert ("通知", "メール", ["mail.example.co.jp"]) in peers
    assert "hidden-word" not in json.dumps(s, ensure_ascii=False)
    for model in s["models"]["catalogue"]:
        assert (
            model["licence"]
            and model["origin"]
            and all(len(d) == 64 for d in model["files"].values())
        )
    places = {place["what"]: place for place in s["data"]}
    assert (
        places["データフォルダー"]["mode"] == "700"
        and places["データフォルダー"]["disk_encryption"]
    )
    assert places["報告に署名する鍵"]["mode"] == "600"
    assert {check["name"] for check in first["sections"]["self_test"]} >= {"モデル"}
    assert "absent" not in next(
        place for place in first["sections"]["data"] if place["what"] == "報告に署名する鍵"
    )
    assert {check["name"] for check in s["self_test"]} >= {"監査記録", "サンドボックス"}
    for part in s["checklists"]:
        assert all(row["not_covered"] for row in part["rows"])


def test_a_person_can_read_it(made: Path) -> None:
    pages = pypdfium2.PdfDocument(one(made / "報告", 2, ".pdf"))
    try:
        words = "".join(p.get_textpage().get_text_bounded() for p in pages)
        for said in (
            "主権証明",
            *report.TITLES.values(),
            "個人情報保護法",
            "AI事業者ガイドライン（第1.2版）",
            "mail.example.co.jp",
            "検索（埋め込み）",
            "web_refused",
        ):
            assert said in words.replace("\r\n", "")
        grey = pages[0].render(scale=1).to_pil().convert("L").crop((50, 40, 400, 100))
        assert grey.getextrema()[0] < 60  # letters are drawn, not only named
    finally:
        pages.close()
    assert b"/FontFile2" in one(made / "報告", 2, ".pdf").read_bytes()  # wherever it is opened


def test_the_key_is_the_sites_alone(made: Path) -> None:
    folder = made / "データ" / signing.FOLDER
    assert (folder / "site.key").stat().st_mode & 0o777 == 0o600
    assert (made / "報告" / "kura-attest.pub").read_bytes() == (folder / "site.pub").read_bytes()
    settings = Settings(data=made / "データ")
    for keys in (True, False):
        kept = {file.path for file in files.wanted(settings, made / "kura.toml", keys=keys)}
        assert ("attest/site.key" in kept) is keys and "attest/site.pub" in kept
        assert not any(path.startswith(("walls/", "egress/")) for path in kept)


def verified(made: Path, path: Path, *words: str | Path) -> tuple[int, list[str]]:
    done = kura(made / "データ", "attest", "--verify", path, "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["wrong"]


def test_as_it_was_signed(made: Path, handed: Path, tmp_path: Path) -> None:
    for path in (one(handed, 1), one(handed, 2), one(handed, 2, ".pdf")):
        assert verified(made, path, "--here") == (0, [])
    # on an auditor's machine there is the public key alone
    done = kura(tmp_path, "attest", "--verify", one(handed, 2), "--key", handed / "kura-attest.pub")
    assert done.returncode == 0 and "第 2 号は署名のとおりです" in done.stdout
    done = kura(tmp_path, "attest", "--verify", one(handed, 2))
    assert done.returncode == 0 and "書き留めた指紋と比べてください" in done.stdout


def _licence(found: dict[str, Any]) -> None:
    found["sections"]["models"]["catalogue"][0]["licence"] = "MIT"


def _counter(found: dict[str, Any]) -> None:
    found["sections"]["network"]["blocked"]["work"] = 0


def _later(found: dict[str, Any]) -> None:
    found["head"]["made_at"] = "2030-01-01T00:00:00+00:00"


def _gone(found: dict[str, Any]) -> None:
    del found["sections"]["not_covered"]


def _more(found: dict[str, Any]) -> None:
    found["sections"]["assurance"] = "確認済み"


def _matched(found: dict[str, Any]) -> None:
    _licence(found)
    found["head"]["sections"]["models"] = sign.digest(found["sections"]["models"])


def _unsigned(found: dict[str, Any]) -> None:
    found["signature"] = "AAAA"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_licence, ["章「モデル」が変えられています。"]),
        (_counter, ["章「ネットワーク」が変えられています。"]),
        (_later, ["見出し"]),
        (_gone, ["章「この報告が述べないこと」が取り除かれています。"]),
        (_more, ["章「assurance」が書き加えられています。"]),
        (_matched, ["見出し"]),
        (_unsigned, ["見出し"]),
    ],
)
def test_what_was_changed_is_named(
    made: Path, handed: Path, change: Callable[[dict[str, Any]], None], named: list[str]
) -> None:
    path = one(handed, 2)
    found = json.loads(path.read_text("utf-8"))
    change(found)
    path.write_text(json.dumps(found, ensure_ascii=False), "utf-8")
    status, wrong = verified(made, path)
    assert status == 1 and len(wrong) == len(named)
    assert all(said.startswith(name) for said, name in zip(wrong, named, strict=True))


def test_a_page_that_was_changed(made: Path, handed: Path) -> None:
    page = one(handed, 2, ".pdf")
    page.write_bytes(page.read_bytes() + b" ")
    assert verified(made, page) == (1, ["PDF が変えられています。"])
    page.unlink()
    assert verified(made, one(handed, 2)) == (0, [])


def test_a_report_of_another_key(made: Path, handed: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    found = sign.read(one(handed, 2))
    forged = sign.sealed(
        signing.key(tmp_path / "elsewhere"),
        found["sections"],
        one(handed, 2, ".pdf").read_bytes(),
        number=2,
        made_at=found["head"]["made_at"],
        previous=found["head"]["previous"],
    )
    one(handed, 2).write_text(json.dumps(forged), "utf-8")
    status, wrong = verified(made, one(handed, 2))
    assert status == 1 and wrong == ["このサイトの鍵ではない、別の鍵で署名されています。"]


def test_a_report_that_does_not_follow_the_one_before(made: Path, handed: Path) -> None:
    found = json.loads(one(handed, 1).read_text("utf-8"))
    found["head"]["made_at"] = "2020-01-01T00:00:00+00:00"
    one(handed, 1).write_text(json.dumps(found), "utf-8")
    status, wrong = verified(made, one(handed, 2))
    assert status == 1 and "とつながりません" in wrong[0]


@pytest.mark.parametrize(
    "said", ["", "{}", "[]", '{"head": {}, "head": {}}', "\x00", '{"a":' * 3000]
)
def test_what_is_no_report(made: Path, tmp_path: Path, said: str) -> None:
    (tmp_path / "x.json").write_text(said)
    done = kura(made / "データ", "attest", "--verify", tmp_path / "x.json")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "主権証明の報告として読めません" in done.stderr


@pytest.mark.parametrize(
    ("damage", "first_bad"),
    [
        ("UPDATE audit SET detail = '{}' WHERE sequence = 3", 3),
        ("DELETE FROM audit WHERE sequence = 2", 2),
        ("UPDATE audit SET sequence = CASE sequence WHEN 2 THEN 99 ELSE sequence END", 2),
        ("DELETE FROM audit WHERE sequence > 4", 5),
        ("DELETE FROM audit", 1),
    ],
    ids=["edited", "deleted", "moved", "cut off", "emptied"],
)
def test_a_chain_that_is_not_the_one_of_the_report(
    made: Path, handed: Path, tmp_path: Path, damage: str, first_bad: int
) -> None:
    data = Path(shutil.copytree(made / "データ", tmp_path / "データ"))
    engine = database.connect(f"sqlite:///{data / 'kura.db'}")
    with engine.begin() as connection:
        connection.execute(text(damage))
    engine.dispose()
    done = kura(data, "attest", "--verify", one(handed, 2), "--here")
    assert done.returncode == 1 and f"{first_bad} 番から違います" in done.stdout


def test_an_old_copy_of_the_database_put_back(made: Path, handed: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(made / "データ", tmp_path / "データ"))
    engine = database.connect(f"sqlite:///{data / 'kura.db'}")
    with engine.begin() as connection:  # as it was, and lived on since
        connection.execute(text("DELETE FROM audit WHERE sequence > 4"))
    for n in range(5):
        audit.record(engine, "user:佐藤", "ask", {"n": n})
    assert audit.verify(engine) is None
    engine.dispose()
    done = kura(data, "attest", "--verify", one(handed, 2), "--here")
    assert done.returncode == 1 and "古い控えからの復元" in done.stdout


def test_nothing_is_done_where_it_cannot_be_done(made: Path, tmp_path: Path) -> None:
    data = made / "データ"
    before = sorted((data / "attest").iterdir())
    for words, said in (
        (["--out", tmp_path / "ない"], "がありません"),
        ([], "のどちらかを指定してください"),
        (["--out", tmp_path, "--firewall", tmp_path / "ない"], "nft -j list table inet kura"),
        (["--verify", one(made / "報告", 1), "--key", one(made / "報告", 1)], "公開鍵"),
    ):
        done = kura(data, "attest", *words)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1
    assert sorted((data / "attest").iterdir()) == before and not list(tmp_path.glob("kura-*"))


def test_a_key_that_others_may_read_signs_nothing(tmp_path: Path) -> None:
    signing.key(tmp_path)
    (tmp_path / "site.key").chmod(0o640)
    with pytest.raises(Exception, match="chmod 600"):
        signing.key(tmp_path)
    (tmp_path / "site.key").chmod(0o600)
    (tmp_path / "site.key").write_text("zzz")
    with pytest.raises(Exception, match="控えから戻して"):
        signing.key(tmp_path)


FULL = """
import sys
from pathlib import Path
from appliance.attest import shelf, sign
from appliance.errors import ApplianceError
report = sign.read(Path(sys.argv[1]))
try:
    shelf.Shelf(Path(sys.argv[2])).add(report["sections"], Path(sys.argv[3]))
except ApplianceError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_half_report(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "媒体"
    out.mkdir()
    data = Path(shutil.copytree(made / "データ", tmp_path / "データ"))
    script = f'mount -t tmpfs -o size=80k none "{out}"; "$@"; ls -A "{out}"'
    argv = [sys.executable, "-c", FULL, str(one(made / "報告", 2)), str(data), str(out)]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *argv],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    said, *left = done.stdout.splitlines()
    assert "報告を書けません（No space left on device）" in said
    assert [name for name in left if not name.endswith(".json")] == []  # whole ones alone
    assert (
        sign.changed(
            sign.read(one(data / "attest", 3)), [], one(data / "attest", 3, ".pdf").read_bytes(), {}
        )
        == []
    )


def test_killed_between_its_steps_the_chain_goes_on(made: Path, tmp_path: Path) -> None:
    """After the page and before the report, there is no report: the next takes its number."""
    data = Path(shutil.copytree(made / "データ", tmp_path / "データ"))
    (data / "attest" / "kura-attest-000003-20200101.pdf").write_bytes(b"half")
    (data / "attest" / ".new-abc").write_bytes(b"half")
    kept = shelf.Shelf(data)
    last = kept.last()
    assert last is not None
    (tmp_path / "媒体").mkdir()
    assert kept.add(last["sections"], tmp_path / "媒体").number == 3
    assert shelf.before(sign.read(one(data / "attest", 3)), data / "attest") == ""
    with pytest.raises(Exception, match="がもうあります"):
        shutil.rmtree(data / "attest")
        shutil.copytree(made / "データ" / "attest", data / "attest")
        kept.add(last["sections"], tmp_path / "媒体")
