"""What is attached to a mail, as a part of its text: whatever format it is in."""

from __future__ import annotations

import io
from collections.abc import Callable

from appliance.errors import PasswordNeeded, TooLarge, Unreadable
from appliance.formats import kinds
from appliance.formats.draft import Draft, one_line
from appliance.types import Document

DEPTH = 5  # of mails inside mails


def embed(draft: Draft, name: str, read: Callable[[], Document]) -> None:
    """One that cannot be read is a problem of the mail, which is not lost for it."""
    draft.blank()
    draft.mark(f"添付: {name}", "part")
    draft.line(f"添付: {name}")
    try:
        draft.embed(read())
    except (Unreadable, TooLarge, PasswordNeeded) as error:
        draft.problems.append(f"添付「{name}」: {error}")
    except Exception as error:  # noqa: BLE001 (a broken attachment must not lose the mail)
        draft.problems.append(f"添付「{name}」を解析できません ({type(error).__name__})")


def document(data: bytes, name: str) -> Document:
    from appliance.formats import PARSERS  # of which the caller is a row

    if not data:
        raise Unreadable("中身が空です")
    kind = kinds.identify(io.BytesIO(data), name)
    if kind not in PARSERS:
        raise Unreadable(f"この形式には対応していません ({kind})")
    return PARSERS[kind](io.BytesIO(data))


def file_name(said: str) -> str:
    return one_line(said.replace("/", "_").replace("\\", "_").replace("\x00", ""))[:120]
