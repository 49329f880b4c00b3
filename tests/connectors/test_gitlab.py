"""GitLab, against a server that was written by its documentation (tests/fakes/gitlab.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from appliance.errors import (
    NotVisible,
    SourceBusy,
    SourceDenied,
    SourceMisconfigured,
    SourceUnreachable,
)
from appliance.store.secrets import SECRET
from appliance.testing.contracts import ConnectorContract
from appliance.types import (
    Access,
    AccessChanged,
    Change,
    Checkpoint,
    Cursor,
    Failed,
    Moved,
    Principal,
    RawFile,
    Remove,
    Upsert,
    admits,
)
from connectors import gitlab as gitlab_module
from connectors import http
from connectors.gitlab import GitLabConnector, GitLabSettings
from tests.fakes.gitlab import TOKEN, A, B, GitLab, filled

ISSUES = "projects/1/issues"


@pytest.fixture
def gitlab(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitLab]:
    monkeypatch.setattr(http, "ATTEMPTS", 1)
    one = filled()
    yield one
    one.close()


class TestContract(ConnectorContract):
    @pytest.fixture
    def connector(self, gitlab: GitLab) -> GitLabConnector:
        return gitlab.connector()


def told(changes: list[Change]) -> dict[str, RawFile]:
    return {c.file.uri: c.file for c in changes if isinstance(c, Upsert)}


def read(file: RawFile) -> str:
    with file.open() as stream:
        return stream.read().decode()


def run(
    one: GitLabConnector, since: Cursor | None = None, *, whole: bool = True
) -> tuple[list[Change], Cursor]:
    changes = list(one.changes(since))
    assert isinstance(changes[-1], Checkpoint)
    assert changes[-1].complete is whole
    return changes, changes[-1].cursor


def may(access: Access, *names: str) -> bool:
    return admits(access, frozenset(Principal(name) for name in (*names, "everyone")))


def test_issues_merge_requests_pages_and_files(gitlab: GitLab) -> None:
    files = told(run(gitlab.connector())[0])
    upload, page = f"{1:032x}", f"{2:032x}"
    assert {uri: file.title for uri, file in files.items()} == {
        f"{A}/-/issues/1": "#1 値引きの相談",
        f"{A}/-/issues/1/{upload}/見積.txt": "見積.txt",
        f"{A}/-/issues/2": "#2 納期",
        f"{A}/-/merge_requests/1": "!1 計算を直す",
        f"{A}/-/wikis/手順/受注": "受注",
        f"{A}/-/wikis/手順/受注/{page}/図 1.txt": "図 1.txt",
        f"{A}/-/wikis/home": "Home",
        f"{B}/-/issues/1": "#1 遅れ",
    }
    text = read(files[f"{A}/-/issues/1"])
    order = [
        "# #1 値引きの相談",
        "- 状態: オープン",
        "- 作成者: 佐藤",
        "- 担当者: 森",
        "- ラベル: 契約",
    ]
    order += [
        "- 作成: 2026-04-01 09:",
        "八分まで。",
        "## コメント 2026-04-02 08:00 伊藤\n\n返事 1\n",
    ]
    order += ["返事 150\n", f"{gitlab.url}/{A}/-/issues/1"]
    assert [text.find(one) for one in order] == sorted(text.find(one) for one in order)
    assert text.startswith(order[0])
    assert text.count("## コメント") == 150, "neither internal ones nor what GitLab says itself"
    assert "社外秘" not in text
    assert "None" not in text
    text = read(files[f"{A}/-/merge_requests/1"])
    assert "- 状態: マージ済み" in text
    assert "- ブランチ: b → main" in text
    assert "よい" in text
    assert read(files[f"{A}/-/issues/1/{upload}/見積.txt"]) == "三万円"
    assert read(files[f"{A}/-/wikis/手順/受注/{page}/図 1.txt"]) == "zu"
    assert read(files[f"{A}/-/wikis/手順/受注"]).startswith("# 受注\n\nFAX で受ける。")
    assert files[f"{A}/-/wikis/home"].media_type == "text/plain"
    assert files[f"{B}/-/issues/1"].modified_at.tzinfo is not None
    assert files[f"{A}/-/wikis/home"].modified_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert not gitlab.refused


def test_only_what_is_wanted(gitlab: GitLab) -> None:
    only = {"wiki": False, "merge_requests": False, "attachments": False, "groups": []}
    assert {*told(run(gitlab.connector(projects=[A], **only))[0])} == {
        f"{A}/-/issues/1",
        f"{A}/-/issues/2",
    }
    gitlab.projects[1] |= {"issues_access_level": "disabled", "wiki_access_level": "disabled"}
    uris = {*told(run(gitlab.connector(projects=[A], groups=[]))[0])}
    assert uris == {f"{A}/-/merge_requests/1"}


def test_what_did_not_change_costs_nothing(gitlab: GitLab) -> None:
    for n in range(10, 1010):
        gitlab.put(1, "issues", n, f"課題 {n}")
    first, cursor = run(gitlab.connector())
    assert gitlab.asked.count("projects/1/issues") < 14
    gitlab.asked.clear()
    gitlab.params.clear()
    same, cursor = run(gitlab.connector(), cursor)
    assert {u: f.version for u, f in told(same).items()} == {
        u: f.version for u, f in told(first).items()
    }
    assert len(gitlab.asked) < 30
    assert "updated_after" in {name for params in gitlab.params for name in params}
    gitlab.put(1, "issues", 500, "変わった")
    gitlab.put(1, "issues", 2000, "新しい")
    gitlab.asked.clear()
    files = told(run(gitlab.connector(), cursor)[0])
    assert gitlab.asked.count("projects/1/issues") < 8
    assert files[f"{A}/-/issues/500"].title == "#500 変わった"
    assert f"{A}/-/issues/2000" in files
    assert len(files) == len(told(first)) + 1


def test_created_changed_and_deleted(gitlab: GitLab) -> None:
    first, cursor = run(gitlab.connector())
    gitlab.note(1, "merge_requests", 1, "もう一つ")
    gitlab.put(1, "issues", 1, "値引き", description="添付を外した")
    del gitlab.rows[1, "issues"][2]
    gitlab.wiki(1, "home", "= Home\n\n変わった", format="asciidoc", title="Home")
    changes, cursor = run(gitlab.connector(), cursor)
    files, before = told(changes), told(first)
    assert {*before} - {*files} == {f"{A}/-/issues/2", f"{A}/-/issues/1/{1:032x}/見積.txt"}
    for tail in ("merge_requests/1", "issues/1", "wikis/home"):
        assert files[f"{A}/-/{tail}"].version != before[f"{A}/-/{tail}"].version
    assert "もう一つ" in read(files[f"{A}/-/merge_requests/1"])
    gitlab.wikis[1] = gitlab.wikis[1][:1]
    gitlab.wikis[1][0] |= {"slug": "手順/注文", "title": "注文"}
    changes, cursor = run(gitlab.connector(), cursor)
    assert [(c.old_uri, c.uri) for c in changes if isinstance(c, Moved)][:1] == [
        (f"{A}/-/wikis/手順/受注", f"{A}/-/wikis/手順/注文")
    ]


def test_one_that_goes_while_another_comes(gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number is as it was: it is found out when everything is looked at."""
    _, cursor = run(gitlab.connector())
    gitlab.put(1, "issues", 3, "新しい")
    del gitlab.rows[1, "issues"][2]
    changes, cursor = run(gitlab.connector(), cursor)
    assert f"{A}/-/issues/2" not in told(changes), "one more is known than there are"
    gitlab.total = False
    del gitlab.rows[1, "issues"][3]
    changes, cursor = run(gitlab.connector(), cursor)
    assert f"{A}/-/issues/3" in told(changes)
    now = time.time() + gitlab_module.EVERYTHING_S + 1
    monkeypatch.setattr("connectors.gitlab.time.time", lambda: now)
    assert f"{A}/-/issues/3" not in told(run(gitlab.connector(), cursor)[0])


