"""Slack, against a server that was written by Slack's documentation (tests/fakes/slack.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import (
    ApplianceError,
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.store.secrets import SECRET
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    NOBODY,
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Principal,
    RawFile,
    Remove,
    Upsert,
    admits,
)
from connectors import http, slack_api
from connectors.slack import SlackConnector, SlackSettings
from connectors.slack_talk import JAPAN
from tests.fakes.slack import TOKEN, Slack, user

OLD = datetime(2026, 4, 1, 9, 5, tzinfo=JAPAN).timestamp()
PEOPLE = {"people": ["ITO@example.co.jp = user:ito", "U2 = user:sato"]}


def ts(minutes: float = 0, days_ago: float | None = None) -> str:
    """Of an old morning, or of a noon not long ago."""
    if days_ago is None:
        return f"{OLD + 60 * minutes:.6f}"
    noon = datetime.now(JAPAN).replace(hour=0, minute=1, second=0, microsecond=0)
    return f"{(noon - timedelta(days=days_ago)).timestamp() + minutes:.6f}"


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    monkeypatch.setattr(slack_api, "A_MINUTE", dict.fromkeys(slack_api.A_MINUTE, 0))
    one = Slack()
    one.channel("C1", "営業", "U1")
    one.channel("G1", "役員会", "U1", private=True)
    one.channel("C9", "雑談", is_member=False)
    one.say(
        "C1",
        ts(0),
        "おはよう &lt;全員&gt; <@U2>",
        files=[one.upload("C1", "F1", "見積.txt", b"30000")],
    )
    one.say("C1", ts(1), "<@U1> has joined the channel", subtype="channel_join")
    one.say("C1", ts(2), "青山商事の値引きはどこまで?")
    one.reply("C1", ts(2), ts(60 * 24), "八分まで。", edited={"ts": ts(60 * 25)})
    one.reply(
        "C1", ts(2), ts(60 * 26), "資料", files=[one.upload("C1", "F2", "規程.txt", b"kitei")]
    )
    one.say("C1", ts(60 * 48), "翌々日", user="U2")
    one.say("C1", ts(0, 1), "きのうの話")
    one.say("C1", ts(1, 1), "きのうの相談")
    one.reply("C1", ts(1, 1), ts(2, 1), "きのうの返事")
    one.say("G1", ts(3), "買収の件")
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, slack: Slack) -> SlackConnector:
        return slack.connector(**PEOPLE)


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}


def read(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(
    one: SlackConnector, since: Cursor | None = None, *, whole: bool = True
) -> tuple[list[Change], Cursor]:
    changes = list(one.changes(since))
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete is whole
    return changes, changes[-1].cursor


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset(Principal(name) for name in (*names, "everyone")))


def day(days_ago: int) -> str:
    return (datetime.now(JAPAN) - timedelta(days=days_ago)).date().isoformat()


def a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)


# --- what is read -----------------------------------------------------------------


def test_threads_days_and_files(slack: Slack) -> None:
    files = told(run(slack.connector())[0])
    assert {uri: file.title for uri, file in files.items()} == {
        "C1/2026-04-01": "#営業 2026-04-01",
        "C1/F1/見積.txt": "見積.txt",
        f"C1/{ts(2)}": "#営業 青山商事の値引きはどこまで?",
        "C1/F2/規程.txt": "規程.txt",
        "C1/2026-04-03": "#営業 2026-04-03",
        f"C1/{day(1)}": f"#営業 {day(1)}",
        f"C1/{ts(1, 1)}": "#営業 きのうの相談",
        "G1/2026-04-01": "#役員会 2026-04-01",
    }
    number = ts(0).replace(".", "")
    assert read(files["C1/2026-04-01"]) == (
        "# 2026-04-01\n\n伊藤 (09:05): おはよう <全員> @佐藤\n添付: 見積.txt\n\n"
        f"https://aoyama.slack.com/archives/C1/p{number}\n"
    )
    thread = files[f"C1/{ts(2)}"]
    assert read(thread).startswith(
        "# 青山商事の値引きはどこまで?\n\n伊藤 (2026-04-01 09:07): 青山商事の値引きはどこまで?\n\n"
        "佐藤 (2026-04-02 09:05): 八分まで。\n\n佐藤 (2026-04-02 11:05): 資料\n添付: 規程.txt\n\n"
    )
    assert thread.modified_at == datetime.fromtimestamp(float(ts(60 * 26)), UTC)
    assert read(files["C1/F1/見積.txt"]) == "30000"
    assert not slack.refused
    assert "雑談" not in str(files)


def test_only_what_is_wanted(slack: Slack) -> None:
    slack.scopes -= {"groups:read", "groups:history"}
    some = slack.connector(channels=["#営業"], private=False, attachments=False)
    some.check()
    uris = set(told(run(some)[0]))
    assert uris and all(uri.startswith("C1/") and "/F" not in uri for uri in uris)
    assert not slack.refused


def test_what_apps_post(slack: Slack) -> None:
    said: dict[str, Any] = {"subtype": "bot_message", "bot_id": "B1", "username": "監視"}
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "障害"}},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "<https://a.example/x|詳しく>"}]},
    ]
    slack.say("C1", ts(5), "", user="", blocks=blocks, **said)
    slack.say("C1", ts(6), "", user="", attachments=[{"fallback": "復旧した"}], **said)
    page = read(told(run(slack.connector())[0])["C1/2026-04-01"])
    assert "監視 (09:10): 障害\n詳しく (https://a.example/x)" in page
    assert "監視 (09:11): 復旧した" in page
    assert "障害" not in read(told(run(slack.connector(bots=False))[0])["C1/2026-04-01"])


def test_a_file_elsewhere_is_not_followed_and_the_token_is_shown_to_nobody(slack: Slack) -> None:
    remote = slack.upload("C1", "F3", "外.txt", b"x", mode="external", is_external=True)
    moved = slack.upload("C1", "F4", "罠.txt", b"x", url_private="http://127.0.0.2:9/F4")
    slack.say("C1", ts(7), "外", files=[remote, moved, {"id": "F5", "mode": "tombstone"}])
    files = told(run(slack.connector())[0])
    assert "C1/F3/外.txt" not in files
    with pytest.raises(SourceDenied, match="接続先ではない"):
        files["C1/F4/罠.txt"].open()
    slack.scopes -= {"files:read"}
    with pytest.raises(SourceDenied, match="files:read"):
        files["C1/F1/見積.txt"].open()


# --- what changes -----------------------------------------------------------------


def test_what_did_not_change_costs_nothing_of_its_own(slack: Slack) -> None:
    first, cursor = run(slack.connector())
    slack.asked.clear()
    again, second = run(slack.connector(), cursor)
    assert {u: (f.version, f.title, f.access) for u, f in told(again).items()} == {
        u: (f.version, f.title, f.access) for u, f in told(first).items()
    }
    assert slack.asked.count("conversations.replies") == 1, "what was said lately is read again"
    assert slack.asked.count("conversations.history") == 2
    assert second == cursor
    assert read(told(again)[f"C1/{ts(2)}"]) == read(told(first)[f"C1/{ts(2)}"])
    assert read(told(again)["C1/F2/規程.txt"]) == "kitei"


def test_lately_said_changed_and_deleted(slack: Slack) -> None:
    first, cursor = run(slack.connector())
    slack.messages["C1"][ts(2, 1)]["text"] = "やり直した返事"
    del slack.messages["C1"][ts(0, 1)]
    changes, cursor = run(slack.connector(), cursor)
    files = told(changes)
    assert f"C1/{day(1)}" not in files
    assert files.keys() | {f"C1/{day(1)}"} == told(first).keys()
    assert "やり直した返事" in read(files[f"C1/{ts(1, 1)}"])
    assert files[f"C1/{ts(1, 1)}"].version != told(first)[f"C1/{ts(1, 1)}"].version
    slack.messages["C1"].pop(ts(2, 1))
    slack.messages["C1"].pop(ts(1, 1))
    assert f"C1/{ts(1, 1)}" not in told(run(slack.connector(), cursor)[0])


def test_what_is_old_is_looked_after_once_a_day(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, cursor = run(slack.connector())
    slack.reply("C1", ts(2), ts(60 * 30), "改めて一割まで。")
    slack.messages["C1"].pop(ts(60 * 48))
    same, cursor = run(slack.connector(), cursor)
    assert told(same).keys() == told(first).keys()
    a_day_later(monkeypatch)
    slack.asked.clear()
    files = told(run(slack.connector(), cursor)[0])
    assert "改めて一割まで。" in read(files[f"C1/{ts(2)}"])
    assert "C1/2026-04-03" not in files
    assert "C1/F2/規程.txt" in files


def test_an_old_thread_that_stands_still_is_not_read_again(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, cursor = run(slack.connector())
    a_day_later(monkeypatch)
    slack.asked.clear()
    assert told(run(slack.connector(), cursor)[0]).keys() == told(first).keys()
    assert slack.asked.count("conversations.replies") == 1
    assert slack.asked.count("conversations.history") == 2


def test_a_message_that_is_answered_becomes_a_thread(slack: Slack) -> None:
    _, cursor = run(slack.connector())
    slack.reply("C1", ts(0, 1), ts(3, 1), "そうだね", subtype="thread_broadcast")
    files = told(run(slack.connector(), cursor)[0])
    assert f"C1/{day(1)}" not in files
    assert "そうだね" in read(files[f"C1/{ts(0, 1)}"])


def test_a_deleted_beginning_leaves_its_answers(slack: Slack) -> None:
    slack.messages["C1"][ts(2)] |= {"subtype": "tombstone", "text": "This message was deleted."}
    page = read(told(run(slack.connector())[0])[f"C1/{ts(2)}"])
    assert page.startswith("# 八分まで。")
    assert "deleted" not in page


def test_a_file_that_is_shown_again_is_not_lost_with_what_showed_it(slack: Slack) -> None:
    slack.say("C1", ts(9, 1), "もう一度", files=[slack.files["F2"]])
    _, cursor = run(slack.connector())
    _, cursor = run(slack.connector(), cursor)
    slack.messages["C1"].pop(ts(9, 1))
    assert "C1/F2/規程.txt" in told(run(slack.connector(), cursor)[0])


def test_a_renamed_channel_keeps_its_documents(slack: Slack) -> None:
    first, cursor = run(slack.connector())
    slack.channels["C1"]["name"] = "営業本部"
    files = told(run(slack.connector(), cursor)[0])
    assert files["C1/2026-04-01"].title == "#営業本部 2026-04-01"
    assert {u: f.version for u, f in files.items()} == {
        u: f.version for u, f in told(first).items()
    }


@pytest.mark.parametrize("thrown_out", [False, True])
def test_an_archived_channel_stays_as_it_was(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, thrown_out: bool
) -> None:
    first, cursor = run(slack.connector())
    slack.channels["C1"] |= {"is_archived": True, "is_member": not thrown_out}
    slack.asked.clear()
    files, cursor = run(slack.connector(), cursor)
    assert told(files).keys() == told(first).keys()
    assert slack.asked.count("conversations.history") == 1, "of the other channel"
    a_day_later(monkeypatch)
    files, cursor = run(slack.connector(), cursor)
    assert told(files).keys() == told(first).keys()
    assert not [uri for uri in told(run(slack.connector(archived=False), cursor)[0]) if "C1" in uri]


def test_a_channel_that_the_app_was_taken_from_is_gone(slack: Slack) -> None:
    _, cursor = run(slack.connector(**PEOPLE))
    slack.channels["G1"]["is_member"] = False
    changes, _ = run(slack.connector(**PEOPLE), cursor)
    assert not [uri for uri in told(changes) if uri.startswith("G1/")]
    assert changes[0] == AccessChanged("G1/2026-04-01", NOBODY)
    assert changes[-2] == Remove("G1/2026-04-01"), "it was mentioned: nobody else takes it away"
    with pytest.raises(NotVisible):
        slack.connector().file("G1/2026-04-01")
    with pytest.raises(NotVisible):
        slack.connector().file("C9/2026-04-01")


# --- who may read -----------------------------------------------------------------


def test_a_private_channel_is_for_its_members(slack: Slack) -> None:
    files = told(run(slack.connector(**PEOPLE))[0])
    assert may(files["C1/2026-04-01"].access, "user:sato")
    assert may(files["G1/2026-04-01"].access, "user:ito")
    assert not may(files["G1/2026-04-01"].access, "user:sato")
    few = told(run(slack.connector(**PEOPLE, allow=["user:sato"]))[0])["G1/2026-04-01"].access
    assert not may(few, "user:ito")
    assert not may(few, "user:sato"), "both must admit"
    nobody = told(run(slack.connector())[0])["G1/2026-04-01"].access
    assert not may(nobody, "user:ito", "user:U1"), "whom nobody knows may read nothing"
    assert told(run(slack.connector(allow=[]))[0])["C1/2026-04-01"].access == NOBODY
    same = told(run(slack.connector(same_names=True))[0])["G1/2026-04-01"].access
    assert may(same, "user:ito@example.co.jp")
    assert not may(same, "user:ito")


def test_what_slack_does_not_call_public_is_private(slack: Slack) -> None:
    del slack.channels["G1"]["is_private"]
    assert not may(told(run(slack.connector(**PEOPLE))[0])["G1/2026-04-01"].access, "user:sato")


def test_who_left_is_told_of_before_anything_is_read(slack: Slack) -> None:
    slack.users.append(user("U3", "鈴木", "suzuki@example.co.jp"))
    people = {"people": [*PEOPLE["people"], "U3 = user:suzuki"]}
    slack.members["G1"] = ["U1", "U2"]
    _, cursor = run(slack.connector(**people))
    slack.members["G1"] = ["U1", "U3"]
    changes, cursor = run(slack.connector(**people), cursor)
    first = changes[0]
    assert isinstance(first, AccessChanged) and first.uri == "G1/2026-04-01"
    assert may(first.access, "user:ito") and not may(first.access, "user:sato")
    assert not may(first.access, "user:suzuki"), "nobody new, before it is read"
    now = told(changes)["G1/2026-04-01"].access
    assert may(now, "user:suzuki") and not may(now, "user:sato")
    assert not [
        c for c in run(slack.connector(**people), cursor)[0] if isinstance(c, AccessChanged)
    ]


def test_members_that_slack_does_not_tell_are_a_failure(slack: Slack) -> None:
    _, cursor = run(slack.connector(**PEOPLE))
    slack.cut = lambda method, _: "fetch_members_failed" if "members" in method else None
    changes, cursor = run(slack.connector(**PEOPLE), cursor, whole=False)
    assert [c.uri for c in changes if isinstance(c, Failed)] == ["G1/"]
    assert not [uri for uri in told(changes) if uri.startswith("G1/")]
    assert not [c for c in changes if isinstance(c, Remove)]
    slack.cut = lambda *_: None
    assert "G1/2026-04-01" in told(run(slack.connector(**PEOPLE), cursor)[0])


# --- faults -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["half", "drop", 500, 429, "repeat", "short", "invalid_cursor", "ratelimited"]
)
@pytest.mark.parametrize("at", [1, 3])
def test_an_error_in_the_middle_takes_nothing_away(slack: Slack, fault: str | int, at: int) -> None:
    if at == 1 and fault == "repeat":
        pytest.skip("the first page is not a repetition")
    slack.page = 2
    first, cursor = run(slack.connector())
    slack.asked.clear()
    slack.cut = lambda method, count: (
        fault if (method, count) == ("conversations.history", at) else None
    )
    changes: list[Change] = []
    try:
        for change in slack.connector().changes(None if at == 3 else cursor):
            changes.append(change)
    except SourceUnreachable:
        assert fault in ("half", "drop")
    assert not [c for c in changes if isinstance(c, Remove)]
    last = changes[-1]
    assert isinstance(last, Checkpoint) and not last.complete
    slack.cut = lambda method, count: None
    assert told(run(slack.connector(), last.cursor)[0]).keys() == told(first).keys()


def test_what_was_read_before_an_error_is_not_read_again(slack: Slack) -> None:
    for n in range(10):
        slack.say("C1", ts(100 + n), f"相談 {n}")
        slack.reply("C1", ts(100 + n), ts(200 + n), f"返事 {n}")
    slack.cut = lambda method, count: 429 if (method[14:], count) == ("replies", 6) else None
    changes, cursor = run(slack.connector(), whole=False)
    assert [c.transient for c in changes if isinstance(c, Failed)] == [True]
    slack.cut = lambda method, count: None
    slack.asked.clear()
    files = told(run(slack.connector(), cursor)[0])
    assert slack.asked.count("conversations.replies") == 8, (
        "seven that were not, and the one of lately"
    )
    assert sum("返事" in read(files[f"C1/{ts(100 + n)}"]) for n in range(10)) == 10


def test_what_is_gone_elsewhere_is_removed_though_a_channel_does_not_open(slack: Slack) -> None:
    _, cursor = run(slack.connector(**PEOPLE))
    slack.messages["C1"].pop(ts(0, 1))
    slack.cut = lambda method, _: "fetch_members_failed" if "members" in method else None
    changes, _ = run(slack.connector(**PEOPLE), cursor, whole=False)
    assert [c.uri for c in changes if isinstance(c, Remove)] == [f"C1/{day(1)}"]


def test_one_odd_message_hides_no_other(slack: Slack) -> None:
    slack.say("C1", ts(9), "壊れた", attachments=["not a thing"])
    slack.messages["C1"][ts(60 * 24 * 3)] = {
        "ts": ts(60 * 24 * 3),
        "text": "x",
        "files": [{"id": "F7"}],
    }
    changes, _ = run(slack.connector())
    failed = {c.uri for c in changes if isinstance(c, Failed)}
    assert failed == {"C1/2026-04-01", "C1/2026-04-04/F7"}
    assert {f"C1/{ts(2)}", "C1/2026-04-03", "C1/2026-04-04"} <= told(changes).keys()


def test_ten_thousand_messages_in_a_few_requests(slack: Slack) -> None:
    for n in range(10_000):
        slack.say("C1", ts(24 * 60 * n / 100), f"投稿 {n}")
    slack.page = 999
    files = told(run(slack.connector())[0])
    assert len(files) > 90
    assert len(slack.asked) < 30


def test_each_method_is_asked_as_slowly_as_its_tier(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(slack_api, "A_MINUTE", dict.fromkeys(slack_api.A_MINUTE, 20))
    monkeypatch.setattr(time, "sleep", slept.append)
    slack.page = 3
    run(slack.connector())
    assert slack.asked.count("conversations.history") == 3
    assert 5.0 < max(slept) < 6.1, "the third waits for two times three seconds"


# --- what is wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "settings", "error", "says"),
    [
        ({}, {"token": "xoxb-wrong"}, SourceDenied, "ボットトークン"),
        ({"users:read"}, {}, SourceDenied, "users:read"),
        ({"groups:read"}, {}, SourceDenied, "groups:read"),
        ({}, {"channels": ["総務"]}, SourceMisconfigured, "/invite"),
        ({}, {"allow": ["sato"]}, SourceMisconfigured, "閲覧できる人"),
        ({}, {"people": ["sato"]}, SourceMisconfigured, "対応表"),
    ],
)
def test_what_is_wrong_is_said(
    slack: Slack,
    change: set[str],
    settings: dict[str, object],
    error: type[ApplianceError],
    says: str,
) -> None:
    slack.scopes -= set(change)
    with pytest.raises(error, match=says) as raised:
        slack.connector(**settings).check()
    assert "xoxb" not in str(raised.value).replace("(xoxb-…)", "")


def test_another_server_is_not_slack(slack: Slack) -> None:
    with pytest.raises(SourceMisconfigured, match="Slack ではありません"):
        slack.connector(url=slack.files_url).check()
    slack.close()
    with pytest.raises(SourceUnreachable, match="つながりません"):
        slack.connector().check()
    slack.server, slack.thread = slack.store, slack.storing


def test_a_wait_of_slack_is_kept(slack: Slack) -> None:
    slack.cut = lambda method, _: 429
    with pytest.raises(SourceBusy) as raised:
        slack.connector().check()
    assert raised.value.retry_after_s == 40


def test_settings() -> None:
    settings = SlackSettings(token=TOKEN)
    assert TOKEN not in repr(settings)
    assert SECRET.search("token")
    with pytest.raises(ValidationError):
        SlackSettings(token=TOKEN, url="https://slack.com/api")
