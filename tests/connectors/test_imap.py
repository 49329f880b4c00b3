"""IMAP against Dovecot, and against a server that answers as it likes."""

from __future__ import annotations

import imaplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import SourceBusy, SourceDenied, SourceMisconfigured, SourceUnreachable
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Failed,
    Layer,
    Moved,
    Principal,
    Remove,
    Site,
    Upsert,
)
from connectors import imap, mailboxes, wire
from connectors.imap import ImapConnector, ImapSettings
from connectors.mailboxes import Mailboxes
from tests.connectors.posts import PASSWORD, Post, coded, letter

RULE, ORDER = (
    letter("旅費規程の件", "宿泊費は12,000円。"),
    letter("注文", "三台。", "単価は八万円。"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Post]:
    one = Post()
    yield one
    one.close()


@pytest.fixture
def post(server: Post) -> Post:
    server.empty()
    server.put("INBOX", RULE)
    server.put("案件/青山&商事", ORDER)
    server.put("Trash", letter("捨てた", "x"))
    server.put("捨てる", letter("迷惑", "x"))
    return server


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, post: Post) -> ImapConnector:
        return post.connector()


def upserts(changes: list[Change]) -> dict[str, Any]:
    return {c.file.title: c.file for c in changes if isinstance(c, Upsert)}


def cursor(changes: list[Change]) -> Any:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def kinds(changes: list[Change]) -> list[str]:
    return sorted(type(c).__name__ for c in changes[:-1])


def test_messages_of_all_folders_but_what_is_thrown_away(post: Post) -> None:
    changes = list(post.connector().changes(None))
    found = upserts(changes)
    assert set(found) == {"旅費規程の件", "注文"}
    assert found["注文"].uri.rpartition("/")[0] == "案件/青山&商事"
    assert found["注文"].media_type == "message/rfc822"
    with found["注文"].open() as stream:
        assert stream.read() == ORDER
    assert found["注文"].access == (Layer(frozenset({Principal("group:営業部")})),)
    assert changes[-1] == Checkpoint(cursor(changes), complete=True)
    assert set(upserts(list(post.connector(include=["案件/*"]).changes(None)))) == {"注文"}
    assert set(upserts(list(post.connector(include=["Trash"]).changes(None)))) == {"捨てた"}
    assert set(upserts(list(post.connector(exclude=["案件*"]).changes(None)))) == {"旅費規程の件"}


def test_reading_marks_nothing_as_seen(post: Post) -> None:
    for file in upserts(list(post.connector().changes(None))).values():
        file.open().close()
    with post.client() as one:
        one.select("INBOX")
        assert one.search(None, "UNSEEN")[1] == [b"1"]


def test_readers_by_folder(post: Post) -> None:
    rules = ["案件/* = group:営業部, user:ito", "INBOX ="]
    found = upserts(list(post.connector(folders=rules, allow=["everyone"]).changes(None)))
    assert found["注文"].access == (
        Layer(frozenset({Principal("group:営業部"), Principal("user:ito")})),
    )
    assert found["旅費規程の件"].access == NOBODY
    found = upserts(list(post.connector(folders=rules[:1], allow=["everyone"]).changes(None)))
    assert found["旅費規程の件"].access == (Layer(frozenset({Principal("everyone")})),)


def test_after_the_first_time_only_what_happened_is_told(post: Post) -> None:
    first = list(post.connector().changes(None))
    uris = {title: file.uri for title, file in upserts(first).items()}
    again = list(post.connector().changes(cursor(first)))
    assert again == [Checkpoint(cursor(first))], "nothing happened, nothing is asked for"

    post.put("INBOX", letter("新着", "三月から。"))
    post.move(uris["旅費規程の件"], "総務")
    post.delete(uris["注文"], expunge=False)
    second = list(post.connector().changes(cursor(first)))
    assert kinds(second) == ["Moved", "Remove", "Upsert", "Upsert"]
    moved = next(c for c in second if isinstance(c, Moved))
    assert moved.old_uri == uris["旅費規程の件"] and moved.uri.startswith("総務/")
    assert [c.uri for c in second if isinstance(c, Remove)] == [uris["注文"]], "marked is gone"
    assert set(upserts(second)) == {"新着", "旅費規程の件"}
    assert second[-1] == Checkpoint(cursor(second), complete=False)

    with post.client() as one:
        one.delete(coded("総務"))
    third = list(post.connector().changes(cursor(second)))
    assert [c.uri for c in third if isinstance(c, Remove)] == [moved.uri]