def test_an_issue_that_moves_to_another_project(gitlab: GitLab) -> None:
    _, cursor = run(gitlab.connector())
    there = gitlab.put(2, "issues", 9, "納期")
    gitlab.put(1, "issues", 2, "納期", state="closed", moved_to_id=there["id"])
    changes, cursor = run(gitlab.connector(), cursor)
    assert [(c.old_uri, c.uri) for c in changes if isinstance(c, Moved)] == [
        (f"{A}/-/issues/2", f"{B}/-/issues/9")
    ]
    assert f"{A}/-/issues/2" not in told(changes)
    with pytest.raises(NotVisible):
        gitlab.connector().file(f"{A}/-/issues/2")
    gitlab.asked.clear()
    changes, _ = run(gitlab.connector(), cursor)
    assert not [c for c in changes if isinstance(c, (Moved, Remove))]
    assert gitlab.asked.count("projects/1/issues") == 2, "what moved is still counted there"


def test_a_project_that_is_transferred_archived_or_gone(gitlab: GitLab) -> None:
    first, cursor = run(gitlab.connector())
    gitlab.projects[1]["path_with_namespace"] = "eigyo/shin"
    gitlab.paths[A] = 1
    changes, cursor = run(gitlab.connector(), cursor)
    moved = {c.old_uri: c.uri for c in changes if isinstance(c, Moved)}
    assert moved == {
        uri: uri.replace(A, "eigyo/shin") for uri in told(first) if uri.startswith(f"{A}/")
    }
    one = gitlab.connector(projects=[A], groups=[])
    assert one.file("eigyo/shin/-/issues/1").title == "#1 値引きの相談"
    with pytest.raises(NotVisible):
        one.file(f"{B}/-/issues/1")
    gitlab.projects[1]["archived"] = True
    changes, cursor = run(gitlab.connector(), cursor)
    assert {*told(changes)} == {f"{B}/-/issues/1"}
    assert len(told(run(gitlab.connector(archived=True), cursor)[0])) == 8
    gitlab.projects[2] |= {"marked_for_deletion_at": "2026-05-01"}
    assert not told(run(gitlab.connector(), cursor)[0])


