"""What GitLab's listings tell of an issue, a merge request, a wiki page, and of the files they point to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

from connectors import gitlab_page
from connectors.gitlab_api import Row
from connectors.gitlab_known import MOVED, Entry

ODD = (KeyError, TypeError, ValueError, AttributeError)  # what a row of another shape raises
_UPLOAD = re.compile(r"(?<![\w/.])/uploads/([0-9a-f]{32})/([^\s/()\[\]<>\"'`|]{1,255})")
Told = Iterator[tuple[str, Entry]]


def of_row(kind: str, row: Row, files: bool) -> Told:
    """An issue or a merge request, "issues/12", and its files, where they are wanted."""
    tail, between = f"{kind}/{row['iid']}", None
    if gitlab_page.confidential(row):
        who = [row.get("author"), *(row.get("assignees") or [])]
        between = tuple(str(one.get("username")) for one in who if one)
    entry = Entry(
        f"{'issue' if kind == 'issues' else 'merge'}/{row['id']}",
        gitlab_page.title(kind, row),
        MOVED if row.get("moved_to_id") else gitlab_page.version(row),
        str(row["updated_at"]),
        between,
    )
    yield tail, entry
    if files and entry.version != MOVED:
        yield from _uploads(tail, entry, str(row.get("description") or ""))


def of_page(project: Row, page: Row, files: bool) -> Told:
    """A page of the wiki. It has no time: it is the project's, for want of another."""
    tail = f"wikis/{unicodedata.normalize('NFC', str(page['slug']))}"
    words, at = str(page.get("content") or ""), str(project.get("last_activity_at") or "")
    entry = Entry(
        f"page/{project['id']}/{gitlab_page.digest(words)}" if words.strip() else "",
        str(page.get("title") or page["slug"]),
        of_words(page),
        at,
        media_type="text/markdown" if page.get("format") in (None, "markdown") else "text/plain",
    )
    yield tail, entry
    if files:
        yield from _uploads(tail, entry, words)


def of_words(page: Row) -> str:
    """The version of a wiki page, which has none of its own."""
    return gitlab_page.digest(page.get("title"), page.get("format"), page.get("content"))


def _uploads(tail: str, of: Entry, words: str) -> Told:
    for secret, said in dict.fromkeys(_UPLOAD.findall(words)):
        name = unicodedata.normalize("NFC", unquote(said)).replace("/", "／").replace("\0", "")
        if name.strip(". "):
            entry = Entry(f"upload/{secret}", name, secret, of.at, of.between, media_type=None)
            yield f"{tail}/{secret}/{name}", entry