def test_a_folder_that_is_renamed_or_numbered_anew_keeps_its_documents(post: Post) -> None:
    first = list(post.connector().changes(None))
    old = {title: file.uri for title, file in upserts(first).items()}
    post.number_anew()
    with post.client() as one:
        one.rename(coded("案件/青山&商事"), coded("案件/青山"))
    second = list(post.connector().changes(cursor(first)))
    assert kinds(second) == ["Moved", "Moved", "Upsert", "Upsert"], "none is there twice"
    moved = {c.title: (c.old_uri, c.uri) for c in second if isinstance(c, Moved)}
    assert {title: a for title, (a, _) in moved.items()} == old
    assert moved["旅費規程の件"][1].endswith("-900.eml")
    assert list(post.connector().changes(cursor(second))) == [Checkpoint(cursor(second))]


def test_a_message_whose_folder_was_numbered_anew_is_not_another_one(post: Post) -> None:
    one = upserts(list(post.connector().changes(None)))["旅費規程の件"]
    post.number_anew()
    with pytest.raises(SourceBusy, match="作り直されました"):
        one.open()


def test_most_of_a_mailbox_does_not_go_at_once(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "FEW", 2)
    post.put("INBOX", letter("残る", "x"))
    first = list(post.connector().changes(None))
    uris = {title: file.uri for title, file in upserts(first).items()}
    for title in ("旅費規程の件", "注文"):
        post.delete(uris[title])
    second = list(post.connector().changes(cursor(first)))
    assert kinds(second) == ["Upsert"], "what is gone is for the run to doubt"
    assert set(upserts(second)) == {"残る"}
    assert second[-1] == Checkpoint(cursor(second), complete=True)


