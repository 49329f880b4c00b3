"""A folder of this machine, or a share mounted on it, with all that is below.

Who may read is written in `.kura-access.toml` files beside the documents:

    allow = ["group:jinji", "user:ito"]   # who may read what lies here and below
    deny = ["group:haken"]                # who may not, whatever else is said
    inherit = false                       # leave out: the folders above must admit too

A file is known again by its inode, time and size: a rename or a move is `Moved`. An
unchanged file costs one `stat`; no link is followed, nothing outside the root is read.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, cast

from pydantic import BaseModel, Field

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.shelf import Shelf
from appliance.types import (
    ALONE,
    EVERYONE,
    NOBODY,
    Access,
    Change,
    Cursor,
    Failed,
    Layer,
    RawFile,
    Site,
)
from connectors import admit
from connectors.listing import Listing, spelled

ACCESS_FILE = ".kura-access.toml"
_TICK_S = 0.02  # two writes closer than this may leave the same time behind
_CLOSED: Access = (Layer(frozenset()),)  # unlike NOBODY it stays when folders below add a layer


class FolderSettings(BaseModel):
    root: Path = Field(title="フォルダー", description="このマシンから見えるパス。")
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="アクセス設定ファイルのない場所を読める人。空なら誰にも見えません。",
    )
    include: list[str] = Field(
        default_factory=list, title="対象", description="*.pdf などの型。空ならすべて。"
    )
    exclude: list[str] = Field(default_factory=list, title="除外", description="除く型。")


class _Facts(NamedTuple):
    """What is kept of a file's `stat`: a tree may have a million files."""

    inode: int
    mtime_ns: int
    size: int
    ctime_ns: int

    @property
    def mtime_s(self) -> float:
        seconds, rest = divmod(self.mtime_ns, 10**9)
        return seconds + 1e-9 * rest  # as `st_mtime` is made: a date must stay the same date


class _Found(NamedTuple):
    """A file met on the walk. `parts` are its names below the root as the disk spells them."""

    uri: str
    parts: tuple[str, ...]
    access: int  # a place in the walk's
    facts: _Facts

    @classmethod
    def of(cls, said: list[Any]) -> _Found:
        uri, parts, access, facts = said
        return cls(uri, tuple(parts), access, _Facts._make(facts))

    @property
    def same(self) -> str:
        """What a rename keeps: inode, time, size."""
        return ":".join(map(str, self.facts[:3]))


@dataclass
class _Walk(Listing[_Found]):
    """A listing of everything below the root."""

    files: Shelf[_Found] = field(default_factory=lambda: Shelf(_Found.of))
    accesses: list[Access] = field(default_factory=list)  # most files share a few
    _places: dict[Access, int] = field(default_factory=dict)

    def place(self, access: Access) -> int:
        if access not in self._places:
            self._places[access] = len(self.accesses)
            self.accesses.append(access)
        return self._places[access]

    def raw(self, root: Path, found: _Found) -> RawFile:
        facts = found.facts
        return RawFile(
            uri=found.uri,
            # ctime too: a copy may bring its old mtime along
            version=f"{facts.mtime_ns}:{facts.size}:{facts.ctime_ns}",
            open=partial(_open, root, found),
            access=self.accesses[found.access],
            title=_title(found.uri),
            modified_at=_when(facts.mtime_s),
            size_bytes=facts.size,
        )


