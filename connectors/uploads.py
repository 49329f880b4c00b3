"""Files that people gave the appliance themselves: `<root>/<id>/{content,meta.json}`.

The web process writes each folder whole and renames it into place; here it is only read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

from pydantic import BaseModel, Field

from appliance.errors import NotVisible, SourceDenied, SourceUnreachable, Unreadable
from appliance.types import (
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Principal,
    RawFile,
    Upsert,
)

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")


class UploadsSettings(BaseModel):
    root: Path = Field(title="フォルダー", description="アップロードの保存先。")


class UploadsConnector:
    """アップロード"""

    kind: ClassVar[str] = "uploads"
    Settings: ClassVar[type[BaseModel]] = UploadsSettings

    def __init__(self, settings: UploadsSettings) -> None:
        self._root = settings.root

    def check(self) -> None:
        self._folders()

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """Every upload there is; the uri is its id."""
        for folder in self._folders():
            try:
                file = _file(folder)
            except FileNotFoundError:
                continue  # deleted meanwhile
            except OSError as error:
                reason = f"アップロードを読めません ({error.strerror})"
                yield Failed(folder.name, folder.name, reason, transient=True)
            except (ValueError, KeyError, TypeError) as error:
                reason = f"アップロードの情報が壊れています ({type(error).__name__})"
                yield Failed(folder.name, folder.name, reason, transient=False)
            else:
                yield Upsert(file)
        yield Checkpoint(Cursor("listed"), complete=True)

    def file(self, uri: str) -> RawFile:
        folder = self._root / uri
        try:
            if not _ID.fullmatch(uri) or folder.is_symlink():
                raise NotVisible(f"there is no upload {uri}")
            return _file(folder)
        except (FileNotFoundError, NotADirectoryError):
            raise NotVisible(f"there is no upload {uri}") from None
        except OSError as error:
            raise SourceUnreachable(f"{folder} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"アップロードの情報が壊れています ({type(error).__name__})") from None

    def _folders(self) -> list[Path]:
        try:
            found = sorted(self._root.iterdir())
        except FileNotFoundError:
            return []  # nobody has uploaded anything yet
        except PermissionError:
            raise SourceDenied(f"this machine's account may not list {self._root}") from None
        except OSError as error:
            raise SourceUnreachable(f"{self._root} cannot be listed: {error.strerror}") from None
        return [p for p in found if _ID.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]


def _file(folder: Path) -> RawFile:
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
    content = folder / "content"
    owner = str(meta["owner"])
    allow = {owner if owner.startswith("user:") else f"user:{owner}", *map(str, meta["allow"])}
    uploaded = datetime.fromisoformat(meta["uploaded_at"])
    return RawFile(
        uri=folder.name,
        version=str(meta["sha256"]),
        open=partial(_open, content),
        access=(Layer(frozenset(map(Principal, allow))),),
        title=unicodedata.normalize("NFC", str(meta["name"])),
        modified_at=uploaded if uploaded.tzinfo else uploaded.replace(tzinfo=UTC),
        media_type=meta.get("media_type"),
        size_bytes=content.stat().st_size,
    )


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, path.open("rb"))