def test_messages_are_asked_for_in_parts(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        post.put("多い", letter(f"{number} 通目", "x"))
    monkeypatch.setattr(mailboxes, "UIDS", 3)
    monkeypatch.setattr(mailboxes, "HEADS", 2)
    found = upserts(list(post.connector(include=["多い"]).changes(None)))
    assert set(found) == {f"{number} 通目" for number in range(7)}


@pytest.mark.parametrize(
    ("head", "title"),
    [
        (b"", "(件名なし)"),
        (b"Subject: =?UTF-8?B?gg==?=\r\n", "\ufffd"),
        (b"Subject: =?x-nai?B?gg==?=\r\n", "\ufffd"),
        ("Subject: 生の\r\n".encode(), "生の"),
        (b"Subject: a\r\n folded\tone\r\nMessage-ID: <<\r\n", "a folded one"),
        ("Subject: =?UTF-8?Q?か=E3=82=99?=\r\n".encode(), "が"),
    ],
)
def test_a_head_may_be_anything(post: Post, head: bytes, title: str) -> None:
    post.put("変", b"From: a@b\r\n" + head + b"\r\nx\r\n")
    (file,) = upserts(list(post.connector(include=["変"]).changes(None))).values()
    assert file.title == title
    with file.open() as stream:
        assert stream.read().endswith(b"\r\nx\r\n")


def cut(connector: ImapConnector) -> None:
    assert connector._line._held
    connector._line._held._imap.sock.shutdown(socket.SHUT_RDWR)


def test_a_server_that_goes_away_meanwhile_is_told_and_then_found_again(post: Post) -> None:
    connector = post.connector()
    changes = connector.changes(None)
    first = next(changes)
    assert isinstance(first, Upsert)
    cut(connector)
    first.file.open().close()  # a server hangs up on those who are silent: it is asked again
    post.stop()
    cut(connector)
    with pytest.raises(SourceUnreachable):
        first.file.open()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        post.connector().check()
    post.start()
    second = next(changes)
    assert isinstance(second, Upsert)
    second.file.open().close()
    assert isinstance(next(changes), Checkpoint)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"password": "himitsu-x"}, SourceDenied, "サインインできません"),
        ({"user": "daremo"}, SourceDenied, "サインインできません"),
        ({"host": "127.0.0.1"}, SourceMisconfigured, "証明書の名前が接続先と違います"),
        ({"port": "plain"}, SourceMisconfigured, "安全な接続を作れません"),
        ({"host": "nai.invalid"}, SourceUnreachable, "名前 nai.invalid が見つかりません"),
        ({"port": 1}, SourceDenied, "near_hosts"),
        ({"include": ["ない"]}, SourceMisconfigured, "対象のフォルダーがありません"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"folders": ["人事"]}, SourceMisconfigured, "「人事」"),
        ({"folders": ["人事 = 人事部"]}, SourceMisconfigured, "「人事部」"),
    ],
)
def test_a_wrong_setting_is_told(
    post: Post, wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    own = {name: post.port if value == "plain" else value for name, value in wrong.items()}
    near = post.site.near | {f"127.0.0.1:{post.tls_port}"}
    one = post.connector(Site(post.site.ca_file, near), **own)
    with pytest.raises(error, match=words) as told:
        one.check()
    said = str(told.value) + repr(one._settings) + repr(one.__dict__)
    assert "himitsu" not in said and PASSWORD not in said


def test_a_certificate_that_nobody_vouches_for_is_refused(post: Post) -> None:
    with pytest.raises(SourceMisconfigured, match="自己署名"):
        post.connector(Site(near=post.site.near)).check()


@pytest.mark.parametrize("security", ["starttls", "none"])
def test_other_ways_to_connect(post: Post, security: str) -> None:
    one = post.connector(port=post.port, security=security)
    assert set(upserts(list(one.changes(None)))) == {"旅費規程の件", "注文"}
    far = Site(post.site.ca_file, frozenset({post.near}))
    with pytest.raises((SourceMisconfigured, SourceDenied), match="near_hosts"):
        post.connector(far, port=post.port, security=security).check()


def test_starttls_is_verified_too(post: Post) -> None:
    with pytest.raises(SourceMisconfigured, match="自己署名"):
        post.connector(Site(near=post.site.near), port=post.port, security="starttls").check()


@pytest.mark.parametrize(
    "wrong", [{"host": "a b"}, {"user": "a\r\nLOGOUT"}, {"security": "ssl3"}, {"port": 0}]
)
def test_settings_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImapSettings.model_validate({"host": "h", "user": "ito"} | wrong)


# --- a server that answers as it likes ----------------------------------------------


@contextmanager
def answers(*lines: bytes) -> Iterator[ImapConnector]:
    """One line for each that is asked, {tag} in it; the first at once. Then it hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        port = listening.getsockname()[1]

        def answer() -> None:
            peer, _ = listening.accept()
            with peer, peer.makefile("rb") as asked, suppress(OSError):
                peer.settimeout(5)
                peer.sendall(lines[0])
                for line in lines[1:]:
                    tag = asked.readline().split(b" ")[0]
                    peer.sendall(line.replace(b"{tag}", tag))

        thread = threading.Thread(target=answer)
        thread.start()
        own = {
            "host": "127.0.0.1",
            "port": port,
            "security": "none",
            "user": "ito",
            "password": "p",
        }
        yield ImapConnector(
            ImapSettings.model_validate(own), Site(near=frozenset({f"127.0.0.1:{port}"}))
        )
        thread.join()


HELLO = b"* OK [CAPABILITY IMAP4rev1] hello\r\n"
ABLE = b"* CAPABILITY IMAP4rev1\r\n{tag} OK done\r\n"


@pytest.mark.parametrize(
    ("lines", "error", "words"),
    [
        ([b""], SourceUnreachable, "途中で切れた"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], SourceUnreachable, "途中で切れた"),
        ([b"* BYE busy\r\n"], SourceUnreachable, "途中で切れた"),
        ([HELLO, ABLE, b"{tag} NO [UNAVAILABLE] later himitsu\r\n"], SourceBusy, "混み合って"),
        ([HELLO, ABLE, b"{tag} NO himitsu\r\n"], SourceDenied, "サインイン"),
        (
            [HELLO, ABLE, b"{tag} OK done\r\n", ABLE, b"* LIST () {99\r\n"],
            SourceUnreachable,
            "途中で切れた",
        ),
        (
            [HELLO, ABLE, b"{tag} OK done\r\n", ABLE, b'* LIST () "/" {9999999999}\r\n'],
            SourceUnreachable,
            "途中で切れた",
        ),
        (
            [HELLO, ABLE, b"{tag} OK done\r\n", ABLE, b"* " + b"x" * 2_000_000],
            SourceUnreachable,
            "途中で切れた",
        ),
    ],
)
def test_what_is_no_mail_server_is_told_in_a_sentence(
    lines: list[bytes], error: type[Exception], words: str
) -> None:
    with answers(*lines) as one, pytest.raises(error, match=words) as told:
        one.check()
    assert "himitsu" not in str(told.value)


def test_an_answer_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire.Pulse, "WINDOW_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        listening.settimeout(5)

        def drip() -> None:
            peer, _ = listening.accept()
            with peer, suppress(OSError):
                peer.settimeout(0.02)
                for _ in range(500):
                    peer.sendall(b"*")
                    with suppress(TimeoutError):
                        if not peer.recv(1):
                            return

        thread = threading.Thread(target=drip)
        thread.start()
        own = {"host": "127.0.0.1", "port": port, "security": "none", "user": "ito"}
        site = Site(near=frozenset({f"127.0.0.1:{port}"}))
        with pytest.raises(SourceUnreachable):
            ImapConnector(ImapSettings.model_validate(own), site).check()
        thread.join()


def test_folders_are_read_from_answers_of_every_shape() -> None:
    listed = (
        b'* LIST (\\HasNoChildren) "." INBOX.&U,BTFw-\r\n'
        b'* LIST (\\Noselect) NIL "x"\r\n'
        b'* LIST () "\\\\" "a\\"b\\\\c"\r\n'
        b'* LIST () "/" {4}\r\na(b)\r\n'
        b'* LIST () "/" "&broken"\r\n'
        b"{tag} OK done\r\n"
    )
    said = (HELLO, ABLE, b"{tag} OK done\r\n", ABLE, listed, b"* BYE\r\n{tag} OK done\r\n")
    with answers(*said) as one, one._line.open() as mail:
        found = {box.name: box.flags for box in mail.boxes()}
    assert set(found) == {"INBOX/台北", "x", 'a"b/c', "a(b)", "&broken"}
    assert found["x"] == {r"\noselect"}


def test_a_folder_that_does_not_open_hides_no_other_and_deletes_nothing(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = cursor(list(post.connector().changes(None)))
    select = imaplib.IMAP4.select
    post.put("INBOX", letter("新着", "x"))
    post.put("案件/青山&商事", letter("新着二", "x"))

    def closed(self: Any, mailbox: Any, readonly: bool = False) -> Any:
        return ("NO", [b"no"]) if b"INBOX" in mailbox else select(self, mailbox, readonly)

    monkeypatch.setattr(imaplib.IMAP4, "select", closed)
    changes = list(post.connector().changes(since))
    assert [(c.uri, c.transient) for c in changes if isinstance(c, Failed)] == [("INBOX/", False)]
    assert not [c for c in changes if isinstance(c, Remove)]
    assert set(upserts(changes)) == {"新着二"}
    first = list(post.connector().changes(None))
    assert isinstance(first[-1], Checkpoint) and not first[-1].complete
    again = list(post.connector().changes(cursor(first)))
    assert set(upserts(again)) == {"注文", "新着二"}, "until all could be listed, all is told"
    monkeypatch.undo()
    assert set(upserts(list(post.connector().changes(cursor(changes))))) == {"新着"}
    whole = list(post.connector().changes(None))
    assert isinstance(whole[-1], Checkpoint) and whole[-1].complete


def test_the_session_is_not_told_of_with_its_password(post: Post) -> None:
    one = post.connector()
    with one._line.open() as mail:
        assert isinstance(mail, Mailboxes)
        assert PASSWORD not in repr(mail) + repr(mail.__dict__) + repr(mail._imap.__dict__)
