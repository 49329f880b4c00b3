"""A branch of a Git repository, over HTTPS, over SSH or from a folder: a file a document.

The program `git` fetches into a copy in Kura's data folder (`connectors/mirror.py`): it knows every server
and every odd repository, and can be told one address to connect to. What is listed is a commit, so all
files are of one moment. A file is known by the id of its content, which never lies; a file that is gone
under one name and new under another with the same content is `Moved`. Whoever may read a repository is
known to its server alone, so the administrator says who may read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

from pydantic import BaseModel, Field, field_validator

from appliance.errors import NotVisible
from appliance.types import ALONE, Access, Change, Cursor, Failed, RawFile, Site
from connectors import admit, ssh
from connectors.form import LATER, LINES
from connectors.listing import Listing, spelled, title
from connectors.mirror import Blob, Keys, Mirror, remote

UNUSED_S = 30 * 86_400.0  # a copy that nobody looked at for so long is of no source any more
LAST_S = 253_402_300_799  # whoever commits says when
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_BYTES = range(100, 400)
_BRANCH = re.compile(r"(?!.*(\.\.|//|@\{))[^\s\x00-\x1f~^:?*\[\\-][^\s\x00-\x1f~^:?*\[\\]*")


class GitSettings(BaseModel):
    url: str = Field(
        title="URL",
        description="https://git.example.co.jp/総務/規程.git、ssh://git@…、"
        "このマシンのフォルダー (/…)。利用者名とパスワードは入れません (ssh の git@ は除く)。",
    )
    branch: str = Field(
        default="", title="ブランチ", description="空なら、相手が既定とするブランチ。"
    )
    user: str = Field(
        default="", title="利用者名", description="https の利用者名。トークンだけなら空。"
    )
    password: str = Field(
        default="",
        title="パスワード",
        description="パスワード、アクセストークン、または秘密鍵のパスフレーズ。",
        repr=False,
    )
    private_key: str = Field(
        json_schema_extra=LINES,
        default="",
        title="秘密鍵",
        description="ssh の鍵。PEM か OpenSSH の形。",
        repr=False,
    )
    host_fingerprint: str = Field(
        default="",
        title="ホスト鍵の指紋",
        description="ssh の SHA256:… の形。空のまま確認すると、相手の指紋が問題の欄に出ます。",
    )
    allow: list[str] = Field(
        default_factory=list,
        title="閲覧できる人",
        description="この取り込み元の資料を読める人 (group:営業部、user:ito、everyone)。"
        "空なら誰にも見えません。",
    )
    include: list[str] = Field(
        default_factory=list, title="対象", description="*.md や 規程/* などの型。空ならすべて。"
    )
    exclude: list[str] = Field(
        default_factory=list, title="除外", description="除く型 (*.bak、個人/* など)。"
    )
    most_mb: int = Field(
        default=5_000,
        ge=1,
        title="写しの上限 (MB)",
        json_schema_extra=LATER,
        description="履歴を含む大きさ。超えるリポジトリは取り込みません。",
    )

    @field_validator("url")
    @classmethod
    def _remote(cls, url: str) -> str:
        remote(url.strip())
        return url.strip()

    @field_validator("branch")
    @classmethod
    def _name(cls, branch: str) -> str:
        if branch.strip() and not _BRANCH.fullmatch(branch.strip()):
            raise ValueError("ブランチの名前だけを書いてください")
        return branch.strip()

    @field_validator("host_fingerprint")
    @classmethod
    def _fingerprints(cls, said: str) -> str:
        return ssh.fingerprints(said)

    @field_validator("private_key")
    @classmethod
    def _lines(cls, pem: str) -> str:
        return ssh.lines(pem)

    @field_validator("user", "password")
    @classmethod
    def _one_line(cls, said: str) -> str:
        if any(ord(c) < 32 for c in said):
            raise ValueError("改行などは使えません")
        return said


@dataclass(frozen=True, slots=True)
class _File:
    blob: Blob
    changed_s: int

    @property
    def same(self) -> str:
        return self.blob.id if self.blob.size_bytes else ""


class GitConnector:
    """Git リポジトリ"""

    kind: ClassVar[str] = "git"
    Settings: ClassVar[type[BaseModel]] = GitSettings
    lists_all: ClassVar[bool] = True

    def __init__(self, settings: GitSettings, site: Site = ALONE) -> None:
        self._settings, self.site = settings, site

    @cached_property
    def _mirror(self) -> Mirror:
        own = self._settings
        if self.site.own:
            copies = self.site.own / "git"
        else:
            copies = Path(tempfile.mkdtemp(prefix="kura-git-"))
            weakref.finalize(self, shutil.rmtree, copies, ignore_errors=True)
        name = hashlib.sha256(f"{own.url}\n{own.branch}\n{own.user}".encode()).hexdigest()[:32]
        keys = Keys(own.user, own.password, own.private_key, own.host_fingerprint)
        at, most_bytes = remote(own.url), own.most_mb * 1_000_000
        return Mirror(at, own.branch, keys, self.site, copies / name, most_bytes)

    @cached_property
    def _access(self) -> Access:
        return admit.access(self._settings.allow)

    def check(self) -> None:
        self._access  # noqa: B018  its setting may be wrong
        self._mirror.tip()

    def changes(self, since: Cursor | None) -> Iterator[Change]:
        """All files of the branch as it is now."""
        self._access  # noqa: B018
        if self.site.own:
            _sweep(self.site.own / "git")
        found = Listing[_File]()
        files = list(self._files(self._mirror.fetched()))
        pointers = self._pointers(one.blob for _, one in files)
        for uri, one in files:
            if one.blob.mode == "160000":
                why = "サブモジュールは読みません。別の取り込み元にしてください"
                found.failures.append(Failed(uri, title(uri), why, False, self._access))
            elif one.blob.id in pointers:
                why = "Git LFS の中身は読みません"
                found.failures.append(Failed(uri, title(uri), why, False, self._access))
            else:
                found.add(uri, one, self._access)
        yield from found.changes(since, lambda one: one.same, self._file)

    def file(self, uri: str) -> RawFile:
        commit = self._mirror.fetched()
        for name, one in self._files(commit):
            plain = one.blob.mode != "160000" and not self._pointers([one.blob])
            if name == uri and plain:
                return self._file(uri, one)
        raise NotVisible(f"{uri} はありません。")

    def _file(self, uri: str, one: _File) -> RawFile:
        return RawFile(
            uri=uri,
            version=one.blob.id,
            open=partial(self._open, one.blob),
            access=self._access,
            title=title(uri),
            modified_at=datetime.fromtimestamp(min(one.changed_s, LAST_S), UTC),
            size_bytes=one.blob.size_bytes,
        )

    def _open(self, blob: Blob) -> BinaryIO:
        copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
        try:
            self._mirror.copied(blob.id, copy)
        except BaseException:
            copy.close()
            raise
        return copy

    def _files(self, commit: str) -> Iterator[tuple[str, _File]]:
        """What is wanted of a commit, but links; the NFC spelling first: it is the one that keeps the name."""
        own, times = self._settings, self._mirror.changed_at(commit)
        blobs = [(spelled(one.path), one) for one in self._mirror.blobs(commit)]
        for uri, one in sorted(blobs, key=lambda b: (b[0], b[1].path != b[0].encode())):
            wanted = not own.include or admit.fits(uri, own.include)
            if one.mode != "120000" and wanted and admit.within(uri, own.exclude):
                yield uri, _File(one, times.get(one.path, 0))

    def _pointers(self, blobs: Iterable[Blob]) -> set[str]:
        """Those that stand for a content which lies elsewhere (Git LFS)."""
        few = [b.id for b in blobs if b.size_bytes in _POINTER_BYTES and b.mode != "160000"]
        heads = zip(few, self._mirror.heads(few), strict=True)
        return {id for id, head in heads if head.startswith(_POINTER)}


def _sweep(copies: Path) -> None:
    """Copies that no source has any more. Who looks at one, marks it."""
    for one in copies.glob("*") if copies.is_dir() else ():
        with suppress(OSError):
            if one.is_dir() and one.stat().st_mtime < time.time() - UNUSED_S:
                shutil.rmtree(one)
