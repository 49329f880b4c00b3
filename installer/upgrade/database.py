"""The database of a site, for a switch: a file that moves, or schemas of PostgreSQL that change folders.

What is different between the two is here; when each is done, and what a crash leads to, is not.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from installer.steps import Refused
from installer.upgrade import files, folders
from installer.upgrade.site import Facts, Site

SPARE_BYTES = 500_000_000


class Database(Protocol):
    @property
    def name(self) -> str:
        """Of the file that a switch moves; "" where it moves none."""

    def files(self) -> tuple[str, ...]:
        """What of the data folder is copied by its own means."""

    def refuse(self, site: Site) -> None:
        """Raises Refused where it cannot be copied or moved."""

    def environment(self, folder: Path) -> dict[str, str]:
        """Settings under which a release works on the copy."""

    def copy(self, site: Site) -> None:
        """As it is now, while it is written to, as the one that comes next."""

    def near(self, site: Site) -> None:
        """The copy was tried on, and has grown old: near the original again, and little to do at rest."""

    def fresh(self, site: Site) -> dict[str, Any]:
        """The copy is what the original is, at rest. Returns `rows`, `sha256` and what else finds it again."""

    def digest(self, site: Site) -> str:
        """What `fresh` calls `sha256`, of the original at rest."""

    def back(self, site: Site, version: str, snapshot: dict[str, Any]) -> None:
        """A copy of that snapshot, as the one that comes next. Raises Refused where it is damaged."""

    def schemas(self, out: str) -> tuple[str, ...]:
        """The two that an exchange takes; none where it is a file."""


def of(site: Site, facts: Facts) -> Database:
    if facts.database is None:
        return Schemas(facts)
    return File(facts.database)


@dataclass(frozen=True)
class File:
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def files(self) -> tuple[str, ...]:
        return (self.name, *(f"{self.name}-{end}" for end in ("wal", "shm", "journal")))

    def refuse(self, site: Site) -> None:
        if self.path.parent != site.data:
            raise Refused(
                f"データベース {self.path} がデータフォルダーの外にあります。{site.data} の中に移してください。"
                f" / The database must lie in the data folder."
            )
        if not self.path.exists():
            raise Refused(
                "データベースがまだありません。一度起動してください。 / Start Kura once first."
            )
        size = self.path.stat().st_size
        free = shutil.disk_usage(site.data).free
        if (need := 2 * size + SPARE_BYTES) > free:
            raise Refused(
                f"{site.data} の空きが {free / 1e9:.1f} GB です。{need / 1e9:.1f} GB 要ります。"
                f" / {need / 1e9:.1f} GB are needed there, {free / 1e9:.1f} are free."
            )

    def environment(self, folder: Path) -> dict[str, str]:
        return {"KURA_DATABASE_URL": f"sqlite:///{folder / self.name}"}

    def copy(self, site: Site) -> None:
        site.ask(site.installed(), "copy", folders.next_folder(site) / self.name)

    def near(self, site: Site) -> None:
        site.owned(lambda: self._same(site))
        site.prepare(site.installed(), "settle")

    def fresh(self, site: Site) -> dict[str, Any]:
        rows = site.ask(site.installed(), "settle")["rows"]
        return {"rows": rows, "sha256": site.owned(lambda: self._same(site))}

    def digest(self, site: Site) -> str:
        site.ask(site.installed(), "settle")  # its log must not be mistaken for another one's
        return site.owned(lambda: files.digest(self.path))

    def back(self, site: Site, version: str, snapshot: dict[str, Any]) -> None:
        kept, into = folders.before_folder(site, version), folders.next_folder(site)
        sha256 = site.owned(lambda: files.alike(kept / self.name, into / self.name))
        if sha256 != snapshot["sha256"]:
            raise _damaged(kept)

    def schemas(self, out: str) -> tuple[str, ...]:
        return ()

    def _same(self, site: Site) -> str:
        folder = folders.next_folder(site)
        for name in self.files()[1:]:
            (folder / name).unlink(missing_ok=True)
        return files.alike(self.path, folder / self.name)


class Schemas:
    name = ""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._next = f"{facts.schema}_next"
        self._since = ""

    def files(self) -> tuple[str, ...]:
        return ()

    def refuse(self, site: Site) -> None:
        facts = self._facts
        if not facts.schema:
            raise Refused(
                f"{facts.version} は PostgreSQL の更新を知りません。`kura backup create` で控えを取り、"
                "止めて、新しい版を導入し、`kura restore` で戻してください。"
                " / This release cannot do it on PostgreSQL: use backup and restore."
            )
        if facts.revision is None:
            raise Refused(
                "データベースがまだありません。一度起動してください。 / Start Kura once first."
            )
        if facts.lacks:
            raise Refused(
                "データベースの権限が足りません。データベースの管理者に、次の実行を頼んでください:"
                f" {' '.join(facts.lacks)} / Ask the database administrator to run it."
            )
        if facts.foreign:
            raise Refused(
                f"スキーマ {facts.schema} に Kura のものでない表やビューがあります:"
                f" {', '.join(facts.foreign[:10])}。別のスキーマに移してください。"
                " / Tables or views that are not Kura's lie there: move them to another schema."
            )
        site.context.say(
            f"PostgreSQL のサーバーに {2 * facts.size / 1e9:.1f} GB の空きが要ります"
            f" / that much room is needed on its server"
        )

    def environment(self, folder: Path) -> dict[str, str]:
        return {"KURA_DATABASE_SCHEMA": self._next}

    def copy(self, site: Site) -> None:
        self._copy(site, site.installed(), {})

    def near(self, site: Site) -> None:
        self.copy(site)
        site.prepare(site.installed(), "refresh", self._next, self._since)

    def fresh(self, site: Site) -> dict[str, Any]:
        told: dict[str, Any] = site.ask(site.installed(), "refresh", self._next, self._since)
        return told | {"schema": self._before(site.installed())}

    def digest(self, site: Site) -> str:
        return str(site.ask(site.installed(), "mark")["sha256"])

    def back(self, site: Site, version: str, snapshot: dict[str, Any]) -> None:
        kept = self._before(version)
        if snapshot.get("schema") != kept:
            raise _damaged(folders.before_folder(site, version))
        there = {"KURA_DATABASE_SCHEMA": kept}
        self._copy(site, version, there)
        of_copy = site.ask(version, "mark", more={"KURA_DATABASE_SCHEMA": self._next})
        if of_copy["rows"] != snapshot["rows"]:
            raise _damaged(Path(kept))

    def schemas(self, out: str) -> tuple[str, ...]:
        return f"{self._facts.schema}_{out}", self._next

    def _before(self, version: str) -> str:
        return f"{self._facts.schema}_before_{version}"

    def _copy(self, site: Site, version: str, more: dict[str, str]) -> None:
        """Noted first, so that what is left of one that was killed is found."""
        place = folders.noted(site)
        site.owned(lambda: files.put(place, self._next))
        self._since = str(site.ask(version, "copy", self._next, more=more)["since"])


def _damaged(what: Path) -> Refused:
    return Refused(
        f"{what} の控えが取った時のものと一致しません。バックアップから戻してください。"
        f" / The snapshot in {what} was damaged: restore a backup."
    )
