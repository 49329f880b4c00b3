"""A file server: Samba as it is, and with NTFS' ChangeTime."""

from __future__ import annotations

import errno
import os
import tempfile
import time

import pytest
from smbprotocol.open import Open

from appliance.errors import (
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    EVERYONE,
    NOBODY,
    AccessChanged,
    Checkpoint,
    Failed,
    Layer,
    Moved,
    Principal,
    Remove,
    Upsert,
)
from connectors import fileserver, round, smb
from connectors.fileserver import FileServer
from connectors.smb import SmbConnector
from tests.connectors.descriptors import FULL, READ, WRITE, allow, deny, descriptor
from tests.connectors.samba import (
    ITO,
    SATO,
    STRANGERS,
    Samba,
    Share,
    only,
    run,
    samba,
    share,
    shelf,
    texts,
    upserts,
)

__all__ = ["samba", "share", "shelf"]  # fixtures


@pytest.fixture
def windows(samba: Samba, monkeypatch: pytest.MonkeyPatch) -> None:
    """ChangeTime as NTFS has it: it moves with the permissions. Samba gives the time of writing."""
    entries = FileServer.entries

    def telling(self: FileServer, folder: str) -> list[fileserver.Entry]:
        at = samba.home / "share" / folder.replace("\\", "/")
        return [
            e._replace(changed=fileserver._EPOCH + (at / e.name).lstat().st_ctime_ns // 100)
            for e in entries(self, folder)
        ]

    monkeypatch.setattr(FileServer, "entries", telling)
    monkeypatch.setattr(round, "SETTLED_S", 0.0)


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, shelf: Share) -> SmbConnector:
        return shelf.connector()


def test_everything_below_is_listed_with_whom_ntfs_admits(shelf: Share) -> None:
    shelf.write("人事/評価.txt", "評価はA。", deny(ITO), allow("S-1-1-0"))
    shelf.write("人事/書くだけ.txt", "目安箱。", allow(ITO, WRITE), allow(SATO, READ, 0x08))
    changes = run(shelf.connector())
    assert texts(changes) == {
        "営業/青山商事.txt": "値引きは八分まで。",
        "営業/旧/北見.txt": "北見商店は廃業。",
        "案内.txt": "受付は1階。",
        "人事/評価.txt": "評価はA。",
        "人事/書くだけ.txt": "目安箱。",
    }
    access = {uri: change.file.access for uri, change in upserts(changes).items()}
    assert access == {
        "営業/青山商事.txt": only("user:ito"),
        "営業/旧/北見.txt": only("user:ito", "user:sato"),
        "案内.txt": only("everyone"),
        "人事/評価.txt": (Layer(frozenset({EVERYONE}), frozenset({Principal("user:ito")})),),
        "人事/書くだけ.txt": only(),
    }
    one = upserts(changes)["案内.txt"].file
    assert one.size_bytes == len("受付は1階。".encode()) and one.title == "案内"
    assert abs(one.modified_at.timestamp() - (shelf.root / "案内.txt").stat().st_mtime) < 1e-3


def test_the_share_is_a_layer_above(shelf: Share) -> None:
    more = {"share_allow": ["group:社員"], "share_deny": ["group:派遣"]}
    change = upserts(run(shelf.connector(**more)))["営業/青山商事.txt"]
    top = Layer(frozenset({Principal("group:社員")}), frozenset({Principal("group:派遣")}))
    assert change.file.access == (top, *only("user:ito"))


def test_what_nobody_wrote_for_people_is_left_out(share: Share) -> None:
    for name in (
        "~$開いている.docx",
        "Thumbs.db",
        ".git",
        "除く.bak",
        "$RECYCLE.BIN/x.txt",
        "a.txt",
    ):
        share.write(name, "x")
    for name, attributes in (("隠し.txt", 0x2), ("システム.txt", 0x4)):
        share.write(name, "x")
        blob = f"0x{attributes:x}".encode() + b"\0"
        os.setxattr(share.root / name, "user.DOSATTRIB", blob)
    (share.root / "外").symlink_to("/etc")
    exclude = ["*.bak"]
    assert set(upserts(run(share.connector(exclude=exclude)))) == {"a.txt"}
    more = upserts(run(share.connector(exclude=exclude, hidden=True)))
    assert set(more) == {"a.txt", "隠し.txt", "システム.txt"}


