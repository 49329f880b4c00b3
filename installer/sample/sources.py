"""Where the text of a document lives: `source/<folder>/<name>.<ext>.md`.

A source is front matter between two `---` lines, then the body. Its name without
`.md` is the name of the built file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"
FILES = HERE / "files"
ACCESS = ".kura-access.toml"
JST = timezone(timedelta(hours=9))


@dataclass(frozen=True, slots=True)
class Source:
    uri: str  # the built file's path below files/, NFC
    fields: dict[str, str]
    body: str

    @property
    def kind(self) -> str:
        return self.uri.rsplit(".", 1)[1]

    @property
    def title(self) -> str:
        return self.fields["title"]

    @property
    def author(self) -> str:
        return self.fields["author"]

    @property
    def date(self) -> datetime:
        return datetime.fromisoformat(self.fields["date"]).replace(tzinfo=JST)


def every(root: Path = SOURCE) -> Iterator[Source]:
    for path in sorted(root.rglob("*.md")):
        yield read(path, root)


def read(path: Path, root: Path = SOURCE) -> Source:
    uri = unicodedata.normalize("NFC", path.relative_to(root).as_posix()).removesuffix(".md")
    head, _, body = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    if not body:
        raise ValueError(f"{path}: no front matter between two `---` lines")
    fields = dict(_field(line, path) for line in head.splitlines() if line.strip())
    missing = {"title", "author", "date"} - fields.keys()
    # a mail is described by its headers
    if missing and not uri.endswith(".eml"):
        raise ValueError(f"{path}: front matter lacks {', '.join(sorted(missing))}")
    return Source(uri, fields, body.strip("\n") + "\n")


def _field(line: str, path: Path) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError(f"{path}: front matter line without a colon: {line}")
    return name.strip(), value.strip()
