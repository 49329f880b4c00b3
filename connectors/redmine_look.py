"""One look at a Redmine beside what was there before: what is asked anew, and in which order it is told.

First whose rights changed, then what moved, and only then documents, whose content may take hours.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceMisconfigured,
    SourceUnreachable,
    Transient,
)
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    Remove,
    Upsert,
)
from connectors import redmine_api
from connectors.listing import FEW
from connectors.redmine_api import Row, moment
from connectors.redmine_roles import Facts

if TYPE_CHECKING:
    from connectors.redmine import RedmineConnector

CURSOR_BYTES = 500_000_000
WHOLE_S = 86_400.0  # how long it may go unseen that an attachment went
MARGIN = timedelta(seconds=120)  # a time is given to an issue before others see it


class Entry(NamedTuple):
    """What a listing says of a document. Its key is its URL below the Redmine."""

    title: str
    version: str
    modified: str  # ISO 8601
    size_bytes: int | None
    media_type: str | None
    parent: str  # key of what it is attached to, as it is told in its own; empty where it is none
    same: str  # what a rename keeps
    facts: Facts


@dataclass(slots=True)
class Project:
    """What is remembered of one."""

    names: list[str] = field(default_factory=list)  # its id, identifier and name
    since: str = ""  # updated_on of the newest issue
    whole_at: float = 0.0  # when all of it was listed


@dataclass(slots=True)
class Memory:
    """What a cursor holds."""

    entries: dict[str, Entry] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    admitted: dict[str, str] = field(default_factory=dict)  # by key, a digest of its access


class Look:
    """One run."""

    def __init__(
        self, connector: RedmineConnector, before: Memory, projects: list[Row], missing: list[str]
    ) -> None:
        self._connector, self._before, self._projects = connector, before, projects
        self._now = Memory()
        self._failures: list[Failed] = []
        self._shut: dict[int, bool] = {}  # projects that could not be listed: whether it will pass
        self._inside: dict[str, list[str]] = defaultdict(list)  # what was attached to what
        self._of: dict[tuple[int, str], list[str]] = defaultdict(list)  # what was where
        for key, entry in before.entries.items():
            if entry.parent:
                self._inside[entry.parent].append(key)
            else:
                self._of[entry.facts.project, entry.facts.right].append(key)
        for name in missing:
            self._miss(name)
        self._roles = connector.roles(projects)

    def changes(self) -> Iterator[Change]:
        for project in self._projects:
            self._list(project)
        kept = {
            key: entry
            for key, entry in self._before.entries.items()
            if entry.facts.project in self._shut and key not in self._now.entries
        }
        gone = {
            key: entry
            for key, entry in self._before.entries.items()
            if key not in self._now.entries and key not in kept
        }
        access = {key: self._access(entry) for key, entry in self._now.entries.items()}
        yield from self._failures
        yield from self._rights(kept, access)
        yield from self._moved(gone, access)
        for key, entry in self._now.entries.items():
            yield Upsert(self._connector.raw_file(key, entry, access[key]))
        if self._shut and (len(gone) < FEW or 2 * len(gone) <= len(self._before.entries)):
            # one project that cannot be listed must not keep alive what was deleted elsewhere
            yield from (Remove(self._connector.uri(key)) for key in gone)
        elif self._shut:
            kept |= gone
        self._now.admitted |= {key: redmine_api.digest(_said(a)) for key, a in access.items()}
        self._now.entries |= kept
        yield Checkpoint(save(self._now), complete=not self._shut)

    # --- telling --------------------------------------------------------------------

    def _rights(self, kept: Mapping[str, Entry], access: Mapping[str, Access]) -> Iterator[Change]:
        """Of what was known; nobody new reads what is another text by now."""
        nobody = redmine_api.digest(_said(NOBODY))
        for key, entry in kept.items():
            said = self._before.admitted.get(key, "")
            if not self._shut[entry.facts.project] and said != nobody:
                yield AccessChanged(self._connector.uri(key), NOBODY)
                said = nobody
            self._now.admitted[key] = said
        for key, admitted in access.items():
            known = self._before.entries.get(key)
            if known and self._before.admitted.get(key) != redmine_api.digest(_said(admitted)):
                same = known.version == self._now.entries[key].version
                yield AccessChanged(self._connector.uri(key), admitted if same else NOBODY)

    def _moved(self, gone: dict[str, Entry], access: Mapping[str, Access]) -> Iterator[Change]:
        """A page under another name, and what is attached to it."""
        come = {k: e for k, e in self._now.entries.items() if k not in self._before.entries}
        origin, arrived = _alone(gone), _alone(come)
        for same, key in arrived.items():
            if (old := origin.get(same)) is not None:
                del gone[old]
                uri, title = self._connector.uri(key), self._now.entries[key].title
                yield Moved(self._connector.uri(old), uri, title, access[key])

    def _access(self, entry: Entry) -> Access:
        return self._connector.access(self._roles, entry)

    # --- listing --------------------------------------------------------------------

    def _miss(self, name: str) -> None:
        """A project that was asked for and is not there: what was in it is kept, for nobody."""
        for project, known in self._before.projects.items():
            if name in known.names:
                self._shut[project] = False
                self._now.projects[project] = known
        reason = "このプロジェクトがありません。識別子と、API キーの利用者の権限を確かめてください"
        self._failures.append(Failed(self._connector.uri(f"projects/{name}"), name, reason, False))

    def _list(self, project: Row) -> None:
        known = self._before.projects.get(project["id"], Project())
        found: dict[str, Entry] = {}
        now = Project(
            [str(project["id"]), project["identifier"], project["name"]],
            known.since,
            known.whole_at,
        )
        try:
            if self._roles and (error := self._roles.failed.get(project["id"])):
                raise error
            whole = not 0 <= time.time() - known.whole_at < WHOLE_S
            if self._connector.reads(project, "issues"):
                found |= self._issues(project["id"], now, whole)
            if self._connector.reads(project, "wiki"):
                found |= self._pages(project, whole)
            if self._connector.reads(project, "files"):
                found |= self._connector.project_files(project)
            if whole:
                now.whole_at = time.time()
        except SourceUnreachable:
            raise  # nothing is known
        except (ApplianceError, KeyError, TypeError, ValueError) as error:
            passes = isinstance(error, Transient)
            self._shut[project["id"]] = passes
            known.names = now.names
            self._now.projects[project["id"]] = known
            why = str(error) if isinstance(error, ApplianceError) else "応答の形が正しくありません"
            uri = self._connector.uri(f"projects/{project['identifier']}")
            reason = f"プロジェクトを読めません ({why})"
            self._failures.append(Failed(uri, str(project["name"]), reason, passes))
            return
        self._now.projects[project["id"]] = now
        self._now.entries |= found

    def _issues(self, project: int, now: Project, whole: bool) -> dict[str, Entry]:
        newest, count = self._connector.newest(project)
        asked = self._connector.asked(project)
        if not whole and now.since:
            kept = self._known(self._of[project, "issue"])
            since = (moment(now.since) - MARGIN).strftime("%Y-%m-%dT%H:%M:%SZ")
            fresh = self._rows(asked | {"updated_on": f">={since}"})
            kept = {k: e for k, e in kept.items() if (e.parent or k) not in fresh}
            found = kept | fresh
            whole = count != sum(not entry.parent for entry in found.values())
        else:
            whole = True
        if whole:  # the first time, once a day, and where some went
            found = self._rows(asked)
        now.since = newest
        return found

    def _rows(self, asked: Mapping[str, object]) -> dict[str, Entry]:
        """One issue that is not as issues are hides no other."""
        found: dict[str, Entry] = {}
        for row in self._connector.issues(asked):
            key = f"issues/{row['id']}"
            found |= self._one(key, key, lambda row=row: self._connector.issue(row))  # type: ignore[misc]
        return found

    def _pages(self, project: Row, whole: bool) -> dict[str, Entry]:
        known = self._of[project["id"], "wiki"]
        try:
            rows = self._connector.pages(project)
        except NotVisible:
            if known:
                raise SourceMisconfigured("Wiki がありません") from None
            return {}
        found: dict[str, Entry] = {}
        for row in rows:
            title = str(row["title"])
            key = self._connector.page_key(project, title)
            facts = Facts("wiki", project["id"])
            before = self._before.entries.get(key)
            if (
                before
                and not whole
                and before.version == self._connector.page_entry(row, facts).version
            ):
                found |= self._known([key])
            else:
                found |= self._one(
                    key,
                    title,
                    lambda title=title: self._connector.page(project, title),  # type: ignore[misc]
                )
        return found

    def _one(self, key: str, title: str, look: Callable[[], dict[str, Entry]]) -> dict[str, Entry]:
        try:
            return look()
        except SourceUnreachable:
            raise
        except (ApplianceError, KeyError, TypeError, ValueError, AttributeError) as error:
            why = str(error) if isinstance(error, ApplianceError) else "応答の形が正しくありません"
            passes = isinstance(error, (Transient, NotVisible))
            self._failures.append(Failed(self._connector.uri(key), title, why, passes))
            wiki = key.startswith("projects/")  # whose attachments are its project's to show
            return {one: self._before.entries[one] for one in self._inside.get(key, ()) if wiki}

    def _known(self, keys: list[str]) -> dict[str, Entry]:
        """As before, with what is attached."""
        every = [one for key in keys for one in (key, *self._inside.get(key, ()))]
        return {key: self._before.entries[key] for key in every}


def _said(access: Access) -> str:
    return repr([(sorted(layer.allow), sorted(layer.deny)) for layer in access])


def _alone(entries: Mapping[str, Entry]) -> dict[str, str]:
    """Keys by what a rename keeps, where one alone has it."""
    times = Counter(entry.same for entry in entries.values())
    return {e.same: key for key, e in entries.items() if e.same and times[e.same] == 1}


def save(memory: Memory) -> Cursor:
    said = {
        "entries": memory.entries,
        "projects": {i: [p.names, p.since, p.whole_at] for i, p in memory.projects.items()},
        "admitted": memory.admitted,
    }
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    return Cursor(base64.b64encode(zlib.compress(text.encode("utf-8", "replace"))).decode("ascii"))


def load(cursor: Cursor | None) -> Memory:
    try:
        said = json.loads(
            zlib.decompressobj().decompress(base64.b64decode(cursor or ""), CURSOR_BYTES)
        )
        rows = said["entries"].items()
        entries = {key: Entry(*row)._replace(facts=Facts(*row[-1])) for key, row in rows}
        projects = {int(number): Project(*row) for number, row in said["projects"].items()}
        return Memory(entries, projects, said["admitted"])
    except (ValueError, KeyError, TypeError, zlib.error):
        return Memory()  # another version's: everything is listed anew
