"""S3 against a real server (moto), its signature against AWS's published figures and botocore's signer,
and against a store that answers as it likes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import ValidationError

from appliance.errors import (
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Change,
    Checkpoint,
    Failed,
    Layer,
    Moved,
    Principal,
    Site,
    Upsert,
)
from connectors.s3 import S3Connector, S3Settings, Signature
from tests.connectors.stores import SECRET, Store
from tests.connectors.test_http import Server, says

ODD = "案内 &手順;1 + 100%25=@#?'\"*()[]{}<>|^`~\\😀.txt"


@pytest.fixture
def store() -> Iterator[Store]:
    one = Store()
    one.put("規程 #1/旅費 100%.txt", "宿泊費は12,000円。")
    one.put("規程 #1/旧//就業規則.txt", "始業は9時。")
    one.put(ODD, "受付は1階。")
    one.put("空の箱/", b"")
    one.put("規程 #1/~$開いている.txt", "x")
    one.put(".隠し/x.txt", "x")
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, store: Store) -> S3Connector:
        return store.connector()


def files(changes: list[Change]) -> dict[str, str]:
    found = {}
    for change in changes:
        if isinstance(change, Upsert):
            with change.file.open() as stream:
                found[change.file.uri] = stream.read().decode()
    return found


def cursor(changes: list[Change]) -> Any:
    assert isinstance(changes[-1], Checkpoint)
    return changes[-1].cursor


def test_everything_below_is_listed_with_whom_the_administrator_admits(store: Store) -> None:
    changes = list(store.connector().changes(None))
    assert files(changes) == {
        "規程 #1/旅費 100%.txt": "宿泊費は12,000円。",
        "規程 #1/旧//就業規則.txt": "始業は9時。",
        ODD: "受付は1階。",
    }
    assert not [c for c in changes if isinstance(c, Failed)]
    one = next(c.file for c in changes if isinstance(c, Upsert))
    assert one.access == (Layer(frozenset({Principal("group:営業部")})),)
    assert one.size_bytes and one.modified_at.year >= 2026
    closed = store.connector(allow=[]).changes(None)
    assert all(c.file.access == NOBODY for c in closed if isinstance(c, Upsert))


def test_only_what_lies_below_the_prefix_is_read(store: Store) -> None:
    store.put("規程 #1集/別.txt", "別の棚")
    found = files(list(store.connector(prefix="/規程 #1").changes(None)))
    assert set(found) == {"旅費 100%.txt", "旧//就業規則.txt"}
    assert (
        store.connector(prefix="規程 #1", exclude=["旧"]).file("旅費 100%.txt").title == "旅費 100%"
    )
    assert set(files(list(store.connector(prefix="規程 #1", exclude=["旧"]).changes(None)))) == {
        "旅費 100%.txt"
    }


def test_more_objects_than_a_page_holds_are_all_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        store.put(f"多い/{number}.txt", str(number))
    one = store.connector(prefix="多い")
    whole, page = [c.file.uri for c in one.changes(None) if isinstance(c, Upsert)], one._page
    monkeypatch.setattr(one, "_page", lambda prefix, after="": page(prefix, after, most=3))
    again = [c.file.uri for c in one.changes(None) if isinstance(c, Upsert)]
    assert again == whole == [f"{number}.txt" for number in range(7)]


def test_a_key_in_another_form_is_found_again_and_a_twin_is_told_of(store: Store) -> None:
    twisted = unicodedata.normalize("NFD", "議事録/がぎぐ.txt")
    store.put(twisted, "NFD")
    assert files(list(store.connector(prefix="議事録").changes(None))) == {"がぎぐ.txt": "NFD"}
    with store.connector().file("議事録/がぎぐ.txt").open() as stream:
        assert stream.read() == b"NFD"
    store.put("議事録/がぎぐ.txt", "NFC")
    changes = list(store.connector(prefix="議事録").changes(None))
    assert files(changes) == {"がぎぐ.txt": "NFC"}
    assert ["文字コードだけが違います" in c.reason for c in changes if isinstance(c, Failed)] == [
        True
    ]


def test_a_key_that_no_request_can_name_is_told_of(store: Store) -> None:
    store.put("a/../b.txt", "x")
    failed = [c for c in store.connector(prefix="a").changes(None) if isinstance(c, Failed)]
    assert [(one.uri, one.transient) for one in failed] == [("../b.txt", False)]


def test_a_move_is_known_where_one_object_alone_is_like_it(store: Store) -> None:
    store.put("控え/甲.txt", "同じ")
    store.put("控え/乙.txt", "同じ")
    since = cursor(list(store.connector().changes(None)))
    store.put("新しい棚/旅費規程.txt", "宿泊費は12,000円。")
    store.delete("規程 #1/旅費 100%.txt")
    for old, new in (("甲", "丙"), ("乙", "丁")):
        store.put(f"控え/{new}.txt", "同じ")
        store.delete(f"控え/{old}.txt")
    changes = list(store.connector().changes(since))
    moved = [(c.old_uri, c.uri) for c in changes if isinstance(c, Moved)]
    assert moved == [("規程 #1/旅費 100%.txt", "新しい棚/旅費規程.txt")]
    assert changes[-1] == Checkpoint(cursor(changes), complete=True)
    copied = list(store.connector().changes(since := cursor(changes)))
    store.put("写し.txt", "宿泊費は12,000円。")
    copied = list(store.connector().changes(since))
    assert not [c for c in copied if isinstance(c, Moved)], "the old one is still there"


def test_an_object_written_after_it_was_listed_is_busy_not_mixed(store: Store) -> None:
    one = store.connector().file(ODD)
    store.put(ODD, "受付は2階。")
    with pytest.raises(SourceBusy, match="書き込み中"):
        one.open()
    assert store.connector().file(ODD).version != one.version


@pytest.mark.parametrize("style", ["path", "virtual-host"])
def test_the_server_takes_the_signature(
    store: Store, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    real = socket.getaddrinfo
    host = f"127.0.0.1:{store.port}"
    if style == "virtual-host":
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda name, *rest, **more: real(
                "127.0.0.1" if "amazonaws" in name else name, *rest, **more
            ),
        )
        host = f"s3.amazonaws.com:{store.port}"
    with store.guarded("s3:ListBucket", "s3:GetObject") as keys:
        own = store.settings | keys | {"endpoint": f"http://{host}", "style": style}
        near = frozenset({host, f"shiryo.{host}"})
        one = S3Connector(S3Settings.model_validate(own), Site(near=near))
        one.check()
        assert len(files(list(one.changes(None)))) == 3


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"secret_access_key": "himitsu-x"}, SourceDenied, "シークレットアクセスキーが違います"),
        ({"access_key_id": "AKIANOBODY"}, SourceDenied, "アクセスキー ID は登録されていません"),
        ({"bucket": "nai-desu"}, SourceMisconfigured, "バケット名を確かめて"),
        ({"allow": ["営業部"]}, SourceMisconfigured, "閲覧できる人「営業部」"),
        ({"endpoint": "ftp://127.0.0.1"}, SourceMisconfigured, "URL"),
        ({"endpoint": "http://127.0.0.1:1"}, SourceDenied, "near_hosts"),
    ],
)
def test_a_wrong_setting_is_told(
    store: Store, wrong: dict[str, object], error: type[Exception], words: str
) -> None:
    with store.guarded("s3:ListBucket", "s3:GetObject") as keys:
        one = store.connector(**(keys | wrong))
        with pytest.raises(error, match=words) as told:
            one.check()
        secret = str(wrong.get("secret_access_key") or keys["secret_access_key"])
        assert secret not in str(told.value) + repr(one.__dict__)


def test_who_may_list_but_not_read_is_told_of_each(store: Store) -> None:
    with store.guarded("s3:ListBucket") as keys:
        one = next(c for c in store.connector(**keys).changes(None) if isinstance(c, Upsert))
        with pytest.raises(SourceDenied, match="権限"):
            one.file.open()


@pytest.mark.parametrize(
    "wrong",
    [{"bucket": "a/../b"}, {"bucket": "x"}, {"endpoint": "http://h/b"}, {"region": "a/b"}],
)
def test_settings_that_are_none_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        S3Settings.model_validate({"endpoint": "http://h", "bucket": "abc"} | wrong)


# --- the signature ----------------------------------------------------------------

EXAMPLE = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("url", "headers", "signature"),
    [
        (
            "/test.txt",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/?lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/?max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_a_signature_is_the_one_that_amazon_publishes(
    url: str, headers: dict[str, str], signature: str
) -> None:
    """Examples of "Authenticating Requests (AWS Signature Version 4)" in the reference of S3's API."""
    example = Signature(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "us-east-1",
        lambda: datetime(2013, 5, 24, tzinfo=UTC),
    )
    signed = next(example.auth_flow(httpx2.Request("GET", EXAMPLE + url, headers=headers)))
    assert signed.headers["authorization"].endswith(f"Signature={signature}")


