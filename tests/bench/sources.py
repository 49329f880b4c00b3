"""A source of 100,000 files, beside `rclone` that lists the same tree; and how busy the embedder is.

    python -m tests.bench.sources [--files 10000,100000] [--taken 1000] [--documents 40]
        [--page docs/en/sources.md]

A tree of tiny text files with Japanese names, as a folder of this machine, over SMB (Samba) and over
WebDAV (`rclone serve webdav`), which both ask. Every row is a process of its own, so that its memory
is its own. As root, for Samba's sake.

Of a tree's files only the last `--taken` are taken in from their bytes; what the catalogue holds of
the others is copied from one that was, for taking in costs the same whatever is there already, and a
resync looks at all of them either way. `--documents` papers of a thousand and more characters go through the real
sandbox and the real embedder, to see what the time goes to.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from sqlalchemy import Engine, text

from appliance import build
from appliance.formats.sandbox import Sandbox
from appliance.inference import models
from appliance.inference.client import InferClient, RemoteEmbedder
from appliance.ingest import flow
from appliance.ingest.running import Parse
from appliance.ingest.sync import sync
from appliance.ports import Connector, Embedder
from appliance.settings import Settings
from appliance.store import access, catalog, sources
from appliance.store.timing import Timing
from appliance.testing.fakes import HashEmbedder
from appliance.types import Checkpoint, Cursor, Document, RawFile, Role, Site, Upsert, Vectors
from connectors.folder import FolderConnector, FolderSettings
from connectors.webdav import WebDavConnector, WebDavSettings
from tests import pages, ports
from tests.bench import backup, kills, serve
from tests.connectors import samba
from tests.connectors.samba import Samba, Share

A_FOLDER = 100  # files
EVERY = 100  # of them one changes
PASSWORD = "himitsu"
_NTFS = "security.NTACL"
HEAD = """# Sources: large ones, and where the time goes

A tree of tiny text files with Japanese names, a hundred in a folder, listed by Kura's connectors and by
`rclone` in the same run: as a folder of the machine, over SMB served by Samba, and over WebDAV served by
`rclone serve webdav`, which both ask. Over SMB Kura reads each file's NTFS permissions too, which
`rclone` does not: all at the first listing, later where they may be others (Samba does not tell that, so
there they are read again when they are five minutes old). A *resync* is what `kura work` does when the source is due, with catalogue and cursor.
Each row is a process of its own; *memory* is the most that it held. Of the files in the catalogue only
as many as the row *first* says were read; the others' rows were copied from one of those.
Catalogue and listing are compared on the disk: an unchanged source of ten times as many files takes 10 to 20 MB
more. Where a thousand of them are taken in it is 20 to 60 MB, which was not looked into further.

Of the time of a document: *embed* is the share of the whole in which `kura infer` had something to
embed, *parse* and *store* likewise. They overlap. *One after another* is the same code with one file
on its way at a time.
"""


class Spent(NamedTuple):
    seconds: float
    files: int
    peak_mb: float
    said: dict[str, Any]


# --- the tree ---------------------------------------------------------------------


def grow(root: Path, files: int) -> dict[str, Any]:
    """Everybody may read each of them, as the root's NTFS permissions say."""
    for n in range(files):
        if n % A_FOLDER == 0:
            folder = root / f"第{n // A_FOLDER // 50:02}営業部" / f"案件{n // A_FOLDER:04}"
            folder.mkdir(parents=True)
        path = folder / f"見積の控え{n:06}.txt"
        path.write_text(f"第{n}号 青山商事への見積は{n % 997}千円とする。", "utf-8")
    permissions = os.getxattr(root, _NTFS)
    for path in root.rglob("*"):
        os.setxattr(path, _NTFS, permissions)
    return {"files": files}


def change(root: Path) -> int:
    """One in a hundred, spread over all folders."""
    paths = sorted(root.rglob("*.txt"))[::EVERY]
    for path in paths:
        path.write_text(path.read_text("utf-8") + "改訂した。", "utf-8")
    return len(paths)


@contextmanager
def shared() -> Iterator[Share]:
    server = Samba()
    try:
        yield server.start().share()
    finally:
        server.close()


