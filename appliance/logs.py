"""One event, one line of JSON. Every process writes so; `kura up` gathers the lines in one file."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

LONGEST = 8_000  # characters of one text
# What JSON leaves as it is, but a terminal or a line reader does not.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Lines(logging.Formatter):
    """`extra={"fields": {…}}` become fields of the line. Nothing in it can end the line."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.args:
            event["form"] = str(record.msg)  # without what was put into it: `kura support`
        event |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            event["error"] = "".join(traceback.format_exception(record.exc_info[1]))
        return line(event)


def line(event: dict[str, Any]) -> str:
    """The event as one line, whatever is in it."""
    short = {key: _short(value) for key, value in event.items()}
    text = json.dumps(short, ensure_ascii=False, default=str)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """This process's log goes to `stream`, a line an event."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for chatty in (
        *("httpx2", "httpx", "httpcore", "httpcore2", "alembic", "faiss.loader"),
        *("smbprotocol", "spnego"),
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:LONGEST]}… ({len(value)} characters)"
    return value
