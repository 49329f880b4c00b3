"""Where `kura work` gives out an original, a picture of one of its pages, or says what a trial found.

Only `work` may reach sources and open hostile files, so `kura web` asks here, over a Unix socket
that nobody but this user may open. Who may read is asked by `web`, before and after; the access
that the source shows meanwhile is written down first.

One connection a request: a line of JSON, answered by a line of JSON and as many bytes as it says.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import socketserver
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as but
from functools import partial
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Engine

from appliance.errors import (
    ApplianceError,
    Conflict,
    NotVisible,
    SourceBusy,
    Transient,
    Unreadable,
)
from appliance.ingest.fetching import fetch, reopen
from appliance.ingest.originals import INSIDE
from appliance.ports import Connector
from appliance.store import access, catalog, dossier, sources
from appliance.store.dossier import Place
from appliance.store.sources import Source
from appliance.types import RawFile

log = logging.getLogger(__name__)

AT_ONCE = 2  # pages drawn at the same time: each may take a core
WAIT_S = 15.0  # for one's turn
PATIENCE_S = 30.0  # with somebody who does not take what he asked for
LINE_BYTES = 262_144  # settings to try are that long at most
KEPT_BYTES = 200_000_000  # of files fetched lately
KEPT_S = 120.0
LOOK_S = 1.0  # how often a second worker looks whether the desk is free

CHANGED = "取り込んだ後に原本が変わっています。新しい内容の取り込みが済むまでお待ちください。"
GONE = "取り込み元に原本が見つかりません。移動または削除された可能性があります。"
BUSY = "ページの表示が混み合っています。"

At = tuple[int, ...]
Draw = Callable[[RawFile, int], bytes]  # a page, from 1, as PNG
Try = Callable[[str, Mapping[str, Any]], str]  # a kind and its settings, sealed → what was found
Cut = Callable[[RawFile, Sequence[At]], Mapping[At, bytes]]  # files inside it


@dataclass(frozen=True, slots=True)
class _Copy:
    file: BinaryIO  # without a name: nothing is left of it, ever
    size: int
    digest: str
    at: float


class Desk:
    def __init__(
        self,
        engine: Engine,
        connect: Callable[[Source], Connector],
        draw: Draw,
        cut: Cut,
        path: Path,
        file_bytes: int,
        trial: Try,
    ) -> None:
        self._engine = engine
        self._connect = connect
        self._draw, self._cut = draw, cut
        self._path = path
        self._file_bytes = file_bytes
        self._try = trial
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._copies: OrderedDict[tuple[str, str], _Copy] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set. One worker of a data folder does; the others stand by."""
        while not stop.is_set():
            with self._path.with_suffix(".lock").open("w") as mine:
                try:
                    fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._serve(stop)
                except BlockingIOError:
                    pass
                except OSError as error:
                    log.warning("nobody can be given an original: %s", error)
            stop.wait(LOOK_S)

    def _serve(self, stop: threading.Event) -> None:
        self._path.unlink(missing_ok=True)
        desk = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = PATIENCE_S

            def handle(self) -> None:
                desk._answer(self.rfile, self.wfile)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                log.debug("somebody hung up", exc_info=True)

        with Server(str(self._path), Handler) as server:
            self._path.chmod(0o600)
            serving = threading.Thread(target=server.serve_forever, args=(0.1,), name="desk")
            serving.start()
            while not stop.wait(LOOK_S):
                self._forget()
            server.shutdown()
            serving.join()
        self._path.unlink(missing_ok=True)
        self._forget(0.0)

    def _answer(self, asked: BufferedIOBase, out: BufferedIOBase) -> None:
        content: BinaryIO
        try:
            wanted = json.loads(asked.readline(LINE_BYTES))
            if "try" in wanted:
                told = self._try(str(wanted["try"]), dict(wanted["settings"])).encode()
                content, size = BytesIO(told), len(told)
            else:
                content, size = self._wanted(str(wanted["document"]), int(wanted["page"]))
        except ApplianceError as error:
            _say(out, {"error": type(error).__name__, "message": str(error)})
        except Exception as error:
            log.exception("the desk")
            said = f"内部エラーが起きました（{type(error).__name__}）。"
            _say(out, {"error": "Transient", "message": said})
        else:
            with content:  # what breaks from here on ends the connection: the size was said
                _say(out, {"bytes": size})
                shutil.copyfileobj(content, out, 1 << 20)

    def _wanted(self, document_id: str, page: int) -> tuple[BinaryIO, int]:
        file, content, size, digest = self._fetched(dossier.place(self._engine, document_id))
        place = dossier.place(self._engine, document_id)
        if not page and place.holder is None:
            return content, size
        with content:
            if place.digest not in (None, digest):
                raise Conflict(CHANGED)
            if not self._turns.acquire(timeout=WAIT_S):
                raise SourceBusy(BUSY, 5.0)
            try:
                made = self._made(file, place, page)
            finally:
                self._turns.release()
        return BytesIO(made), len(made)

    def _made(self, file: RawFile, place: Place, page: int) -> bytes:
        """A page, or a file inside, or a page of that."""
        if place.holder is None:
            return self._draw(file, page)
        inside = self._cut(file, [place.at]).get(place.at) if place.at else None
        if inside is None:
            raise Unreadable(INSIDE)
        if not page:
            return inside
        opened = partial(BytesIO, inside)
        return self._draw(but(file, open=opened, size_bytes=len(inside)), page)

    def _fetched(self, place: Place) -> tuple[RawFile, BinaryIO, int, str]:
        """The file as its source shows it now, a handle of one's own, its size and digest."""
        source = sources.get(self._engine, place.source_id)
        try:
            try:
                file = self._connect(source).file(place.uri)
            except NotVisible:
                raise Conflict(GONE) from None
            if access.digest_of(file.access) != place.access_digest:
                catalog.set_access(self._engine, source.id, place.uri, file.access)
            key = (f"{source.id} {place.uri}", file.version)
            with self._lock:
                if kept := self._copies.get(key):
                    handle = reopen(kept.file)
                    return _of(file, handle), handle, kept.size, kept.digest
            copy = tempfile.TemporaryFile()  # noqa: SIM115  kept
            try:
                size, digest = fetch(file, copy, self._file_bytes)
            except BaseException:
                copy.close()
                raise
        except OSError as error:
            raise Transient(f"原本を読めませんでした（{error.strerror or error}）。") from error
        handle = reopen(copy)
        with self._lock:
            if other := self._copies.pop(key, None):
                other.file.close()
            self._copies[key] = _Copy(copy, size, digest, time.monotonic())
        self._forget()
        return _of(file, handle), handle, size, digest

    def _forget(self, age_s: float = KEPT_S) -> None:
        """Let go of what is old, and of the oldest while it is too much."""
        with self._lock:
            for key, copy in list(self._copies.items()):
                old = time.monotonic() - copy.at >= age_s
                if old or sum(one.size for one in self._copies.values()) > KEPT_BYTES:
                    self._copies.pop(key).file.close()


def _of(file: RawFile, handle: BinaryIO) -> RawFile:
    return but(file, open=partial(reopen, handle))


def _say(out: BufferedIOBase, said: dict[str, Any]) -> None:
    out.write(json.dumps(said, ensure_ascii=False).encode() + b"\n")