@contextmanager
def served(root: Path) -> Iterator[int]:
    """The tree over WebDAV. What changed on the disk shows at once."""
    port = ports.free()
    argv = ["rclone", "serve", "webdav", str(root), "--addr", f"127.0.0.1:{port}"]
    argv += ["--user", "ito", "--pass", PASSWORD, "--dir-cache-time", "1s", "--log-level", "ERROR"]
    process = subprocess.Popen(argv)
    try:
        for _ in range(200):
            if not subprocess.run(
                ["bash", "-c", f"</dev/tcp/127.0.0.1/{port}"], capture_output=True
            ).returncode:
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


# --- what is measured -------------------------------------------------------------


def alone(work: Callable[[], dict[str, Any]]) -> Spent:
    """In a child, whose memory is told by the kernel."""
    read, write = os.pipe()
    began = time.perf_counter()
    if (child := os.fork()) == 0:
        try:
            said = json.dumps(work())
            os.write(write, said.encode())
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  the parent is told
            os.write(write, json.dumps({"error": repr(error)}).encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        said = json.loads(told.read() or "{}")
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(said)
    peak_mb = said.pop("peak_mb", used.ru_maxrss / 1024)
    return Spent(time.perf_counter() - began, said.pop("files"), peak_mb, said)


def rclone(*argv: str) -> dict[str, Any]:
    argv = ("rclone", "lsf", "-R", "--files-only", *argv)
    peak_mb, files = 0.0, 0
    with tempfile.TemporaryFile() as out, subprocess.Popen(argv, stdout=out) as process:
        while process.poll() is None:
            with suppress(OSError, IndexError):  # it ended meanwhile
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak_mb = int(status.split("VmHWM:")[1].split()[0]) / 1024
            time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"rclone ended with {process.returncode}")
        out.seek(0)
        files = sum(block.count(b"\n") for block in iter(lambda: out.read(1 << 20), b""))
    return {"files": files, "peak_mb": peak_mb}


def listed(connector: Connector) -> dict[str, Any]:
    return {"files": sum(isinstance(one, Upsert) for one in connector.changes(None))}


@dataclass
class Kind:
    """A connector, what `rclone` calls the same place, and a catalogue."""

    name: str
    connect: Callable[[], Connector]
    place: Sequence[str]
    settings: Settings
    rows: list[tuple[str, Spent]] = field(default_factory=list)

    def measure(self, root: Path, taken: int, say: Callable[[str], None]) -> None:
        def row(name: str, work: Callable[[], dict[str, Any]]) -> None:
            self.rows.append((name, alone(work)))
            say(f"{self.name}, {name}: {self.rows[-1][1]}")

        row("`rclone` lists", lambda: rclone(*self.place))
        row("Kura lists", lambda: listed(self.connect()))
        alone(lambda: self.fill(taken))
        row(f"first resync, {taken:,} of them new", self.resync)
        row("resync, nothing changed", self.resync)
        changed = alone(lambda: {"files": change(root)}).files  # what it holds is no run's
        time.sleep(2)  # what serves the tree may remember a folder for a second
        row(f"resync, {changed:,} changed", self.resync)

    def fill(self, left_out: int) -> dict[str, Any]:
        """All but the last few, as if they had been taken in."""
        engine = build.store(self.settings)
        source = sources.create(engine, "棚", "folder", {}, Timing(3600))
        files = [one.file for one in self.connect().changes(None) if isinstance(one, Upsert)]
        report = sync(engine, source, _Few(files[:1]), HashEmbedder(), read, self.settings)
        assert report.counts["added"] == 1
        copy(engine, source.id, files[1 : len(files) - left_out])
        engine.dispose()
        return {"files": len(files)}

    def resync(self) -> dict[str, Any]:
        engine = build.store(self.settings)
        (source,) = [one for one in sources.all(engine) if one.name == "棚"]
        report = sync(engine, source, self.connect(), HashEmbedder(), read, self.settings)
        engine.dispose()
        return {"files": sum(report.counts.values()), **report.counts}


class _Few:
    """Some files, and not all there are."""

    kind = "few"

    def __init__(self, files: list[RawFile]) -> None:
        self._files = files

    def check(self) -> None: ...

    def changes(self, since: Cursor | None) -> Iterator[Upsert | Checkpoint]:
        yield from map(Upsert, self._files)
        yield Checkpoint(Cursor("{}"), complete=False)


