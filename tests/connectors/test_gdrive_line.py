"""Google Drive on a bad line: sign-ins refused, answers cut short, listings that do not end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance.errors import (
    ApplianceError,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.types import NOBODY, Change
from connectors.gdrive_api import Api
from connectors.gdrive_look import FOLDER, Node, Rights, Root
from tests.connectors.test_gdrive import DRIVE, LINK, complete, cursor, filled, over, upserts
from tests.fakes.gdrive import Answer, GDrive, send
from tests.fakes.google import Refused, key_file


@pytest.fixture
def drive() -> Iterator[GDrive]:
    one = filled()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.http._backoff", lambda attempt: 0.0)
    monkeypatch.setattr("connectors.gdrive_api._pause_s", lambda attempt: 0.0)


def refused(status: int, reason: str, message: str = "…", **headers: str) -> Answer:
    body = json.dumps(Refused(status, reason, message).body).encode()
    return lambda handler: send(handler, status, body, **headers)


def says(body: str) -> Answer:
    return lambda handler: send(handler, 200, body.encode())


def broken(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


def half(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"files": [{"id": "file-te')
    broken(handler)


def always(drive: GDrive, words: str, answer: Answer) -> None:
    def again(handler: BaseHTTPRequestHandler) -> None:
        drive.faults.append((words, again))
        answer(handler)

    drive.faults = [(words, again)]


# --- sign-in ----------------------------------------------------------------------


def test_another_s_key_is_refused(drive: GDrive) -> None:
    other = key_file(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(SourceDenied, match="新しい JSON") as told:
        over(drive, key=other).check()
    assert "PRIVATE" not in str(told.value) and "eyJ" not in str(told.value)


def test_a_clock_that_is_wrong_is_named(drive: GDrive) -> None:
    drive.sign_in.slow_s = 7200.0
    with pytest.raises(SourceMisconfigured, match="時計"):
        over(drive).check()


def test_a_token_is_kept_and_renewed_when_it_ends(drive: GDrive) -> None:
    connector = over(drive)
    connector.check()
    list(connector.changes(None))
    assert len(drive.sign_in.signed) == 1
    drive.sign_in.tokens.clear()  # revoked early
    list(connector.changes(None))
    assert len(drive.sign_in.signed) == 2
    drive.sign_in.lasts_s = 60  # shorter than what is kept
    drive.sign_in.tokens.clear()
    list(connector.changes(None))
    assert len(drive.sign_in.signed) > 3


def test_a_token_that_is_never_taken_ends_the_run(drive: GDrive) -> None:
    always(drive, "/drive/v3/drives", refused(401, "authError"))
    with pytest.raises(SourceDenied, match="サインイン"):
        over(drive).check()
    assert len(drive.sign_in.signed) == 2


def test_what_is_not_google_is_named(drive: GDrive) -> None:
    drive.faults = [("/token", says("<html>"))]
    with pytest.raises(SourceMisconfigured, match="サインインの窓口"):
        over(drive).check()
    with pytest.raises(SourceMisconfigured):
        over(drive, api=f"{drive.url}/elsewhere").check()
    near = over(drive)
    drive.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        near.check()


# --- refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (refused(403, "accessNotConfigured"), SourceMisconfigured, "有効に"),
        (refused(403, "domainPolicy"), SourceDenied, "管理者"),
        (refused(403, "insufficientPermissions"), SourceDenied, "drive.readonly"),
        (refused(403, "dailyLimitExceeded"), SourceBusy, "一日の上限"),
        (refused(400, "badRequest"), SourceMisconfigured, "断りました"),
        (refused(503, "backendError"), SourceBusy, "混み合って"),
    ],
)
def test_a_refusal_says_what_to_do(
    drive: GDrive, fault: Answer, error: type[ApplianceError], words: str
) -> None:
    always(drive, "/drive/v3/drives", fault)
    with pytest.raises(error, match=words):
        over(drive).check()


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
@pytest.mark.parametrize("words", ["/files?", "/permissions", "alt=media"])
def test_a_403_that_passes_is_asked_again(drive: GDrive, reason: str, words: str) -> None:
    drive.faults = [(words, refused(403, reason, "Rate Limit Exceeded"))] * 4
    files = upserts(list(over(drive).changes(None)))
    with files["file-tejun"].open() as stream:
        assert stream.read().decode() == "八分まで。"
    assert len(files) == 3 and not drive.faults


def test_a_403_that_does_not_pass_ends_the_run_and_closes_nothing(drive: GDrive) -> None:
    first = list(over(drive).changes(None))
    always(drive, "/changes?", refused(403, "userRateLimitExceeded"))
    seen: list[Change] = []
    with pytest.raises(SourceBusy):
        seen.extend(over(drive).changes(cursor(first)))
    assert not seen, "nobody loses a document, or the right to read it"


def test_busy_and_broken_answers_are_asked_again(drive: GDrive) -> None:
    drive.faults = [
        ("/files?", refused(429, "rateLimitExceeded", Retry_After="0")),
        ("/files?", refused(500, "internalError")),
        ("/files?", broken),
        ("/files?", refused(503, "backendError", Retry_After="0")),
    ]
    assert len(upserts(list(over(drive).changes(None)))) == 3


# --- listings ---------------------------------------------------------------------


def test_every_page_is_read(drive: GDrive) -> None:
    whole = upserts(list(over(drive, folders=["folder-kojin"]).changes(None)))
    drive.most = 1
    first = list(over(drive, folders=["folder-kojin"]).changes(None))
    paged = upserts(first)
    assert {id: (f.version, f.access) for id, f in paged.items()} == {
        id: (f.version, f.access) for id, f in whole.items()
    }, "permissions are paged, too"
    for id in ("file-tejun", "file-yakuin", "doc-kisoku"):
        drive.delete(id)
    second = list(over(drive, folders=["folder-kojin"]).changes(cursor(first)))
    assert set(upserts(second)) == {"file-memo"} and complete(second)


def test_an_empty_page_in_the_middle_is_not_the_end(drive: GDrive) -> None:
    drive.faults = [("/files?", says('{"files": [], "nextPageToken": "~!!0"}'))]
    assert len(upserts(list(over(drive).changes(None)))) == 3


@pytest.mark.parametrize(
    ("words", "body"),
    [
        ("/files?", '{"files": [], "nextPageToken": "~!!7"}'),
        ("/changes?", '{"changes": [], "nextPageToken": "7"}'),
        ("/permissions", '{"permissions": [], "nextPageToken": "7"}'),
    ],
)
def test_a_listing_that_repeats_itself_ends_the_run(drive: GDrive, words: str, body: str) -> None:
    first = list(over(drive).changes(None))
    always(drive, words, says(body))
    seen: list[Change] = []
    with pytest.raises(SourceUnreachable, match="繰り返し"):
        seen.extend(over(drive).changes(cursor(first) if words == "/changes?" else None))
    assert not seen


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("/files?", half),
        ("/files?", says('{"files": [{"id": "fi')),
        ("/files?", says('{"files": [{"name": "ID がない"}]}')),
        ("/files?", says("{}")),
        ("/files?", says('{"files": [], "incompleteSearch": true}')),
        ("/changes?", says('{"changes": []}')),
        ("/changes?", says("[]")),
        ("/permissions", says('{"kind": "drive#permissionList"}')),
    ],
)
def test_half_an_answer_deletes_nothing(drive: GDrive, words: str, fault: Answer) -> None:
    first = list(over(drive).changes(None))
    always(drive, words, fault)
    seen: list[Change] = []
    with pytest.raises((SourceUnreachable, SourceBusy)):
        seen.extend(over(drive).changes(cursor(first) if words == "/changes?" else None))
    assert not seen


def test_a_place_in_the_log_that_is_not_taken_means_all_of_it(drive: GDrive) -> None:
    first = list(over(drive).changes(None))
    drive.delete("file-tejun")
    drive.faults = [("/changes?", refused(400, "invalid", "Invalid Value"))]
    second = list(over(drive).changes(cursor(first)))
    assert set(upserts(second)) == {"doc-kisoku", "file-yakuin"} and complete(second)


def test_a_run_that_was_cut_off_loses_and_repeats_nothing(drive: GDrive) -> None:
    first = list(over(drive).changes(None))
    drive.put("file-new", "新しい.txt", DRIVE, "新")
    drive.delete("file-tejun")
    next(iter(over(drive).changes(cursor(first))))  # and no more of it
    again = list(over(drive).changes(cursor(first)))
    assert set(upserts(again)) == {"doc-kisoku", "file-yakuin", "file-new"}


def test_what_is_added_while_all_is_listed_comes_by_the_log(drive: GDrive) -> None:
    def late(handler: BaseHTTPRequestHandler) -> None:
        drive._get(handler)
        drive.put("file-late", "遅れて.txt", DRIVE, "遅")

    drive.faults = [("/files?", late)]
    first = list(over(drive).changes(None))
    assert "file-late" not in upserts(first)
    assert "file-late" in upserts(list(over(drive).changes(cursor(first))))


def test_a_file_that_moves_between_two_drives_stays_the_same(drive: GDrive) -> None:
    drive.drives["0AOther"], drive.members["0AOther"] = "人事", []
    own = {"drives": ["営業", "人事"]}
    first = list(over(drive, **own).changes(None))
    drive.move("file-tejun", "0AOther")
    second = list(over(drive, **own).changes(cursor(first)))
    file = upserts(second)["file-tejun"]
    assert file.version == upserts(first)["file-tejun"].version and complete(second)
    assert file.access == NOBODY, "nobody is a member there"


def test_another_version_s_cursor_lists_everything(drive: GDrive) -> None:
    for cursor_ in ("", "x", "[]", '{"drives": {"0AEigyoDrive": 1}}', '{"told": {"a": [1]}}'):
        assert len(upserts(list(over(drive).changes(cursor_)))) == 3  # type: ignore[arg-type]


def test_bytes_elsewhere_are_not_fetched(drive: GDrive) -> None:
    away = {"Location": "http://127.0.0.1:9/x"}
    drive.faults = [("alt=media", lambda handler: send(handler, 302, b"", **away))]
    files = upserts(list(over(drive).changes(None)))
    with pytest.raises(SourceDenied, match="接続先ではない"):
        files["file-tejun"].open()


def test_what_may_not_be_downloaded_is_said(drive: GDrive) -> None:
    drive.faults = [("alt=media", refused(403, "cannotDownloadFile"))]
    files = upserts(list(over(drive).changes(None)))
    with pytest.raises(SourceDenied, match="禁じられて"):
        files["file-tejun"].open()


def test_folders_in_a_circle_hold_nothing(drive: GDrive) -> None:
    one = over(drive)
    api: Api = one._api
    root = Root(DRIVE, "営業", DRIVE)
    for id, parent in (("fol-a", "fol-b"), ("fol-b", "fol-a")):
        root.nodes[id] = Node(parent, id, FOLDER, "1", "", -1, "1", 0, 0)
    root.nodes["file-x"] = Node("fol-a", "x.txt", "text/plain", "1", "", -1, "1", 0, 0)
    root.nodes["file-y"] = Node(DRIVE, "y.txt", "text/plain", "1", "", -1, "1", 0, 0)
    assert [id for id, _ in Rights(api, root, ()).documents()] == ["file-y"]


def test_no_token_is_in_what_is_said(drive: GDrive) -> None:
    always(drive, "alt=media", refused(403, "insufficientFilePermissions"))
    files = upserts(list(over(drive).changes(None)))
    with pytest.raises(SourceDenied) as told:
        files["file-tejun"].open()
    assert "ya29" not in str(told.value)
    assert "ya29" not in repr(over(drive)._api) and "PRIVATE" not in repr(over(drive)._api)
    assert files["file-tejun"].uri == f"{LINK}file-tejun"
