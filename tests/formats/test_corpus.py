"""The corpus through the sandbox: what is plain is read to the letter, what is hidden is noticed.

`python -m tests.quality.documents` measures all of it; here is what may not get worse.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.text.suspicious import notes
from tests.corpus.paper import manifest
from tests.quality import resemblance

PAPERS = manifest()

UNNOTICED = {"hostile/slides/白い文字.pptx", "hostile/text/組の中.html"}


def of(*classes: str) -> list[str]:
    return [path for path in PAPERS if path.partition("/")[0] in classes]


def test_every_file_has_its_expectation_and_every_expectation_its_file(corpus: Path) -> None:
    classes = {path.partition("/")[0] for path in PAPERS}
    files = {
        str(p.relative_to(corpus)) for c in classes for p in (corpus / c).rglob("*") if p.is_file()
    }
    assert files == set(PAPERS)
    assert len(files) >= 150


@pytest.mark.parametrize("path", of("plain"))
def test_plain_text_is_read_to_the_letter(parse, corpus: Path, path: str) -> None:
    text = resemblance.whole(parse((corpus / path).read_bytes(), Path(path).name))
    assert resemblance.wrong(text, PAPERS[path]["text"]) < 0.002


@pytest.mark.parametrize("path", of("upright"))
def test_text_that_runs_down_is_read_to_the_letter(parse, corpus: Path, path: str) -> None:
    text = resemblance.whole(parse((corpus / path).read_bytes(), Path(path).name))
    lost = 4 if path == "upright/防災計画.gs.pdf" else 0  # 三, 上, 下 twice: not in that file
    assert text.count("\ufffd") == lost
    assert resemblance.wrong(text, PAPERS[path]["text"]) < 0.002 + lost / len(text)


@pytest.mark.parametrize("path", of("tables", "grid"))
def test_cells_are_in_their_rows_and_columns(parse, corpus: Path, path: str) -> None:
    text = resemblance.whole(parse((corpus / path).read_bytes(), Path(path).name))
    for table in PAPERS[path].get("tables", ()):
        right, total = resemblance.cells(text, table)
        assert right == total


@pytest.mark.parametrize(
    "path", [p for p in of("hostile") if PAPERS[p].get("hidden") and not p.endswith(".pdf")]
)
def test_what_nobody_sees_is_left_out_or_noted(parse, corpus: Path, path: str) -> None:
    document = parse((corpus / path).read_bytes(), Path(path).name)
    read = resemblance.plain(PAPERS[path]["hidden"]) in resemblance.plain(
        resemblance.whole(document)
    )
    noted = document.problems or any("画面に出ない" in note for note in notes(document.text))
    assert bool(read and not noted) is (path in UNNOTICED)