def read(file: RawFile) -> tuple[Document, str]:
    with file.open() as stream:
        return Document(stream.read().decode()), "text/plain"


def copy(engine: Engine, source_id: int, files: Sequence[RawFile]) -> None:
    """The rows of the one document there is, once for each file, under its name and version."""
    with engine.begin() as connection:
        for table, key in (("document", "id"), ("body", "document_id"), ("chunk", "document_id")):
            names = [row[1] for row in connection.execute(text(f"PRAGMA table_info({table})"))]
            own = {key: ":new"} | ({"id": "NULL"} if table == "chunk" else {})
            if table == "document":
                own |= {name: f":{name}" for name in ("uri", "uri_digest", "version", "title")}
                own |= {name: f":{name}" for name in ("modified_at", "digest")}
            values = ", ".join(own.get(name, f'"{name}"') for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            old = connection.execute(
                text("SELECT id FROM document WHERE source_id = :s ORDER BY added_at LIMIT 1"),
                {"s": source_id},
            ).scalar_one()
            statement = (
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE {key} = :old"
            )
            connection.execute(
                text(statement),
                [
                    {
                        "old": old,
                        "new": f"{n:032x}",
                        "uri": one.uri,
                        "uri_digest": access.digest(one.uri),
                        "version": one.version,
                        "title": one.title,
                        "modified_at": one.modified_at.strftime("%Y-%m-%d %H:%M:%S.%f"),
                        "digest": access.digest(one.uri),
                    }
                    for n, one in enumerate(files)
                ],
            )


# --- where the time of a document goes --------------------------------------------


class Timed:
    """Seconds in which at least one was within a call."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._within, self._since, self._lock = 0, 0.0, threading.Lock()

    def __call__(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **more: Any) -> Any:
            self._step(1)
            try:
                return call(*args, **more)
            finally:
                self._step(-1)

        return timed

    def _step(self, by: int) -> None:
        with self._lock:
            now = time.perf_counter()
            if self._within:
                self.seconds += now - self._since
            self._within, self._since = self._within + by, now


class TimedEmbedder:
    def __init__(self, inner: Embedder, clock: Timed) -> None:
        self._inner, self.name, self.dim = inner, inner.name, inner.dim
        self._embed = clock(inner.embed)

    def embed(self, texts: Sequence[str], role: Role) -> Vectors:
        return self._embed(texts, role)  # type: ignore[no-any-return]


def papers(root: Path, many: int) -> dict[str, Path]:
    """Plain papers of three thousand characters, and small files of seven kinds."""
    places = {"papers of 3,000 characters (.txt)": root / "papers"}
    places["small files of seven kinds"] = root / "mixed"
    for n in range(many):
        path = places["papers of 3,000 characters (.txt)"] / f"規程{n:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(backup.paper(n), "utf-8")
    for one in kills.papers(many):
        path = places["small files of seven kinds"] / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.data)
    return places


def shares(folder: Path, many: int, say: Callable[[str], None]) -> list[str]:
    """With `kura infer` and the parsers' sandbox as they run at a customer."""
    lines = [
        "| documents | taken in | per second | parse | embed | store |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    model = models.named(models.DEFAULT_EMBEDDER)
    with serve.kura(slots=1, context=2048) as server:
        embedder = RemoteEmbedder(InferClient(server.target.at), model.name, model.dim)
        embedder.embed(["温める。"] * 32, "passage")
        for number, (name, place) in enumerate(papers(folder, many).items()):
            for how, at_once in (("one after another", 1), ("beside each other", flow.FILES)):
                settings = Settings(data=folder / f"data{number}-{at_once}", ocr=False)
                with mock.patch.object(flow, "FILES", at_once):
                    whole, count, parts = taken_in(settings, place, embedder)
                told = " | ".join(f"{100 * one / whole:.0f} %" for one in parts)
                lines.append(f"| {count} {name} | {how} | {count / whole:.1f} | {told} |")
                say(lines[-1])
    return lines


def taken_in(
    settings: Settings, place: Path, embedder: Embedder
) -> tuple[float, int, tuple[float, float, float]]:
    """Seconds, documents, and in how many of them something was parsed, embedded, stored."""
    engine = build.store(settings)
    source = sources.create(engine, "棚", "folder", {}, Timing(3600))
    parsing, embedding, storing = Timed(), Timed(), Timed()
    with (
        Sandbox(settings) as sandbox,
        mock.patch.object(catalog, "replace", storing(catalog.replace)),
    ):
        parse: Parse = parsing(sandbox.parse)
        timed = TimedEmbedder(embedder, embedding)
        began = time.perf_counter()
        report = sync(engine, source, _folder(place), timed, parse, settings)
        whole = time.perf_counter() - began
    engine.dispose()
    return whole, sum(report.counts.values()), (parsing.seconds, embedding.seconds, storing.seconds)


def obscured(password: str) -> str:
    argv = ["rclone", "obscure", password]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def _folder(root: Path) -> FolderConnector:
    return FolderConnector(FolderSettings(root=root, allow=["everyone"]))


# --- the page ---------------------------------------------------------------------


def trees(folder: Path, files: int, taken: int, say: Callable[[str], None]) -> list[str]:
    lines = [
        f"| {files:,} files | seconds | files per second | memory |",
        "| --- | --- | --- | --- |",
    ]
    with shared() as share, served(share.root) as port:
        root = share.root
        alone(lambda: grow(root, files))  # what it holds is no run's
        near = frozenset({f"127.0.0.1:{port}"})
        dav = WebDavSettings.model_validate(
            {
                "url": f"http://127.0.0.1:{port}/",
                "user": "ito",
                "password": PASSWORD,
                "allow": ["everyone"],
            }
        )
        far = [":webdav:", "--webdav-url", f"http://127.0.0.1:{port}", "--webdav-user", "ito"]
        far += ["--webdav-pass", obscured(PASSWORD)]
        smb = [
            f":smb:共有/{share.name}",
            "--smb-host",
            "127.0.0.1",
            "--smb-port",
            str(share.samba.port),
        ]
        smb += [
            "--smb-user",
            "kura",
            "--smb-domain",
            "KURA",
            "--smb-pass",
            obscured(samba.PASSWORD),
        ]
        for kind in (
            Kind("folder", lambda: _folder(root), [str(root)], Settings(data=folder / "a")),
            Kind(
                "WebDAV",
                lambda: WebDavConnector(dav, Site(near=near)),
                far,
                Settings(data=folder / "b"),
            ),
            Kind("SMB", share.connector, smb, Settings(data=folder / "c")),
        ):
            kind.measure(root, taken, say)
            lines += [
                f"| {kind.name}: {name} | {one.seconds:.1f} | {one.files / one.seconds:,.0f} | {one.peak_mb:.0f} MB |"
                for name, one in kind.rows
            ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.sources")
    parser.add_argument("--files", default="10000,100000", help="sizes of trees")
    parser.add_argument("--taken", type=int, default=1000, help="of them read from their bytes")
    parser.add_argument("--documents", type=int, default=40, help="through the real embedder")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--folder", type=Path, help="where trees and catalogues are made")
    chosen = parser.parse_args()
    if not shutil.which("rclone"):
        sys.exit("rclone がありません / rclone is missing: apt-get install rclone")
    if why := samba.missing():
        sys.exit(why)
    done = f"--taken {chosen.taken}"

    def say(line: str) -> None:
        print(line, flush=True)

    for files in map(int, filter(None, chosen.files.split(","))):
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            lines = trees(Path(folder), files, chosen.taken, say)
        lines += ["", _load(before)]
        if chosen.page:
            command = f"python -m tests.bench.sources --files {files} --documents 0 {done}"
            pages.section(chosen.page, HEAD, f"{files:,} files", command, "\n".join(lines) + "\n")
    if chosen.documents:
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            lines = shares(Path(folder), chosen.documents, say)
        lines += ["", _load(before)]
        if chosen.page:
            command = f"python -m tests.bench.sources --files '' --documents {chosen.documents}"
            name = "Where a document's time goes"
            pages.section(chosen.page, HEAD, name, command, "\n".join(lines) + "\n")


def _load(before: float) -> str:
    return f"Load average of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after."


if __name__ == "__main__":
    main()
