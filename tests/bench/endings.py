"""How a file that was put through the sandbox ended."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from functools import partial

from appliance.errors import ApplianceError, PasswordNeeded, TooLarge, Transient, Unreadable
from appliance.formats.sandbox import Sandbox
from appliance.types import NOBODY, RawFile

ENDINGS = ("answered", "refused", "stumbled", "memory", "late", "died", "lost")
Ending = tuple[str, str]  # one of these, and the reason where there is one


def alone(sandbox: Sandbox, name: str, data: bytes) -> Ending:
    """As a source's file is read: a child of its own."""
    opened = partial(io.BytesIO, data)
    try:
        sandbox.parse(RawFile(name, "1", opened, NOBODY, name, datetime(2026, 4, 1, tzinfo=UTC)))
    except (Transient, Unreadable, TooLarge, PasswordNeeded) as error:
        return told(error)
    return "answered", ""


def told(error: ApplianceError) -> Ending:
    said = str(error)
    if isinstance(error, Transient):
        return "lost", said
    if "異常終了" in said:
        return "died", said
    if "秒で終わりません" in said:
        return "late", said
    if "メモリの上限" in said:
        return "memory", said
    return ("stumbled" if "解析できません (" in said else "refused"), said