def test_a_folder_inside_itself_and_one_too_deep_end_and_are_told(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    share.write("a/b/c/x.txt", "x", allow(ITO))
    share.write("y.txt", "y", allow(ITO))
    (share.root / "輪").symlink_to(share.root)  # which Samba follows, and tells nobody
    told = run(share.connector())
    assert [c.uri for c in told if isinstance(c, Failed)] == ["輪/"]
    assert set(upserts(told)) == {"a/b/c/x.txt", "y.txt"}
    monkeypatch.setattr(smb, "DEEPEST", 2)
    told = run(share.connector())
    assert {c.uri for c in told if isinstance(c, Failed)} == {"輪/", "a/b/c/"}
    assert set(upserts(told)) == {"y.txt"}


def test_names_and_paths_of_any_length_and_spelling(share: Share) -> None:
    deep = "/".join(f"第{n}部 とても長い名前のついたフォルダー" for n in range(30))
    share.write(f"{deep}/規程.txt", "深い。", allow(ITO))
    share.write("か\u3099いこく.txt", "NFD", allow(ITO))
    share.write("①㈱髙﨑🗻.txt", "x", allow(ITO))
    share.write("は\u3099.txt", "NFD の双子", allow(ITO))
    share.write("\u3070.txt", "NFC の双子", allow(ITO))
    connector = share.connector()
    changes = run(connector)
    assert len(share.name) + len(deep) > 600
    assert set(upserts(changes)) == {
        f"{deep}/規程.txt", "がいこく.txt", "①㈱髙﨑🗻.txt", "ば.txt",
    }  # fmt: skip
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["ば.txt#2"]
    for uri, text in texts(changes).items():
        with connector.file(uri).open() as stream:
            assert stream.read().decode() == text


# --- from run to run --------------------------------------------------------------


def test_renamed_and_moved_files_keep_what_is_known_of_them(shelf: Share) -> None:
    first = run(shelf.connector())
    (shelf.root / "営業/青山商事.txt").rename(shelf.root / "青山.txt")
    (shelf.root / "営業/旧").rename(shelf.root / "古い")
    second = run(shelf.connector(), first)
    moved = {c.old_uri: (c.uri, c.access) for c in second if isinstance(c, Moved)}
    assert moved == {
        "営業/青山商事.txt": ("青山.txt", only("user:ito")),
        "営業/旧/北見.txt": ("古い/北見.txt", only("user:ito", "user:sato")),
    }
    versions = [{c.file.version for c in upserts(some).values()} for some in (first, second)]
    assert versions[0] == versions[1], "nothing is read again"


def test_another_file_under_the_number_of_a_deleted_one_is_no_move(shelf: Share) -> None:
    first = run(shelf.connector())
    before = round.load(first[-1].cursor)  # type: ignore[union-attr]
    (shelf.root / "案内.txt").rename(shelf.root / "新.txt")
    (shelf.root / "新.txt").write_text("別の文章。", "utf-8")
    assert before.files["案内.txt"].id
    assert not [c for c in run(shelf.connector(), first) if isinstance(c, Moved)]


def test_a_changed_file_has_another_version_and_what_is_gone_is_not_mentioned(shelf: Share) -> None:
    first = run(shelf.connector())
    (shelf.root / "案内.txt").write_text("受付は2階に移りました。", "utf-8")
    (shelf.root / "営業/旧/北見.txt").unlink()
    second = run(shelf.connector(), first)
    old, new = ({u: c.file.version for u, c in upserts(some).items()} for some in (first, second))
    assert "営業/旧/北見.txt" not in new
    assert {uri for uri in new if new[uri] != old[uri]} == {"案内.txt"}
    assert second[-1] == Checkpoint(second[-1].cursor, complete=True)  # type: ignore[union-attr]


def test_new_permissions_are_told_first_and_no_content_is_read(
    shelf: Share, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(shelf.connector())
    shelf.permit("案内.txt", allow(SATO))
    asked: list[str] = []
    ask = FileServer.descriptor
    monkeypatch.setattr(FileServer, "descriptor", lambda s, p: (asked.append(p), ask(s, p))[1])
    second = run(shelf.connector(), first)
    assert second[0] == AccessChanged("案内.txt", only("user:sato"))
    assert [type(c) for c in second[1:]] == [Upsert, Upsert, Upsert, Checkpoint]
    assert upserts(second)["案内.txt"].file.version == upserts(first)["案内.txt"].file.version
    assert asked == [rf"{shelf.name}\案内.txt"], "of the others nothing is asked"
    third = run(shelf.connector(), second)
    assert len(asked) == 1 and not [c for c in third if isinstance(c, AccessChanged)]


def test_nobody_new_is_let_in_to_what_a_file_was_before(shelf: Share, windows: None) -> None:
    shelf.permit("案内.txt", allow(ITO))
    first = run(shelf.connector())
    shelf.write("案内.txt", "受付は2階に移り、佐藤さんが出ます。", allow(SATO))
    second = run(shelf.connector(), first)
    assert second[0] == AccessChanged("案内.txt", NOBODY), "what is stored is the former text"
    assert upserts(second)["案内.txt"].file.access == only("user:sato")


def test_where_no_time_tells_of_permissions_they_are_read_again_soon(
    shelf: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samba as it is."""
    first = run(shelf.connector())
    shelf.permit("案内.txt", allow(SATO))
    soon = run(shelf.connector(), first)
    assert not [c for c in soon if isinstance(c, AccessChanged)], "not yet: five minutes"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    later = run(shelf.connector(), soon)
    assert later[0] == AccessChanged("案内.txt", only("user:sato"))
    assert upserts(later)["案内.txt"].file.version == upserts(first)["案内.txt"].file.version
    shelf.permit("案内.txt", allow(ITO))
    at_once = run(shelf.connector(access_minutes=0), later)
    assert at_once[0] == AccessChanged("案内.txt", only("user:ito"))


def test_a_time_that_stood_still_over_new_permissions_is_not_believed_again(
    shelf: Share, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(shelf.connector())
    telling, stood = FileServer.entries, {u: c.file for u, c in upserts(first).items()}
    monkeypatch.setattr(
        FileServer,
        "entries",
        lambda s, f: [
            e._replace(changed=stood["案内.txt"].open.args[1].changed)  # type: ignore[attr-defined]
            if e.name == "案内.txt"
            else e
            for e in telling(s, f)
        ],
    )
    shelf.permit("案内.txt", allow(SATO))
    second = run(shelf.connector(access_minutes=0), first)
    assert not [c for c in second if isinstance(c, AccessChanged)]
    monkeypatch.setattr(round, "ANYWAY_S", 0.0)  # a day is over
    third = run(shelf.connector(access_minutes=0), second)
    assert third[0] == AccessChanged("案内.txt", only("user:sato"))
    monkeypatch.setattr(round, "ANYWAY_S", 86_400.0)
    shelf.permit("案内.txt", allow(ITO))
    fourth = run(shelf.connector(access_minutes=0), third)
    assert fourth[0] == AccessChanged("案内.txt", only("user:ito"))


def test_permissions_that_change_while_files_are_read_are_told_soon(
    shelf: Share, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(shelf.connector())
    shelf.write("新.txt", "新しい。", allow(ITO))
    monkeypatch.setattr(round, "AGAIN_S", -1.0)
    told = shelf.connector().changes(first[-1].cursor)  # type: ignore[union-attr]
    before = [next(told), next(told), next(told)]
    assert "新.txt" in upserts(before)
    shelf.permit("営業/青山商事.txt", allow(SATO))
    shelf.permit("新.txt", allow(SATO))
    after = [*before, *told]
    assert AccessChanged("営業/青山商事.txt", only("user:sato")) in after
    accesses = [c.file.access for c in after if isinstance(c, Upsert) and c.file.uri == "新.txt"]
    assert accesses == [only("user:ito"), only("user:sato")]
    assert run(shelf.connector(), after)[-1].complete  # type: ignore[union-attr]


def test_nobody_new_is_let_in_meanwhile_to_what_a_file_was_before(
    shelf: Share, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changed before the run, and its permissions during it, before its turn came."""
    first = run(shelf.connector())
    shelf.write("営業/青山商事.txt", "値引きは5%になった。", allow(ITO))
    monkeypatch.setattr(round, "AGAIN_S", -1.0)
    told = shelf.connector().changes(first[-1].cursor)  # type: ignore[union-attr]
    assert list(upserts([next(told)])) == ["案内.txt"]
    shelf.permit("営業/青山商事.txt", allow(ITO), allow(SATO))
    after = list(told)
    assert after[0] == AccessChanged("営業/青山商事.txt", NOBODY), "the former text is stored"
    both = only("user:ito", "user:sato")
    assert upserts(after)["営業/青山商事.txt"].file.access == both


# --- lists of nobody and of strangers ---------------------------------------------


def test_an_empty_list_is_nobody_and_no_list_is_everybody_where_told_so(shelf: Share) -> None:
    shelf.permit("案内.txt")
    shelf.describe("営業/青山商事.txt", descriptor(ITO, None))
    for null_dacl, readers in ((False, only()), (True, only("everyone"))):
        found = upserts(run(shelf.connector(null_dacl=null_dacl)))
        assert found["案内.txt"].file.access == only()
        assert found["営業/青山商事.txt"].file.access == readers


def test_sids_without_a_counterpart_grant_nobody_and_are_told_until_they_have_one(
    shelf: Share,
) -> None:
    shelf.permit("案内.txt", allow(STRANGERS), allow(ITO))
    first = run(shelf.connector())
    assert upserts(first)["案内.txt"].file.access == only("user:ito")
    (told,) = [c for c in first if isinstance(c, Failed)]
    assert f"{STRANGERS} (1 件)" in told.reason and told.access == NOBODY
    second = run(shelf.connector(), first)
    assert AccessChanged(round.UNKNOWN, NOBODY) in second, "the row stays, and is not written anew"
    sids = [*shelf.settings["sids"], f"{STRANGERS} = group:営業部"]  # type: ignore[misc]
    sids_known = shelf.connector(sids=sids)
    third = run(sids_known, second)
    assert upserts(third)["案内.txt"].file.access == only("user:ito", "group:営業部")
    assert Remove(round.UNKNOWN) in third
    assert not [c for c in run(shelf.connector(sids=sids), third) if isinstance(c, Remove)]


def test_people_are_known_by_their_names_on_the_server(shelf: Share) -> None:
    shelf.write("役員.txt", "x", deny(SATO), allow("S-1-5-32-545"), allow(STRANGERS))
    sids = [
        r"filesv\ITO = user:ito",
        r"FILESV\ito=group:営業部",
        r"FILESV\sato = group:人事部",
        r"BUILTIN\Users = group:社員",
    ]
    changes = run(shelf.connector(sids=sids))
    access = {uri: change.file.access for uri, change in upserts(changes).items()}
    assert access["営業/旧/北見.txt"] == only("user:ito", "group:営業部", "group:人事部")
    staff, hr = Principal("group:社員"), Principal("group:人事部")
    assert access["役員.txt"] == (Layer(frozenset({staff}), frozenset({hr})),)
    (told,) = [c.reason for c in changes if isinstance(c, Failed)]
    assert STRANGERS in told and r"FILESV\kura" not in told


def test_who_is_not_in_the_table_is_told_by_name(shelf: Share) -> None:
    (told,) = [c.reason for c in run(shelf.connector(sids=[])) if isinstance(c, Failed)]
    assert rf"FILESV\ito {ITO} (2 件)、FILESV\sato {SATO} (1 件)" in told


def test_a_server_that_names_nobody_is_told_before_anybody_is_shut_out(
    shelf: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> dict[str, str]:
        raise SourceDenied("lsarpc")

    monkeypatch.setattr(FileServer, "names", silent)
    shelf.connector().check()
    by_name = shelf.connector(sids=[r"FILESV\ito = user:ito"])
    with pytest.raises(SourceMisconfigured, match="SID の名前を教えません"):
        by_name.check()
    with pytest.raises(SourceDenied, match="lsarpc"):
        run(by_name)


# --- what does not open -----------------------------------------------------------


def test_a_file_that_somebody_has_open_for_themselves_is_read_later(shelf: Share) -> None:
    change = upserts(run(shelf.connector()))["案内.txt"]
    with (
        shelf.opened("案内.txt", access=0x3, sharing=0),
        pytest.raises(SourceBusy, match="ほかの人が開いています"),
    ):
        change.file.open()
    with shelf.opened("案内.txt", access=0x3), change.file.open() as stream:
        assert stream.read().decode() == "受付は1階。", "open, but to be read by others"


def test_a_file_that_is_written_while_it_is_read_is_read_later(
    shelf: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = upserts(run(shelf.connector()))["案内.txt"]
    file = shelf.root / "案内.txt"
    read = Open.read

    def slowly(self: Open, *given: object, **more: object) -> object:
        data = read(self, *given, **more)
        file.write_text("受付は2階。", "utf-8")  # of the same size
        os.utime(file, ns=(1, time.time_ns()))
        return data

    monkeypatch.setattr(Open, "read", slowly)
    with pytest.raises(SourceBusy, match="書き込み中"):
        change.file.open()
    monkeypatch.setattr(Open, "read", read)
    with pytest.raises(SourceBusy, match="書き込み中"):
        change.file.open()  # it is not the one that was listed
    assert texts(run(shelf.connector()))["案内.txt"] == "受付は2階。"


def test_a_disk_that_is_full_here_is_not_the_servers_fault(
    shelf: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = upserts(run(shelf.connector()))["案内.txt"]

    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match="No space"):
        change.file.open()


def test_a_file_of_several_blocks_is_whole(share: Share) -> None:
    text = "0123456789" * 320_000
    share.write("大きい.txt", text)
    assert texts(run(share.connector())) == {"大きい.txt": text}


def test_a_folder_that_is_closed_to_us_hides_what_is_in_it_and_deletes_nothing(
    share: Share,
) -> None:
    """sato's account, which is no administrator there, looks for Kura."""
    world = allow("S-1-1-0", FULL, 0x03)
    share.permit("", world)
    for n in range(3):
        share.write(f"開/{n}.txt", "x", world)
    share.write("閉/社長.txt", "x", world)
    share.permit("閉", world)
    share.permit("開", world)
    own = {"user": "sato"}
    first = run(share.connector(**own))
    assert set(upserts(first)) == {"開/0.txt", "開/1.txt", "開/2.txt", "閉/社長.txt"}
    share.permit("閉", allow(ITO, FULL))
    (share.root / "開/0.txt").unlink()
    second = run(share.connector(**own), first)
    assert [(c.uri, c.transient) for c in second if isinstance(c, Failed)] == [("閉/", False)]
    assert AccessChanged("閉/社長.txt", NOBODY) in second
    assert [c.uri for c in second if isinstance(c, Remove)] == ["開/0.txt"]
    assert set(upserts(second)) == {"開/1.txt", "開/2.txt"}
    assert not second[-1].complete  # type: ignore[union-attr]
    third = run(share.connector(**own), second)
    assert not [c for c in third if isinstance(c, (AccessChanged, Remove))], "once is enough"
    share.permit("閉", world)
    fourth = run(share.connector(**own), third)
    assert upserts(fourth)["閉/社長.txt"].file.access == only("everyone")
    assert fourth[-1].complete  # type: ignore[union-attr]


def test_a_folder_that_fails_keeps_its_grants_for_an_hour(
    shelf: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(shelf.connector())
    entries = FileServer.entries

    def failing(self: FileServer, folder: str) -> list[fileserver.Entry]:
        if folder.endswith("旧"):
            raise SourceBusy("0xC000009A")
        return entries(self, folder)

    monkeypatch.setattr(FileServer, "entries", failing)
    second = run(shelf.connector(), first)
    assert next(c for c in second if isinstance(c, Failed)).transient
    assert not [c for c in second if isinstance(c, AccessChanged)]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + round.OLDEST_S + 1)
    third = run(shelf.connector(), second)
    assert [c for c in third if isinstance(c, AccessChanged)] == [
        AccessChanged("営業/旧/北見.txt", NOBODY)
    ]
    monkeypatch.setattr(FileServer, "entries", entries)
    fourth = run(shelf.connector(), third)
    assert AccessChanged("営業/旧/北見.txt", only("user:ito", "user:sato")) in fourth


def test_a_file_whose_permissions_cannot_be_read_is_nobodys(share: Share) -> None:
    share.write("a.txt", "x", allow("S-1-1-0", FULL))
    own = {"user": "sato", "access_minutes": 0}
    first = run(share.connector(**own))
    share.permit("a.txt", allow("S-1-1-0", 0x1), owner=ITO)  # but not READ_CONTROL
    second = run(share.connector(**own), first)
    (told,) = [c for c in second if isinstance(c, Failed)]
    assert (told.uri, told.access, told.transient) == ("a.txt", NOBODY, False)
    assert "アクセス許可を読めない" in told.reason
    assert not upserts(second)
