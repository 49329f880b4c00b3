"""A connector to copy: documents in one file, a line of JSON each.

    {"id": "faq-1", "title": "よくある質問", "text": "…", "allow": ["group:eigyo"],
     "modified_at": "2026-04-01T09:00:00+09:00"}

To write your own: copy this file, change the five parts below, add the class to
`CONNECTORS` in `connectors/kinds.py`, and let its test inherit `ConnectorContract`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from appliance.errors import NotVisible, SourceUnreachable
from appliance.types import Change, Checkpoint, Cursor, Failed, Layer, Principal, RawFile, Upsert


# 1. What the administrator fills in. The form in the UI is made from this.
class ExampleSettings(BaseModel):
    path: Path = Field(title="ファイル", description="JSON Lines のファイル。")


class ExampleConnector:
    """JSON Lines のファイル (見本)"""

    kind: ClassVar[str] = "example"
    Settings: ClassVar[type[BaseModel]] = ExampleSettings

    def __init__(self, settings: ExampleSettings) -> None:
        self._path = settings.path

    # 2. Can we get in? Raise the class that says what to do, with a sentence for a person.
    def check(self) -> None:
        if not self._path.is_file():
            raise SourceUnreachable(f"{self._path} is not a file this machine can see")

    # 3. What is there now. One bad document never hides the others: it is a `Failed`.
    def changes(self, since: Cursor | None) -> Iterator[Change]:
        self.check()
        for number, line in enumerate(self._path.read_text("utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                yield Upsert(_file(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                reason = f"{number} 行目を読めません ({type(error).__name__})"
                yield Failed(f"line {number}", f"line {number}", reason, transient=False)
        # complete: what this run did not mention is gone
        yield Checkpoint(Cursor("read"), complete=True)

    # 4. One of them by its uri, for whoever wants to see the original.
    def file(self, uri: str) -> RawFile:
        for change in self.changes(None):
            if isinstance(change, Upsert) and change.file.uri == uri:
                return change.file
        raise NotVisible(f"{uri} is not in {self._path}")


# 5. One document. The version changes when the bytes do; nobody may read what nobody is allowed.
def _file(row: dict[str, Any]) -> RawFile:
    data = str(row["text"]).encode()
    modified = datetime.fromisoformat(row["modified_at"])
    return RawFile(
        uri=str(row["id"]),
        version=hashlib.sha256(data).hexdigest(),
        open=partial(io.BytesIO, data),
        access=(Layer(frozenset(Principal(str(name)) for name in row["allow"])),),
        title=str(row["title"]),
        modified_at=modified if modified.tzinfo else modified.replace(tzinfo=UTC),
        media_type="text/plain",
        size_bytes=len(data),
    )
