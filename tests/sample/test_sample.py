"""The sample company: what `make demo` shows is what its sources say, and to whom."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import json
import re
import tomllib
import unicodedata
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import argon2
import pytest
from sqlalchemy import Engine

from appliance.identity import passwords
from appliance.settings import Settings
from appliance.store import examples
from installer.sample import load, sources
from installer.sample.build import build, differences

ROOT = Path(__file__).parents[2]
FILES = sources.FILES
COMPANY: dict[str, Any] = tomllib.loads((sources.HERE / "company.toml").read_text("utf-8"))
GOLDEN: list[dict[str, Any]] = [
    json.loads(line) for line in (sources.HERE / "golden.jsonl").read_text("utf-8").splitlines()
]
DOCUMENTS = sorted(
    unicodedata.normalize("NFC", path.relative_to(FILES).as_posix())
    for path in FILES.rglob("*")
    if path.is_file() and path.name != sources.ACCESS
)
FORMATS = {"pdf", "docx", "pptx", "xlsx", "html", "csv", "eml", "md", "txt"}

answered = pytest.mark.parametrize(
    "golden", [g for g in GOLDEN if g["uri"]], ids=lambda golden: golden["id"]
)


# --- the documents -------------------------------------------------------------------


def test_the_committed_files_are_what_the_sources_build() -> None:
    assert differences(build(), FILES) == []


def test_there_are_at_least_sixty_documents_in_every_format() -> None:
    assert len(DOCUMENTS) >= 60
    formats = Counter(uri.rsplit(".", 1)[1] for uri in DOCUMENTS)
    assert formats.keys() == FORMATS
    assert min(formats.values()) >= 4, formats


def test_the_files_stay_small() -> None:
    assert sum((FILES / uri).stat().st_size for uri in DOCUMENTS) < 5_000_000


@pytest.mark.parametrize("uri", [uri for uri in DOCUMENTS if uri.endswith(".pdf")])
def test_a_pdf_gives_back_the_words_of_its_source(uri: str) -> None:
    source = sources.read(sources.SOURCE / f"{uri}.md")
    lines = (re.sub(r"^[#>\-\d. ]+|\*\*", "", line) for line in source.body.splitlines())
    expected = {squeezed(line)[:12] for line in lines if not line.startswith(("|", "\\"))}
    text = squeezed(text_of(uri))
    assert [words for words in expected if words not in text] == []


# --- the questions -------------------------------------------------------------------


def test_there_are_sixty_golden_questions() -> None:
    assert [g["id"] for g in GOLDEN] == [f"g{number:02}" for number in range(1, 61)]
    kinds = Counter(g["kind"] for g in GOLDEN)
    assert kinds == {"answerable": 35, "restricted": 10, "unanswerable": 15}
    assert len({g["question"] for g in GOLDEN}) == 60


def test_a_golden_question_has_its_fields() -> None:
    fields = {"id", "kind", "question", "viewer", "denied", "uri", "label", "answer", "accept"}
    for golden in GOLDEN:
        assert golden.keys() == fields, golden["id"]
        assert {golden["viewer"], *golden["denied"]} <= COMPANY["accounts"].keys(), golden["id"]
        assert bool(golden["denied"]) == (golden["kind"] == "restricted"), golden["id"]
        assert bool(golden["uri"]) == (golden["kind"] != "unanswerable"), golden["id"]
        assert bool(golden["answer"]) == bool(golden["uri"]), golden["id"]


@answered
def test_the_answer_stands_in_the_document(golden: dict[str, Any]) -> None:
    assert golden["uri"] in DOCUMENTS
    assert squeezed(golden["answer"]) in squeezed(text_of(golden["uri"]))


@answered
def test_the_place_is_in_the_document(golden: dict[str, Any]) -> None:
    label, uri = golden["label"], golden["uri"]
    body = sources.read(sources.SOURCE / f"{uri}.md").body
    if slide := re.fullmatch(r"スライド (\d+)", label):
        slides = re.split(r"^# ", body, flags=re.MULTILINE)
        assert squeezed(golden["answer"]) in squeezed(slides[int(slide[1])])
    elif label and uri.endswith(".xlsx"):
        sheets = re.split(r"^# ", body, flags=re.MULTILINE)
        sheet = next(sheet for sheet in sheets if sheet.startswith(label.rstrip("!") + "\n"))
        assert golden["answer"] in sheet.replace(",", "")
    elif label.startswith("第"):
        heading = rf"^#+ {label}(?!\d)"
        _, place = re.split(heading, body, maxsplit=1, flags=re.MULTILINE)
        # a chapter reaches to the next chapter, an article to the next heading
        ends = r"^# " if label.endswith("章") else r"^#+ "
        place = re.split(ends, place, maxsplit=1, flags=re.MULTILINE)[0]
        assert squeezed(golden["answer"]) in squeezed(place.replace("**", ""))
    elif label and not re.fullmatch(r"p\. \d+", label):
        assert squeezed(golden["answer"]) in squeezed(body.partition(label)[2].replace("**", ""))


def test_the_demo_asks_a_golden_question() -> None:
    sample = COMPANY["sample_question"]
    same = [g for g in GOLDEN if g["question"] == sample["question"]]
    assert [{name: g[name] for name in sample} for g in same] == [sample]


def test_the_examples_of_the_demo_are_answered_rightly_and_cited() -> None:
    """As docs/en/quality.md shows them, whoever of the company asks."""
    rows = (ROOT / "docs/en/quality.md").read_text("utf-8").splitlines()
    assert len(COMPANY["examples"]) == 3
    for question in COMPANY["examples"]:
        (golden,) = [g for g in GOLDEN if g["question"] == question]
        assert golden["kind"] == "answerable"
        (row,) = [row for row in rows if row.startswith(f"| {golden['id']} |")]
        assert row.endswith("| ✓ | ✓ |"), row


def test_the_demo_shows_its_examples_until_an_administrator_writes_others(
    sqlite_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", cheap)
    settings = Settings(data=tmp_path)
    assert examples.read(sqlite_engine) == ()
    load.load(sqlite_engine, settings)
    assert list(examples.read(sqlite_engine)) == COMPANY["examples"]
    examples.replace(sqlite_engine, [])
    load.load(sqlite_engine, settings)
    assert examples.read(sqlite_engine) == ()


# --- who may read what ---------------------------------------------------------------


def test_eight_accounts_and_the_groups_they_name() -> None:
    assert len(COMPANY["accounts"]) == 8
    for account in COMPANY["accounts"].values():
        assert set(account["groups"]) <= COMPANY["groups"].keys()
    assert [n for n, a in COMPANY["accounts"].items() if a["role"] == "administrator"] == [
        "kobayashi"
    ]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["id"])
def test_the_viewer_is_admitted_and_the_denied_are_not(golden: dict[str, Any]) -> None:
    if golden["uri"]:
        assert admits(golden["uri"], golden["viewer"])
    assert [user for user in golden["denied"] if admits(golden["uri"], user)] == []


def test_an_answerable_question_may_be_asked_by_everybody() -> None:
    for golden in GOLDEN:
        if golden["kind"] == "answerable":
            assert all(admits(golden["uri"], user) for user in COMPANY["accounts"]), golden["id"]


@pytest.mark.parametrize(
    "golden",
    [g for g in GOLDEN if g["kind"] == "restricted"],
    ids=lambda golden: golden["id"],
)
def test_the_denied_find_the_answer_nowhere_else(golden: dict[str, Any]) -> None:
    answers = {squeezed(words) for words in (golden["answer"], *golden["accept"])}
    telling = {words for words in answers if len(words) > 4}  # 「4名」 stands in many places
    for user in golden["denied"]:
        open_to = [uri for uri in DOCUMENTS if admits(uri, user)]
        found = [
            uri for uri in open_to if any(words in squeezed(text_of(uri)) for words in telling)
        ]
        assert found == [], user


def admits(uri: str, user: str) -> bool:
    """A small resolver of its own: every layer on the way down must admit, deny beats allow."""
    who = principals(user)
    layers: list[dict[str, Any]] = []
    for folder in reversed([*Path(uri).parents]):
        access = FILES / folder / sources.ACCESS
        if access.exists():
            layer = tomllib.loads(access.read_text("utf-8"))
            layers = [layer] if not layer.get("inherit", True) else [*layers, layer]
    return bool(layers) and all(
        who & set(layer["allow"]) and not who & set(layer.get("deny", [])) for layer in layers
    )


def principals(user: str) -> set[str]:
    groups = set(COMPANY["accounts"][user]["groups"])
    while more := {
        name
        for name, group in COMPANY["groups"].items()
        if name not in groups and groups & set(group.get("contains", []))
    }:
        groups |= more
    return {f"user:{user}", *(f"group:{group}" for group in groups)}


# --- reading a built file ------------------------------------------------------------


@cache
def text_of(uri: str) -> str:
    data = (FILES / uri).read_bytes()
    match uri.rsplit(".", 1)[1]:
        case "pdf":
            pdfium = pytest.importorskip("pypdfium2")
            return "\n".join(
                # the number and the running title at the edge are no part of the text
                page.get_textpage().get_text_bounded(bottom=50, top=790)
                for page in pdfium.PdfDocument(data)
            )
        case "docx":
            body = pytest.importorskip("docx").Document(io.BytesIO(data)).element.body
            return "\n".join(words(node) for node in body)
        case "pptx":
            deck = pytest.importorskip("pptx").Presentation(io.BytesIO(data))
            shapes = [words(shape._element) for slide in deck.slides for shape in slide.shapes]
            notes = [s.notes_slide.notes_text_frame.text for s in deck.slides if s.has_notes_slide]
            return "\n".join(shapes + notes)
        case "xlsx":
            book = pytest.importorskip("openpyxl").load_workbook(io.BytesIO(data))
            rows = (row for sheet in book for row in sheet.values)
            return "\n".join(" ".join(str(v) for v in row if v is not None) for row in rows)
        case "eml":
            mail = email.message_from_bytes(data, policy=email.policy.default)
            body = mail.get_body()
            assert body is not None
            return f"{mail['subject']}\n{body.get_content()}"
        case _:
            encoding = sources.read(sources.SOURCE / f"{uri}.md").fields.get("encoding", "utf-8")
            text = data.decode(encoding)
            if uri.endswith(".csv"):
                widths = {len(row) for row in csv.reader(io.StringIO(text)) if row}
                assert len(widths) == 1, f"{uri}: rows of {widths} cells"
            return text


def words(node: Any) -> str:
    from lxml import etree

    return etree.tostring(node, method="text", encoding="unicode")


def squeezed(text: str) -> str:
    """Without the breaks a layout puts in."""
    return re.sub(r"[\s\ufffe]", "", text)