@pytest.mark.parametrize(
    "url",
    [
        "/b/%E8%A6%8F%E7%A8%8B/a%20%2B%25%26%3D%40.txt",
        "/b//a//b",
        "/b/?list-type=2&max-keys=1000&prefix=%E8%A6%8F%2F%20%2B&encoding-type=url",
        "/b/?continuation-token=1%2Bab%2Fc%3D%3D&list-type=2",
    ],
)
def test_a_signature_is_the_one_that_botocore_makes(url: str) -> None:
    mine = httpx2.Request("GET", f"http://minio.example:9000{url}")
    own = Signature("AK", SECRET, "ap-northeast-1")
    signed = next(own.auth_flow(mine))
    theirs = AWSRequest("GET", f"http://minio.example:9000{url}")
    theirs.context["timestamp"] = signed.headers["x-amz-date"]
    signer = S3SigV4Auth(Credentials("AK", SECRET), "s3", "ap-northeast-1")
    theirs.headers["x-amz-date"] = signed.headers["x-amz-date"]
    theirs.headers["x-amz-content-sha256"] = signed.headers["x-amz-content-sha256"]
    theirs.headers["host"] = "minio.example:9000"
    canonical = signer.canonical_request(theirs)
    expected = signer.signature(signer.string_to_sign(theirs, canonical), theirs)
    assert signed.headers["authorization"].endswith(f"Signature={expected}")
    assert SECRET not in repr(own)


