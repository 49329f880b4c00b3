"""A `PageReader` in a process of its own, which can open nothing and sees one page at a time."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from appliance.errors import TooLarge, Transient, Unreadable
from appliance.formats.sandbox import Sandbox
from appliance.settings import Settings
from appliance.text import readings
from appliance.types import ReadPage

_ANSWER_BYTES = 16_000_000
_PATIENCE = 10  # it is last in line for the cores: a busy hour is not a page's fault


class ConfinedReader:
    """Reads pages, any number of threads asking. Its process starts with the first page."""

    def __init__(self, settings: Settings, *, idle: bool = True) -> None:
        self._settings = settings
        self._idle = idle  # whoever asks a question goes first
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    def __enter__(self) -> ConfinedReader:
        return self

    def __exit__(self, *gone: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the warm process; None while there is none."""
        return self._sandbox.pid if self._sandbox else None

    def close(self) -> None:
        with self._lock:
            if self._sandbox:
                self._sandbox.close()
            self._sandbox = None

    def read(self, file: Path, number: int) -> ReadPage:
        """Raises Unreadable, TooLarge, Transient; SettingsError where it cannot be confined."""
        job = {"name": file.name, "page": number, "pixels": self._settings.ocr_pixels}
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            answer = json.loads(self._running().ask(source, job))
        except ValueError:
            raise Unreadable("読み取りの結果が正しくありません") from None
        finally:
            os.close(source)
        if "unconfined" in answer:
            raise Transient(f"the reader was not confined: {answer['unconfined']}")
        if "error" in answer:
            kind = TooLarge if answer["error"] == "TooLarge" else Unreadable
            raise kind(str(answer.get("reason"))[:500])
        try:
            return readings.from_json(answer)
        except ValueError:
            raise Unreadable("読み取りの結果が正しくありません") from None

    def _running(self) -> Sandbox:
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox(
                    self._settings,
                    output_bytes=_ANSWER_BYTES,
                    module="appliance.ocr.confined",
                    seconds=self._settings.ocr_seconds,
                    patience=_PATIENCE,
                    memory_bytes=self._settings.ocr_memory,
                    idle=self._idle,
                )
            return self._sandbox
