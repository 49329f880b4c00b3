"""How well files are read: the whole corpus through the sandbox, beside other readers.

    python -m tests.quality.documents [CLASS …] [--rival NAME=PYTHON …] [--page docs/en/documents.md]

What a file should say stands in tests/corpus/expected.json and comes from its source. A rival is a
reader in an environment of its own (`markitdown=/path/to/bin/python`), given the same files in the
same run; it runs unconfined.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from appliance.errors import PasswordNeeded, TooLarge, Transient, Unreadable
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.text import suspicious
from appliance.types import NOBODY, Document, RawFile
from tests import pages
from tests.corpus.paper import HERE as CORPUS
from tests.corpus.paper import manifest
from tests.quality import resemblance, rivals
from tests.quality.footprint import Footprint

HEAD = """# How well files are read

The files of `tests/corpus`, written by LibreOffice, Chromium, Ghostscript, python-docx, openpyxl,
python-pptx, reportlab and scripts; what they should say comes from their sources. Readers whose
columns stand beside each other saw the same files in the same run.

*Characters wrong*: edit distance between what was read and what the file says, over the length of
the latter, mean of the files; after NFKC, without white space and without the signs by which readers
show structure (`|#*_-:・\\\\`). A file that was not read counts as 100%. *Cells*: share of the cells of tables
found in a line that is their row, in their column or with its name before them. *Pairs*: share of
the fields of forms whose value follows its label in one line; *as pairs*: written `label: value`. Seconds
are of one child for each page (a file without pages is one), on a machine that others use too.

markitdown does not claim .doc, .ppt, OpenDocument, RTF and .eml: what it hands on as it is counts as
read, and is wrong. JSON and XML it hands on too, which a model may well understand; they have no rows.

Not beside it: unstructured 0.27 fetches a language model from GitHub for its first file, and reads
nothing on a machine without a way out; its extra for PDF brings torch with CUDA, some gigabytes.
docling fetches its models as well.

