"""`kura work` killed again and again while it takes in a mixed folder.

    python -m tests.bench.kills [--files 10000] [--kills 100] [--seed 1] [--page docs/en/kills.md]

The folder holds small files of seven kinds and some that must fail visibly. `kura work` runs as it
does on a site, in a process of its own with its parsers' processes, beside a model server that only
hashes. At random moments between the first document and the last SIGKILL goes to it and to one of its
children in turn. At last every file is there exactly once, or failed with its reason; the indexes say
what the catalogue says; nothing is left in the temporary folder, no process goes on.

Only one thing is not as on a site: a dead worker's lease is over after two seconds instead of sixty.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import random
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import docx
import openpyxl
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import Engine, text

from appliance import build
from appliance.inference import models
from appliance.settings import Settings
from appliance.store import sources
from appliance.store.timing import Timing
from appliance.testing.fakes import HashEmbedder
from tests import pages, whole

ROOT = Path(__file__).parents[2]
LEASE_S = 2.0
WORK = (
    "import sys; from appliance.ingest import schedule; "
    f"schedule.LEASE_S = {LEASE_S}; sys.argv = ['kura', 'work']; "
    "from appliance.cli import main; main()"
)
LONGEST_S = 3600.0
QUIET_S = 30.0  # for processes to be gone
OFFICES = ("総務部", "経理部", "営業部", "製造部", "品質保証部")
TOPICS = ("出張旅費", "稟議", "在庫", "安全衛生", "取引先", "検査", "納期", "研修")
HEAD = """# Killed while it works

A folder of small files (Word, Excel, PDF, text in CP932, mail with an attachment, HTML, zip with three
members under CP932 names, and one in twenty that must fail visibly) is taken in by the real `kura work`.
SIGKILL goes in turn to the process and to one of its children, at random moments between the first
document and the last. *Wrong* counts files that are not there exactly once, not with their own text, or
failed without having to; chunks, vectors and access are compared by `tests/whole.py`. Only the lease of
a dead worker is shorter than on a site (2 s instead of 60), and the model server only hashes.
"""


@dataclass(frozen=True, slots=True)
class Paper:
    """A file, and what must become of it: its own number in the text, or a problem (None)."""

    name: str
    data: bytes
    said: dict[str, str | None]  # by the path inside it, "" for itself


# --- the folder -------------------------------------------------------------------


def papers(count: int) -> Iterator[Paper]:
    kinds = (_word, _excel, _pdf, _text, _mail, _page, _archive)
    for n in range(count):
        office, topic = OFFICES[n % len(OFFICES)], TOPICS[n % len(TOPICS)]
        stem = f"{office}/{n // 100:03}/{topic}の件 {n:05}"
        words = _words(n, office, topic)
        if n % 20 == 19:
            suffix, data = BROKEN[n // 20 % len(BROKEN)]
            yield Paper(stem + suffix, data, {"": None})
            continue
        suffix, data, inside = kinds[n % len(kinds)](n, words)
        yield Paper(stem + suffix, data, {"": _number(n), **inside})


def _number(n: int) -> str:
    return f"KB-{n:06}"


def _words(n: int, office: str, topic: str) -> list[str]:
    rng = random.Random(n)
    lines = [f"文書番号 {_number(n)}", f"{office}は{topic}について次のとおり定める。"]
    for k in range(rng.randrange(2, 7)):
        lines.append(
            f"({k + 1}) {rng.choice(TOPICS)}の担当者は{rng.randrange(2, 30)}日以内に"
            f"{rng.choice(OFFICES)}長へ届け出る。金額の上限は{rng.randrange(1, 90)},000円とする。"
        )
    return lines


Made = tuple[str, bytes, dict[str, str | None]]  # how the name ends, the bytes, what is inside


@cache
def _blank_word() -> bytes:
    out = io.BytesIO()
    document = docx.Document()
    document.add_paragraph("PLACE")
    document.save(out)
    return out.getvalue()


def _word(n: int, words: list[str]) -> Made:
    out = io.BytesIO()
    again = b"</w:t></w:r></w:p><w:p><w:r><w:t>"
    body = again.join(line.encode() for line in words)
    with zipfile.ZipFile(io.BytesIO(_blank_word())) as blank, zipfile.ZipFile(out, "w") as made:
        for name in blank.namelist():
            data = blank.read(name)
            made.writestr(name, data.replace(b"PLACE", body) if name.endswith("t.xml") else data)
    return ".docx", out.getvalue(), {}


def _excel(n: int, words: list[str]) -> Made:
    out = io.BytesIO()
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("一覧")
    sheet.append(["番号", "内容", "金額"])
    for k, line in enumerate(words):
        sheet.append([k, line, 1000 * k])
    book.save(out)
    return ".xlsx", out.getvalue(), {}


def _pdf(n: int, words: list[str]) -> Made:
    out = io.BytesIO()
    canvas = Canvas(out)
    canvas.setFont(_font(), 10)
    for k, line in enumerate(words):
        canvas.drawString(60, 780 - 16 * k, line)
    canvas.save()
    return ".pdf", out.getvalue(), {}


@cache
def _font() -> str:
    pdfmetrics.registerFont(UnicodeCIDFont("HeiseiMin-W3"))
    return "HeiseiMin-W3"


def _text(n: int, words: list[str]) -> Made:
    return ".txt", "\r\n".join(words).encode("cp932"), {}


def _mail(n: int, words: list[str]) -> Made:
    mail = EmailMessage()
    mail["From"], mail["To"] = "sato@example.jp", "ito@example.jp"
    mail["Subject"], mail["Date"] = words[1], "Wed, 01 Apr 2026 09:00:00 +0900"
    mail.set_content("\n".join(words), charset="iso-2022-jp")
    mail.add_attachment(f"別紙 {words[0]}-1".encode("cp932"), "text", "plain", filename="別紙.txt")
    return ".eml", mail.as_bytes(), {"別紙.txt": f"{_number(n)}-1"}


def _page(n: int, words: list[str]) -> Made:
    body = "".join(f"<p>{line}</p>" for line in words)
    return ".html", f"<html><body><h1>社内通達</h1>{body}</body></html>".encode(), {}


def _archive(n: int, words: list[str]) -> Made:
    """Its names in CP932, as Windows writes them; the third file is empty."""
    out = io.BytesIO()
    names = {"通達.txt": "\n".join(words), "控え.txt": f"控え {words[0]}-2", "空.txt": ""}
    short = {}
    with zipfile.ZipFile(out, "w") as made:
        for k, (name, said) in enumerate(names.items()):
            as_windows = name.encode("cp932")
            short[f"{k}".rjust(len(as_windows), "_").encode()] = as_windows
            made.writestr(zipfile.ZipInfo(f"{k}".rjust(len(as_windows), "_")), said)
    data = out.getvalue()
    for mine, theirs in short.items():
        data = data.replace(mine, theirs)
    inside: dict[str, str | None] = {
        "通達.txt": _number(n), "控え.txt": f"{_number(n)}-2", "空.txt": None,
    }  # fmt: skip
    return ".zip", data, {"": "", **inside}


BROKEN = (
    (".txt", b""),
    (".docx", b"PK\x03\x04" + b"\0" * 200),
    (".pdf", b"%PDF-1.7\nnothing of one"),
    (".xlsx", b"\x00\x01\x02" * 300),
    (".bin", b"\x7fELF" + bytes(range(256))),
)


# --- a model server that hashes ---------------------------------------------------


class _Infer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked was killed."""