# --- a store that answers as it likes ----------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def over(server: Server) -> S3Connector:
    settings = S3Settings(endpoint=server.url, bucket="bucket", allow=["everyone"])
    return S3Connector(settings, Site(near=frozenset({server.near})))


def page(inner: str) -> bytes:
    return f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</ListBucketResult>'.encode()


def test_a_listing_that_goes_round_or_breaks_off_tells_of_nothing(server: Server) -> None:
    one = "<Contents><Key>a.txt</Key><ETag>&quot;1&quot;</ETag><Size>1</Size></Contents>"
    round_ = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    server.answers = {"/bucket/": says(page(one + round_))}
    with pytest.raises(SourceUnreachable, match="繰り返します"):
        list(over(server).changes(None))
    server.answers = {"/bucket/": says(page(one + "<IsTruncated>true</IsTruncated>"))}
    with pytest.raises(SourceUnreachable, match="途中で切れました"):
        list(over(server).changes(None))
    server.answers = {"/bucket/": says(page(one)[:-30])}
    with pytest.raises(SourceUnreachable, match="途中で切れているか"):
        list(over(server).changes(None))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(b"<html>MinIO Console</html>"), "S3 ではありません"),
        (says(b"<Error><Code>x"), "S3 ではありません"),
        (
            says(
                b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>ap-northeast-1</Region></Error>",
                400,
            ),
            "リージョンが違います \\(相手は ap-northeast-1\\)",
        ),
        (says(b"<Error><Code>PermanentRedirect</Code></Error>", 301), "エンドポイントが違います"),
        (says(b"<Error><Code>RequestTimeTooSkewed</Code></Error>", 403), "時計"),
    ],
)
def test_what_the_store_refuses_is_told_in_a_sentence(
    server: Server, answer: Any, words: str
) -> None:
    server.answers = {"/bucket/": answer}
    with pytest.raises(SourceMisconfigured, match=words):
        over(server).check()


def test_a_bucket_for_everybody_is_asked_without_a_signature(server: Server) -> None:
    server.answers = {"/bucket/": says(page(""))}
    over(server).check()
    assert "authorization" not in server.asked[0][1]