def test_what_is_read_is_what_was_listed(gitlab: GitLab) -> None:
    files = told(run(gitlab.connector())[0])
    gitlab.put(
        1, "issues", 2, "納期", confidential=True, updated_at=files[f"{A}/-/issues/2"].version[:24]
    )
    gitlab.wiki(1, "home", "別")
    for tail in ("issues/2", "wikis/home"):
        with pytest.raises(SourceBusy, match="編集中"):
            read(files[f"{A}/-/{tail}"])


def test_many_of_one_time(gitlab: GitLab) -> None:
    for n in range(10, 360):
        gitlab.put(1, "issues", n, f"{n}", created_at="2026-05-01T00:00:00.000Z")
    files = told(run(gitlab.connector())[0])
    assert len([uri for uri in files if uri.startswith(f"{A}/-/issues/")]) == 353


# --- faults -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["half", "drop", 500, 429, "repeat"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_the_middle_takes_nothing_away(
    gitlab: GitLab, fault: str | int, count: int
) -> None:
    for n in range(10, 410):
        gitlab.put(1, "issues", n, f"課題 {n}")
    cursors = [None, run(gitlab.connector())[1]]
    gitlab.put(1, "issues", 11, "変わった")
    for cursor in cursors:
        gitlab.asked.clear()
        gitlab.cut = lambda path, n: fault if path == ISSUES and n >= count else None
        changes: list[Change] = []
        try:
            changes += gitlab.connector().changes(cursor)
        except SourceUnreachable:
            assert fault not in (500, 429)
        if cursor is None or count == 1:
            assert not [c for c in changes if isinstance(c, Checkpoint) and c.complete]
        assert not [c for c in changes if isinstance(c, (Remove, AccessChanged))]
        gitlab.cut = lambda path, n: None
        last = changes[-1].cursor if changes and isinstance(changes[-1], Checkpoint) else cursor
        changes, _ = run(gitlab.connector(), last)
        assert len(told(changes)) == 408
        assert told(changes)[f"{A}/-/issues/11"].title == "#11 変わった"


def test_one_odd_issue_hides_no_other(gitlab: GitLab) -> None:
    _, cursor = run(gitlab.connector())
    gitlab.put(1, "issues", 2, "納期の変更", assignees=["mori"], confidential=True)
    gitlab.put(1, "issues", 3, "新しい")
    gitlab.wikis[1].append({"title": "名のない頁"})
    for since in (cursor, None):
        changes, _ = run(gitlab.connector(), since)
        odd = {c.uri for c in changes if isinstance(c, Failed)}
        assert odd == {f"{A}/-/issues/2", f"{A}/-/wikis/None"}
        assert f"{A}/-/issues/3" in told(changes)
        assert not [c for c in changes if isinstance(c, Remove)]


def test_pages_that_never_end(gitlab: GitLab) -> None:
    files = told(run(gitlab.connector())[0])
    gitlab.asked.clear()
    gitlab.cut = lambda path, n: "repeat" if "notes" in path else None
    with pytest.raises(SourceUnreachable, match="繰り返します"):
        read(files[f"{A}/-/issues/1"])
    gitlab.cut = lambda path, n: "repeat" if "members" in path else None
    with pytest.raises(SourceUnreachable, match="繰り返します"):
        list(gitlab.connector().changes(None))


