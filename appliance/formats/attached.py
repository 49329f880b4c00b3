"""Files inside files (attachments, members of an archive), whatever format they are in."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appliance.errors import TooLarge, Unreadable
from appliance.formats import kinds
from appliance.formats.draft import Draft, one_line
from appliance.types import Document

_DEPTH = 5  # of files inside files
_inside = [0]  # how deep this process is: it reads one file at a time


@contextmanager
def inside() -> Iterator[None]:
    """One deeper. Raises TooLarge where that is too deep: a file may hold itself."""
    if _inside[0] >= _DEPTH:
        raise TooLarge("添付の入れ子が深すぎます")
    _inside[0] += 1
    try:
        yield
    finally:
        _inside[0] -= 1


def embed(draft: Draft, name: str, label: str, read: Callable[[], Document]) -> None:
    """One that cannot be read is a problem of what holds it, which is not lost for it."""
    draft.blank()
    draft.mark(label, "part")
    draft.line(label)
    try:
        with inside():
            draft.embed(read())
    except (Unreadable, TooLarge) as error:
        draft.problems.append(f"「{name}」: {error}")
    except Exception as error:  # noqa: BLE001 (a broken part must not lose the whole)
        draft.problems.append(f"「{name}」を解析できません ({type(error).__name__})")


def document(data: bytes, name: str) -> Document:
    from appliance.formats import PARSERS  # of which the caller is a row

    if not data:
        raise Unreadable("中身が空です")
    kind = kinds.identify(io.BytesIO(data), name)
    if kind not in PARSERS:
        raise Unreadable(f"この形式には対応していません ({kind})")
    return PARSERS[kind](io.BytesIO(data))


def file_name(said: str) -> str:
    """A name to be shown: one line, no path."""
    said = "".join(c for c in said if unicodedata.category(c) not in ("Cf", "Cc", "Cs", "Co"))
    return one_line(said.replace("/", "_").replace("\\", "_"))[:120]