Pages that are pictures, or whose letters are garbled, are not the parsers' to read: they count as not
read here. What the reading of pages (OCR) makes of such pages is in [ocr.md](ocr.md).
"""


@dataclass(frozen=True)
class Reading:
    """What one reader made of one file."""

    path: str
    text: str | None  # None: not read, for `reason`
    reason: str = ""
    document: Document | None = None
    seconds: float = 0.0
    memory_bytes: int = 0

    @property
    def kind(self) -> str:
        return self.path.partition("/")[0]

    @property
    def ending(self) -> str:
        return self.path.rpartition(".")[2]


@dataclass
class Row:
    """Of one class and format."""

    files: int = 0
    unread: int = 0
    wrong: list[float] = field(default_factory=list)
    cells: list[tuple[int, int]] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    written: list[tuple[int, int]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def add(self, reading: Reading, expected: dict[str, Any]) -> None:
        self.files += 1
        self.unread += reading.text is None
        text = reading.text or ""
        if said := expected.get("text"):
            self.wrong.append(resemblance.wrong(text, said) if reading.text is not None else 1.0)
        for table in expected.get("tables", ()):
            self.cells.append(resemblance.cells(text, table))
        if pairs := expected.get("pairs"):
            self.pairs.append(resemblance.pairs(text, pairs))
            self.written.append(resemblance.pairs(text, pairs, written=True))
        pages = len(reading.document.pages) if reading.document else 0
        self.seconds.append(reading.seconds / max(pages, 1))
        self.memory.append(reading.memory_bytes)


def kura(papers: Iterable[str]) -> list[Reading]:
    readings = []
    with Sandbox(Settings(data=Path("documents"))) as sandbox:
        for path in papers:
            with Footprint(sandbox.pid) as foot:
                began = time.monotonic()
                document, reason = _read(sandbox, path)
                took = time.monotonic() - began
            text = resemblance.whole(document) if document else None
            readings.append(Reading(path, text, reason, document, took, foot.peak_bytes))
            print(f"{took:6.2f} s {foot.peak_bytes / 1e6:6.0f} MB  {path}  {reason}", flush=True)
    return readings


def _read(sandbox: Sandbox, path: str) -> tuple[Document | None, str]:
    opened = partial(io.BytesIO, (CORPUS / path).read_bytes())
    name = Path(path).name
    file = RawFile(name, "1", opened, NOBODY, name, datetime(2026, 4, 1, tzinfo=UTC))
    try:
        return sandbox.parse(file)[0], ""
    except (Unreadable, TooLarge, PasswordNeeded, Transient) as error:
        return None, str(error)


# --- tables of the page -----------------------------------------------------------


def by_format(readers: dict[str, Sequence[Reading]], papers: dict[str, dict[str, Any]]) -> str:
    """Per class and format, the readers beside each other."""
    rows: dict[tuple[str, str], dict[str, Row]] = defaultdict(lambda: defaultdict(Row))
    for name, readings in readers.items():
        for reading in readings:
            if reading.kind != "hostile":
                for ending in (reading.ending, "*all*"):
                    rows[reading.kind, ending][name].add(reading, papers[reading.path])
    names = list(readers)
    parts = []
    for title, measure in (
        ("Characters wrong", lambda row: _percent(row.wrong)),
        ("Cells in the right row and column", lambda row: _share(row.cells)),
        ("Pairs of label and value", lambda row: _share(row.pairs)),
        ("Pairs written as such", lambda row: _share(row.written)),
    ):
        lines = []
        for (kind, ending), found in sorted(rows.items()):
            said = [measure(found[n]) for n in names]
            if said[0]:
                first = found[names[0]]
                unread = " / ".join(str(found[n].unread) for n in names)
                lines.append(
                    f"| {kind} | {ending} | {first.files} | {unread} | {' | '.join(said)} |"
                )
        head = f"| class | format | files | not read ({' / '.join(names)}) | {' | '.join(names)} |"
        parts.append(
            "\n".join([f"**{title}**", "", head, "| --- " * (4 + len(names)) + "|", *lines])
        )
    return "\n\n".join(parts) + "\n"


def by_cost(readings: Sequence[Reading]) -> str:
    rows: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        if reading.kind != "hostile":
            rows[reading.kind, reading.ending].append(reading)
    lines = [
        "| class | format | files | seconds a page, median | worst | most memory |",
        "| --- " * 6 + "|",
    ]
    for (kind, ending), found in sorted(rows.items()):
        each = sorted(r.seconds / max(len(r.document.pages) if r.document else 0, 1) for r in found)
        most = max(r.memory_bytes for r in found)
        lines.append(
            f"| {kind} | {ending} | {len(found)} | {each[len(each) // 2]:.2f} | {each[-1]:.2f} | {most / 1e6:.0f} MB |"
        )
    return "\n".join(lines) + "\n"


def by_page(readings: Sequence[Reading], papers: dict[str, dict[str, Any]]) -> str:
    """Pages with letters without meaning: found, and cried over where there are none."""
    meant = told = false = clean = silent = 0
    files = []
    for reading in readings:
        if not reading.path.endswith(".pdf") or reading.kind == "hostile":
            continue
        garbled = set(papers[reading.path].get("garbled", ()))
        pages = reading.document.pages if reading.document else ()
        found = {p.number for p in pages if p.state == "garbled"}
        if not reading.document and "化けて" in reading.reason:
            found = garbled or {1}
        meant += len(garbled)
        told += len(garbled & found)
        clean += len({p.number for p in pages} - garbled)
        false += len(found - garbled)
        if found != garbled:
            files.append(f"`{reading.path}` (meant {sorted(garbled)}, told {sorted(found)})")
            silent += bool(garbled - found)
    lines = [
        f"Garbled pages told: {told} of {meant}. False alarms: {false} of {clean} clean pages of PDFs.",
        "" if not files else f"Wrong: {'; '.join(files)}.",
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def by_attack(readings: Sequence[Reading], papers: dict[str, dict[str, Any]]) -> str:
    lines = ["| file | tries | outcome | seconds | memory |", "| --- | --- | --- | --- | --- |"]
    for r in readings:
        if r.kind == "hostile":
            name = r.path.removeprefix("hostile/")
            lines.append(
                f"| {name} | {papers[r.path]['attack']} | {outcome(r, papers[r.path])} | {r.seconds:.2f} | {r.memory_bytes / 1e6:.0f} MB |"
            )
    return "\n".join(lines) + "\n"


def outcome(reading: Reading, expected: dict[str, Any]) -> str:
    if reading.text is None:
        return f"refused: {reading.reason[:120]}".replace("|", "／").replace("\n", " ")
    plain = resemblance.plain(reading.text)
    shown, hidden = expected.get("text", ""), expected.get("hidden", "")
    noted = bool(reading.document and reading.document.problems)
    said = "read, something noted" if noted and not hidden else "read"
    if shown and resemblance.plain(shown) not in plain:
        said += ", **without what it shows**"
    if hidden:
        if resemblance.plain(hidden) not in plain:
            said += ", the hidden part left out"
        else:
            wary = any(suspicious.notes(reading.text))
            said += (
                ", the hidden part noted" if noted else ", **the hidden part not noticed as such**"
            )
            said += " (noted for what it says)" if wary and not noted else ""
    return said


def _percent(values: Sequence[float]) -> str:
    return f"{mean(values):.1%}" if values else ""


def _share(values: Sequence[tuple[int, int]]) -> str:
    total = sum(n for _, n in values)
    return f"{sum(right for right, _ in values) / total:.1%} of {total}" if total else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.quality.documents")
    parser.add_argument("classes", nargs="*")
    parser.add_argument(
        "--rival", action="append", default=[], help="NAME=PYTHON of its environment"
    )
    parser.add_argument("--page", type=Path)
    parser.add_argument(
        "--worst", type=int, default=20, help="how many of the worst files are told"
    )
    chosen = parser.parse_args()
    papers = {
        path: said
        for path, said in manifest().items()
        if not chosen.classes or path.partition("/")[0] in chosen.classes
    }
    readers: dict[str, Sequence[Reading]] = {"Kura": kura(papers)}
    for rival in chosen.rival:
        name, _, python = rival.partition("=")
        harmless = [p for p in papers if not p.startswith("hostile/")]
        title, texts = rivals.read(name, Path(python), [CORPUS / p for p in harmless])
        readers[title] = [
            Reading(path, text, reason, None, seconds)
            for path, (text, reason, seconds) in zip(harmless, texts, strict=True)
        ]
        for reason, count in Counter(r.reason for r in readers[title] if r.reason).most_common(5):
            print(f"{title}: {count} times {reason}")
    mine = readers["Kura"]
    sections: dict[str, Callable[[], str]] = {
        "1 What was read": lambda: by_format(readers, papers),
        "2 Garbled pages": lambda: by_page(mine, papers),
        "3 Time and memory": lambda: by_cost(mine),
        "4 Hostile files": lambda: by_attack(mine, papers),
    }
    if chosen.classes == ["hostile"]:
        sections = {"4 Hostile files": sections["4 Hostile files"]}
    _worst(mine, papers, chosen.worst)
    for name, text in sections.items():
        print(f"\n## {name}\n\n{text()}")
        if chosen.page:
            command = " ".join(["python -m tests.quality.documents", *chosen.classes])
            command += "".join(f" --rival {r.partition('=')[0]}=…" for r in chosen.rival)
            pages.section(chosen.page, HEAD, name, command, text())


def _worst(readings: Sequence[Reading], papers: dict[str, dict[str, Any]], count: int) -> None:
    bad = [
        (resemblance.wrong(r.text or "", papers[r.path]["text"]), r.path)
        for r in readings
        if papers[r.path].get("text") and r.kind != "hostile"
    ]
    for wrong, path in sorted(bad, reverse=True)[:count]:
        print(f"{wrong:7.1%} {path}")


if __name__ == "__main__":
    main()