class _Embeddings(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    dim = models.named(models.DEFAULT_EMBEDDER).dim

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        vectors = HashEmbedder(self.dim).embed(asked["input"], asked["input_type"])
        rows = [
            {"index": n, "embedding": base64.b64encode(v.astype("<f4").tobytes()).decode()}
            for n, v in enumerate(vectors)
        ]
        body = json.dumps({"data": rows}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Nothing: there are thousands."""


@contextmanager
def infer(settings: Settings) -> Iterator[None]:
    with _Infer(str(settings.infer_socket), _Embeddings) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


# --- the worker -------------------------------------------------------------------


@dataclass
class Worker:
    """`kura work` on this site: started again whenever it is not there."""

    settings: Settings
    temporary: Path
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    left: list[str] = field(default_factory=list)  # processes that outlived it

    def start(self) -> None:
        env = {**os.environ, "KURA_DATA": str(self.settings.data), "KURA_OCR": "false"}
        env |= {"TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)}
        # no compiler: asyncssh looks for libraries with one, and what it leaves is not ours
        env["PATH"] = str(Path(sys.executable).parent)
        with (self.settings.data / "work.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WORK], env=env, cwd=ROOT, stdout=log, stderr=log
            )
        self.lives += 1

    def look(self) -> None:
        """One that ended by itself is started again, as `kura up` does, and told."""
        assert self.process
        if (code := self.process.poll()) is not None:
            self.left.append(f"kura work ended by itself with {code}")
            self.start()

    def family(self) -> list[int]:
        assert self.process
        return list(_descendants(self.process.pid))

    def kill(self) -> None:
        assert self.process
        family = self.family()
        self.process.kill()
        self.process.wait()
        self._gone(family)

    def end(self) -> None:
        assert self.process
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        if code := self.process.wait(QUIET_S):
            self.left.append(f"kura work ended with {code}")
        self._gone(family)

    def _gone(self, family: list[int]) -> None:
        until = time.monotonic() + QUIET_S
        while alive := [pid for pid in family if _alive(pid)]:
            if time.monotonic() > until:
                self.left += [f"process {pid} goes on" for pid in alive]
                return
            time.sleep(0.05)


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("Z", "X")
    return False


# --- the run ----------------------------------------------------------------------


@dataclass
class Outcome:
    kills: Counter[str] = field(default_factory=Counter)
    ready: int = 0
    failed: int = 0
    chunks: int = 0
    wrong: list[str] = field(default_factory=list)
    lives: int = 0
    seconds: float = 0.0


def run(
    folder: Path, files: int, kills: int, seed: int, say: Callable[[str], None] = print
) -> Outcome:
    """In an empty folder. Raises AssertionError where the catalogue contradicts itself."""
    expected = _written(folder / "share", files)
    temporary = folder / "tmp"
    temporary.mkdir()
    settings = Settings(data=folder / "data")
    engine = build.store(settings)
    timing = Timing(3600)
    root = {"root": str(folder / "share"), "allow": ["everyone"]}
    source = sources.create(engine, "共有", "folder", root, timing)
    outcome, worker = Outcome(), Worker(settings, temporary)
    rng = random.Random(seed)
    moments = sorted(rng.randrange(files) for _ in range(kills))
    began = time.monotonic()
    with infer(settings):
        worker.start()
        for number, moment in enumerate(moments):
            while _documents(engine) <= moment:
                worker.look()
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 2))
            _kill(worker, "process" if number % 2 == 0 else "child", rng, outcome)
            if (number + 1) % 10 == 0:
                say(f"{number + 1} kills, {_documents(engine)} of {files} files")
        for _ in range(2):  # the second looks again at what was not its own fault
            _finish(engine, source.id, worker)
        worker.end()
    outcome.seconds, outcome.lives = time.monotonic() - began, worker.lives
    outcome.wrong += worker.left
    outcome.wrong += [f"left over: {path.name}" for path in temporary.iterdir()]
    _compare(engine, expected, outcome)
    whole.check(engine)
    engine.dispose()
    return outcome


def _written(share: Path, files: int) -> dict[str, str | None]:
    """What each document must say."""
    expected: dict[str, str | None] = {}
    for paper in papers(files):
        path = share / paper.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(paper.data)
        for inside, said in paper.said.items():
            expected[f"{paper.name} › {inside}" if inside else paper.name] = said
    return expected


def _kill(worker: Worker, what: str, rng: random.Random, outcome: Outcome) -> None:
    outcome.kills[what] += 1
    if what == "process":
        worker.kill()
        worker.start()
        return
    while True:
        worker.look()
        with contextlib.suppress(ProcessLookupError, IndexError):  # none, or it was quicker
            os.kill(rng.choice(worker.family()), signal.SIGKILL)
            return
        time.sleep(0.01)


def _finish(engine: Engine, source_id: int, worker: Worker) -> None:
    """One whole run from now on."""
    before = sources.get(engine, source_id).last_run
    sources.run_now(engine, source_id)

    def over() -> bool:
        worker.look()
        now = sources.get(engine, source_id)
        ended = now.last_run is not None and now.last_run.outcome == "complete"
        return ended and now.last_run != before and now.leased_by is None

    _until(over)


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + LONGEST_S
    while not true():
        if time.monotonic() > until:
            raise AssertionError("it does not go on")
        time.sleep(0.02)


def _documents(engine: Engine) -> int:
    with engine.connect() as connection:
        count = "SELECT count(*) FROM document WHERE parent_id IS NULL"
        return int(connection.execute(text(count)).scalar() or 0)


def _compare(engine: Engine, expected: dict[str, str | None], outcome: Outcome) -> None:
    query = (
        "SELECT d.uri, d.status, d.problem, w.text FROM document d "
        "LEFT JOIN body b ON b.document_id = d.id LEFT JOIN wording w ON w.id = b.wording_id"
    )
    with engine.connect() as connection:
        rows = connection.execute(text(query)).all()
        outcome.chunks = int(connection.execute(text("SELECT count(*) FROM chunk")).scalar() or 0)
    times = Counter(row.uri for row in rows)
    outcome.wrong += [f"{uri}: {n} times" for uri, n in times.items() if n > 1]
    outcome.wrong += [f"{uri}: missing" for uri in expected.keys() - times.keys()]
    outcome.wrong += [f"{uri}: nobody's" for uri in times.keys() - expected.keys()]
    for row in rows:
        said = expected.get(row.uri, "")
        outcome.ready += row.status == "ready"
        outcome.failed += row.status == "problem"
        if said is None and not (row.status == "problem" and row.problem):
            outcome.wrong.append(f"{row.uri}: {row.status}, and should have failed")
        if said is not None and (row.status != "ready" or said not in (row.text or "")):
            outcome.wrong.append(f"{row.uri}: {row.status} ({row.problem})")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.kills")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(Path(folder), chosen.files, chosen.kills, chosen.seed)
    lines = [
        "| files | kills of the process / of a child | lives | documents | failed visibly | chunks | wrong | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| {chosen.files:,} | {outcome.kills['process']} / {outcome.kills['child']} | {outcome.lives} | {outcome.ready:,} | "
        f"{outcome.failed:,} | {outcome.chunks:,} | {len(outcome.wrong)} | {outcome.seconds:,.0f} |",
    ]
    said = "\n".join([*lines, "", *(f"- {one}" for one in outcome.wrong[:20])]).rstrip() + "\n"
    print(said)
    if chosen.page:
        command = f"python -m tests.bench.kills --files {chosen.files} --kills {chosen.kills} --seed {chosen.seed}"
        name = f"{chosen.files:,} files, {chosen.kills} kills, seed {chosen.seed}"
        pages.section(chosen.page, HEAD, name, command, said)
    sys.exit(bool(outcome.wrong))


if __name__ == "__main__":
    main()
