from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    EVERYONE,
    Access,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Layer,
    Moved,
    Principal,
    Site,
    Upsert,
    admits,
)
from connectors.folder import FolderConnector, FolderSettings

NFD = unicodedata.normalize("NFD", "ガイド.txt")
NFC = unicodedata.normalize("NFC", "ガイド.txt")


def put(root: Path, name: str, text: str = "本文") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def folder(root: Path, **settings: object) -> FolderConnector:
    return FolderConnector(FolderSettings(root=root, **({"allow": ["everyone"]} | settings)))  # type: ignore[arg-type]


def run(connector: FolderConnector, since: Cursor | None = None) -> tuple[list[Change], Checkpoint]:
    *changes, last = connector.changes(since)
    assert isinstance(last, Checkpoint)
    return changes, last


def uris(changes: list[Change]) -> list[str]:
    return [c.file.uri for c in changes if isinstance(c, Upsert)]


def failures(changes: list[Change]) -> dict[str, Failed]:
    return {c.uri: c for c in changes if isinstance(c, Failed)}


def layers(*allowed: str) -> Access:
    return tuple(Layer(frozenset({Principal(name)})) for name in allowed)


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> FolderConnector:
        put(tmp_path, "規程/旅費.txt")
        put(tmp_path, f"手引き/{NFD}")
        return folder(tmp_path)


def test_a_file_as_it_is_listed(tmp_path: Path) -> None:
    path = put(tmp_path, "総務/旅費規程.txt", "実費とする。")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    [change], last = run(folder(tmp_path))
    assert isinstance(change, Upsert)
    assert (change.file.uri, change.file.title) == ("総務/旅費規程.txt", "旅費規程")
    assert change.file.modified_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert change.file.access == layers(EVERYONE)
    with change.file.open() as stream:
        assert stream.read().decode() == "実費とする。"
    assert last.complete