def test_what_goes_meanwhile_hides_no_other(gitlab: GitLab) -> None:
    for n in range(10, 310):
        gitlab.put(1, "issues", n, f"課題 {n}")

    def meanwhile(path: str, count: int) -> None:
        if (path, count) == ("projects/1/issues", 2):
            del gitlab.rows[1, "issues"][1], gitlab.rows[1, "issues"][2]

    gitlab.cut = meanwhile
    files = told(run(gitlab.connector())[0])
    assert all(f"{A}/-/issues/{n}" in files for n in range(10, 310))


def test_a_kind_that_does_not_open_keeps_what_was_known(gitlab: GitLab) -> None:
    _, cursor = run(gitlab.connector())
    gitlab.hidden = {"projects/1/wikis"}
    del gitlab.rows[1, "merge_requests"][1]
    gitlab.put(1, "issues", 2, "納期の変更")
    changes, cursor = run(gitlab.connector(), cursor, whole=False)
    assert [c.uri for c in changes if isinstance(c, Failed)] == [f"{A}/-/wikis/"]
    assert [c for c in changes if isinstance(c, Remove)] == [Remove(f"{A}/-/merge_requests/1")]
    assert told(changes)[f"{A}/-/issues/2"].title == "#2 納期の変更"
    gitlab.hidden = set()
    assert len(told(run(gitlab.connector(), cursor)[0])) == 7


def test_it_waits_when_none_is_left_and_as_long_as_it_is_told(
    gitlab: GitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    one = gitlab.connector()
    one._api._http.sleep = slept.append
    gitlab.left, gitlab.reset = "0", int(time.time()) + 40
    one._api.one("user")
    assert not slept
    one._api.one("user")
    assert 30 < slept.pop() <= 40
    gitlab.left = "9"
    one._api.one("user")
    slept.clear()
    monkeypatch.setattr(http, "ATTEMPTS", 2)
    gitlab.retry_after = "7"
    gitlab.cut = lambda path, n: 429 if path.endswith("all") and n == 1 else None
    one.check()
    assert slept == [7.0]


# --- settings and signing in ------------------------------------------------------


def test_what_is_wrong_is_said(gitlab: GitLab) -> None:
    def why(**more: Any) -> str:
        with pytest.raises((SourceDenied, SourceMisconfigured, SourceUnreachable)) as caught:
            gitlab.connector(**more).check()
        assert TOKEN not in str(caught.value)
        return str(caught.value)

    assert "アクセストークンが違うか" in why(token="wrong")
    assert "ないか、トークンの利用者に見えません" in why(projects=["eigyo/nai"], groups=[])
    assert "ないか、トークンの利用者に見えません" in why(groups=["nai"])
    assert "GitLab ではありません" in why(url=f"{gitlab.url}/x")
    assert "の形ではありません" in why(people=["sato"])
    gitlab.projects[1]["archived"] = True
    assert "読むプロジェクトがありません" in why(projects=[A], groups=[])
    gitlab.scope = False
    assert "read_api" in why()
    with pytest.raises(SourceDenied):
        list(gitlab.connector().changes(None))
    gitlab.close()
    assert "つながりません" in why()


def test_settings() -> None:
    said: dict[str, Any] = {"url": "https://gitlab.example.co.jp/api/v4/", "token": "abc"}
    settings = GitLabSettings.model_validate(said | {"projects": ["/eigyo/mitsumori/ "]})
    assert settings.url == "https://gitlab.example.co.jp"
    assert settings.projects == ["eigyo/mitsumori"]
    assert "abc" not in repr(settings)
    assert SECRET.search("token")
    wrong: list[dict[str, Any]] = [{}, {"url": "gitlab", "groups": ["a"]}, {"projects": ["a b"]}]
    for more in wrong:
        with pytest.raises(ValidationError):
            GitLabSettings.model_validate(said | more)


@pytest.mark.parametrize(
    "uri",
    [
        A,
        f"{A}/-/issues",
        f"{A}/-/issues/99",
        f"{A}/-/issues/1/{9:032x}/見積.txt",
        f"{A}/-/pipelines/1",
        f"{A}/-/wikis/ない",
        "jinji/hyouka/-/issues/1",
        "nai/nai/-/issues/1",
    ],
)
def test_what_is_not_there(gitlab: GitLab, uri: str) -> None:
    with pytest.raises(NotVisible):
        gitlab.connector().file(uri)
