"""What `kura web` asks `kura work` for: an original, a picture of one of its pages, a trial of settings.

Pictures asked for lately are kept in memory, by the digest of the bytes they show: who may see
one is asked each time by whoever hands it on.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from appliance import errors
from appliance.errors import SourceBusy, Transient, Unreadable

PICTURED = frozenset({"application/pdf"})  # media types whose pages can be drawn
PATIENCE_S = 40.0  # for an answer
AT_ONCE = 8  # who waits holds one of the web process's threads
KEPT_BYTES = 64_000_000
BLOCK = 1 << 18
HOPELESS, HOPELESS_S = 1000, 600.0  # pages that could not be drawn: so many, so long

AWAY = "取り込みの処理（kura work）が応答しないため、原本を開けません。"
LATE = "原本の用意に時間がかかっています。"
UNTRIED = "取り込みの処理（kura work）が応答しないため、接続を確かめられません。"
SLOW = "相手の答えを待ちきれませんでした。名前とポートを確かめてください。"
INSIDE = "ほかのファイルの中にあり、それだけを取り出せません。入れ物の文書の原本を開いてください。"
BUSY = "原本の表示が混み合っています。"


@dataclass(frozen=True, slots=True)
class Original:
    """An open file of so many bytes. Whoever has it closes it, or reads it to the end."""

    size: int
    _wire: socket.socket
    _answer: BinaryIO

    def blocks(self) -> Iterator[bytes]:
        left = self.size
        with self._wire, self._answer:
            while left:
                try:
                    block = self._answer.read(min(left, BLOCK))
                except OSError:
                    block = b""
                if not block:
                    raise Transient(AWAY, 5.0)
                left -= len(block)
                yield block

    def close(self) -> None:
        self._answer.close()
        self._wire.close()


class Originals:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seats = threading.BoundedSemaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._hopeless: OrderedDict[tuple[str, int], tuple[float, Unreadable]] = OrderedDict()

    def picture(self, document_id: str, digest: str | None, page: int) -> bytes:
        """Page `page`, from 1, as PNG, of the bytes with that digest.

        Raises Conflict if the file is another by now, Unreadable, and what its source raises.
        """
        key = (digest or document_id, page)
        with self._lock:
            if digest and (kept := self._pictures.get(key)):
                self._pictures.move_to_end(key)
                return kept
            at, why = self._hopeless.get(key, (0.0, None))
        if why and time.monotonic() - at < HOPELESS_S:
            raise type(why)(str(why))
        if not self._seats.acquire(blocking=False):
            raise SourceBusy(BUSY, 3.0)
        try:
            original = self._ask(document_id, page)
            picture = b"".join(original.blocks())
        except Unreadable as error:  # a page that takes all its time to fail does so once
            with self._lock:
                self._hopeless[key] = (time.monotonic(), error)
                while len(self._hopeless) > HOPELESS:
                    self._hopeless.popitem(last=False)
            raise
        finally:
            self._seats.release()
        if digest:
            self._keep(key, picture)
        return picture

    def open(self, document_id: str) -> Original:
        """The file as its source shows it now. Raises what its source raises."""
        if not self._seats.acquire(blocking=False):
            raise SourceBusy(BUSY, 3.0)
        try:
            return self._ask(document_id, 0)
        finally:
            self._seats.release()

    def tried(self, kind: str, settings: Mapping[str, Any]) -> str:
        """What is found with settings, sealed, that are not kept. Raises what the source raises."""
        if not self._seats.acquire(blocking=False):
            raise SourceBusy(BUSY, 3.0)
        try:
            asked = {"try": kind, "settings": dict(settings)}
            return b"".join(self._asked(asked, UNTRIED, SLOW).blocks()).decode()
        finally:
            self._seats.release()

    def _keep(self, key: tuple[str, int], picture: bytes) -> None:
        with self._lock:
            self._pictures[key] = picture
            while sum(map(len, self._pictures.values())) > KEPT_BYTES:
                self._pictures.popitem(last=False)

    def _ask(self, document_id: str, page: int) -> Original:
        return self._asked({"document": document_id, "page": page}, AWAY, LATE)

    def _asked(self, wanted: dict[str, Any], away: str, late: str) -> Original:
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(PATIENCE_S)
        try:
            wire.connect(str(self._path))
            wire.sendall(json.dumps(wanted).encode() + b"\n")
            answer = wire.makefile("rb")
            said = json.loads(answer.readline(65_536) or b"{}")
        except TimeoutError:
            wire.close()
            raise Transient(late, 5.0) from None
        except (OSError, ValueError):
            wire.close()
            raise Transient(away, 5.0) from None
        if "bytes" not in said:
            answer.close()
            wire.close()
            raise _error(said)
        return Original(said["bytes"], wire, answer)


def _error(said: dict[str, Any]) -> Exception:
    kind = getattr(errors, str(said.get("error")), None)
    known = isinstance(kind, type) and issubclass(kind, errors.ApplianceError)
    if kind is None or not known or kind is errors.PromptTooLong:
        return Transient(AWAY, 5.0)
    made: Exception = kind(str(said.get("message", "")))
    return made
