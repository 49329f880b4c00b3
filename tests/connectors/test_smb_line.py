"""A file server that is set up wrongly, away, old, or not itself; and somebody on the line to it."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from appliance.errors import (
    NotVisible,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import (
    Change,
    Failed,
    Site,
)
from connectors import fileserver, lsa
from connectors.fileserver import FileServer
from connectors.smb import SmbConnector, SmbSettings
from tests.connectors.descriptors import allow, descriptor
from tests.connectors.samba import (
    ITO,
    PASSWORD,
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


# --- settings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": "x"}, SourceDenied, "サインインできません.*パスワード"),
        ({"user": "naishi"}, SourceDenied, "naishi でサインインできません"),
        ({"share": "ない"}, SourceMisconfigured, r"共有 .*ない がありません"),
        ({"folder": "ない/場所"}, SourceMisconfigured, "フォルダーがありません"),
        ({"port": 1}, SourceUnreachable, "つながりません"),
        ({"server": "no-such-host.invalid"}, SourceUnreachable, "サーバーが見つかりません"),
        ({"sids": ["営業部"]}, SourceMisconfigured, "対応表の「営業部」"),
        ({"sids": [r"KURA\a\b = group:営業"]}, SourceMisconfigured, "の形ではありません"),
        ({"sids": ["S-1-5-11 = 営業部"]}, SourceMisconfigured, "「営業部」は user:"),
        ({"share_allow": ["営業部"]}, SourceMisconfigured, "共有のアクセス許可の「営業部」"),
        ({"protocol": "kerberos"}, SourceDenied, "Kerberos には"),
    ],
)
def test_a_wrong_setting_is_told(
    share: Share, wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    settings = SmbSettings.model_validate(share.settings | wrong)
    near = {f"127.0.0.1:{settings.port}"}
    connector = SmbConnector(settings, Site(near=frozenset(near)))
    with pytest.raises(error, match=words) as told:
        connector.check()
    assert PASSWORD not in str(told.value) + repr(settings) + repr(connector._server)


@pytest.mark.parametrize(
    "wrong",
    [
        {"server": "fs01/共有"},
        {"server": "user@fs01"},
        {"server": "fs01:445"},
        {"server": "fs..01"},
        {"share": r"共有\営業"},
        {"share": ""},
        {"folder": "../他"},
    ],
)
def test_what_is_no_name_is_refused(share: Share, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="書いてください"):
        SmbSettings.model_validate(share.settings | wrong)


@pytest.mark.parametrize("server", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "::1", "0.0.0.0"])
def test_this_machine_is_asked_only_where_it_was_named(share: Share, server: str) -> None:
    settings = SmbSettings.model_validate(share.settings | {"server": server})
    with pytest.raises(SourceDenied, match="near_hosts"):
        SmbConnector(settings).check()


def test_ntlm_may_be_negotiated_and_names_may_be_near_ones(share: Share) -> None:
    share.connector(protocol="negotiate").check()
    settings = SmbSettings.model_validate(share.settings | {"server": "LOCALHOST"})
    near = frozenset({f"LocalHost:{share.samba.port}"})
    SmbConnector(settings, Site(near=near)).check()


def test_an_account_that_may_not_read_permissions_is_told(share: Share) -> None:
    share.permit("", allow("S-1-1-0", 0x1, 0x03), owner=ITO)
    with pytest.raises(SourceDenied, match="アクセス許可の読み取り"):
        share.connector(user="sato").check()


# --- a server that is away, or not itself -----------------------------------------


@pytest.fixture
def own() -> Iterator[Callable[[str], Samba]]:
    """Servers of their own settings."""
    made: list[Samba] = []

    def start(more: str) -> Samba:
        one = Samba(more)
        made.append(one)
        return one.start()

    yield start
    for one in made:
        one.close()


def test_a_server_that_goes_away_while_it_lists_says_so_and_nothing_else(
    samba: Samba, own: Callable[[str], Samba], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own("")
    share = server.share()
    for n in range(3):
        share.write(f"{n}/a.txt", "x")
    entries = FileServer.entries

    def until(self: FileServer, folder: str) -> list[fileserver.Entry]:
        if folder.endswith("1"):
            server.stop()
        return entries(self, folder)

    monkeypatch.setattr(FileServer, "entries", until)
    told: list[Change] = []
    with pytest.raises(SourceUnreachable):
        told += share.connector().changes(None)
    assert told == []


class Between:
    """Somebody on the line: sees, changes or cuts what the server says."""

    def __init__(self, port: int) -> None:
        self.change: Callable[[bytes], bytes] = lambda frame: frame
        self.heard = b""
        self._port, self._lines = port, list[socket.socket]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, *lines: socket.socket) -> None:
        for line in lines or self._lines:
            try:
                line.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        for line in (*self._lines, self._listening):
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._lines += [near, far]
            for pair, change in (((near, far), None), ((far, near), self._changed)):
                self._threads.append(threading.Thread(target=self._pass, args=(*pair, change)))
                self._threads[-1].start()

    def _changed(self, frame: bytes) -> bytes:
        return self.change(frame)

    def _pass(
        self, source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes] | None
    ) -> None:
        try:
            with source.makefile("rb") as stream:
                while head := stream.read(4):
                    frame = stream.read(struct.unpack(">I", head)[0])
                    self.heard += frame
                    frame = change(frame) if change else frame
                    sink.sendall(struct.pack(">I", len(frame)) + frame)
        except (OSError, struct.error):
            pass
        self.cut(source, sink)


@pytest.fixture
def between(shelf: Share) -> Iterator[Between]:
    one = Between(shelf.samba.port)
    yield one
    one.close()


def over(between: Between, shelf: Share, **more: object) -> SmbConnector:
    settings = SmbSettings.model_validate(shelf.settings | {"port": between.port} | more)
    return SmbConnector(settings, Site(near=frozenset({f"127.0.0.1:{between.port}"})))


def test_a_line_that_was_cut_is_made_again(shelf: Share, between: Between) -> None:
    connector = over(between, shelf)
    connector.check()
    between.cut()
    assert len(texts(run(connector))) == 3


def unsigned(frame: bytes) -> bytes:
    """The same answer, saying of itself that it bears no signature; not of the sign-in."""
    if frame[:4] != b"\xfeSMB" or struct.unpack_from("<H", frame, 12)[0] in (0, 1):
        return frame
    (flags,) = struct.unpack_from("<I", frame, 16)
    return frame[:16] + struct.pack("<I", flags & ~0x8) + frame[20:48] + bytes(16) + frame[64:]


def test_an_answer_whose_signature_was_taken_away_is_not_believed(
    shelf: Share, between: Between
) -> None:
    connector = over(between, shelf)
    between.change = unsigned
    with pytest.raises(SourceMisconfigured, match="署名"):
        connector.check()
    between.change = lambda frame: frame
    connector.check()
    between.change = unsigned
    with pytest.raises(SourceMisconfigured, match="署名"):
        run(connector)


def test_an_answer_that_was_changed_is_not_believed(shelf: Share, between: Between) -> None:
    connector = over(between, shelf)
    change = upserts(run(connector))["案内.txt"]
    between.change = lambda frame: frame.replace("1階".encode(), "9階".encode())
    with pytest.raises(SourceMisconfigured, match="署名"):
        change.file.open()


def test_nothing_can_be_heard_of_what_is_encrypted(shelf: Share, between: Between) -> None:
    assert texts(run(over(between, shelf)))["案内.txt"] == "受付は1階。"
    assert "受付は1階".encode() in between.heard
    between.heard = b""
    assert texts(run(over(between, shelf, encrypt=True)))["案内.txt"] == "受付は1階。"
    assert "受付は1階".encode() not in between.heard
    assert PASSWORD.encode("utf-16-le") not in between.heard


def test_an_answer_without_its_encryption_is_not_believed(shelf: Share, between: Between) -> None:
    connector = over(between, shelf, encrypt=True)
    connector.check()
    plain = b"\xfeSMB" + struct.pack("<HHIHHIIQIIQ16s", 64, 0, 0, 5, 1, 1, 0, 0, 0, 1, 0, bytes(16))

    def forged(frame: bytes) -> bytes:
        worker = connector._server._tree.session.connection  # type: ignore[union-attr]
        waiting = next(iter(worker.outstanding_requests))
        return plain[:24] + struct.pack("<Q", waiting) + plain[32:] + bytes(64)

    between.change = forged
    with pytest.raises(SourceMisconfigured, match="署名"):
        connector.check()


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_an_answer_of_any_size_is_not_waited_for(size: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            line, _ = server.accept()
            with line:
                line.recv(4096)
                line.sendall(struct.pack(">I", size))
                line.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        site = Site(near=frozenset({f"127.0.0.1:{port}"}))
        asked = FileServer("127.0.0.1", port, "x", "ito", "x", site=site, timeout_s=5.0)
        tracemalloc.start()
        try:
            with pytest.raises(SourceUnreachable):
                asked.entries("")
            assert tracemalloc.get_traced_memory()[1] < 50_000_000
        finally:
            tracemalloc.stop()
        thread.join()


def test_a_guest_is_not_signed_in(own: Callable[[str], Samba]) -> None:
    share = own("map to guest = bad user\nguest account = nobody").share()
    with pytest.raises(SourceDenied, match="ゲスト"):
        share.connector(user="naishi").check()


def test_a_server_of_smb_1_alone_is_refused(own: Callable[[str], Samba]) -> None:
    old = Samba("server max protocol = NT1\nclient min protocol = NT1")
    conf = old.home / "smb.conf"
    conf.write_text(conf.read_text("utf-8").replace("SMB2_02", "NT1"), "utf-8")
    try:
        old.start()
        share = Share(old, "")
        with pytest.raises(SourceUnreachable, match="SMB 2 以上"):
            share.connector().check()
    finally:
        old.close()


def test_old_servers_of_smb_2_are_read(own: Callable[[str], Samba]) -> None:
    for version in ("SMB2_02", "SMB2_10", "SMB3_00"):
        share = own(f"server max protocol = {version}").share()
        share.write("a.txt", "x" * 200_000, allow(ITO))
        assert {u: len(t) for u, t in texts(run(share.connector())).items()} == {"a.txt": 200_000}
    with pytest.raises(SourceMisconfigured, match="暗号化"):
        own("server max protocol = SMB2_10").share().connector(encrypt=True).check()


def test_names_of_noise_are_no_names(shelf: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[bytes] = []
    names = lsa._names
    monkeypatch.setattr(lsa, "_names", lambda answer: (answers.append(answer), names(answer))[1])
    shelf.connector()._server.names([ITO, SATO, STRANGERS])
    (whole,) = answers
    assert names(whole) == ["FILESV\\ito", "FILESV\\sato", ""]
    chance = random.Random(11)
    for turn in range(2000):
        harmed = bytearray(whole if turn % 2 else whole[: chance.randrange(len(whole))])
        for _ in range(min(len(harmed), 3)):
            harmed[chance.randrange(len(harmed))] = chance.choice((0, 1, 255))
        with contextlib.suppress(ValueError, struct.error):
            assert len(names(bytes(harmed))) <= lsa.AT_ONCE


# --- a listing that a server may send ---------------------------------------------


def listed(name: str, attributes: int = 0, tag: int = 0, ahead: int = 0) -> bytes:
    encoded = name.encode("utf-16-le", "surrogatepass")
    head = (ahead, 0, 0, 0, 1, 1, 5, 5, attributes, len(encoded), tag, 0, 7)
    return fileserver._ENTRY.pack(*head) + encoded


def over_listing(monkeypatch: pytest.MonkeyPatch, *entries: bytes) -> list[Change]:
    found = [e for data in entries for e in fileserver._unpacked(data)]
    monkeypatch.setattr(FileServer, "entries", lambda self, folder: found)
    monkeypatch.setattr(FileServer, "descriptor", lambda s, p: descriptor(ITO, [allow(ITO)]))
    settings = SmbSettings(
        server="fs", share="s", user="u", password="p", sids=[f"{ITO} = user:ito"]
    )
    return list(SmbConnector(settings).changes(None))


def test_links_mounts_and_what_lies_elsewhere_are_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = over_listing(
        monkeypatch,
        listed("リンク.txt", 0x400, 0xA000_000C),
        listed("接続", 0x410, 0xA000_0003),
        listed("DFS", 0x410, 0x8000_000A),
        listed("不明.txt", 0x400),
        listed("重複除去.txt", 0x600, 0x8000_0013),
        listed("テープ.txt", 0x1000),
    )
    assert set(upserts(changes)) == {"重複除去.txt"}
    assert [(c.uri, "オフライン" in c.reason) for c in changes if isinstance(c, Failed)] == [
        ("テープ.txt", True)
    ]


@pytest.mark.parametrize("name", ["..\\秘密.txt", "a/b.txt", "a\0b.txt", "a\ud800.txt"])
def test_names_that_lead_elsewhere_are_told_and_not_opened(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    changes = over_listing(monkeypatch, listed(f"x{name}"), listed("良い.txt"))
    assert set(upserts(changes)) == {"良い.txt"}
    assert ["名前に使えない文字" in c.reason for c in changes if isinstance(c, Failed)] == [True]


def test_a_listing_of_noise_is_no_listing() -> None:
    whole = listed("あ.txt")
    for end in range(len(whole)):
        with pytest.raises((ValueError, struct.error)):
            fileserver._unpacked(whole[:end])


def test_what_is_no_path_below_is_not_visible(shelf: Share) -> None:
    connector = shelf.connector()
    for uri in ("営業", "営業/", "営業\\青山商事.txt", "../案内.txt", "案内.TXT", "営業/旧"):
        with pytest.raises(NotVisible):
            connector.file(uri)
    assert connector.file("案内.txt").access == only("everyone")