class FolderConnector:
    """フォルダー (共有フォルダーを含む)"""

    kind: ClassVar[str] = "folder"
    Settings: ClassVar[type[BaseModel]] = FolderSettings
    lists_all: ClassVar[bool] = True
    grants: ClassVar[bool] = True

    def __init__(self, settings: FolderSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    def check(self) -> None:
        self._default  # noqa: B018  its setting may be wrong
        self._root()

    @cached_property
    def _default(self) -> Access:
        """For what lies under no access file."""
        return admit.access(self._settings.allow)

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """Everything below the root, then a checkpoint, complete if all could be listed."""
        root = self._root()
        walk = self._walk(root)
        yield from walk.changes(since, lambda one: one.same, lambda _, one: walk.raw(root, one))

    def file(self, uri: str) -> RawFile:
        root, walk = self._root(), _Walk()
        try:
            found = self._find(root, (), uri.split("/"), None, walk)
        except PermissionError:
            raise SourceDenied(f"{uri} を開く権限が、Kura の動くアカウントにありません。") from None
        except OSError as error:
            raise SourceUnreachable(f"{uri} を開けません ({error.strerror})。") from None
        if found is None:
            raise NotVisible(f"{uri} はありません。")
        return walk.raw(root, found)

    def _find(
        self,
        root: Path,
        parts: tuple[str, ...],
        wanted: Sequence[str],
        access: Access | None,
        walk: _Walk,
    ) -> _Found | None:
        """What is called `wanted` below the folder `parts`, by the way that a listing would go."""
        try:
            with _descend(root, parts) as fd:
                access = self._access(fd, "", access, walk)
                with os.scandir(fd) as entries:
                    like = [e for e in entries if _spell(e.name) == wanted[0]]
                # the NFC spelling first: it is the one that keeps the name
                like = sorted(
                    (e for e in like if not admit.left_out(e.name)), key=_unlike_its_spelling
                )
                folders = [
                    e.name
                    for e in like
                    if e.is_dir(follow_symlinks=False)
                    and root.joinpath(*parts, e.name) != self._own
                ]
                here = self._default if access is None else access
                for entry in like if len(wanted) == 1 else ():
                    if entry.is_file(follow_symlinks=False):
                        self._file_found(entry, (*parts, entry.name), here, walk)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        if len(wanted) == 1:
            return next(iter(walk.files.values()), None)
        within = (self._find(root, (*parts, name), wanted[1:], access, walk) for name in folders)
        return next(filter(None, within), None)

    def _root(self) -> Path:
        root = self._settings.root
        try:
            if not stat.S_ISDIR(root.stat().st_mode):
                raise SourceMisconfigured(f"{root} はファイルです。フォルダーを書いてください。")
            with os.scandir(root) as entries:
                next(entries, None)
        except PermissionError:
            raise SourceDenied(
                f"{root} の一覧を見る権限が、Kura の動くアカウントにありません。"
            ) from None
        except OSError as error:
            raise SourceUnreachable(
                f"{root} が見えません ({error.strerror})。マウントされているか、パスを確かめてください。"
            ) from None
        root = root.resolve()
        if (own := self._own) and (root == own or own in root.parents):
            raise SourceMisconfigured(
                f"{root} は Kura 自身のデータです。ほかのフォルダーを書いてください。"
            )
        return root

    @cached_property
    def _own(self) -> Path | None:
        """Kura's data, with its keys and everybody's documents: no document of any source."""
        return self.site.own and self.site.own.resolve()

    def _walk(self, root: Path) -> _Walk:
        walk = _Walk()
        waiting: list[tuple[tuple[str, ...], Access | None]] = [((), None)]
        while waiting:
            parts, access = waiting.pop()
            folder = "".join(f"{_spell(p)}/" for p in parts)
            try:
                with _descend(root, parts) as fd:
                    access = self._access(fd, folder, access, walk)
                    here = self._default if access is None else access
                    folders = self._list(fd, parts, here, walk)
            except OSError as error:
                if not parts:
                    raise SourceUnreachable(
                        f"{root} の一覧を読めません ({error.strerror})。"
                    ) from None
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # gone, or replaced, while we walked
                walk.closed.append(folder)
                walk.failures.append(
                    Failed(
                        folder,
                        parts[-1],
                        f"フォルダーを開けません ({error.strerror})",
                        _transient(error),
                    )
                )
                continue
            waiting += [
                ((*parts, name), access)
                for name in reversed(folders)
                if root.joinpath(*parts, name) != self._own
            ]
        return walk

    def _list(self, fd: int, parts: tuple[str, ...], access: Access, walk: _Walk) -> list[str]:
        """Files of one folder into the walk; the names of the folders in it."""
        folders: list[str] = []
        with os.scandir(fd) as entries:
            # the NFC spelling first: it is the one that keeps the name
            found = sorted(entries, key=lambda e: (_spell(e.name), e.name != _spell(e.name)))
            for entry in found:
                if admit.left_out(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    self._file_found(entry, (*parts, entry.name), access, walk)
        return folders

    def _file_found(
        self, entry: os.DirEntry[str], parts: tuple[str, ...], access: Access, walk: _Walk
    ) -> None:
        uri = "/".join(map(_spell, parts))
        if not self._wanted(uri):
            return
        try:
            facts = _facts(entry.stat(follow_symlinks=False))
        except FileNotFoundError:
            return
        except OSError as error:
            reason = f"ファイルの情報を読めません ({error.strerror})"
            walk.failures.append(Failed(uri, _title(uri), reason, _transient(error), access))
            walk.closed.append(uri)
            return
        walk.add(uri, _Found(uri, parts, walk.place(access), facts), access)

    def _wanted(self, uri: str) -> bool:
        include, exclude = self._settings.include, self._settings.exclude
        return (not include or admit.fits(uri, include)) and not admit.fits(uri, exclude)

    def _access(self, fd: int, folder: str, outer: Access | None, walk: _Walk) -> Access | None:
        """Who may read below this folder, None while no access file has said anything.

        A broken access file admits nobody.
        """
        try:
            text = _access_file(fd)
            return outer if text is None else self._layers(text, outer)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            reason = f"アクセス設定を読めないため、このフォルダー以下は誰にも見えません ({why})"
            transient = isinstance(error, OSError) and _transient(error)
            walk.failures.append(Failed(f"{folder}{ACCESS_FILE}", ACCESS_FILE, reason, transient))
            return _CLOSED

    def _layers(self, text: str, outer: Access | None) -> Access:
        """The access file's layer on those above it. Raises ValueError saying what is wrong."""
        said = tomllib.loads(text)
        if unknown := set(said) - {"allow", "deny", "inherit"}:
            raise ValueError(f"知らない項目 {', '.join(sorted(unknown))}")
        inherit = said.get("inherit", True)
        if not isinstance(inherit, bool) or not {"allow", "deny"} & set(said):
            raise ValueError("allow か deny が必要です。inherit は true か false です")
        deny = admit.principals(said.get("deny", []))
        if "allow" not in said:  # takes away from what holds above, gives nothing
            above = (self._default if outer is None else outer) if inherit else NOBODY
            return (*(above or _CLOSED), Layer(frozenset({EVERYONE}), deny))
        above = outer if inherit and outer else NOBODY
        return (*above, Layer(admit.principals(said["allow"]), deny))


def _access_file(folder_fd: int) -> str | None:
    """Its text, None where there is none. Raises OSError, ValueError."""
    try:
        fd = os.open(ACCESS_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as stream:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("ふつうのファイルではありません")
        return stream.read(1_000_000).decode("utf-8-sig")


@contextmanager
def _descend(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """The folder below `root`, step by step, so that no link on the way is followed."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            inner = os.open(part, flags, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


class _Steady(io.FileIO):
    """A file that says so, at its end, when it is no longer the one that was listed."""

    def __init__(self, fd: int, uri: str, listed: _Facts) -> None:
        super().__init__(fd, "rb")
        self._uri, self._listed = uri, listed

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        if not data or size is None or size < 0:
            self.verify()
        return data

    def verify(self) -> None:
        now = os.fstat(self.fileno())
        if not stat.S_ISREG(now.st_mode) or _facts(now)[:3] != self._listed[:3]:
            raise SourceBusy(f"{self._uri} is being written; it is read again later")


def _open(root: Path, found: _Found) -> BinaryIO:
    """Raises SourceBusy where the file is not what was listed, OSError where it does not open."""
    if 0 <= time.time() - found.facts.mtime_s < _TICK_S:
        time.sleep(_TICK_S)  # the next write will show in its time
    with _descend(root, found.parts[:-1]) as folder:
        fd = os.open(found.parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    stream = _Steady(fd, found.uri, found.facts)
    try:
        stream.verify()
    except BaseException:
        stream.close()
        raise
    return cast(BinaryIO, stream)


def _facts(found: os.stat_result) -> _Facts:
    return _Facts(found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns)


@lru_cache(1024)  # a folder's name is spelled for every file in it
def _spell(name: str) -> str:
    return spelled(os.fsencode(name))


def _unlike_its_spelling(entry: os.DirEntry[str]) -> tuple[bool, str]:
    return entry.name != _spell(entry.name), entry.name


def _title(uri: str) -> str:
    name = uri.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def _when(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _transient(error: OSError) -> bool:
    return error.errno not in (errno.EACCES, errno.EPERM)