def test_only_what_changed_has_a_new_version(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    put(tmp_path, "b.txt", "一")

    def versions() -> dict[str, str]:
        return {
            c.file.uri: c.file.version for c in run(folder(tmp_path))[0] if isinstance(c, Upsert)
        }

    before = versions()
    facts = (tmp_path / "b.txt").stat()
    put(tmp_path, "b.txt", "二")
    os.utime(tmp_path / "b.txt", ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as a copy tool does
    after = versions()
    assert after["a.txt"] == before["a.txt"]
    assert after["b.txt"] != before["b.txt"]


@pytest.mark.parametrize(
    ("old", "new"), [("a.txt", "b.txt"), ("a.txt", "下/中/a.txt"), ("古い/a.txt", "新しい/a.txt")]
)
def test_a_rename_keeps_the_document(tmp_path: Path, old: str, new: str) -> None:
    put(tmp_path, old)
    put(tmp_path, "other.txt")
    _, last = run(folder(tmp_path))
    (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / old).rename(tmp_path / new)
    changes, last = run(folder(tmp_path), last.cursor)
    assert [c for c in changes if isinstance(c, Moved)] == [
        Moved(old, new, Path(new).stem, layers(EVERYONE))
    ]
    assert new in uris(changes)
    assert last.complete
    assert not [c for c in run(folder(tmp_path), last.cursor)[0] if isinstance(c, Moved)]


def test_a_copy_is_not_a_move(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    _, last = run(folder(tmp_path))
    put(tmp_path, "b.txt")
    changes, _ = run(folder(tmp_path), last.cursor)
    assert not [c for c in changes if isinstance(c, Moved)]
    assert uris(changes) == ["a.txt", "b.txt"]


def test_a_cursor_of_another_version_is_no_harm(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    for cursor in ("", "{", "[]", '{"files": {"a.txt": 5}}', '{"files": 3}'):
        assert uris(run(folder(tmp_path), Cursor(cursor))[0]) == ["a.txt"]


def test_links_specials_and_hidden_files_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside, "secret.txt")
    root = tmp_path / "root"
    put(root, "a.txt")
    put(root, ".hidden.txt")
    put(root, ".git/config")
    put(root, "~$a.docx")
    put(root, "Thumbs.db")
    (root / "file.txt").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        assert uris(run(folder(root))[0]) == ["a.txt"]


def test_a_file_swapped_for_a_link_is_not_read(tmp_path: Path) -> None:
    secret = put(tmp_path / "outside", "secret.txt")
    root = tmp_path / "root"
    path = put(root, "a.txt")
    [change], _ = run(folder(root))
    assert isinstance(change, Upsert)
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        change.file.open()


def test_a_folder_swapped_for_a_link_is_not_entered(tmp_path: Path) -> None:
    put(tmp_path / "outside", "a.txt", "secret")
    root = tmp_path / "root"
    put(root, "d/a.txt")
    [change], _ = run(folder(root))
    assert isinstance(change, Upsert)
    (root / "d").rename(tmp_path / "old")
    (root / "d").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        change.file.open()


def test_a_file_being_written_waits(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "x" * 10)
    [change], _ = run(folder(tmp_path))
    assert isinstance(change, Upsert)
    path.write_text("y" * 11)
    with pytest.raises(SourceBusy, match=r"a\.txt"):
        change.file.open()
    [change], _ = run(folder(tmp_path))
    assert isinstance(change, Upsert)
    with change.file.open() as stream:
        assert stream.read(4) == b"yyyy"
        path.write_text("z" * 11)
        with pytest.raises(SourceBusy):
            while stream.read(4):
                pass


def test_names_are_nfc_and_two_alike_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, NFD, "分解")
    assert uris(run(folder(tmp_path))[0]) == [NFC]
    put(tmp_path, NFC, "合成")
    changes, last = run(folder(tmp_path))
    [change] = [c for c in changes if isinstance(c, Upsert)]
    with change.file.open() as stream:
        assert stream.read().decode() == "合成"
    [failed] = failures(changes).values()
    assert failed.uri != NFC
    assert "同じ名前" in failed.reason
    assert last.complete


def test_names_of_an_old_archive_are_read_as_cp932(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/" + "表示.txt".encode("cp932"), "w") as stream:
        stream.write("x")
    [change], _ = run(folder(tmp_path))
    assert isinstance(change, Upsert)
    assert change.file.uri == "表示.txt"
    with change.file.open() as stream:
        assert stream.read() == b"x"


def test_include_and_exclude(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.txt", "古い/c.pdf"):
        put(tmp_path, name)
    assert uris(run(folder(tmp_path, include=["*.pdf"], exclude=["古い/*"]))[0]) == ["a.pdf"]


# --- who may read -----------------------------------------------------------------


def access(root: Path, uri: str, **settings: object) -> Access:
    return next(
        c.file.access
        for c in run(folder(root, **settings))[0]
        if isinstance(c, Upsert) and c.file.uri == uri
    )


def rule(root: Path, where: str, text: str) -> None:
    put(root, f"{where}/.kura-access.toml", text)


def test_without_any_word_nobody_reads(tmp_path: Path) -> None:
    put(tmp_path, "a.txt")
    assert not admits(access(tmp_path, "a.txt", allow=[]), frozenset({EVERYONE}))


def test_access_files_add_layers_and_may_start_anew(tmp_path: Path) -> None:
    rule(tmp_path, ".", 'allow = ["group:zensha"]')
    rule(tmp_path, "経理", 'allow = ["group:keiri", "user:ito"]\ndeny = ["user:sato"]')
    rule(tmp_path, "人事", 'inherit = false\nallow = ["group:jinji"]')
    for name in ("a.txt", "経理/a.txt", "経理/下/a.txt", "人事/a.txt"):
        put(tmp_path, name)
    keiri = Layer(
        frozenset(map(Principal, ("group:keiri", "user:ito"))), frozenset({Principal("user:sato")})
    )
    assert access(tmp_path, "a.txt") == layers("group:zensha")
    assert access(tmp_path, "経理/a.txt") == (*layers("group:zensha"), keiri)
    assert access(tmp_path, "経理/下/a.txt") == (*layers("group:zensha"), keiri)
    assert access(tmp_path, "人事/a.txt") == layers("group:jinji")


def test_the_setting_is_for_what_lies_under_no_access_file(tmp_path: Path) -> None:
    rule(tmp_path, "人事", 'allow = ["group:jinji"]')
    put(tmp_path, "a.txt")
    put(tmp_path, "人事/a.txt")
    assert access(tmp_path, "a.txt", allow=["group:zensha"]) == layers("group:zensha")
    assert access(tmp_path, "人事/a.txt", allow=["group:zensha"]) == layers("group:jinji")


def test_a_deny_alone_takes_away_and_gives_nothing(tmp_path: Path) -> None:
    rule(tmp_path, ".", 'deny = ["group:haken"]')
    rule(tmp_path, "下", 'allow = ["group:zensha"]')
    put(tmp_path, "a.txt")
    put(tmp_path, "下/a.txt")
    zensha, haken = Principal("group:zensha"), Principal("group:haken")
    given = access(tmp_path, "a.txt", allow=["group:zensha"])
    assert admits(given, frozenset({zensha, EVERYONE}))
    assert not admits(given, frozenset({zensha, haken, EVERYONE}))
    for uri in ("a.txt", "下/a.txt"):
        assert not admits(access(tmp_path, uri, allow=[]), frozenset({zensha, EVERYONE}))


BROKEN = [
    "allow = [",
    'alow = ["group:jinji"]',
    'allow = "group:jinji"',
    'allow = ["jinji"]',
    'allow = ["group: "]',
    "allow = [5]",
    'allow = ["everyone"]\ninherit = "no"',
    "inherit = false",
    "",
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_access_file_closes_all_below_and_says_so(tmp_path: Path, text: str) -> None:
    rule(tmp_path, "人事", text)
    put(tmp_path, "人事/a.txt")
    rule(tmp_path, "人事/下", 'allow = ["everyone"]')
    put(tmp_path, "人事/下/b.txt")
    put(tmp_path, "c.txt")
    for uri in ("人事/a.txt", "人事/下/b.txt"):
        assert not admits(access(tmp_path, uri), frozenset({EVERYONE}))
    assert admits(access(tmp_path, "c.txt"), frozenset({EVERYONE}))
    failed = failures(run(folder(tmp_path))[0])["人事/.kura-access.toml"]
    assert "誰にも見えません" in failed.reason


def test_an_access_file_that_is_a_link_or_a_folder_is_broken(tmp_path: Path) -> None:
    rule(tmp_path, "good", 'allow = ["everyone"]')
    put(tmp_path, "a/x.txt")
    (tmp_path / "a/.kura-access.toml").symlink_to(tmp_path / "good/.kura-access.toml")
    put(tmp_path, "b/x.txt")
    (tmp_path / "b/.kura-access.toml").mkdir()
    for uri in ("a/x.txt", "b/x.txt"):
        assert not admits(access(tmp_path, uri), frozenset({EVERYONE}))


# --- what cannot be read ----------------------------------------------------------


def test_a_root_that_is_away_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match="gone"):
        list(folder(tmp_path / "gone").changes(None))
    with pytest.raises(SourceUnreachable):
        folder(tmp_path / "gone").check()
    file = put(tmp_path, "file")
    with pytest.raises(SourceMisconfigured):
        folder(file).check()
    with pytest.raises(SourceMisconfigured, match="jinji"):
        folder(tmp_path, allow=["jinji"]).check()


# root reads everything: what an account may not read is seen as another one
AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from connectors.folder import FolderConnector, FolderSettings
from appliance.types import *
from appliance.errors import ApplianceError
root = sys.argv[2]
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    for c in FolderConnector(FolderSettings(root=root, allow=["everyone"])).changes(sys.argv[3] or None):
        match c:
            case Upsert(file):
                try:
                    file.open().close(); print("upsert", file.uri)
                except PermissionError: print("denied", file.uri)
            case Failed(uri, _, reason, transient): print("failed", uri, transient)
            case Remove(uri): print("remove", uri)
            case Checkpoint(cursor, complete): print("complete", complete)
except ApplianceError as error: print(type(error).__name__)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every account of this machine can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        root = Path(place) / "share"
        root.mkdir(mode=0o755)
        yield root
        root.chmod(0o755)


def as_nobody(root: Path, cursor: str = "") -> list[str]:
    place = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, place, str(root), cursor],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_folder_that_does_not_open_keeps_what_was_in_it(shared: Path) -> None:
    for name in ("open/a.txt", "open/b.txt", "closed/c.txt"):
        put(shared, name)
    _, last = run(folder(shared))
    (shared / "closed").chmod(0)
    (shared / "open/b.txt").unlink()
    out = as_nobody(shared, last.cursor)
    (shared / "closed").chmod(0o755)
    assert sorted(out) == [
        "complete False",
        "failed closed/ False",
        "remove open/b.txt",
        "upsert open/a.txt",
    ]


def test_most_of_a_source_is_never_removed_on_an_incomplete_listing(shared: Path) -> None:
    for n in range(30):
        put(shared, f"open/{n}.txt")
    put(shared, "closed/c.txt")
    _, last = run(folder(shared))
    (shared / "closed").chmod(0)
    for n in range(30):
        (shared / f"open/{n}.txt").unlink()
    out = as_nobody(shared, last.cursor)
    (shared / "closed").chmod(0o755)
    assert out == ["failed closed/ False", "complete False"]


def test_a_file_that_does_not_open_is_a_file_all_the_same(shared: Path) -> None:
    put(shared, "a.txt").chmod(0)
    put(shared, "b.txt").chmod(0o644)
    assert as_nobody(shared) == ["denied a.txt", "upsert b.txt", "complete True"]


def test_a_root_that_may_not_be_listed(shared: Path) -> None:
    shared.chmod(0o700)
    assert as_nobody(shared) == [SourceDenied.__name__]


def test_an_access_file_that_may_not_be_read_closes_the_folder(shared: Path) -> None:
    rule(shared, "d", 'allow = ["everyone"]')
    put(shared, "d/a.txt")
    (shared / "d/.kura-access.toml").chmod(0)
    assert "failed d/.kura-access.toml False" in as_nobody(shared)


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    put(tmp_path, "/".join(["d"] * 200) + "/a.txt")
    assert len(uris(run(folder(tmp_path))[0])) == 1


# --- one file -------------------------------------------------------------------------


def test_one_file_has_the_access_of_every_folder_above_it(tmp_path: Path) -> None:
    put(tmp_path, ".kura-access.toml", 'allow = ["group:全社"]')
    put(tmp_path, "人事/.kura-access.toml", 'allow = ["group:人事部"]')
    put(tmp_path, f"人事/{unicodedata.normalize('NFD', 'ガイド')}/評価.txt")
    put(tmp_path, "公開/.kura-access.toml", 'allow = ["everyone"]\ninherit = false')
    put(tmp_path, "公開/案内.txt")
    put(tmp_path, "壊れ/.kura-access.toml", "allow = ")
    put(tmp_path, "壊れ/秘密.txt")
    connector = folder(tmp_path)
    assert connector.file("人事/ガイド/評価.txt").access == layers("group:全社", "group:人事部")
    assert connector.file("公開/案内.txt").access == layers(EVERYONE)
    assert not admits(connector.file("壊れ/秘密.txt").access, frozenset({EVERYONE}))
    listed = [c.file for c in run(connector)[0] if isinstance(c, Upsert)]
    assert {f.uri: f.access for f in listed} == {
        f.uri: connector.file(f.uri).access for f in listed
    }


def test_one_file_is_nothing_that_a_listing_leaves_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    secret = put(tmp_path, "outside/secret.txt", "秘密")
    put(root, "a.txt")
    put(root, "~$a.docx")
    put(root, "下書き.tmp")
    put(root, "d/b.txt")
    (root / "link.txt").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    connector = folder(root, exclude=["*.tmp"])
    for uri in (
        *("link.txt", "folder/secret.txt", "../outside/secret.txt", "d/../a.txt", "./a.txt"),
        *("~$a.docx", ".kura-access.toml", "下書き.tmp", "d", "a.txt/b", "a.txt#2", "//a.txt"),
    ):
        with pytest.raises(NotVisible):
            connector.file(uri)
    with pytest.raises(SourceUnreachable):
        folder(tmp_path / "外れた").file("a.txt")


def test_kuras_own_data_is_no_source(tmp_path: Path) -> None:
    root, own = tmp_path, tmp_path / "kura"
    put(own, "uploads/秘密.txt")
    put(root, "規程.txt")
    put(root, "別/kura/規程.txt")  # of the same name alone
    site = Site(own=own)
    above = FolderConnector(FolderSettings(root=root, allow=["everyone"]), site)
    assert uris(run(above)[0]) == ["規程.txt", "別/kura/規程.txt"]
    with pytest.raises(NotVisible):
        above.file("kura/uploads/秘密.txt")
    for inside in (own, own / "uploads"):
        with pytest.raises(SourceMisconfigured, match="Kura 自身のデータ"):
            FolderConnector(FolderSettings(root=inside), site).check()


def test_what_is_kept_of_a_file_says_its_title_and_date_as_the_system_does(tmp_path: Path) -> None:
    """A date that differed in its last digit would have every document renewed."""
    names = ("旅費.規程.txt", "版.", "第1条..md", "綴り")
    moments = (1_700_000_000_123_456_789, 999_999_999, 1, 1_799_999_999_999_999_500)
    for name, moment in zip(names, moments, strict=True):
        os.utime(put(tmp_path, f"第1.2章/{name}"), ns=(moment, moment))
    changes, _ = run(folder(tmp_path))
    found = {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}
    assert len(found) == len(names)
    for uri, file in found.items():
        path = tmp_path / uri
        assert file.title == path.stem
        assert file.modified_at == datetime.fromtimestamp(path.stat().st_mtime, UTC)
